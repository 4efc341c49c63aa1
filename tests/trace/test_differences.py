"""Why a step holds more than those before it, and why a run does. No torch."""

import json

import pytest

from weighbridge.base.errors import BadFileError, NotFoundError
from weighbridge.base.units import MIB
from weighbridge_lab.trace.differences import STEPS, Tensors, against, changes, rises
from weighbridge_lab.trace.report import moment, tensors
from weighbridge_lab.trace.tape import Tape


class Run:
    """A training whose phases are said."""

    def __init__(self):
        self.tape = Tape()
        self.take(8, "weight")

    def take(self, mebibytes, role="temporary"):
        return self.tape.malloc(mebibytes * MIB, op="op", role=role)

    def step(self, activations, *, states=0):
        self.tape.phase = "forward"
        kept = self.take(activations, "saved activation")
        self.tape.phase = "backward"
        self.tape.free(self.take(2))
        self.tape.free(kept)
        self.tape.phase = "step"
        if states:
            self.take(states, "optimizer state")
        self.tape.free(self.take(2))


def test_a_higher_step_says_what_is_new():
    run = Run()
    run.step(30, states=16)
    run.step(30)  # the states are there
    run.step(30)
    run.step(50)  # a longer batch
    second, fourth = rises(run.tape, tensors)
    assert (second.step, second.before, second.allocated) == (2, 40 * MIB, 56 * MIB)
    assert [(c.role, c.before, c.after) for c in second.because] == [
        ("optimizer state", 0, 16 * MIB)
    ]
    assert (fourth.step, fourth.allocated - fourth.before) == (4, 20 * MIB)
    assert [c.role for c in fourth.because] == ["saved activation"]


def test_steps_that_do_not_rise_are_not_told():
    run = Run()
    for activations in (30, 30, 20, 30):
        run.step(activations)
    assert not list(rises(run.tape, tensors))


def test_a_run_without_backward_has_no_steps():
    run = Run()
    for size in (2, 4, 8):
        run.tape.phase = "forward"
        run.tape.free(run.take(size))
        run.tape.phase = "step"
        run.tape.free(run.take(1))
    assert not list(rises(run.tape, tensors))


def test_a_run_that_always_rises_is_told_in_part():
    run = Run()
    for activations in range(2, 90, 2):
        run.step(activations)
    assert len(list(rises(run.tape, tensors))) == STEPS


def made(role, nbytes, line=""):
    return Tensors(role=role, module="0", op="op", phase="load", count=1, nbytes=nbytes, line=line)


def test_changes_are_sorted_and_lines_may_move():
    before = [made("weight", 8, "a.py:1"), made("input", 4, "a.py:2"), made("buffer", 1)]
    after = [made("weight", 8, "a.py:3"), made("input", 6, "a.py:4"), made("gradient", 8)]
    assert [(c.role, c.before, c.after, c.line) for c in changes(before, after)] == [
        ("gradient", 0, 8, ""),
        ("input", 4, 6, "a.py:4"),
        ("buffer", 1, 0, ""),
    ]


def kept(tmp_path, text):
    path = tmp_path / "before.json"
    path.write_text(text)
    return str(path)


def test_a_report_that_was_kept_is_compared(tmp_path):
    run = Run()
    run.step(30)
    top = moment(run.tape, run.tape.allocated.event)
    told = [
        {
            "role": t.role,
            "module": t.module,
            "op": t.op,
            "phase": t.phase,
            "count": t.count,
            "nbytes": t.nbytes,
        }
        for t in top.tensors
    ]
    device = {"allocated": {"allocated": top.allocated, "tensors": told}, "driver": {"expected": 1}}
    path = kept(tmp_path, json.dumps({"schema": "weighbridge.trace/1", "devices": [device]}))
    run.step(50)
    now = moment(run.tape, run.tape.allocated.event)
    found = against(path, now.allocated, now.tensors)
    assert (found.before, found.after) == (40 * MIB, 60 * MIB)
    assert [(c.role, c.after - c.before) for c in found.changes] == [("saved activation", 20 * MIB)]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": "weighbridge.trace/1"}', '{"devices": [1]}']
)
def test_what_is_no_report_is_refused(tmp_path, text):
    with pytest.raises(BadFileError, match="before"):
        against(kept(tmp_path, text), 0, ())


def test_what_is_not_there_is_refused():
    with pytest.raises(NotFoundError, match="nowhere"):
        against("nowhere.json", 0, ())
