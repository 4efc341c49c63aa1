"""The machine and its operators: what is saved, added up and given back, worked by hand."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16, FLOAT32
from weighbridge.base.errors import UsageError
from weighbridge.memory.components.activations import Heap
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.checkpoint import checkpoint
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    dropout,
    mul,
    of_input,
    of_result,
    scale,
)
from weighbridge.training.forward.ops.shaping import cut, cuts, join, repeat, split

KB = 1024
ROWS, WIDE = 8, 256  # float32: 8 KiB a tensor, whole blocks of 512 bytes


def machine():
    m = Machine(Heap())
    return m, m.heap


def live(heap):
    return {name: nbytes for name, nbytes in heap._live.items() if nbytes}


def weight(m, out=WIDE, inside=WIDE, **facts):
    return m.param("w", (out, inside), FLOAT32, **facts)


def test_a_linear_saves_its_input_for_a_weight_that_is_trained():
    m, heap = machine()
    w = weight(m)
    y = linear(m, m.new((ROWS, WIDE), FLOAT32), w)
    assert live(heap) == {"weights": 256 * KB, "activations": 16 * KB}
    del y
    assert live(heap) == {"weights": 256 * KB}


def test_a_frozen_linear_saves_nothing_of_its_input():
    m, heap = machine()
    w, frozen = weight(m), weight(m, trainable=False)
    y = linear(m, linear(m, m.new((ROWS, WIDE), FLOAT32), w), frozen)
    assert live(heap)["activations"] == 16 * KB  # the input of `w`, and the result
    assert y.node is not None


def test_gradients_of_two_paths_are_added_in_place():
    """x -> 2 branches -> sum: the second gradient is added to the first one's memory."""
    m, heap = machine()
    w = weight(m)
    x = linear(m, m.new((ROWS, WIDE), FLOAT32), w)
    y = add(m, scale(m, x), scale(m, x))
    del x
    heap.phase()
    backward(m, y)
    # the loss's gradient, and one of the two branches' at a time beside the sum
    assert heap.phase().live["temporaries"] == 256 * KB + 2 * 8 * KB
    assert live(heap) == {"weights": 256 * KB, "activations": 8 * KB, "gradients": 256 * KB}


def test_a_residual_hands_its_gradient_on_without_a_copy():
    m, heap = machine()
    w = weight(m)
    x = linear(m, m.new((ROWS, WIDE), FLOAT32), w)
    y = scale(m, add(m, x, scale(m, x)))
    del x
    heap.phase()
    backward(m, y)
    # the first gradient, which the caller holds; that of the sum
    assert heap.phase().live["temporaries"] == 256 * KB + 2 * 8 * KB


def test_a_gradient_that_others_see_is_copied_by_the_leaf():
    """Both leaves of a sum are given the same tensor: torch copies it for each."""
    m, heap = machine()
    a, b = weight(m), weight(m)
    y = add(m, a, b)
    first = m.new(y.shape, FLOAT32)
    backward(m, y, first)
    assert a.grad is not first and b.grad is not first
    assert live(heap)["gradients"] == 2 * 256 * KB


def test_a_weight_that_is_used_twice_waits_for_both():
    m, _ = machine()
    w = weight(m)
    calls = []
    w.hooks.append(lambda m, p: calls.append(p.grad is not None))
    y = linear(m, linear(m, m.new((ROWS, WIDE), FLOAT32), w), w)
    backward(m, y)
    assert calls == [True]


def test_autocast_keeps_one_copy_of_a_weight_however_often_it_is_used():
    m, heap = machine()
    w = weight(m)
    x = m.new((ROWS, WIDE), FLOAT32)
    with m.casting(BFLOAT16):
        linear(m, x, w)
        linear(m, x, w)
        assert live(heap)["activations"] == 8 * KB + 128 * KB
    assert live(heap)["activations"] == 8 * KB


def test_autocast_casts_frozen_weights_each_time_and_the_graph_keeps_them():
    m, heap = machine()
    w, frozen = weight(m), weight(m, trainable=False)
    with m.casting(BFLOAT16):
        y = linear(m, linear(m, m.new((ROWS, WIDE), FLOAT32), w), frozen)
        y = linear(m, y, frozen)
    # the input in bfloat16, for w; two copies of the frozen weight; the result
    assert live(heap)["activations"] == 4 * KB + 2 * 128 * KB + 4 * KB
    assert y.dtype == BFLOAT16


def test_dropout_saves_a_byte_a_number():
    m, heap = machine()
    w = weight(m)
    y = dropout(m, linear(m, m.new((ROWS, WIDE), FLOAT32), w), 0.1)
    assert live(heap)["activations"] == 8 * KB + 2 * KB + 8 * KB
    assert dropout(m, y, 0.0) is y


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_keeps_the_input_alone(reentrant):
    m, heap = machine()
    w = weight(m)

    def layer(x):
        return of_input(m, linear(m, of_result(m, linear(m, x, w)), w))

    x = linear(m, m.new((ROWS, WIDE), FLOAT32), w)
    y = checkpoint(m, layer, x, reentrant=reentrant)
    assert live(heap)["activations"] == 3 * 8 * KB  # before x, x, y
    del x
    backward(m, y)
    assert live(heap) == {"weights": 256 * KB, "activations": 8 * KB, "gradients": 256 * KB}


def test_a_checkpoint_is_run_again_up_to_what_is_saved():
    """The last operator saves nothing, so it is not computed again: early stop."""
    m, _ = machine()
    w = weight(m)
    calls = []

    def layer(x):
        y = linear(m, x, w)
        calls.append("linear")
        y = scale(m, of_input(m, y))
        calls.append("end")
        return y

    y = checkpoint(m, layer, linear(m, m.new((ROWS, WIDE), FLOAT32), w))
    backward(m, y)
    assert calls == ["linear", "end", "linear"]


def test_pieces_of_a_split_are_joined_in_backward():
    m, heap = machine()
    w = weight(m)
    a, b = split(m, linear(m, m.new((ROWS, WIDE), FLOAT32), w), (WIDE // 2, WIDE // 2))
    y = join(m, scale(m, a), scale(m, b))
    del a, b
    assert live(heap)["activations"] == 2 * 8 * KB
    backward(m, y)
    assert w.grad is not None


def test_a_cut_puts_its_gradient_into_zeros():
    m, heap = machine()
    w = weight(m)
    y = scale(m, cut(m, linear(m, m.new((ROWS, WIDE), FLOAT32), w), WIDE // 2))
    heap.phase()
    backward(m, y)
    assert heap.phase().live["temporaries"] >= 4 * KB + 8 * KB


def test_nothing_is_saved_without_gradients():
    m, heap = machine()
    w = weight(m)
    with m.no_grad():
        y = of_input(m, mul(m, linear(m, m.new((ROWS, WIDE), FLOAT32), w), w))
    assert y.node is None
    assert live(heap)["activations"] == 256 * KB


CHAINS = st.lists(
    st.sampled_from(["linear", "act", "cast", "residual", "repeat", "drop", "frozen"]), max_size=12
)


def _chain(m, w, frozen, kinds, x):
    for kind in kinds:
        if kind == "linear":
            x = linear(m, x, w)
        elif kind == "frozen":
            x = linear(m, x, frozen)
        elif kind == "act":
            x = of_input(m, x)
        elif kind == "cast":
            x = cast(m, cast(m, x, BFLOAT16), FLOAT32)
        elif kind == "residual":
            x = add(m, x, of_result(m, x))
        elif kind == "drop":
            x = dropout(m, x, 0.5)
        else:
            x = cut(m, repeat(m, x, 2, (ROWS, 2 * WIDE)), WIDE)
    return x


def _ran(kinds, *, checkpointed):
    m, heap = machine()
    w, frozen = weight(m), weight(m, trainable=False)
    x = linear(m, m.new((ROWS, WIDE), FLOAT32), w)
    if checkpointed:
        y = checkpoint(m, lambda x: _chain(m, w, frozen, kinds, x), x)
    else:
        y = _chain(m, w, frozen, kinds, x)
    del x
    saved = live(heap).get("activations", 0)
    if y.node is not None:
        backward(m, y)
    y = None
    return saved, live(heap)


@pytest.mark.slow
@given(CHAINS)
def test_after_backward_weights_and_gradients_alone_are_left(kinds):
    _, left = _ran(kinds, checkpointed=False)
    assert left == {"weights": 512 * KB, "gradients": 256 * KB}


@pytest.mark.slow
@given(CHAINS)
def test_a_checkpoint_never_holds_more_after_forward(kinds):
    saved, left = _ran(kinds, checkpointed=True)
    plain, other = _ran(kinds, checkpointed=False)
    assert saved <= plain + 2 * ROWS * WIDE * 4
    assert left == other


@pytest.mark.parametrize(("uses", "most"), [(1, 1), (2, 3), (3, 3)])
def test_gradients_of_a_tied_weight_are_views_and_not_added_in_place(uses, most):
    """The first that comes is a view of what the product made; a sum is nobody's view."""
    m, heap = machine()
    w = weight(m)
    x = m.new((ROWS, WIDE), FLOAT32)
    out = add_all(m, [linear(m, x, w) for _ in range(uses)])
    heap.phase()
    before = heap.live("activations") + 256 * KB
    backward(m, out)
    taken = heap.phase().allocated - before
    assert taken // (256 * KB) == most


def add_all(m, parts):
    total = parts[0]
    for part in parts[1:]:
        total = add(m, total, part)
    return total


@all_of(
    ("widths", "pieces"), product([(WIDE, 1), (WIDE - 1,), (WIDE // 2, WIDE // 4)], [cuts, split])
)
def test_pieces_that_are_not_the_whole_are_an_error(pieces, widths):
    m, _ = machine()
    with pytest.raises(UsageError, match="do not add up"):
        pieces(m, m.new((ROWS, WIDE), FLOAT32), widths)


def test_no_more_is_cut_than_there_is():
    m, _ = machine()
    assert cut(m, m.new((ROWS, WIDE), FLOAT32), WIDE).shape == (ROWS, WIDE)
    with pytest.raises(UsageError, match="257 of 256"):
        cut(m, m.new((ROWS, WIDE), FLOAT32), WIDE + 1)
