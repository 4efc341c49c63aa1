"""What a model is asked about one card tells of others what they have in common, and nothing else:
the rows of all cards together are those of each question alone."""

import json
from types import SimpleNamespace

import pytest

from tests.cases import each
from weighbridge import Infer, prepare
from weighbridge.base.canonical import canonical_text
from weighbridge.engines.llama_cpp import compute
from weighbridge.engines.llama_cpp.answers import free
from weighbridge.faces.scan import asking
from weighbridge.faces.scan.answers import rows
from weighbridge.machines.accelerators.budget import budget as find_budget
from weighbridge.machines.accelerators.parts import parts
from weighbridge.models import catalogue
from weighbridge.training import kept, run

pytestmark = pytest.mark.slow
QUESTIONS = b"""
questions:
  - {name: load, task: load}
  - {name: vllm, task: infer, workload: {engine: vllm, context: 8192}}
  - {name: llama.cpp, task: infer, workload: {engine: llama.cpp, quantization: Q4_K_M}}
  - {name: lora, task: train, workload: {method: lora}}
  - {name: qlora, task: train, workload: {method: qlora}}
  - {name: full, task: train, workload: {method: full}}
"""
FEW = 8  # each so many cards where people wait
# (name of the catalogue, of how many cards one is asked)
CASES = (
    ("qwen3-0.6b", FEW),
    ("gpt2", FEW),
    *((n, 1) for n in ("qwen3-0.6b", "gpt2", "mamba-2.8b", "gemma-3-4b", "bert-base-uncased")),
)


@pytest.mark.parametrize(("name", "step"), each(len(CASES), CASES))
def test_shared_answers_are_those_of_each_question_alone(name, step, monkeypatch):
    monkeypatch.setattr(asking, "MOST", 2000)
    config = canonical_text(catalogue.find(name).config)
    asked = asking.read(QUESTIONS, "q", list(parts())[::step])
    read, *together = rows(config, asked)
    assert read["code"] == 0
    assert len(together) == len(asked)
    for question, row in zip(asked, together, strict=True):
        _, alone = rows(config, [question])
        assert row == alone, question.name


def test_a_model_keeps_the_runs_of_all_cards(monkeypatch):
    """Whatever the order of the cards, kernels that take the same have one run: so there are as
    many runs without an end as there are kinds of kernels, and the bound is above them. Not all of
    them are walked: some kinds take other bytes for the same."""
    began, real = [], run.Heap
    walked, walk = [], run._run

    def counted(capacity, *rest):
        began.append(capacity)
        return real(capacity, *rest)

    monkeypatch.setattr(run, "Heap", counted)
    monkeypatch.setattr(run, "_run", lambda *at: walked.append(at) or walk(*at))
    config = canonical_text(catalogue.find("qwen3-0.6b").config)
    text = b"questions: [{name: full, task: train, workload: {method: full, seq_len: 64}}]"
    asked = asking.read(text, "q", list(parts()))
    assert all(row["code"] == 0 or row["message"] for row in rows(config, asked))
    kinds = began.count(None)
    assert 4 < kinds < kept.CLASSES
    assert kinds < len(parts()) / 4
    assert len(walked) < kinds


def test_llama_cpp_deals_layers_once_for_cards_that_hold_them(monkeypatch):
    """One graph for each step, whatever memory a card has; two cards share as their rooms do."""
    made, real = [], compute.replayed
    monkeypatch.setattr(compute, "replayed", lambda *at: made.append(at) or real(*at))
    model = prepare("qwen3-0.6b")

    cards = ("4090", "3090", "h100", "a100-80gb", "rtx-3060-12gb", "4090:2")
    settings = [Infer(engine="llama.cpp", gpu=gpu, context=4096) for gpu in cards]
    alone = [prepare("qwen3-0.6b").briefly(one).to_dict() for one in settings]
    made.clear()
    counts, told = [], []
    for one in settings:
        told.append(model.briefly(one).to_dict())
        counts.append(len(made))
    assert json.dumps(told) == json.dumps(alone)
    assert counts[0] == counts[-2] < counts[-1]


@pytest.mark.parametrize(
    ("gpu", "shares"),
    [("4090", (1,)), ("4090:3", (1, 1, 1)), ("24GiB:2", (1, 1)), (None, (1,))],
)
def test_rooms_are_shares_without_a_common_divisor(gpu, shares):
    budget = None if gpu is None else find_budget(gpu, None, None)
    assert free(budget, SimpleNamespace(gpus=len(shares))) == shares
