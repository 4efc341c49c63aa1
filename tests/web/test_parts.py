"""Parts of an answer, which come before it: what stands at the end is the answer alone."""

import json

import pytest

from weighbridge.answers.questions import prepared
from weighbridge.faces.web.protocol import AskDesk

LORA = {"task": "train", "model": "gpt2", "workload": {"gpu_memory": "600MiB", "method": "lora"}}
TRAIN = {"task": "train", "model": "llama-3.1-8b", "workload": {"gpu": "3060", "method": "lora"}}
LOAD = {"task": "load", "model": "llama-3.1-70b", "workload": {"gpu": "4090"}}
INFER = {"task": "infer", "model": "llama-3.1-8b", "workload": {"gpu": "3060"}}
FIT = {"task": "fit", "model": "gpt2", "workload": {"gpu_memory": "2GiB"}}
TOKEN = "hf_secret0123456789"


@pytest.fixture(scope="module")
def desk():
    return AskDesk(offline=True)


def told(desk, ask, **view):
    """(parts, the answer) of an ask."""
    parts = []
    answer = desk.answer(json.dumps({**ask, "view": {"parts": True, **view}}), parts.append)
    assert "error" not in answer
    assert all(part.keys() == {"part"} for part in parts)
    return [part["part"] for part in parts], answer


def held(component):
    return component["bytes"]["expected"] * (component["level"] == "allocated")


def flags(answer):
    return [remedy["flags"] for remedy in answer["report"]["remedies"]]


@pytest.mark.slow
@pytest.mark.parametrize("ask", [LOAD, INFER, TRAIN], ids=["load", "infer", "train"])
def test_remedies_are_told_as_they_are_found_and_the_answer_is_the_same(desk, ask):
    parts, answer = told(desk, ask)
    assert answer == desk.answer(json.dumps(ask))
    assert len(parts) >= 2
    known = [len(flags(part)) for part in parts]
    assert known == sorted(known) and known[0] == 1
    for part in parts:
        assert part["report"]["verdict"] == answer["report"]["verdict"]
        assert part["command"] == answer["command"]
        for remedy in part["report"]["remedies"]:
            same = [r for r in answer["report"]["remedies"] if r["flags"] == remedy["flags"]]
            assert same in ([], [remedy])


def test_nothing_is_told_where_nobody_asks_for_parts(desk):
    parts = []
    desk.answer(json.dumps(LOAD), parts.append)
    assert parts == []
    view = {"parts": True}
    desk.answer(json.dumps({"task": "compare", "asks": [LOAD], "view": view}), parts.append)
    desk.answer(json.dumps({"task": "gpus", "workload": {}, "view": view}), parts.append)
    assert parts == []


def test_parts_hold_no_token(desk):
    parts = []
    ask = {**LOAD, "model": {"config": {"model_type": TOKEN}}, "token": TOKEN}
    desk.answer(json.dumps({**LOAD, "token": TOKEN, "view": {"parts": True}}), parts.append)
    assert parts and TOKEN not in json.dumps(parts)
    assert TOKEN not in json.dumps(desk.answer(json.dumps(ask), parts.append))


@pytest.mark.parametrize(
    ("lang", "least", "told_of"),
    [("en", "at least", "a first estimate"), ("zh", "至少", "初步估计")],
)
def test_a_long_run_is_counted_first(desk, monkeypatch, lang, least, told_of):
    """A lower bound of its bytes, and no verdict, stands there before the answer."""
    monkeypatch.setattr(prepared, "LONG", 1)
    ask = {**LORA, "remedies": False}
    (part,), answer = told(desk, ask, lang=lang)
    assert answer == desk.answer(json.dumps({**ask, "view": {"lang": lang}}))
    (section,) = part["screen"]["sections"]
    head, bar = section
    assert head["verdict"].startswith(least) and head["figures"].startswith(told_of)
    assert head["mark"] is None and not head["reason"] and not head["margin"]
    assert bar["low"] == bar["high"] == bar["total"] and not bar["margin"]
    assert part["screen"]["title"] == answer["screen"]["title"]

    def allocated(report):
        phases = report["devices"][0]["phases"]
        return {phase["name"]: sum(map(held, phase["components"])) for phase in phases}

    counted, whole = allocated(part["report"]), allocated(answer["report"])
    assert counted.keys() == whole.keys()
    assert all(counted[name] <= whole[name] for name in counted)


@pytest.mark.slow
def test_a_run_that_is_short_or_was_answered_is_not_counted(desk, monkeypatch):
    assert told(desk, {**LORA, "remedies": False})[0] == []
    monkeypatch.setattr(prepared, "LONG", 1)
    assert all("remedies" in part["report"] and flags(part) for part in told(desk, LORA)[0])


@pytest.mark.slow
def test_questions_of_fit_are_told_one_after_the_other(desk):
    """With the formats to run it in before any training, and what was not asked yet as it is."""
    parts, answer = told(desk, FIT)
    assert answer == desk.answer(json.dumps(FIT))
    plain = desk.answer(json.dumps({**FIT, "remedies": False}))
    whole, bare = answer["report"]["questions"], plain["report"]["questions"]
    assert len(parts) == len(whole) - 2  # none before the formats are known
    for number, part in enumerate(parts, 2):
        assert part["report"]["questions"] == [*whole[:number], *bare[number:]]
        assert part["report"]["ladder"] == answer["report"]["ladder"]
        assert part["report"]["plan"] == answer["report"]["plan"]
    assert answer["report"]["ladder"]
