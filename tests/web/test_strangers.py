"""Where strangers ask, nothing of the owner is read; and no token is kept or repeated."""

import json
import re
from itertools import product

import pytest

from tests.ask import requested
from tests.cases import all_of
from tests.sparse import write_repo
from weighbridge.faces.web.protocol import AskDesk
from weighbridge.models import catalogue
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config

TOKEN = "hf_oauth_a.secret-that-no-pattern-knows"
OTHER = "hf_another_secret_of_somebody_else"
GATED = "org/gated"


@pytest.fixture
def gated(hub):
    config = dict(catalogue.find("gpt2").config)
    write_repo(hub.root / GATED, config, blueprint(Config(config)))
    hub.gated[GATED] = (TOKEN,)
    return hub


def ask(desk, model, token=None, **workload):
    own = {} if token is None else {"token": token}
    return requested(desk, model, task="load", workload=workload, **own)


@pytest.mark.slow
@pytest.mark.parametrize("ours", [True, False])
def test_a_token_opens_what_it_may_and_only_for_who_has_it(gated, ours):
    desk = AskDesk(ours=ours)
    assert ask(desk, GATED)["error"]["code"] == 3
    found = ask(desk, GATED, TOKEN)
    assert found["report"]["model"]["parameters"] == 124_439_808
    assert ask(desk, GATED, OTHER).get("error", {"code": 3})["code"] == 3
    asked = len(gated.requests)
    assert ask(desk, GATED, TOKEN, gpu="t4")["report"]["verdict"]["fits"] == "yes"
    assert len(gated.requests) == asked  # kept with the token's mark


@pytest.mark.slow
def test_what_a_strangers_token_opened_is_in_no_cache(gated, client_home):
    assert "report" in ask(AskDesk(ours=False), GATED, TOKEN)
    assert not list(client_home.rglob("config.json"))
    assert "report" in ask(AskDesk(), GATED, TOKEN)
    assert list(client_home.rglob("config.json"))


def test_the_owners_token_is_not_for_strangers(gated, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "report" in ask(AskDesk(), GATED)
    assert ask(AskDesk(ours=False), GATED)["error"]["code"] == 3


def test_a_token_is_held_nowhere(gated):
    desk = AskDesk(ours=False)
    assert "report" in ask(desk, GATED, TOKEN)
    assert TOKEN not in held(desk)


def held(root):
    """The text of everything that can be reached from an object."""
    seen, left, found = set(), [root], []
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, str | bytes | int | float):
            found.append(str(one))
        elif isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            left += one
        else:
            left += list(vars(one).values()) if hasattr(one, "__dict__") else []
            slots = (s for c in type(one).__mro__ for s in getattr(c, "__slots__", ()))
            left += [getattr(one, s, None) for s in slots]
    return "\n".join(found)


@pytest.mark.parametrize(
    "told",
    [
        {"task": "load", "model": f"org/{TOKEN}"},
        {"task": "load", "model": TOKEN},
        {"task": TOKEN},
        {"task": "load", "model": {"config": {"model_type": TOKEN}}},
        {
            "task": "load",
            "model": {"config": {**catalogue.find("gpt2").config, "_name_or_path": TOKEN}},
        },
        {"task": "infer", "model": "gpt2", "workload": {"engine": TOKEN}},
        {"task": "infer", "model": "gpt2", "workload": {TOKEN: 1}},
        {
            "task": "export",
            "form": "command",
            "of": {"task": "load", "model": "gpt2", "token": TOKEN},
        },
        {"task": "compare", "asks": [{"task": "load", "model": "gpt2", "token": TOKEN}]},
    ],
    ids=lambda told: str(told)[:40],
)
def test_no_answer_repeats_a_token(told):
    assert TOKEN not in json.dumps(
        AskDesk(offline=True).answer(json.dumps({**told, "token": TOKEN}))
    )


@pytest.mark.parametrize("token", [1, ["x"], "x" * 2000, {"a": 1}])
def test_what_is_no_token_is_one_line(token):
    found = ask(AskDesk(offline=True), "gpt2", token)
    assert re.match("token is text", found["error"]["message"])


def test_a_token_of_odd_signs_is_refused_without_being_told(gated):
    found = ask(AskDesk(), GATED, "se\ncret-line\u4e00")
    assert "holds characters" in found["error"]["message"]
    assert "cret" not in found["error"]["message"]


PLACES = ("/etc/passwd", "./x", "~", "file:///etc/passwd", "C:\\x", "http://127.0.0.1:9/x.gguf")


@all_of(("place", "how"), product(PLACES, ["model", "draft_model", "mmproj", "command"]))
def test_files_and_addresses_are_not_read_for_strangers(place, how):
    told = {"task": "infer", "model": "gpt2", "workload": {}}
    if how == "model":
        told["model"] = place
    elif how == "command":
        told |= {"model": None, "workload": {"command": f"vllm serve {place}"}}
    else:
        engine = {"engine": "llama.cpp"} if how == "mmproj" else {"speculative_method": "draft"}
        told["workload"] = {"engine": "vllm", **engine, how: place}
    error = AskDesk(ours=False, offline=True).answer(json.dumps(told))["error"]
    assert error["code"] in (2, 3)
    assert "root:" not in error["message"]


def test_whether_a_file_is_there_is_not_told(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    desk = AskDesk(ours=False, offline=True)
    messages = {
        ask(desk, name)["error"]["message"].replace(name, "") for name in ("./there", "./none")
    }
    assert len(messages) == 1
    assert "not read here" in messages.pop()
    assert "there" in ask(AskDesk(offline=True), "./there")["error"]["message"]
