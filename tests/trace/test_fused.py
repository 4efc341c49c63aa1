"""The least that compiled code takes, of tapes written by hand; no torch."""

import pytest

from weighbridge_lab.trace.fused import CompiledWays, least
from weighbridge_lab.trace.tape import OperationUse, StoragePart, Tape

UNIT = 1 << 20


class Run:
    """A program whose tensors are of whole mebibytes."""

    def __init__(self):
        self.tape = Tape()

    def make(self, size, role="temporary"):
        return self.tape.malloc(size * UNIT, op="op", role=role)

    def does(self, op, reads, size=0, *, shown=None, offset=0, into=None):
        """Let an operation make a tensor of `size`, or write `into` one."""
        event = len(self.tape.events)
        made = self.make(size) if into is None else into
        parts = tuple(
            StoragePart(n, offset * UNIT, shown * UNIT if shown else self.tape.storages[n].nbytes)
            for n in reads
        )
        written = (StoragePart(made, 0, self.tape.storages[made].nbytes),)
        back = self.tape.phase == "backward"
        self.tape.uses.append(OperationUse(event, op, back, parts, written))
        return made

    def ends(self, *numbers):
        for number in numbers:
            self.tape.free(number)

    def least(self, **ways):
        return least(self.tape, CompiledWays(**ways)) / UNIT


def test_what_is_kept_is_the_least():
    run = Run()
    assert run.least() == 0
    run.make(10, "weight")
    state = run.make(20, "optimizer state")
    run.make(40)
    assert run.least() == 30
    run.ends(state)
    run.make(5, "gradient")
    assert run.least() == 30


def block(run, weight=4, width=2, wide=8):
    """Run a product, a norm of it, another product, an activation: in forward; backward reads all.
    Return what it saved."""
    run.tape.phase = "load"
    w = run.make(weight, "weight")
    x = run.make(width, "input")
    run.tape.phase = "forward"
    first = run.does("mm", [x, w], width)
    norm = run.does("native_layer_norm", [first], width)
    second = run.does("mm", [norm, w], wide)
    active = run.does("gelu", [second], wide)
    run.ends(run.does("mm", [active, w], width))
    run.tape.phase = "backward"
    return first, norm, second, active


def test_a_norm_and_an_activation_are_computed_again():
    run = Run()
    first, norm, second, active = block(run)
    gradient = run.make(2)
    run.does("mm", [gradient, active], 4)
    run.does("gelu_backward", [gradient, second], 8)
    run.does("mm", [gradient, norm], 4)
    run.does("native_layer_norm_backward", [gradient, first], 2)
    kept = 4 + 2  # the weight and the input
    assert run.least(tuned=True) == kept + 2 + 8  # of 2 + 2 + 8 + 8 that are saved
    assert run.least() == kept + 2 + 8 + 4  # the first product of backward, with its result
    assert run.least(budgeted=True) == run.least()
    assert run.least(budgeted=True, tuned=True) == kept


def test_what_only_signs_are_read_of_may_be_gone():
    run = Run()
    _, _, second, _ = block(run)
    run.does("threshold_backward", [run.make(8), second], 8)
    assert run.least(tuned=True) == 4 + 2


@pytest.mark.parametrize(
    ("op", "kept"), [("_softmax", 0), ("tanh", 16), ("rand_like", 0), ("bernoulli_", 0)]
)
def test_scores_of_attention_may_be_within_one_kernel(op, kept):
    run = Run()
    run.tape.phase = "forward"
    scores = run.does("bmm", [run.make(1, "input")], 16)
    shares = run.does(op, [scores], 16)
    run.tape.phase = "backward"
    run.does("mul", [run.make(16), shares], 16)
    assert run.least(tuned=True) == 1 + kept


def test_parts_of_one_storage_are_read_one_by_one():
    run = Run()
    run.tape.phase = "forward"
    joint = run.does("mm", [run.make(1, "input")], 12)
    run.tape.phase = "backward"
    for offset in (0, 0, 4):
        run.does("mul", [joint], 4, shown=4, offset=offset)
    assert run.least(tuned=True) == 1 + 8
    run.does("mul", [joint], 4, shown=12, offset=8)
    assert run.least(tuned=True) == 1 + 12


def test_weights_that_were_written_lead_nowhere():
    """Gradients of the step before went into the weights: no path from those products."""
    run = Run()
    weight = run.make(4, "weight")
    gradient = run.does("mm", [run.make(1, "input")], 4)
    run.does("add_", [weight, gradient], into=weight)
    run.ends(gradient)
    run.tape.phase = "forward"
    scaled = run.does("mul", [weight], 4)
    run.tape.phase = "backward"
    run.does("mul", [scaled], 4)
    assert run.least(tuned=True) == 4 + 1


def test_a_product_has_its_operands_and_its_result_at_once():
    run = Run()
    weight = run.make(4, "weight")
    run.tape.phase = "eval"
    large = run.does("relu", [run.make(1, "input")], 30)
    run.does("mm", [large, weight], 2, shown=10)
    assert run.least() == 4 + 1 + 10 + 2
    run.does("bmm", [large, large], 50)  # scores of attention, maybe
    assert run.least() == 4 + 1 + 10 + 2
    assert run.least(tuned=True) == 4 + 1


def test_the_fullest_backward_counts():
    run = Run()
    for size in (4, 16, 8):
        run.tape.phase = "forward"
        product = run.does("mm", [run.make(1, "input")], size)
        run.tape.phase = "backward"
        run.ends(run.does("mul", [product], size), product)
    assert run.least(tuned=True) == 2 + 16  # with the first two inputs, all still there
