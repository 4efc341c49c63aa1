"""Whatever stands in an ask, the answer is one object: never a traceback, nor a line that breaks."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import all_of
from weighbridge.faces.web.protocol import MOST, AskDesk

EVIL = (
    "<script>alert(1)</script>",
    "\x1b[31m",
    "\u202egpj.exe",
    "' onload='",
    "]]>",
    "%s%n{0}",
    "a" * 5000,
)
DESK = AskDesk(offline=True, ours=False)
KEYS = ("task", "model", "workload", "view", "token", "of", "asks", "form", "remedies", "file")
VALUES = st.recursive(
    st.sampled_from(
        (
            None,
            True,
            0,
            -1,
            1e308,
            1 << 70,
            "",
            "load",
            "fit",
            "form",
            "compare",
            "gpt2",
            "4090",
            *EVIL,
        )
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from((*KEYS, "gpu", "config", "file", "name", "size", "head")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)

ERROR = {"code", "message", "setting", "wants", "ground", "seen"}
GROUNDS = {"contradiction", "tried", "gap"}


def one_object(line):
    found = DESK.answer(line)
    text = json.dumps(found, allow_nan=False)
    assert isinstance(found, dict)
    if "error" in found:
        assert {"code", "message"} <= found["error"].keys() <= ERROR
        assert {found["error"].get("ground", "gap")} <= GROUNDS
        assert found["error"]["code"] in (2, 3)
        assert len(found["error"]["message"]) <= 300
        assert "\n" not in found["error"]["message"]
        assert "defect" not in found["error"]["message"], found
    return text


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
def test_an_ask_of_anything(ask):
    one_object(json.dumps(ask))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_a_line_of_anything(line):
    one_object(line)


@all_of(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b'{"task": "form", "task": "form"}',
        b"[" * 100_000,
        b'{"task": "\\ud800"}',
        b'{"task": "load", "model": "\\ud800"}',
        b'{"task": "load", "model": {"config": {"model_type": NaN}}}',
        b'{"task": "load", "model": "gpt2", "workload": {"gpu_memory": 1e999}}',
        "{}",
        "\ud800",
    ],
)
def test_lines_that_were_thought_of(line):
    assert '"error"' in one_object(line)


@pytest.mark.slow
def test_a_line_that_is_too_long_is_not_parsed():
    assert "longer than" in one_object(b" " * (MOST + 1))


@pytest.mark.slow
@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize(
    "where", ["model", "name", "architecture", "gpu", "setting", "task", "filter"]
)
def test_a_hostile_word_stays_a_word(evil, where):
    ask = {"task": "load", "model": "gpt2", "workload": {}}
    if where in ("name", "architecture"):
        key = {"name": "_name_or_path", "architecture": "architectures"}[where]
        value = evil if where == "name" else [evil]
        ask["model"] = {"config": {"model_type": "gpt2", key: value}}
    elif where == "gpu":
        ask["workload"] = {"gpu": evil}
    elif where == "setting":
        ask["workload"] = {evil: 1}
    elif where == "filter":
        ask = {"task": "gpus", "workload": {"pattern": evil}}
    else:
        ask[where] = evil
    found = json.loads(one_object(json.dumps(ask)))
    for text in texts(found.get("screen", {})) + texts(found.get("error", {})):
        assert "\x1b" not in text
        assert "\u202e" not in text


def texts(value):
    """Every text of an answer."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in texts(one)]
