"""The order in which a stage receives, runs forward and runs backward.

`r`: hidden states, or their gradient, come from another stage; `F`, `B`: a forward, a backward.
"""

from types import SimpleNamespace

import pytest

from tests.training.megatron.runs import PLAIN
from weighbridge.base.records import replace
from weighbridge.training.megatron import schedule


class ToldStage:
    """A stage that tells what it does, and computes nothing."""

    def __init__(self, stage, **run):
        self.stage, self.told = stage, ""
        self.rank = SimpleNamespace(run=replace(PLAIN, **run), m=None)
        self.shared = SimpleNamespace(whole=lambda: None)

    def first(self, chunk):
        return self.stage == 0 and chunk == 0

    def last(self, chunk):
        run = self.rank.run
        return self.stage == run.pipeline - 1 and chunk == run.chunks - 1

    def received(self):
        self.told += "r"

    def forward(self, x, chunk):
        return SimpleNamespace(shape=(1,), dtype=None, node=None, slot=0)


def told(monkeypatch, stage, **run):
    monkeypatch.setattr(schedule, "backward", lambda *_: None)
    program = ToldStage(stage, **run)

    def ends(name):
        program.told += name[0].upper()

    schedule.step(program, ends)
    return program.told


@pytest.mark.parametrize(
    ("stage", "order"),
    [
        # two forwards of its other chunk; the next input is there before a backward begins
        (1, "rFrFr FrB FrBr FrBr FrB FrB FBr BrB"),
        # two more forwards, of which two have words; the next gradient is there before a forward
        (0, "FFrFrFr FBr FrBr FrBr FBr BrBrBrB"),
    ],
)
def test_chunks_take_turns(monkeypatch, stage, order):
    """forward_backward_pipelining_with_interleaving of two stages, four micro-batches, by hand."""
    run = {"pipeline": 2, "chunks": 2, "accumulation": 8}
    assert told(monkeypatch, stage, **run) == order.replace(" ", "")


@pytest.mark.parametrize(
    ("stage", "order"),
    [
        (1, "rFrFr FBr FBrr FBrr FBr FBr FBr BrB"),
        (0, "FFrFrFr FBr FBrr FBrr FBr BrBrBrB"),
    ],
)
def test_both_come_behind_the_backward_where_nothing_overlaps(monkeypatch, stage, order):
    run = {"pipeline": 2, "chunks": 2, "accumulation": 8, "receives_ahead": False}
    assert told(monkeypatch, stage, **run) == order.replace(" ", "")


@pytest.mark.parametrize(("stage", "order"), [(0, "F FrB FrB FrB rB"), (1, "rFB rFB rFB")])
def test_one_forward_one_backward(monkeypatch, stage, order):
    run = {"pipeline": 2, "accumulation": 8}
    assert told(monkeypatch, stage, **run) == order.replace(" ", "")


def test_all_forwards_come_first_where_micro_batches_are_few(monkeypatch):
    run = {"pipeline": 2, "chunks": 2, "accumulation": 2}
    assert told(monkeypatch, 0, **run) == "FFrFrF rBrBrBrB".replace(" ", "")


@pytest.mark.parametrize(
    ("stage", "early", "order"),
    [
        # three forwards of its first chunk, then one of each in turn
        (1, False, "rFr Fr Fr FrB FrB FBr Br Br B"),
        (1, True, "r rF rF rF FrB FrB FBr Br Br B"),  # what comes next is there before a forward
        (0, False, "FF Fr Fr Frr FBr Br Br Br Br B"),
        (0, True, "FF Fr Fr Frr FBr rB rB rB rB B"),  # and before a backward of the last ones
    ],
)
def test_a_chunk_takes_a_group_in_turn(monkeypatch, stage, early, order):
    """Three micro-batches of each chunk before the next chunk runs (get_pp_rank_microbatches,
    overlap_p2p_comm_warmup_flush), by hand."""
    run = {"pipeline": 2, "chunks": 2, "accumulation": 3, "group": 3}
    assert told(monkeypatch, stage, **run, receives_early=early) == order.replace(" ", "")
