"""Operators: what each keeps for backward, and what it takes on the way, in KiB by hand.

x is 128 rows of 128 numbers in float32, 64 KiB; a number a row takes 512 bytes, the least block.
"""

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.memory.components.activations import Heap
from weighbridge.training.forward import losses
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops import biases, experts, norms, scans, shaping

ROWS, WIDE = 128, 128


def ints(m, *shape):
    return m.new(shape, INT64)


def mask(m, *shape):
    return m.new(shape, BOOL)


def weight(m, *shape):
    return m.param("w", shape, FLOAT32)


def taken(operator, *, trains=True, shape=(ROWS, WIDE)):
    """KiB beside x: kept after forward, at most in forward, at most in backward beyond what is kept."""
    m = Machine(Heap())
    x = m.param("x", shape, FLOAT32, component="activations")
    m.heap.phase()
    before = m.heap.allocator.allocated
    found = operator(m, x)
    out = found[0] if isinstance(found, tuple) else found
    del found
    kept = m.heap.allocator.allocated - before
    forward = m.heap.phase().allocated - before
    if trains:
        backward(m, out)
    back = m.heap.phase().allocated - before - kept
    return kept / 1024, forward / 1024, back / 1024


@all_of(
    ("operator", "kept", "back"),
    [
        (experts.softmax, 64, 64 + 64),
        (lambda m, x: experts.topk(m, x, 4), 2 + 4, 2 + 64),
        (lambda m, x: experts.gather(m, x, ints(m, 128, 4)), 2 + 4, 2 + 64),
        # four lists of 128 numbers, and the pairs that are sorted
        (lambda m, x: experts.gathered(m, x, ints(m, 128)), 64 + 1, 64 + 64 + 4 * 1 + 2),
        (experts.divided_, 64 + 0.5, 64 + 2 * 64),  # in place
        (experts.divided, 64 + 2 * 0.5, 64 + 64),
        (experts.masked, 64 + 16, 64 + 64),
        (lambda m, x: experts.summed_k(m, x, 16), 8, 8 + 64),
        (
            lambda m, x: experts.grouped(m, x, weight(m, 4, 128, 128), ints(m, 4)),
            256 + 0.5 + 64,
            64 + 256 + 64,
        ),
        (
            lambda m, x: experts.grouped(m, x, weight(m, 4, 128, 96), ints(m, 4), transposed=True),
            192 + 0.5 + 48,
            48 + 192 + 64,
        ),
        (scans.cumulated, 64, 4 * 64),  # flipped, summed and flipped back
        (lambda m, x: scans.masked(m, x, mask(m, 128, 128)), 64 + 16, 64 + 64),
        (scans.clamped, 64, 64 + 2 * 16 + 64),
        (lambda m, x: scans.filled(m, x, (192, 128)), 96, 96 + 64),
        (lambda m, x: scans.interleaved(m, x, (256, 128)), 128, 128 + 64),
        # a system of 128 x 128: another solution, the product and its negative
        (lambda m, x: scans.solved(m, weight(m, 128, 128), x), 64 + 64, 64 + 64 + 2 * 64),
        (scans.triangle, 64, 64 + 64),
        # 128 x 32: both copies are saved; the gradient is copied, too
        (
            lambda m, x: scans.contracted(m, x, weight(m, 128, 32), (128, 32)),
            64 + 2 * 16 + 16,
            2 * 16 + 16 + 64,
        ),
        (
            lambda m, x: scans.contracted(m, x, weight(m, 128, 32), (128, 32), copies=""),
            16 + 16,
            2 * 16 + 16 + 64,
        ),
        (
            lambda m, x: scans.contracted(m, x, weight(m, 128, 32), (128, 32), dense=True),
            64 + 2 * 16 + 16,
            16 + 16 + 64,
        ),
        (lambda m, x: biases.where(m, mask(m, 128, 128), x, x.shape), 64 + 16, 64 + 64),
        # each of four heads has the same: their gradients are summed
        (
            lambda m, x: biases.where(m, mask(m, 4, 128, 128), x, (4, 128, 128)),
            256 + 64,
            256 + 256 + 64,
        ),
        (biases.most, 0.5 + 1, 0.5 + 64),
        (lambda m, x: norms.layer_norm(m, x, weight(m, 128)), 64 + 3 * 0.5, 64 + 64 + 0.5),
        (
            lambda m, x: norms.layer_norm(m, x, weight(m, 128), weight(m, 128)),
            64 + 4 * 0.5,
            64 + 64 + 2 * 0.5,
        ),
        # the inverse root, what was normed, the result
        (lambda m, x: norms.rms_norm(m, x, weight(m, 128)), 2 * 0.5 + 2 * 64, None),
        (lambda m, x: norms.wide_norm(m, x, weight(m, 128)), 2 * 0.5 + 2 * 64, None),
        (lambda m, x: norms.gemma_norm(m, x, weight(m, 128)), 3 * 0.5 + 2 * 64, None),
        (lambda m, x: norms.plain_norm(m, x), 0.5 + 64, None),
        # less the mean, for the variance and again for what is normed
        (lambda m, x: norms.cohere_norm(m, x, weight(m, 128)), 2 * 0.5 + 4 * 64, None),
        (norms.normalize, 2 * 0.5 + 64, None),
        (lambda m, x: shaping.embedding(m, ints(m, 64), x), 32 + 0.5, 32 + 64),
        (lambda m, x: losses.cross_entropy(m, x, ints(m, 128)), 64 + 1 + 2 * 0.5, None),
        (
            lambda m, x: losses.binary_cross_entropy(m, x, m.new(x.shape, FLOAT32)),
            64 + 0.5,
            0.5 + 64 + 64,
        ),
    ],
)
def test_kept_after_forward_and_made_in_backward(operator, kept, back):
    """`back` begins with the gradient of the result."""
    after, _, made = taken(operator)
    assert after == kept
    assert back is None or made == back


def test_a_copy_of_experts_weights_is_made_for_adapters():
    """4 experts of 256 x 64, and two factors of 32, one of which is laid out anew: the weights
    themselves are not saved."""

    def operator(m, x):
        return experts.adapted(m, weight(m, 4, 256, 64), weight(m, 32, 64), weight(m, 256, 32))

    kept = 8 + 32 + 32 + 256
    assert taken(operator) == (kept, kept + 256, 256 + 8 + 32)


def test_rows_of_a_triangle_are_saved_one_by_one():
    """8 triangles of 8: rows of 1 to 7 numbers, half a KiB each, squares of 1 to 4 too, then 1, 1.5
    and 2 KiB. The last row's product and copies are there for a moment."""
    kept = 2 + 7 * 0.5 + 4 * 0.5 + 1 + 1.5 + 2
    found = taken(lambda m, x: scans.substituted(m, weight(m, 8, 8, 8)))
    assert found == (kept, kept + 2 + 0.5, 2 + 2 * 2 + 2 * 2)


def test_a_kernel_copies_what_does_not_lie_in_order():
    kept = 64 + 3 * 0.5
    found = taken(lambda m, x: norms.layer_norm(m, x, weight(m, 128), dense=False))
    assert found == (kept, kept + 64, 64 + 64 + 0.5)


@pytest.mark.parametrize(("causal", "most"), [(True, 328), (False, 392)])
def test_numbers_of_distances(causal, most):
    """64 x 128 in int64 are 64 KiB. Most is alive as the least of logarithms is taken: three of
    these beside the distances (twice), 8 of truths and, where both sides are seen, the side."""
    found = taken(lambda m, x: biases.buckets(m, 64, 128, causal=causal), trains=False)
    assert found[:2] == (64, most + 0.5 + 1)


@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 9])
def test_a_loop_of_tokens_saves_as_many_states_however_few_are_walked(monkeypatch, tokens):
    """a, b [1, 8, tokens, 64], c [1, tokens, 64]: 2 KiB a state."""

    def operator(m, x):
        decay, inputs = weight(m, 1, 8, tokens, 64), weight(m, 1, 8, tokens, 64)
        return scans.scanned(m, decay, inputs, weight(m, 1, tokens, 64), FLOAT32)

    short = taken(operator)
    monkeypatch.setattr(scans, "LAST", 1000)
    assert taken(operator)[0] == short[0]


@all_of(
    ("operator", "kept"),
    [
        (experts.divided, 64 + 2 * 1),
        (experts.divided_, 64 + 1),
        (biases.most, 1 + 2),
        (norms.normalize, 64 + 2 * 1),
        (norms.plain_norm, 64 + 1),
        (lambda m, x: norms.layer_norm(m, x, weight(m, 64)), 64 + 0.5 + 2 * 1),
    ],
)
def test_a_number_for_each_of_256_rows(operator, kept):
    """x is 256 rows of 64: such a tensor takes 1 KiB."""
    assert taken(operator, shape=(256, 64))[0] == kept
