"""A row of a screen that is a button: asked again with its change, the answer is what the row says."""

import json

import pytest

from tests import ask
from weighbridge.faces.web.protocol import AskDesk
from weighbridge.memory.report.fit import NAMES

MARKS = {"yes": ("yes", "tight"), "no": ("no",), "unknown": ("unknown",)}
ASKS = (
    ("load", "llama-3.1-8b", {"gpu": "3060"}),
    ("load", "llama-3.1-8b", {}),
    ("infer", "llama-3.1-8b", {"gpu": "3060", "engine": "vllm"}),
    ("infer", "qwen3-4b", {"gpu": "t4", "context": "128K"}),
    pytest.param("train", "qwen3-0.6b", {"gpu": "t4", "seq_len": "16K"}, marks=pytest.mark.slow),
    (
        "train",
        "qwen3-0.6b",
        {"gpu": "3060", "method": "lora", "framework": "trainer", "batch_size": 8},
    ),
)


@pytest.fixture(scope="module")
def desk():
    return AskDesk(offline=True)


def answered(desk, task, model, workload):
    return ask.answered(desk, model, task=task, workload=workload)


def grids(found):
    for section in found["screen"]["sections"]:
        for block in section:
            if block["block"] == "grid" and block["actions"]:
                assert len(block["actions"]) == len(block["rows"])
                yield from zip(block["rows"], block["actions"], strict=True)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "model", "workload"), ASKS, ids=str)
def test_a_row_does_what_it_says(desk, task, model, workload):
    rows = [(row, action) for row, action in grids(answered(desk, task, model, workload)) if action]
    assert rows
    for row, action in rows:
        again = answered(desk, task, model, {**workload, **action})
        if row[0]["mark"] is not None:
            assert row[0]["mark"] in MARKS[again["report"]["verdict"]["fits"]], (row, action)
        else:
            assert action.items() <= again["report"]["workload"].items()


def test_the_format_that_was_asked_for_is_no_button(desk):
    found = answered(desk, "load", "llama-3.1-8b", {"quantization": "nf4"})
    assert [action for row, action in grids(found) if row[0]["text"] == "nf4"] == [None]


@pytest.mark.slow
def test_a_row_of_fit_does_what_it_says(desk):
    given = {"gpu_memory": "600MiB"}
    actions = [(row, a) for row, a in grids(answered(desk, "fit", "gpt2", given)) if a]
    assert len(actions) > 1
    for row, action in actions:
        change = dict(action)
        task, method = NAMES[change.pop("for", "infer")]
        own = {} if method is None else {"method": method}
        again = answered(desk, task, "gpt2", {**given, **change, **own})
        mark = row[3]["mark"] or "yes"
        assert again["report"]["verdict"]["fits"] in MARKS[mark], (row, action)


@pytest.mark.slow
def test_cards_and_models_are_buttons(desk):
    for task, pattern, key in (("gpus", "4090", "gpu"), ("models", "qwen3-0.6b", "model")):
        told = {"task": task, "workload": {"pattern": pattern}}
        for _row, action in grids(desk.answer(json.dumps(told))):
            workload = {} if key == "model" else action
            answered(desk, "load", action.get("model", "gpt2"), workload)
