"""Experts one after the other: the first and the last run, those between are counted."""

import pytest

from tests.training.megatron.runs import EXPERTS, PLAIN
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.records import replace
from weighbridge.base.units import KIB
from weighbridge.memory.components.activations import Heap
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.machine import Machine, remade
from weighbridge.training.megatron import alike
from weighbridge.training.megatron.model import RoutedFeed
from weighbridge.training.megatron.stage import run_stage

MANY = replace(EXPERTS, experts=RoutedFeed(count=16, top=2, width=256))
# A narrow expert frees less in backward than the gradient of its rows takes, a wide one more
NARROW, WIDE = (replace(MANY, experts=replace(MANY.experts, width=width)) for width in (32, 2048))
CHANGES = {
    "alone": {},
    "uneven rows": {"length": 500},
    "two experts a rank": {"data": 8, "expert": 8},
    "three that have a row more": {"length": 8 * 16 // 2 + 1, "uneven": 1.02},
    "all to all": {"data": 4, "expert": 4, "dispatcher": "alltoall", "uneven": 1.1},
    "fused gradients": {"fused_gradients": True},
    "activation apart": {"fused_activation": False, "router_wide": True},
    "in 8 bits": {"float8": "tensorwise"},
    "layers again": {"recompute": "uniform"},
    "activation again": {"modules": ("moe_act",)},
    "experts again": {"modules": ("moe",)},
    "stages": {"pipeline": 2},
}


def moments(model, **changes):
    run = run_stage.__wrapped__(model, replace(PLAIN, **changes), 0)
    return run.held, run.saved, {name: peak.allocated for name, peak in run.moments.items()}


@pytest.mark.parametrize("model", [NARROW, MANY, WIDE], ids=["narrow", "many", "wide"])
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_counted_as_if_all_ran(monkeypatch, model, changes):
    counted = moments(model, **changes)
    monkeypatch.setattr(alike, "ENDS", 1000)  # all run
    assert counted == moments(model, **changes)


@pytest.mark.parametrize(
    ("count", "rows", "ran"),
    [(3, 9, [3, 3, 3]), (16, 64, [4, 4, 4]), (16, 66, [5, 5, 4, 4, 4]), (4, 2, [1, 1, 0, 0])],
)
def test_experts_that_run(count, rows, ran):
    """Experts with a row more are in front; of many as large three run."""
    m, seen = Machine(Heap(None)), []
    x = m.new((rows, 8), BFLOAT16)

    def expert(x):
        seen.append(x.rows)
        return m.new(x.shape, BFLOAT16)

    out = alike.one_by_one(m, count, (x,), expert)
    assert (seen, out.shape) == (ran, (rows, 8))


def test_what_each_leaves_is_counted():
    """16 experts of 64 rows: tokens, outputs and these joined are 128 KiB each, and of each expert
    1 KiB stays."""
    m = Machine(Heap(None))
    x = m.param("x", (1024, 64), BFLOAT16)

    def expert(x):
        m.hidden(KIB)
        return remade(m, x, m.new(x.shape, BFLOAT16), m.new((512,), BFLOAT16))

    out = alike.one_by_one(m, 16, (x,), expert)
    assert m.heap.phase().allocated == (3 * 128 + 16) * KIB
    backward(m, out)
    # tokens, outputs, their gradient, that of the rows of each expert, and these joined
    assert m.heap.phase().allocated == 5 * 128 * KIB
