"""Forwards of transformers' layers, by hand: the most that one program holds at a time."""

from dataclasses import replace

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16, FLOAT16, FLOAT32
from weighbridge.base.units import KIB, align_up
from weighbridge.engines.transformers.attention import by_experts, disentangled
from weighbridge.engines.transformers.feed_forward import feed
from weighbridge.engines.transformers.kernels import KERNELS, KernelHeads, _fused, attend, eager
from weighbridge.engines.transformers.recurrence import scan
from weighbridge.engines.transformers.rules import rules
from weighbridge.engines.transformers.stage import MixerCache, stored
from weighbridge.engines.transformers.step import (
    ClassStyle,
    Distances,
    ForwardStep,
    norm,
    rotated,
)
from weighbridge.memory.components.activations import Heap
from weighbridge.models.arch.mixers import (
    Attention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    LinearAttention,
    Mamba1,
    Mamba2,
    Rwkv,
    ShortConv,
)
from weighbridge.models.arch.parts import Dense, Experts

TOKENS = 64
HEADS = KernelHeads(count=4, groups=1, key_dim=16, value_dim=16, seen=TOKENS)
CELLS = 16 * KIB  # 64 tokens x 4 heads x 64 keys
OUT = 8 * KIB  # 64 tokens x 4 heads x 16 values, in 16 bits


def step(version=(5, 23), tokens=TOKENS, past=0, dtype=FLOAT16, hidden=64, **how):
    return ForwardStep(
        batch=1,
        tokens=tokens,
        past=past,
        hidden=hidden,
        dtype=dtype,
        kernel="eager",
        rules=rules(version, "llama"),
        style=ClassStyle(**how),
    )


def most(program, *given):
    """(bytes at the fullest moment, bytes that are left), of tensors that the program makes."""
    heap = Heap()
    program(heap, *given)
    return heap.most, heap.allocator.allocated


# Eager attention (kernels.py says where each is written)


@all_of(
    ("how", "each", "more"),
    [
        ({"dtype": FLOAT16}, 8, 0),  # scores, float32 softmax, copy
        ({"dtype": BFLOAT16}, 10, 0),  # scores, their float32 copy, the softmax
        ({"dtype": FLOAT32}, 8, 0),  # scores, softmax
        ({"own_softmax": True}, 4, 0),
        ({"own_softmax": True, "wide_queries": True}, 8, 32 * KIB),  # queries and keys in float32
        ({"own_softmax": True, "wide_queries": True, "dtype": FLOAT32}, 8, 0),
        ({"wide_biases": True, "biased": True}, 10, 0),
        ({"wide_biases": True, "biased": True, "dtype": BFLOAT16}, 10, 0),  # in float32 already
        ({"raw_scores": True, "biased": True}, 10, 0),
        ({"raw_scores": True}, 8, 0),  # nothing is added
        ({"sinks": True}, 6, 0),
        ({"kept_scores": True}, 4, 2 * OUT),  # while the output is made contiguous
    ],
)
def test_bytes_of_a_score(how, each, more):
    assert most(eager, step(**how), HEADS)[0] == each * CELLS + more


def test_a_mask_is_added_as_a_bias_is():
    """Both are of the tokens' own keys; another text's keys have no bias by distance."""
    masked = KernelHeads(count=4, groups=1, key_dim=16, value_dim=16, seen=TOKENS, mask=1)
    other = KernelHeads(count=4, groups=1, key_dim=16, value_dim=16, seen=TOKENS, own=False)
    raw = step(raw_scores=True)
    assert most(eager, raw, masked)[0] == 10 * CELLS
    assert most(eager, step(raw_scores=True, biased=True), other)[0] == 8 * CELLS


def test_weights_are_returned_since_all_classes_have_one_interface():
    """4.48; before, the layer has the output alone."""
    assert most(eager, step(), HEADS)[1] == OUT + 2 * CELLS
    assert most(eager, step((4, 47)), HEADS)[1] == OUT


def test_contents_and_positions_apart():
    """DeBERTa (modeling_deberta_v2.py), in KiB: 4 heads of 16 over 64 tokens, 128 distances. While
    the second part's scores are picked there are queries, keys and values (3 x 8), their scores
    (32), embeddings of distances for both parts (2 x 16), what the first part read (32 + 32), the
    sum (32), and of the second part all distances (64), which are picked (32) and where (32)."""
    m = Attention(heads=4, kv_heads=4, key_dim=16, value_dim=16)
    peak, left = most(disentangled, step(), m, Distances(128, 2))
    assert peak == (24 + 32 + 32 + 64 + 32 + 64 + 32 + 32) * KIB
    assert left == 8 * KIB
    alone = most(disentangled, step(), m, Distances(128, 1))[0]
    assert alone == (24 + 32 + 16 + 64 + 32 + 32) * KIB


@pytest.mark.parametrize(
    ("how", "peak"),
    [
        # queries, keys and values in float32 (3 x 16), which tokens see which (16), scaled queries
        # (16), scores and their softmax (2 x 64), and which of them are -inf (16)
        ({}, 3 * 16 + 16 + 16 + 2 * 64 + 16),
        ({"dtype": FLOAT32}, 16 + 16 + 2 * 64 + 16),  # nothing is cast
        # of one token scores are small: while they are made of scaled keys (16) there are keys and
        # values in float32 (2 x 16), and queries twice (0.5 each, as blocks are)
        ({"tokens": 1, "past": 63}, 2 * 16 + 2 * 0.5 + 16 + 1),
    ],
)
def test_the_math_kernel(how, peak):
    """aten transformers/attention.cpp (_scaled_dot_product_attention_math), in KiB."""
    assert most(KERNELS["math"], step(**how), HEADS)[0] == peak * KIB


@pytest.mark.parametrize(
    ("how", "peak"),
    [
        ({}, 1 + 8),  # sums of each row and head, and the output
        ({"turned": 8}, 8 + 8),  # the output has heads first, and is copied
        ({"biased": True}, 1 + 32 + 8),  # biases by distance of every head
    ],
)
def test_the_fused_kernel(how, peak):
    s = replace(step(**how), kernel="sdpa")
    assert most(attend, s, HEADS, OUT, OUT) == (peak * KIB, 8 * KIB)


@pytest.mark.parametrize(
    ("version", "tokens", "peak"),
    [
        # two heads of keys and values (4 each) for four queries', in KiB
        ((4, 47), 64, 16 + 9),  # repeated for all
        ((4, 50), 64, 16 + 8 + 8 + 8),  # and queries are copied, and so the output
        ((5, 23), 64, 9),  # enable_gqa tells of them
    ],
)
def test_heads_that_share_keys(version, tokens, peak):
    """integrations/sdpa_attention.py: repeated where the kernel is not told of groups."""
    s = replace(step(version, tokens=tokens), kernel="sdpa")
    shared = KernelHeads(count=4, groups=2, key_dim=16, value_dim=16, seen=TOKENS)
    assert most(attend, s, shared, 4 * KIB, 4 * KIB)[0] == peak * KIB


@all_of(
    ("version", "how", "kernel"),
    [
        ((5, 12), {"dtype": FLOAT32, "counts_groups": True}, "math"),  # only flash knows of groups
        ((5, 12), {"counts_groups": True}, "sdpa"),
        ((5, 12), {"dtype": FLOAT32}, "sdpa"),  # the class says nothing of groups
        ((4, 47), {"dtype": FLOAT32, "counts_groups": True}, "sdpa"),  # not told yet
        ((5, 13), {"dtype": FLOAT32, "counts_groups": True}, "sdpa"),  # told of several alone
    ],
)
def test_heads_of_their_own_that_sdpa_is_told_are_groups(version, how, kernel):
    """use_gqa_in_sdpa from 4.55 to 5.12: `enable_gqa` without a mask, of one head a group too."""
    s = replace(step(version, **how), kernel="sdpa")
    runs = KERNELS.get(kernel, _fused)
    assert most(attend, s, HEADS, OUT, OUT) == most(runs, s, HEADS)
    masked = replace(HEADS, mask=TOKENS * TOKENS)
    assert most(attend, s, masked, OUT, OUT) == most(_fused, s, masked)


# Feed-forwards: 64 tokens, 64 numbers in and out (8 KiB), 256 inside (32 KiB)


@pytest.mark.parametrize(
    ("gated", "fused", "several", "peak"),
    [
        (True, False, 0, 3 * 32),  # gate's activation, up, product
        (True, True, 0, 4 * 32),  # both in one, activation, product
        (False, False, 0, 2 * 32),
        (False, False, 2, 4 * 32),  # and two more that the activation makes
    ],
)
def test_dense_feed_forwards(gated, fused, several, peak):
    f = Dense(width=256, gated=gated, fused=fused)
    assert most(feed, step(several=several), f) == (peak * KIB, 8 * KIB)


MIXED = Experts(count=8, top_k=2, width=256, gated=True)
ROUTED = 2.5  # KiB: logits (1), the best two (0.5 as blocks are) and their numbers (1)


def test_experts_since_5_at_once():
    """Tokens twice: order (2), gathered (16), scores (0.5); gate and up (128), the activation and
    the product (64 each)."""
    peak = ROUTED + 2 + 16.5 + 128 + 64 + 64
    assert most(feed, step(), MIXED) == (peak * KIB, 8 * KIB)


def test_experts_with_biases_and_a_clamp():
    """gpt-oss: biases as wide as gate and up, and four halves that the clamp and its gate make."""
    peak = ROUTED + 2 + 16.5 + 128 + 128 + 64 + 4 * 64
    assert most(feed, step(clamped=True), MIXED)[0] == peak * KIB


def test_experts_of_one_token_by_copies_of_matrices():
    """generate since 5: two matrices of gate and up (128), what they make (1), down's (64)."""
    peak = 1.5 + 0.5 + 128 + 1 + 64
    assert most(feed, step(tokens=1, past=9), MIXED)[0] == peak * KIB


def test_experts_before_5_one_after_another():
    """The output (8), a mask in int64 (8); one expert's 16 tokens: their states (2), what the expert
    before gave (2), the gate's activation, up and their product (8 each)."""
    peak = ROUTED + 8 + 8 + 2 + 2 + 3 * 8
    assert most(feed, step((4, 57)), MIXED) == (peak * KIB, 8 * KIB)
    wide = most(feed, step((4, 57), float_routes=True), MIXED)  # what is summed is in float32
    assert wide == ((peak + 8 + 2) * KIB, 8 * KIB)


def test_experts_whose_tokens_are_sorted():
    """Granite before 5: tokens twice (16) and three numbers of each (2.5), gate and up of all (128),
    the activation and the product (64 each); JetMoE in 5 too, which keeps what down gave (16)."""
    peak = ROUTED + 16 + 2.5 + 128 + 64 + 64
    assert most(feed, step((4, 57), sorted_experts=True), MIXED) == (peak * KIB, 8 * KIB)
    assert most(feed, step(sorted_experts=True), MIXED) == most(feed, step(), MIXED)
    narrow = replace(MIXED, width=32)  # both (16 twice), then product (8) beside 16 and 16 of down
    behind = ROUTED + 16 + 2.5 + 8 + 16 + 16 + 8 + 8
    assert most(feed, step(expert_attention=True), narrow) == (behind * KIB, 8 * KIB)


def test_attention_by_experts():
    """JetMoE, 64 tokens, 2 of 8 experts, 2 heads of 16 numbers each: three numbers of 128 pairs (2.5)
    and scores (2) through all of it. Keys and values (8) and a copy for each expert (8 and 8),
    queries (8), the output (8); its rows in order (8), twice their linear (16) and its weights'
    products (16), zeros and the sum (8 each)."""
    mixer = Attention(heads=4, kv_heads=2, key_dim=16, value_dim=16, causal=False)
    peak = 2.5 + 2 + 4 + 8 + 8 + 8 + 8 + 8 + 16 + 16 + 8 + 8
    found = most(by_experts, replace(step(), kernel="sdpa"), mixer, MixerCache(), 0, MIXED)
    assert found == (peak * KIB, 8 * KIB)


@pytest.mark.parametrize(
    ("clamped", "peak"),
    [
        (True, 64 + 512 + 5 * 256),  # both halves clamped, the gate, up and one, their product
        (False, 64 + 512 + 2 * 256),  # the activation and the product
    ],
)
def test_experts_on_repeated_tokens_before_5(clamped, peak):
    """gpt-oss and Qwen3-VL-MoE in inference, 512 rows: states (64), gate and up (512). Beside the
    real blocks of transformers 4.57.6 on a fake A100, 512 tokens of 256 numbers: 20,463,616 bytes
    there (8 experts of 320) and 20,989,952 here; 18,927,616 (16 of 192) and 18,911,232."""
    s = step((4, 57), clamped=clamped, repeated_experts=True)
    assert most(feed, s, MIXED) == ((ROUTED + peak) * KIB, 8 * KIB)
    now = step(clamped=clamped, repeated_experts=True)
    assert most(feed, now, MIXED) == most(feed, step(clamped=clamped), MIXED)


def test_every_expert_works_on_every_token():
    """Llama 4, 512 rows: scores twice (2), what was routed (64); gate and up (512), the activation
    and the product (256 each)."""
    peak = 2 + 64 + 512 + 256 + 256
    assert most(feed, step(every_expert=True), MIXED) == (peak * KIB, 8 * KIB)


# Recurrent layers: 64 tokens; numbers of a token in 16 bits and in 32, and the state

DELTA = GatedDelta(key_heads=1, value_heads=2, key_dim=16, value_dim=16, kernel=4)
MAMBA_2 = Mamba2(inner=64, heads=4, groups=1, state=16, kernel=4)


def read(m, tokens=TOKENS, **how):
    s = step(tokens=tokens, past=TOKENS - tokens, **how)
    state = align_up(stored(s, m).state, 512)
    return most(scan, s, m, MixerCache())[0], state


@all_of(
    ("m", "narrow", "wide", "how"),
    [
        # 2 x (3 x 64 + 6 x 16 + 4 x 16) in 32 bits
        (DELTA, 64 + 32, 704, {}),
        (DELTA, 64 + 32 + 2 * (16 + 32), 704, {"joined_gates": True}),
        # 7 x 64 + 4 x (3 x 16 + 3 x 256) + 64 x 16 / 256
        (MAMBA_2, 164 + 96, 3716, {}),
        # 4 x 64 + 4 x (4 x 16 + 2 x 8) + 3 x 64 x 16 / 8
        (MAMBA_2, 164 + 96, 960, {"chunk": 8}),
        (Mamba1(inner=64, state=16, kernel=4), 6 * 64, 64 * (3 * 16 + 2), {}),
        (KimiDelta(heads=4, dim=16, kernel=4), 8 * 64, 4 * (3 * 64 + 10 * 16), {}),
        (LinearAttention(heads=4, dim=16), 5 * 64, 3 * 64 + 64 * 4, {}),
        (Rwkv(width=64, inner=64, head_dim=16), 3 * 128, 4 * 128, {}),
        (GatedRecurrence(width=64, kernel=4), 3 * 64, 4 * 64, {}),
    ],
)
def test_recurrences_of_a_prompt(m, narrow, wide, how):
    """Beside them the new state and one copy of it."""
    found, state = read(m, **how)
    assert found == TOKENS * (2 * narrow + 4 * wide) + 2 * state


@all_of(
    ("m", "narrow", "wide", "states"),
    [
        (DELTA, 96, 2 * (6 * 16 + 4 * 16), 4),
        # the new one, what decays, decayed, summed; two in 16 bits: B times steps, times the rest
        (MAMBA_2, 260, 7 * 64 + 4 * 3 * 16, 5),
        (Mamba1(inner=64, state=16, kernel=4), 384, 3200, 3),  # decayed, added to, summed
        (KimiDelta(heads=4, dim=16, kernel=4), 512, 4 * 10 * 16, 4),
        (LinearAttention(heads=4, dim=16), 320, 192, 4),
    ],
)
def test_a_step_of_one_token_has_no_chunks(m, narrow, wide, states):
    found, state = read(m, tokens=1)
    assert found == align_up(2 * narrow, 512) + align_up(4 * wide, 512) + states * state


def test_a_short_convolution_has_no_state_in_32_bits():
    """Six widths while the product with the way back is made (8 KiB)."""
    found, state = read(ShortConv(width=64, kernel=3))
    assert (found, state) == (TOKENS * 2 * 6 * 64 + 8 * KIB + 512, 512)


def test_norms():
    """RMS norms in 16 bits: a float32 copy, its square while that is made, what is scaled; then the
    two casts. LayerNorm is one kernel with two numbers of 32 bits a token."""
    assert most(norm, step()) == ((4 + 4) * 4 * KIB, 8 * KIB)
    assert most(norm, step(float_norms=False)) == (8 * KIB + 2 * 512, 8 * KIB)
    assert most(norm, step(), 128) == (2 * 8 * 4 * KIB, 16 * KIB)


@pytest.mark.parametrize(("wider", "peak"), [(1, 3), (2, 6)])
def test_rotation(wider, peak):
    """x cos, rotate(x) sin and their sum; products are twice as large in float32."""
    assert most(rotated, 8 * KIB, wider) == (peak * 8 * KIB, wider * 8 * KIB)
