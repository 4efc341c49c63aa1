"""The protocol: what `weighbridge run` prints, and what the page needs beside it."""

import json

import pytest

from weighbridge.requests import Requests
from weighbridge.web.protocol import Desk

ASKS = (
    {"task": "load", "model": "llama-3.1-8b", "workload": {"gpu": "3060"}},
    {"task": "infer", "model": "qwen3-0.6b", "workload": {"engine": "vllm", "gpu": "4090"}},
    {"task": "train", "model": "qwen3-0.6b", "workload": {"method": "lora", "gpu": "3060"}},
    {"task": "fit", "model": "gpt2", "workload": {"gpu": "t4"}},
    {"task": "infer", "model": "qwen3-0.6b", "remedies": False},
    {"task": "load", "model": {"config": {"model_type": "llama"}}},
    {"task": "load", "model": "no-such-model"},
    {"task": "infer", "model": "gpt2", "workload": {"batch": 3}},
    {"task": "dance", "model": "gpt2"},
    {"task": "load"},
)


@pytest.fixture(scope="module")
def desk():
    return Desk(offline=True)


def ask(desk, **told):
    return desk.answer(json.dumps(told))


@pytest.mark.parametrize("request_", ASKS, ids=str)
def test_a_report_is_what_run_prints(desk, request_):
    line = json.dumps(request_)
    printed = json.dumps(Requests(offline=True).answer(line))
    found = desk.answer(line)
    if "error" in found:
        assert request_["task"] == "dance" or json.dumps(found) == printed
    else:
        assert json.dumps(found["report"]) == printed
        assert found["screen"]["sections"]


def test_what_is_unknown_is_one_line(desk):
    for told in ({"task": "dance"}, {"task": []}, {}, {"task": "infer", "view": 1}):
        error = ask(desk, **told)["error"]
        assert error["code"] == 2
        assert "\n" not in error["message"]


def test_what_one_types_is_not_on_the_page():
    asked = {"task": "fit", "model": "qwen3-0.6b", "workload": {"gpu": "t4"}}
    told = json.dumps(Desk().answer(json.dumps(asked))["screen"])
    assert "infer 4K fits" in told
    assert "--smallest gpu" not in told
    assert "Exit code" not in told
