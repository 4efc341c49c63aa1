"""Errors in the words of a page."""

import json
import re

import pytest

from weighbridge.web.protocol import AskDesk


@pytest.fixture(scope="module")
def desk():
    return AskDesk(offline=True)


def error(desk, lang="en", **ask):
    return desk.answer(json.dumps({"view": {"lang": lang}, **ask}))["error"]


@pytest.fixture
def no_card(monkeypatch):
    from weighbridge.accelerators import budget
    from weighbridge.errors import UsageError

    def none(*_):
        raise UsageError("no card here")

    monkeypatch.setattr(budget, "budget", none)


@pytest.mark.parametrize(("lang", "words"), [("en", "Now name a card"), ("zh", "现在写出一张卡")])
def test_a_card_that_is_still_to_be_named_is_asked_for(desk, no_card, lang, words):
    found = error(desk, lang, task="fit", model="gpt2")
    assert found["message"].startswith(words)
    assert found["wants"] == "gpu"
    assert "--" not in found["message"]


@pytest.mark.parametrize(
    ("task", "workload", "setting", "label"),
    [
        ("infer", {"context": "abc"}, "context", "Context"),
        ("load", {"gpu": "zzz9"}, "gpu", "no accelerator 'zzz9'"),
        ("fit", {"gpu": "rtx"}, "gpu", "no accelerator 'rtx'"),
        ("train", {"batch_size": "many"}, "batch_size", "Batch"),
    ],
)
def test_a_setting_is_told_by_its_label(desk, task, workload, setting, label):
    found = error(desk, task=task, model="gpt2", workload=workload)
    assert found["setting"] == setting
    assert found["message"].startswith(label)
    assert not re.search(r"--[a-z]|`weighbridge", found["message"])


def test_options_of_a_pasted_command_stay_its_own(desk):
    command = "vllm serve gpt2 --max-model-len abc"
    found = error(desk, task="infer", workload={"command": command})
    assert "--max-model-len" in found["message"]


def test_a_model_that_needs_a_library_sends_nobody_to_a_terminal(desk):
    found = error(desk, task="load", model={"config": {"model_type": "never-heard-of"}})
    assert "pip install" not in found["message"]
    assert "never-heard-of" in found["message"]
