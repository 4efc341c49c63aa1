"""Tries that were refused and given up, on a card of a hundred blocks of 2 MiB; no torch."""

import pytest

from weighbridge.machines.allocator import Allocator, OutOfMemoryError
from weighbridge_lab.trace.tape import Tape, TapePeak
from weighbridge_lab.trace.tries import course, peaks

BLOCK = 20 << 20  # bytes: a segment by itself


class Run:
    """A program on a card that has room for ten blocks."""

    def __init__(self):
        self.tape = Tape(Allocator(capacity=10 * BLOCK, card=10 * BLOCK))

    def make(self, phase, blocks, module=""):
        self.tape.phase = phase
        return self.tape.malloc(blocks * BLOCK, op="op", module=module)

    def train(self, batch, weight=2):
        """Keep `batch` blocks in forward, as many again in backward; True where it went through."""
        alive = []
        try:
            alive.append(self.make("forward", batch, "net"))
            alive.append(self.make("backward", weight + batch))
            self.make_and_free("step", 1)
        except OutOfMemoryError:
            return False
        finally:
            for number in reversed(alive):
                self.tape.free(number)
        return True

    def make_and_free(self, phase, blocks):
        self.tape.free(self.make(phase, blocks))


def test_without_a_refusal_all_events_count():
    run = Run()
    run.make("load", 2)
    assert run.train(1)
    assert not run.tape.recovered
    assert peaks(run.tape) == (run.tape.allocated, run.tape.reserved)
    assert course(run.tape) == dict(enumerate(run.tape.reserves))


def test_a_batch_that_is_halved_counts_as_the_one_that_went_through():
    run = Run()
    run.make("load", 2)
    assert [run.train(batch) for batch in (8, 4, 2)] == [False, False, True]
    assert run.tape.recovered
    allocated, reserved = peaks(run.tape)
    assert allocated.nbytes == (2 + 2 + 4 + 1) * BLOCK  # weights, forward, backward, step
    assert reserved.nbytes == (2 + 2 + 4 + 1) * BLOCK  # and not what the allocator had cached
    assert run.tape.allocated.nbytes == 10 * BLOCK and run.tape.reserved.nbytes == 10 * BLOCK


def test_a_first_step_of_a_batch_that_is_given_up_in_the_second_does_not_count():
    """States of the optimizer came between, say."""
    run = Run()
    run.make("load", 1)
    assert run.train(3)  # 1 + 3 + 5 + 1 blocks
    run.make("step", 2)
    assert not run.train(3)
    assert run.train(1)
    assert peaks(run.tape)[0].nbytes == (1 + 2 + 1 + 3 + 1) * BLOCK


def test_a_batch_that_is_left_out_does_not_hide_the_larger_ones_before():
    run = Run()
    run.make("load", 2)
    assert [run.train(batch) for batch in (1, 2, 8, 1)] == [True, True, False, True]
    assert peaks(run.tape)[0].nbytes == (2 + 2 + 4 + 1) * BLOCK


def test_a_load_counts_that_is_larger_than_the_course():
    run = Run()
    weight = run.make("load", 9)
    run.tape.free(weight)
    assert [run.train(batch) for batch in (8, 1)] == [False, True]
    assert peaks(run.tape)[0] == TapePeak(0, 9 * BLOCK)


@pytest.mark.parametrize("batches", [(8,), (1, 8), (8, 8)])
def test_a_refusal_with_nothing_behind_it_is_not_recovered(batches):
    run = Run()
    run.make("load", 2)
    assert not [run.train(batch) for batch in batches][-1]
    run.make_and_free("load", 1)
    assert not run.tape.recovered
    assert peaks(run.tape) == (run.tape.allocated, run.tape.reserved)


def test_evaluation_alone_does_not_make_up_for_a_refused_step():
    run = Run()
    run.make("load", 2)
    assert run.train(1) and not run.train(8)
    run.make_and_free("eval", 1)
    assert not run.tape.recovered


def test_inference_recovers_by_inference():
    run = Run()
    with pytest.raises(OutOfMemoryError):
        run.make("eval", 11, "net")
    assert not run.tape.recovered
    run.make_and_free("eval", 3)
    assert run.tape.recovered
    assert peaks(run.tape)[0].nbytes == 3 * BLOCK


def test_what_outlives_a_try_stays_in_the_course():
    run = Run()
    run.make("load", 1)
    run.make("forward", 2, "net")  # kept by the script, as a list of losses
    with pytest.raises(OutOfMemoryError):
        run.make("backward", 9)
    assert run.train(1)
    assert peaks(run.tape)[1].nbytes == (1 + 2 + 1 + 3 + 1) * BLOCK


def test_as_on_a_larger_card_nothing_was_recovered():
    run = Run()
    run.tape.goes_on = lambda _: True
    run.make("load", 11)
    assert run.train(1) and run.tape.outgrown and not run.tape.recovered
