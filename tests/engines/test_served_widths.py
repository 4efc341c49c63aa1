"""Widths of a token in vLLM's and SGLang's steps, mixer by mixer, and SGLang's share of a card in each
of its rules: by hand."""

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.cases import all_of
from tests.engines.test_sglang import asked
from weighbridge.engines.sglang import card_defaults
from weighbridge.engines.sglang import step as sglang
from weighbridge.engines.vllm import forward as vllm
from weighbridge.models.arch.body import Dense, Experts, LayerBlock, Tower
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Latent,
    LinearAttention,
    Mamba1,
    Mamba2,
    Rwkv,
    Shared,
    ShortConv,
)

HEADS = Attention(heads=4, kv_heads=2, key_dim=16, value_dim=8)
MIXERS = [
    # (mixer; in vLLM: what it gives, what is projected and rotated or convolved; in SGLang: all)
    (HEADS, (32, 64 + 32 + 16 + 64 + 32), 64 + 32 + 16 + 32),
    (
        CrossAttention(heads=4, kv_heads=2, key_dim=16, value_dim=8, source="image"),
        (32, 64 + 32 + 16 + 64 + 32),
        64 + 32 + 16 + 32,
    ),
    # Queries twice, their small vector of 24, the latent of 32 + 8 twice; in SGLang keys of all heads
    # and values twice
    (
        Latent(heads=4, rank=32, rotary=8, nope=16, value_dim=16),
        (64, 2 * 96 + 24 + 2 * 40),
        2 * 96 + 64 + 2 * 64 + 40 + 24,
    ),
    (
        Compressed(heads=4, dim=16, rotary=8, window=32, rate=4),
        (64, 2 * 64 + 24 + 16),
        2 * 64 + 24 + 16,
    ),
    # Channels 2 x 16 + 2 x 8 and convolved, as many values as gates, two numbers a head; 256 of the
    # state in 64 steps
    (
        GatedDelta(key_heads=1, value_heads=2, key_dim=16, value_dim=8, kernel=4),
        (16, 2 * 48 + 16 + 4),
        2 * 48 + 2 * 16 + 4,
    ),
    (KimiDelta(heads=4, dim=16, kernel=4), (64, 4 * 64), 8 * 64 + 16),
    (LinearAttention(heads=4, dim=16), (64, 4 * 64), 8 * 64 + 16),
    (Mamba1(inner=64, state=16, kernel=4), (64, 3 * 64), 5 * 64),
    # Channels 64 + 2 x 16; 1,024 of the state in 256 steps
    (Mamba2(inner=64, heads=4, groups=1, state=16, kernel=4), (64, 64 + 2 * 96), 2 * 96 + 128 + 4),
    (ShortConv(width=64, kernel=3), (64, 128), 192),
    (Rwkv(width=64, inner=64, head_dim=16), (128, 256), 384),
    (GatedRecurrence(width=64, kernel=4), (64, 128), 192),
]
KINDS = [type(m).__name__ for m, *_ in MIXERS]


def block(m=None, *feeds):
    return LayerBlock(mixers=(m,) if m else (), feeds=feeds, query_rank=24)


def fed_in_vllm(feed, hidden, share):
    """Elements of a token at a feed-forward alone, without those that the caller holds."""
    return vllm.step((block(None, feed),), hidden, share, eager=True).widest - hidden


def fed_in_sglang(feed, hidden, split):
    """Elements of a token at a feed-forward alone, without three of the hidden size."""
    return sglang.chunk((block(None, feed),), hidden, split).widest - 3 * hidden


@all_of(("m", "sizes", "all_"), MIXERS)
def test_a_mixer(m, sizes, all_):
    """Beside three of the hidden size; while latents are attended to there are the residual, queries
    of 96, a latent of 40 and 64 that are given, and with eager layers the caller's input."""
    given, projected = sizes
    latent = isinstance(m, Latent)
    for eager in (False, True):
        found = vllm.step((block(m),), 10, vllm.RankShare(), eager=eager, through=7)
        assert found.widest == given + 30 + projected + 7
        assert found.attending == 7 + latent * (10 + 10 * eager + 96 + 40 + 64)
        assert found.workspace == 0
    found = sglang.chunk((block(m),), 10, sglang.RankSplit())
    assert (found.widest, found.with_cached) == (30 + all_, 30 + all_)


def test_who_shares_a_cache_has_the_owners_widths():
    """It makes queries of its own; SGLang's table of owners is that of all stages."""
    own, other = block(HEADS), block(Shared(owner=0))
    for blocks in ((own,), (own, other)):
        assert vllm.step(blocks, 10, vllm.RankShare(), eager=False).widest == 32 + 30 + 208
    beyond = (block(), other)  # no owner of a cache that is here, and nothing of its own
    assert vllm.step(beyond, 10, vllm.RankShare(), eager=False).widest == 30
    lone = (block(Shared(owner=5)),)
    assert vllm.step(lone, 10, vllm.RankShare(), eager=False).widest == 30
    alone = sglang.chunk((other,), 10, sglang.RankSplit(), (own, other))
    assert alone.widest == 30 + 144
    assert sglang.chunk((block(Shared(owner=5)),), 10, sglang.RankSplit()).widest == 30


@pytest.mark.parametrize(("heads", "held"), [(4, 32), (8, 64)])
def test_what_is_held_beside_a_feed_forward(heads, held):
    """Compiled: what attention gave. Eager: the layer's input, which the caller has."""
    layer = block(replace(HEADS, heads=heads), Dense(width=1000, gated=True))
    compiled, eager = (
        vllm.step((layer,), 10, vllm.RankShare(), eager=e).widest for e in (False, True)
    )
    assert (compiled, eager) == (held + 20 + 3000, 10 + 20 + 3000)


def test_feed_forwards():
    """Widths of 100: gate, up and their product, or two; of experts with 48 in vLLM the router's numbers of 8
    and the larger of hidden size and what all tokens share (3 x 5)."""
    for gated, times in ((True, 3), (False, 2)):
        dense = Dense(width=100, gated=gated)
        assert fed_in_vllm(dense, 10, vllm.RankShare()) == 20 + times * 100
        assert fed_in_vllm(dense, 10, vllm.RankShare(tensor=3)) == 20 + times * 34
        assert fed_in_sglang(dense, 10, sglang.RankSplit()) == times * 100
        assert fed_in_sglang(dense, 10, sglang.RankSplit(tensor=3)) == -(-times * 100 // 3)
    few = Experts(count=8, top_k=2, width=48, gated=True, shared=5)
    assert fed_in_vllm(few, 10, vllm.RankShare()) == 30 + 8 + 15
    assert fed_in_vllm(few, 20, vllm.RankShare()) == 60 + 8 + 20
    assert fed_in_vllm(few, 10, vllm.RankShare(tensor=2)) == 30 + 8 + 10  # 3 x 3 are less
    # Rows of two experts: the second product's in and out, the first's out
    assert vllm.workspace(few, 10, vllm.RankShare()) == 2 * (48 + 96)
    assert vllm.workspace(few, 100, vllm.RankShare()) == 2 * (100 + 100)
    assert vllm.workspace(few, 10, vllm.RankShare(tensor=2, expert_width=4)) == 2 * (12 + 24)
    plain = Experts(count=8, top_k=2, width=48, gated=False)
    assert vllm.workspace(plain, 10, vllm.RankShare()) == 2 * (48 + 48)
    # SGLang: rows, numbers of experts twice, what all tokens share and its sum
    assert fed_in_sglang(few, 10, sglang.RankSplit()) == 2 * (96 + 48) + 16 + 15 + 10
    assert fed_in_sglang(few, 10, sglang.RankSplit(tensor=2)) == 2 * (48 + 24) + 16 + 8 + 10
    apart = sglang.RankSplit(tensor=2, expert_parallel=True)
    assert fed_in_sglang(few, 10, apart) == 2 * (96 + 48) + 16 + 8 + 10
    assert fed_in_sglang(plain, 100, sglang.RankSplit()) == 2 * (100 + 48) + 16


def test_the_wider_half_of_a_layer():
    """Groups of ranks have heads of their own, and meet at the feed-forward."""
    one = block(HEADS, Dense(width=100, gated=True))
    found = sglang.chunk((one,), 10, sglang.RankSplit())
    assert (found.widest, found.with_cached) == (30 + 300, 30 + 300 + 144)
    found = sglang.chunk((one,), 10, sglang.RankSplit(tensor=4, groups=2))
    assert (found.widest, found.with_cached) == (30 + 160, 30 + 160 + 72)  # 2 x 75 + 10; 144 / 2
    narrow = block(HEADS, Dense(width=48, gated=True))  # 144, too: attention is named
    assert sglang.chunk((narrow,), 10, sglang.RankSplit()).formula.endswith(
        "144 of attention, elements a token"
    )


def test_an_encoder_of_sglang():
    """16 positions: three of 64, four of 4 x 16 or 2 x 256 inside, and 48 of a patch."""
    t = Tower(
        kind="image",
        hidden=64,
        heads=4,
        head_dim=16,
        layers=3,
        feed=Dense(width=256, gated=False),
        positions=16,
        tokens=4,
        patch=48,
    )
    assert sglang.tower(t, sglang.RankSplit()) == 16 * (192 + 512 + 48)
    narrow = replace(t, feed=Dense(width=50, gated=True))
    assert sglang.tower(narrow, sglang.RankSplit()) == 16 * (192 + 256 + 48)
    assert sglang.tower(narrow, sglang.RankSplit(tensor=2)) == 16 * (192 + 128 + 48)


@all_of(
    ("context", "sequences", "rows"),
    [
        (1024, 8, 8192),
        (100, 8, 2048),
        (8192, 256, 65_536),
        (8193, 8, 65_536),
        (8192, 2048, 131_072),
    ],
)
def test_rows_that_latents_are_expanded_to(context, sequences, rows):
    """8 contexts or 4 blocks of 64 a sequence, 65,536 at most, but a block a sequence at least
    (determine_chunked_prefill_workspace_size)."""
    assert vllm.expanded_rows(context, sequences) == rows


# SGLang's share of a card (srt/server_args.py), in MiB

GIB = 1024


@all_of(
    ("ranks", "share"),
    [(1, 0.88), (2, 0.87), (3, 0.87), (4, 0.85), (7, 0.85), (8, 0.81), (15, 0.81), (16, 0.79)],
)
def test_shares_by_ranks(ranks, share):
    assert card_defaults.fraction(asked((0, 4, 0), 24_576, tensor=ranks)) == share
    assert card_defaults.fraction(asked((0, 4, 6), 80 * GIB, tensor=ranks)) == share
    assert card_defaults.fraction(asked((0, 4, 7), 80 * GIB, pipeline=ranks)) == share


@all_of(
    ("question", "share"),
    [
        (asked((0, 4, 6), 80 * GIB + 1), 1 - 13 * GIB / (80 * GIB + 1)),
        # 0.4.7: cards of more than 96 GiB keep 18 GiB, or 20 where they draft
        (asked((0, 4, 7), 80 * GIB + 1, tensor=16), 0.88),
        (asked((0, 4, 7), 96 * GIB), 0.88),
        (asked((0, 4, 7), 96 * GIB, algorithm="EAGLE"), 0.88 * 0.95),
        (asked((0, 4, 7), 96 * GIB + 1), 1 - 18 * GIB / (96 * GIB + 1)),
        (asked((0, 4, 7), 143_771), 1 - 18 * GIB / 143_771),
        (asked((0, 4, 7), 143_771, algorithm="EAGLE"), 1 - 20 * GIB / 143_771),
        (asked((0, 4, 7), 180_000), 1 - 18 * GIB / 180_000),
        (asked((0, 4, 7), 180_001), 0.79),
        # 0.4.8: less 2.8 GiB and a tenth a rank, 9.5 or 12 and a half a rank, or 32
        (asked((0, 4, 8), 35 * GIB - 1), 0.917),
        (asked((0, 4, 8), 24 * GIB, tensor=2, pipeline=2), 0.867),
        (asked((0, 4, 8), 35 * GIB), 0.714),
        (asked((0, 4, 8), 90 * GIB), 0.861),
        (asked((0, 4, 8), 80 * GIB, tensor=2, pipeline=4), 0.831),
        (asked((0, 4, 8), 100 * GIB, tensor=2, pipeline=4), 0.84),
        (asked((0, 4, 8), 160 * GIB, tensor=8), 0.8),
        (asked((0, 4, 8), 160 * GIB, groups=2), 0.775),
        (asked((0, 4, 8), 160 * GIB, algorithm="EAGLE"), 0.787),  # 0.7875, as Python rounds it
        (asked((0, 4, 8), 160 * GIB, algorithm="STANDALONE"), 0.787),
        (asked((0, 5, 2), 160 * GIB, algorithm="STANDALONE"), 0.762),
        # 0.5.3: 512 + 1.5 x 4,096 + 2 x 32 + 128 a rank
        (asked((0, 5, 9), 40 * GIB, chunk=4096, largest=32), 0.833),
        (asked((0, 5, 9), 40 * GIB, chunk=4096, largest=32, tensor=2, pipeline=2), 0.823),
        (asked((0, 5, 9), 40 * GIB, chunk=512, largest=32), 0.908),  # 2,048 tokens at least
        # eight a length of prefill; with latents 1.5 GiB since there are such graphs (0.5.10)
        (asked((0, 5, 9), 40 * GIB, chunk=4096, largest=32, prefills=10, latent=True), 0.831),
        (asked((0, 5, 10), 40 * GIB, chunk=4096, largest=32, prefills=10, latent=True), 0.795),
        # three a request and group, four and a half above 300 requests
        (asked((0, 5, 9), 40 * GIB, chunk=4096, largest=300, groups=8), 0.644),
        (asked((0, 5, 9), 40 * GIB, chunk=4096, largest=301, groups=8), 0.555),
        # ten GiB at least above 60
        (asked((0, 5, 9), 60 * GIB, chunk=2048, largest=8), 0.939),
        (asked((0, 5, 9), 60 * GIB + 1, chunk=2048, largest=8), 0.833),
        # drafts take 2 GiB, later 4; a model of its own 6; nothing since they are there first
        (asked((0, 5, 9), 60 * GIB, chunk=2048, largest=8, algorithm="NGRAM"), 0.939),
        (asked((0, 5, 9), 60 * GIB, chunk=2048, largest=8, algorithm="EAGLE"), 0.906),
        (asked((0, 5, 9), 60 * GIB, chunk=2048, largest=8, algorithm="STANDALONE"), 0.839),
        (asked((0, 5, 13), 60 * GIB, chunk=2048, largest=8, algorithm="EAGLE"), 0.873),
        (asked((0, 5, 14), 60 * GIB, chunk=2048, largest=8, algorithm="EAGLE"), 0.939),
    ],
)
def test_shares_by_card(question, share):
    assert card_defaults.fraction(question) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(
    ("largest", "speculative", "batches"),
    [
        (0, False, ()),
        (3, False, (1, 2, 3)),
        (24, False, (1, 2, 4, 8, 12, 16, 24)),
        (11, True, (*range(1, 9), 10, 11)),
    ],
)
def test_batches_that_are_captured(largest, speculative, batches):
    assert card_defaults.decodes(largest, speculative=speculative) == batches


def test_long_lists_of_batches():
    """Steps of 8 to 256, 16 to 512, 32 beyond; of drafts 1, 2, 4, 8 and 16."""
    found = card_defaults.decodes(600, speculative=False)
    last = {b - a: b for a, b in pairwise(found)}
    assert last == {1: 2, 2: 4, 4: 16, 8: 256, 16: 512, 32: 576, 24: 600}
    found = card_defaults.decodes(300, speculative=True)
    last = {b - a: b for a, b in pairwise(found)}
    assert last == {1: 8, 2: 32, 4: 64, 8: 256, 16: 288, 12: 300}


def test_lengths_of_prefill_that_are_captured():
    found = card_defaults.prefills(6000)
    last = {b - a: b for a, b in pairwise(found)}
    assert (found[0], found[-1]) == (4, 5632)
    assert last == {4: 32, 16: 256, 32: 512, 64: 1024, 256: 4096, 512: 5632}
    assert card_defaults.prefills(4) == (4,)
