"""Sentences with keys: said by their key in each language, and whatever code says has its Chinese."""

import ast
import json
import pickle
from copy import copy
from pathlib import Path

import pytest
from tools.syntax import nodes

import weighbridge
from tests.words.test_catalogues import placeholders
from weighbridge.base.errors import AwayError, NotFoundError, NotServedError, TriedError
from weighbridge.base.sentences import (
    Sentence,
    about,
    before,
    clauses,
    key_of,
    keys_of,
    parts_of,
    sentence,
    without,
)
from weighbridge.base.words import entries, words_in

ROOT = Path(__file__).parents[2] / "src"
WORDS = {**entries("warnings"), **entries("errors")}
SAYING = {"sentence": 0, "error": 1}  # what says a key -> which of its arguments that is
LINE = sentence("beyond", tokens=9000, most=8192)
ENGLISH = "9,000 tokens are more than the 8,192 that the model was made for"
CHINESE = "9,000 个 token 超过模型设计的 8,192"


def calls(text):
    """Key, names of values and line of each sentence that a source says by one; (None, ...) of a
    key that is no text."""
    for call in nodes(text, ast.Call):
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        if name in SAYING and len(call.args) > SAYING[name]:
            names = {word.arg for word in call.keywords}
            for key in keys(call.args[SAYING[name]]):
                yield key, names, call.lineno


def keys(node):
    """The keys that an argument may be: those with a beginning where the end is a value's."""
    if isinstance(node, ast.IfExp):
        return [*keys(node.body), *keys(node.orelse)]
    if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
        begins = [key for key in WORDS if key.startswith(node.values[0].value)]
        return begins or [node.values[0].value]
    return [node.value] if isinstance(node, ast.Constant) else []


def wrong(text):
    """What is wrong with the sentences that a source says."""
    for key, names, line in calls(text):
        if key not in WORDS:
            yield f"line {line}: no sentence {key!r} in warnings.json or errors.json"
        elif None not in names and names != set(placeholders(WORDS[key]["en"])):
            yield f"line {line}: {key} has other values than {sorted(names)}"


@pytest.mark.slow
def test_every_sentence_that_code_says_is_there_in_each_language():
    """With the values that it names: that both languages have it, `test_catalogues` says."""
    said = 0
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        said += sum(1 for _ in calls(text))
        assert list(wrong(text)) == [], path
    assert said > 200


def test_the_law_of_sentences_can_fail():
    assert list(wrong('sentence("beyond", tokens=1, most=2)')) == []
    assert list(wrong('sentence("nothing.such")')) != []
    assert list(wrong('c.error("layers", "must.two")')) != []
    assert list(wrong('sentence("beyond", tokens=1)')) != []
    assert list(wrong('sentence("few.wide" if wide else "nothing")')) != []
    assert list(wrong('sentence(f"few.{axis}")')) == []
    assert list(wrong('sentence(f"nothing.{axis}")')) != []


def test_no_key_stands_in_two_catalogues():
    assert entries("warnings").keys() & entries("errors").keys() == set()


def test_a_sentence_is_its_text():
    assert LINE == ENGLISH and isinstance(LINE, str)
    assert (LINE.key, dict(LINE.values)) == ("beyond", {"tokens": 9000, "most": 8192})
    assert json.loads(json.dumps([LINE])) == [ENGLISH]
    for twin in (pickle.loads(pickle.dumps(LINE)), copy(LINE)):
        assert (twin, twin.key, twin.values) == (LINE, LINE.key, LINE.values)
    assert {LINE: 1}[ENGLISH] == 1
    assert key_of(ENGLISH) == Sentence(ENGLISH).key == ""


@pytest.mark.parametrize("catalogue", ["screens", "errors", "oom"])
def test_it_is_told_by_its_key(catalogue):
    assert words_in("zh", catalogue).told(LINE) == CHINESE
    assert words_in("en", catalogue).told(LINE) == ENGLISH
    assert words_in("zh", catalogue).told(ENGLISH) == ENGLISH  # by no words
    assert words_in("zh", catalogue).told(about("gpt2", LINE)) == f"gpt2：{CHINESE}"


def test_clauses_stay_sentences():
    both = clauses(LINE, "", None, clauses("of a stranger", sentence("flag.prompt_adapters")))
    assert both == f"{ENGLISH}; of a stranger; prompt adapters"
    assert [*map(key_of, parts_of(both))] == ["beyond", "", "flag.prompt_adapters"]
    assert words_in("zh").told(both) == f"{CHINESE}；of a stranger；提示词适配器"
    assert without(both, "flag.prompt_adapters") == f"{ENGLISH}; of a stranger"
    assert without(LINE, "flag.prompt_adapters") is LINE
    assert key_of(without("of a stranger", "flag.prompt_adapters")) == "clauses"
    assert (
        (clauses(), words_in("zh").told(clauses())) == ("", "")
        and clauses(LINE) is LINE
        and parts_of("one; two") == ("one; two",)
    )
    assert {*keys_of(about("gpt2", both))} == {
        "of_model",
        "clauses",
        "beyond",
        "flag.prompt_adapters",
    }
    assert [*keys_of("text")] == []
    assert about("", LINE) is LINE
    assert (before(about(LINE, "text")), before(LINE), before("text")) == (LINE, "", "")


def test_a_value_may_be_a_sentence():
    line = sentence("not_counted", what=clauses(sentence("relative", cls="A"), LINE))
    assert words_in("zh").told(line) == f"未计入：A 注意力中的相对位置；{CHINESE}"


def test_what_a_terminal_obeys_is_written_out_in_each_language():
    line = sentence("relative", cls="\x1b[2J")
    assert "\x1b" not in words_in("zh").told(line) + words_in("en").told(line)


# Errors


def test_an_error_has_fields_and_a_key():
    error = NotFoundError(LINE, where="gpt2", then=sentence("flag.prompt_adapters"))
    assert str(error) == f"gpt2: {ENGLISH}; prompt adapters"
    assert (error.what, error.where, error.then) == (LINE, "gpt2", "prompt adapters")
    assert error.key == "beyond"
    assert words_in("zh", "errors").told(error.sentence) == f"gpt2：{CHINESE}；提示词适配器"
    assert (NotFoundError("text").key, str(NotFoundError("text"))) == ("", "text")


def test_an_error_is_told_with_more_and_stays_what_it_is():
    error = TriedError(LINE, seen="vllm 0.33").added("gpt2", "ask again")
    assert str(error) == f"gpt2: {ENGLISH}; ask again"
    assert (type(error), error.key, error.seen) == (TriedError, "beyond", "vllm 0.33")
    assert str(error.added("a", "b")) == f"a: gpt2: {ENGLISH}; ask again; b"
    assert str(error.added()) == str(error)


def test_nobody_answers_for_a_reason():
    assert AwayError("x, and so on", why="x").why == "x"
    assert AwayError("x", where="hub").why == "hub: x"
    assert (NotServedError("no", "ask b", away=True).away, NotServedError("no").away) == (
        True,
        False,
    )


def test_the_json_of_an_answer_has_plain_text():
    found = weighbridge.infer("6B", gpu="4090")
    assert {*map(type, found.to_dict()["warnings"])} == {str}
    assert "bare_size" in {*map(key_of, found.warnings)}
    assert type(found.to_dict()["verdict"]["reason"]) is str
