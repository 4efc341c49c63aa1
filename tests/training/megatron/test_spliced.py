"""Layers and micro-batches that are spliced take what those take that are walked, byte for byte."""

import pytest

from tests.training.megatron.runs import EXPERTS, LLAMA, PLAIN
from weighbridge.base.records import replace
from weighbridge.training.forward.splice import Splices, UnlikeLayersError
from weighbridge.training.megatron import program, states
from weighbridge.training.megatron.layers import layer
from weighbridge.training.megatron.stage import _run, run_stage, run_stages

DEEP = replace(LLAMA, layers=16)
ROUTED = replace(EXPERTS, layers=16)
FUSED = replace(PLAIN, fused_gradients=True, accumulation=8)
CASES = {
    "one stage": (DEEP, {}),
    "gradients of torch": (DEEP, {"fused_gradients": False}),
    "tensor ranks": (DEEP, {"tensor": 2, "sequence_parallel": True}),
    "each layer again": (DEEP, {"recompute": "uniform"}),
    "three layers again": (DEEP, {"recompute": "uniform", "recomputed": 3}),
    "some layers again": (DEEP, {"recompute": "block", "recomputed": 7}),
    "parts of layers again": (DEEP, {"modules": ("layernorm", "mlp", "core_attn")}),
    "two stages": (DEEP, {"pipeline": 2}),
    "eight stages": (DEEP, {"pipeline": 8, "accumulation": 32}),
    "eight stages of which layers run again": (
        DEEP,
        {"pipeline": 8, "accumulation": 32, "recompute": "uniform"},
    ),
    "stages in chunks": (DEEP, {"pipeline": 4, "chunks": 2, "accumulation": 16}),
    "experts": (ROUTED, {}),
    "experts of stages": (ROUTED, {"pipeline": 4, "grouped": True}),
    "few micro-batches": (DEEP, {"pipeline": 4, "accumulation": 2}),
    "a head whose gradient is put off": (
        DEEP,
        {"pipeline": 4, "accumulation": 16, "deferred": 3},
    ),
    "Muon": (DEEP, {"data": 2, "muon": True}),
    "8 bits": (DEEP, {"float8": "tensorwise", "plain_ends": (1, 1)}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "changes"), CASES.values(), ids=CASES)
def test_spliced_is_walked(model, changes):
    run = replace(FUSED, **changes)
    for stage in range(run.pipeline):
        assert _run(model, run, stage, Splices()) == _run(model, run, stage, None)


@pytest.mark.parametrize(
    ("changes", "all_of_them", "few"),
    [
        ({}, 16 * 2 * 2, 14),  # two micro-batches of each step
        # layers of three micro-batches, of six in each step
        ({"pipeline": 4, "accumulation": 16}, 4 * 6 * 2, 4 * 3),
    ],
)
def test_few_layers_are_walked(monkeypatch, changes, all_of_them, few):
    walked = []
    monkeypatch.setattr(program, "layer", lambda *a, **more: walked.append(1) or layer(*a, **more))
    _run(DEEP, replace(FUSED, **changes), 0, None)
    assert len(walked) == all_of_them
    walked.clear()
    _run(DEEP, replace(FUSED, **changes), 0, Splices())
    assert len(walked) == few


@pytest.mark.slow
@pytest.mark.parametrize(("model", "changes"), CASES.values(), ids=CASES)
def test_stages_that_share_what_was_walked_are_as_if_alone(model, changes):
    run = replace(FUSED, **changes)
    alone = tuple(_run(model, run, stage, None) for stage in range(run.pipeline))
    assert run_stages.__wrapped__(model, run) == alone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "changes", "few"),
    [
        # the ends three times, the second stage as often, and those behind it once; of two layers
        (DEEP, {}, 2 * (3 + 3 + 3 + 5)),
        # layers that are not alike: in the second stage, one of them has no experts
        (replace(ROUTED, dense=3), {}, 2 * (3 + 3 + 3 + 3 + 4)),
        # the second has a layer in 16 bits
        (DEEP, {"float8": "tensorwise", "plain_ends": (3, 1)}, 2 * (3 + 3 + 3 + 3 + 4)),
        (DEEP, {"layout": (2, 3, 2, 2, 2, 2, 2, 1)}, 2 * (3 + 3 + 4) + 3 * 3 + 3),
    ],
    ids=["alike", "experts", "8 bits", "more layers"],
)
def test_stages_alike_walk_once(monkeypatch, model, changes, few):
    run = replace(FUSED, pipeline=8, accumulation=32, **changes)
    alone = tuple(_run(model, run, stage, None) for stage in range(8))
    walked = []
    monkeypatch.setattr(program, "layer", lambda *a, **more: walked.append(1) or layer(*a, **more))
    assert run_stages.__wrapped__(model, run) == alone
    assert len(walked) == few


def test_layers_alike_are_counted_once(monkeypatch):
    """Count those of other kinds, and those that multiply in 8 bits, by themselves."""
    model, run = replace(ROUTED, dense=3), replace(FUSED, float8="tensorwise", plain_ends=(1, 2))
    counted = []
    real = states._numbers
    monkeypatch.setattr(states, "_numbers", lambda *a: counted.append(a[2]) or real(*a))
    numbers = states.StageNumbers(model, run, 0)
    assert counted == [0, 1, 3, 14]
    each = [real(model, run, i) for i in range(16)]
    assert numbers.layers == [one.dense + one.experts for one in each]
    assert numbers.experts == sum(one.experts for one in each)
    assert numbers.float8 == sum(one.float8 for one in each)


def test_what_is_not_alike_is_walked_whole(monkeypatch):
    def unlike(*args):
        raise UnlikeLayersError

    expected = run_stage(DEEP, FUSED, 0)
    run_stage.cache_clear()
    monkeypatch.setattr(Splices, "run", unlike)
    assert run_stage(DEEP, FUSED, 0) == expected
