"""Turns of a loop that are left out take what they would take."""

import pytest

from weighbridge.base.dtypes import FLOAT32
from weighbridge.machines.allocator import sequence
from weighbridge.memory.components.activations import Heap
from weighbridge.training.forward import loops
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.checkpoint import checkpoint
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.pointwise import mul, of_result, scale

SIZE = 4096
TURNS = 40


def run(*, again):
    """(alive after forward, most, alive at the end)"""
    m = Machine(Heap())
    weight = m.param("w", (SIZE,), FLOAT32)

    def layer(x):
        def turn(carried):
            carried[0] = scale(m, mul(m, of_result(m, carried[0]), weight))

        carried = [x]
        loops.repeat(m, TURNS, turn, carried)
        return carried[0]

    x = scale(m, weight)
    out = checkpoint(m, layer, x) if again else layer(x)
    kept = m.heap.live("activations")
    backward(m, out)
    del x, out
    return kept, m.heap.phase().allocated, sum(m.heap.phase().live.values())


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("few", [0, sequence.FEW])
def test_turns_that_are_left_out_keep_what_those_that_run_keep(monkeypatch, again, few):
    monkeypatch.setattr(sequence, "FEW", few)
    some = run(again=again)
    monkeypatch.setattr(loops, "RUN", TURNS)
    assert some == run(again=again)


def test_without_gradients_nothing_is_kept():
    m = Machine(Heap())
    carried = [m.new((SIZE,), FLOAT32)]

    def turn(carried):
        carried[0] = scale(m, carried[0])

    loops.repeat(m, TURNS, turn, carried)
    assert m.heap.live("activations") == carried[0].nbytes
