"""Attention over a sequence that ranks share: what is kept and what passes, worked by hand.

A rank has 1,024 tokens, 4 heads of 64 numbers in 16 bits, 2 heads with keys: T = 512 KiB of
queries, K = 512 KiB of keys and values, and 16 KiB of a float32 a token and head.

DeepSpeed 0.19.8's own UlyssesSPAttentionHF, run here on a CPU in a group that sends nothing (torch
2.13, a kernel that only makes its outputs), kept and took what `DEEPSPEEDS` says: in 512 KiB, most
in forward, kept, most in backward.
"""

from functools import partial
from itertools import product

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.records import replace
from weighbridge.machines.accelerators.chips import ASSUMED
from weighbridge.machines.kernels import attention as kernels
from weighbridge.memory.components.activations import Heap
from weighbridge.settings import ranks as ways
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.attention import AttentionHeads, AttentionOptions, flash
from weighbridge.training.forward.parts import sequence

KB = 1024
T, K, ROWS = 512 * KB, 512 * KB, 16 * KB
HEADS = AttentionHeads(
    batch=1, length=1024, seen=1024, heads=4, kv_heads=2, key_dim=64, value_dim=64
)
SMALL = 16 + 8  # the state of a dropout that is none
DEEPSPEEDS = {(2, 2): (6.0, 4.0, 8.0), (4, 2): (6.0, 5.0, 10.0), (4, 4): (6.0, 5.0, 10.0)}


def given(m, heads):
    """Queries, keys and values that want a gradient, as linears give them."""
    rows = heads.batch, heads.length
    shapes = (
        (*rows, heads.heads, heads.key_dim),
        (*rows, heads.kv_heads, heads.key_dim),
        (*rows, heads.kv_heads, heads.value_dim),
    )
    return [m.param(f"{n}", s, BFLOAT16, component="qkv") for n, s in enumerate(shapes)]


def by_flash(m, tensors, heads, options):
    return flash(m, *tensors, heads, options)


def run(way, ranks, heads=HEADS):
    """The most that was there in forward, what stays, and the most in backward, besides q, k, v."""
    m = Machine(Heap())
    leaves = given(m, heads)
    before = sum(x.nbytes for x in leaves)
    tensors = tuple(leaves)
    m.heap.phase()
    if way == ways.ULYSSES:
        dropped = AttentionOptions(p=0.1)  # keys are not split, for which the kernel takes more
        out = sequence.ulysses(m, ranks, tensors, heads, dropped, partial(by_flash, m))
    else:
        blocks = sequence.KeyBlocks(
            ranks=ranks,
            way=way,
            heads=heads,
            kernel="flash",
            dropout=0.0,
            dtype=BFLOAT16,
            key=tensors[1].shape,
            value=tensors[2].shape,
        )
        out = sequence.in_blocks(m, tensors, blocks, AttentionOptions())
    most = sum(m.heap.phase().live.values()) - before
    kept = sum(n for name, n in m.heap._live.items() if name != "qkv")
    backward(m, out)
    return most, kept, sum(m.heap.phase().live.values()) - before


def test_ulysses_keeps_one_output_more_than_a_rank_alone():
    """All tokens of half the heads (T, K, the output, its sums) and what came back."""
    _, kept, _ = run(ways.ULYSSES, 2)
    assert kept == T + K + T + T + ROWS + SMALL


@pytest.mark.parametrize(("ranks", "keys"), DEEPSPEEDS)
def test_what_deepspeeds_own_class_took(ranks, keys, monkeypatch):
    """torch's kernel copies the gradient of an output whose heads were first (T); flash-attention
    takes it as it is."""
    copied = 1.0 if HEADS.heads > ranks else 0.0
    for name in ("flash_forward", "flash_backward"):
        monkeypatch.setattr(kernels, name, lambda *_, **__: [])
    found = run(ways.ULYSSES, ranks, replace(HEADS, kv_heads=keys))
    forward, kept, backward = DEEPSPEEDS[ranks, keys]
    expected = [n * T + ROWS for n in (forward, kept, backward + copied)]
    assert found == pytest.approx(expected, abs=SMALL)


def test_what_ulysses_holds_when_its_output_came_back():
    """What is kept, the output in one piece, which was sent, and what came."""
    most, kept, _ = run(ways.ULYSSES, 2)
    assert most == kept + T + T


def test_keys_of_few_heads_are_copied_for_the_ranks_that_need_them():
    """Four ranks have a head each, and one with keys: of two such heads two copies."""
    _, two, _ = run(ways.ULYSSES, 2)
    _, four, _ = run(ways.ULYSSES, 4)
    assert four - two == K


@all_of(("way", "ranks"), product([ways.ALLGATHER, ways.RING, ways.HEADS], [2, 4, 8]))
def test_blocks_keep_what_a_rank_alone_keeps(way, ranks):
    """q, k and v are the linears' own; beside them the output and its sums."""
    _, kept, _ = run(way, ranks)
    assert kept == T + ROWS


def test_what_passes_while_gathered_blocks_are_seen():
    """All keys and values (4 K); the block's output (T), in float32 (2 T), the sum so far (2 T),
    their difference weighed (2 T), and the new sum (2 T)."""
    most, _, _ = run(ways.ALLGATHER, 4)
    assert most == 4 * K + T + 4 * 2 * T


def test_a_ring_holds_two_blocks_instead_of_all():
    """The block that is seen, a copy of it that is sent on, and the one that comes."""
    most, _, _ = run(ways.RING, 4)
    assert most == 3 * K + T + 4 * 2 * T
    assert run(ways.RING, 64)[0] == most
    assert run(ways.ALLGATHER, 64)[0] == most + (64 - 3) * K


def test_one_head_after_the_other_gathers_its_share():
    """Keys and values of all tokens of one of two heads, the outputs of both, and them joined."""
    most, _, _ = run(ways.HEADS, 4)
    assert most == 4 * K // 2 + T + T + ROWS


def test_gradients_go_round_in_float32():
    """At the second block: dq in float32 (2 T), dk and dv in float32 as they are, as they were
    sent, and as they came (6 K), the kernel's gradients of the block before (T + K), those of this
    one, of half of its keys (T + K / 2), all keys and a copy of the rank's (5 K), and what the
    kernel adds up in. The gradient of the output (T) and what is kept are there besides."""
    _, kept, most = run(ways.ALLGATHER, 4)
    scratch = sum(kernels.flash_backward(HEADS.shape(BFLOAT16), ASSUMED))
    made = (T + K) + (T + K // 2)
    assert most == kept + T + 2 * T + 3 * 2 * K + made + 5 * K + scratch


@pytest.mark.parametrize("way", [ways.ALLGATHER, ways.RING, ways.ULYSSES])
def test_a_sequence_of_one_length_takes_less_of_more_ranks(way):
    found = [run(way, n, replace(HEADS, length=8192 // n, seen=8192 // n)) for n in (2, 4)]
    for fewer, more in zip(found[1], found[0], strict=True):
        assert fewer < more
