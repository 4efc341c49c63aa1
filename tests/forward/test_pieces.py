"""Pieces of training steps by hand: losses that never make all logits, positions, biases."""

from types import SimpleNamespace

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16, BOOL, FLOAT32, INT64
from weighbridge.base.errors import UsageError
from weighbridge.base.units import KIB, align_up
from weighbridge.memory.components.activations import Heap
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.losses import cce, liger, trl, unsloth
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.nets.falcon import with_biases
from weighbridge.training.forward.nets.torchtune import compiled_loss
from weighbridge.training.forward.parts import rotary
from weighbridge.training.forward.parts.rotary import half, in_float, narrowed, part_rotated
from weighbridge.training.forward.step import DROPOUTS

LENGTH, WIDTH = 64, 64
STATES = 8 * KIB  # 64 tokens x 64 numbers in 16 bits


def step(m, outputs, *, width=WIDTH, trainable=False):
    """What a loss reads of a step: its machine, and the head's weight."""
    weight = m.param("lm_head.weight", (outputs, width), BFLOAT16, trainable=trainable)
    root = SimpleNamespace(weight=lambda name: weight)
    built = SimpleNamespace(root=root, params={"lm_head.weight": weight})
    return SimpleNamespace(m=m, batch=1, length=LENGTH, built=built), weight


@all_of(
    ("loss", "outputs", "width", "tile"),
    [
        # 1,000 outputs are 16 times the width: 64 tokens in 16 chunks of 4
        (liger, 1000, WIDTH, 4 * 1000),
        # 600 outputs are 10 times: chunks of 7 tokens, which become 8
        (liger, 600, WIDTH, 8 * 600),
        (liger, 32, WIDTH, 64 * 32),  # one chunk
        (unsloth, 1000, WIDTH, 64 * 1000),
        (unsloth, 50_000_000, 1, 5 * 50_000_000),  # 4e9 bytes of 16 an output
    ],
)
def test_logits_of_a_tile(loss, outputs, width, tile):
    """liger_kernel fused_linear_cross_entropy.py, trl's and Unsloth's losses: beside the tile the
    loss, one number, takes a block."""
    m = Machine(Heap())
    s, weight = step(m, outputs, width=width)
    states = m.new((1, LENGTH, width), BFLOAT16)
    before = m.heap.allocator.allocated
    loss(s, states)
    assert m.heap.most - before == align_up(2 * tile, 512) + 512
    assert weight.grad is None


def test_gradients_that_are_made_in_forward():
    """Liger's kernel makes them in the dtype of the weight."""
    m = Machine(Heap())
    s, weight = step(m, 1024, trainable=True)
    made, _ = liger(s, m.new((1, LENGTH, WIDTH), BFLOAT16))
    assert m.heap.live("logits") == 2 * 1024 * WIDTH + 4
    backward(m, made)
    assert (weight.grad.shape, weight.grad.dtype) == ((1024, WIDTH), BFLOAT16)


@pytest.mark.parametrize(("outputs", "width"), [(1000, WIDTH), (40_000, 8)])
@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT32])
def test_tiles_of_trl_are_made_twice(outputs, width, dtype):
    """trl kernels/chunked_logprob.py: 63 tokens count, in one tile whose buffer has 32,768 columns
    whatever the model has. Kept are labels, their states and numbers, and sums; the gradients are
    of backward, in float32, beside a buffer again. What is cast is cast a tile at a time."""
    m = Machine(Heap())
    s, weight = step(m, outputs, width=width, trainable=True)
    s.computing = BFLOAT16
    counted, buffer = LENGTH - 1, 2 * (LENGTH - 1) * 32_768
    states = m.param("states", (1, LENGTH, width), dtype, trainable=True)
    before = m.heap.allocator.allocated
    made, logits = trl(s, states)
    assert logits is None
    assert weight.grad is None
    size = 2 if dtype == BFLOAT16 else 4
    kept = 8 * LENGTH + counted * (width * size + 16 + 4) + 4
    assert m.heap.live("logits") == kept
    lowered = 0 if dtype == BFLOAT16 else 2 * counted * width
    extra = m.heap.most - before - kept - buffer - lowered
    assert 0 <= extra < 6 * 512
    before = m.heap.allocator.allocated
    backward(m, made)
    assert (weight.grad.shape, weight.grad.dtype) == ((outputs, width), BFLOAT16)
    made_there = 4 * (outputs * width + counted * width)
    assert made_there + buffer + lowered <= m.heap.most - before + 4
    cast_there = 2 * (outputs + counted) * width  # gradients as the states and the head are
    assert m.heap.most - before < made_there + buffer + lowered + cast_there + 8 * KIB


def test_a_head_in_float32_is_cast_a_tile_at_a_time():
    """Two tiles of 40,000 outputs, each of which is let go with its product."""
    m = Machine(Heap())
    s, _ = step(m, 40_000, width=8)
    s.computing = BFLOAT16
    wide = m.param("wide", (40_000, 8), FLOAT32, trainable=False)
    s.built.root.weight = lambda name: wide
    states = m.new((1, LENGTH, 8), BFLOAT16)
    before = m.heap.allocator.allocated
    trl(s, states)
    cast = 2 * 8 * 32_768
    buffer = 2 * (LENGTH - 1) * 32_768
    assert 0 <= m.heap.most - before - buffer - cast < 6 * KIB


def test_cut_cross_entropy_makes_no_logits():
    """cut_cross_entropy cce.py: kept are, labels; of each token but the last a sum in float32 and its
    number; and a mean of each output; the gradients of the states and of the head wait for
    backward."""
    m = Machine(Heap())
    s, weight = step(m, 1024, trainable=True)
    s.computing = BFLOAT16
    states = m.param("states", (1, LENGTH, WIDTH), BFLOAT16, trainable=True)
    made, logits = cce(s, states)
    assert (logits, weight.grad) == (None, None)
    assert m.heap.live("logits") == 8 * LENGTH + (LENGTH - 1) * (4 + 8) + 4 * 1024 + 4
    before = m.heap.allocator.allocated
    backward(m, made)
    assert (weight.grad.shape, weight.grad.dtype) == ((1024, WIDTH), BFLOAT16)
    assert m.heap.most - before < 2 * 1024 * WIDTH + 2 * LENGTH * WIDTH + 16 * 1024 + 4 * KIB


def test_cut_cross_entropy_has_no_backward_in_float32():
    m = Machine(Heap())
    s, _ = step(m, 1024)
    s.computing = FLOAT32
    with pytest.raises(UsageError, match="--loss cce has no backward in float32"):
        cce(s, m.new((1, LENGTH, WIDTH), FLOAT32))


def queries(m, dtype=BFLOAT16):
    """Two of four heads of 64 numbers, 64 tokens: 64 KiB in float32."""
    return [m.new((1, 4, LENGTH, 64), dtype) for _ in range(2)]


def test_a_part_of_each_head_has_positions():
    """Sixteen of 64 numbers: two rotated parts of 16 KiB and two joined wholes of 64 live while the
    second is joined."""
    m = Machine(Heap())
    positions = tuple(m.new((1, 1, LENGTH, 16), FLOAT32) for _ in range(2))
    q, k = queries(m, FLOAT32)
    before = m.heap.allocator.allocated
    out = part_rotated(m, q, k, positions)
    assert [t.shape for t in out] == [q.shape] * 2
    assert m.heap.allocator.allocated - before == 2 * 64 * KIB
    assert m.heap.most - before == (2 * 64 + 16) * KIB


def test_positions_in_time_height_and_width(monkeypatch):
    """Qwen2.5-VL's: angles, two of their doubles, cosines and sines are there at once, for 64 tokens."""
    monkeypatch.setattr(rotary, "heads", lambda s, number: SimpleNamespace(key_dim=64))
    m = Machine(Heap())
    made = rotary.grids(SimpleNamespace(m=m, batch=1, length=LENGTH, dtype=BFLOAT16))
    assert [t.shape for t in made] == [(1, LENGTH, 1, 64)] * 2
    angles, whole = 3 * 8 * KIB, 16 * KIB  # 32 numbers a token in each of three; 64
    assert m.heap.most == 3 * angles + 2 * whole
    assert m.heap.allocator.allocated == whole  # both in 16 bits


def test_half_of_a_head_is_turned():
    m = Machine(Heap())
    q, _ = queries(m)
    before = m.heap.allocator.allocated
    made = half(m, q)
    assert made.shape == q.shape
    assert m.heap.most - before == (16 + 32) * KIB  # the other half with its sign, and both


@pytest.mark.parametrize("how", [narrowed, in_float])
def test_positions_in_float32_go_back_to_what_came(how):
    m = Machine(Heap())
    positions = tuple(m.new((1, 1, LENGTH, 64), FLOAT32) for _ in range(2))
    assert [t.dtype for t in how(m, *queries(m), positions)] == [BFLOAT16] * 2


@pytest.mark.parametrize(("dtype", "mask", "made"), [(BOOL, 4, 8), (BFLOAT16, 8, 0)])
def test_biases_by_distance_of_every_head(dtype, mask, made):
    """Falcon, in KiB: the mask as numbers where it is one of truths, the biases (0.5), where it
    hides (4), and their sum for four heads (32)."""
    m = Machine(Heap())
    alibi, given = m.new((1, 4, 1, LENGTH), BFLOAT16), m.new((1, 1, LENGTH, LENGTH), dtype)
    before = m.heap.allocator.allocated
    assert before == (mask + 0.5) * KIB
    out = with_biases(m, given, alibi)
    assert (out.shape, out.dtype) == ((1, 4, LENGTH, LENGTH), BFLOAT16)
    assert m.heap.most - before == (made + 0.5 + 4 + 32) * KIB


def test_a_compiled_loss_keeps_two_numbers_a_row():
    """torchtune's kernels: the largest of a row and its sum in float32, and the loss; the logits are
    kept as they are."""
    m = Machine(Heap())
    logits, labels = m.new((1, LENGTH, 1000), BFLOAT16), m.new((1, LENGTH), INT64)
    before = m.heap.phase().allocated
    compiled_loss(m, logits, labels)
    assert m.heap.phase().allocated - before == 3 * 512  # of 256 bytes twice, and 4, in blocks
    wide = m.new((1, 1024, 4), BFLOAT16)
    before = m.heap.phase().allocated
    compiled_loss(m, wide, labels)
    assert m.heap.phase().allocated - before == 2 * 4 * 1024 + 512


def test_positions_as_complex_numbers():
    """DeepSeek-V2, 64 tokens of 64 numbers (16 KiB): angles of half as many and ones as large beside
    the numbers, which are scaled."""
    m = Machine(Heap())
    made = rotary.complex_rotary(SimpleNamespace(m=m, length=LENGTH), 64)
    assert made.shape == (1, LENGTH, 1, 64)
    assert m.heap.most == (8 + 16 + 16) * KIB


def test_dropouts_are_rates():
    """Rates of configuration classes are a tenth, and a fifth before a classifier of BART."""
    rates = {(name, rate) for classes in DROPOUTS.values() for name, rate in classes.items()}
    assert {rate for name, rate in rates if name != "seq_classif_dropout"} == {0.1}
    assert dict(rates)["seq_classif_dropout"] == 0.2
