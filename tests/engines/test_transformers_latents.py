"""Latent attention and towers in transformers' forwards, by hand, in KiB: 64 tokens, 64 numbers in and
out; 8 numbers of every token are a KiB."""

from dataclasses import replace

import pytest

from tests.cases import all_of
from tests.engines.test_transformers_programs import most, step
from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.units import KIB, align_up
from weighbridge.engines.transformers.forward import encode
from weighbridge.engines.transformers.latent import _picked, _queries, compressed, latent
from weighbridge.engines.transformers.stage import MixerCache, stored
from weighbridge.models.arch.body import Tower
from weighbridge.models.arch.mixers import Compressed, Indexer, Latent
from weighbridge.models.arch.parts import Dense

M = Latent(heads=4, rank=32, rotary=8, nope=16, value_dim=16)
PICKED = replace(M, indexer=Indexer(heads=2, dim=8))
SMALL = 12 + 5 + 4 + 1 + 4  # queries 4 x 24, latent and key 32 + 8, its norm, the key, 4 x 8 turned


def sdpa(*version, **more):
    return replace(step(version or (5, 23), **more), kernel="sdpa")


@all_of(
    ("s", "m", "peak", "left"),
    [
        # Queries in two parts (12), what the latent is expanded to (16) and keys (12); then the
        # output (8) and what the layer makes of it (8). The latent and the key stay (5)
        (sdpa(), M, SMALL + 12 + 16 + 12 + 8 + 8, 8 + 5),
        # Scores of 4 heads with 64 tokens (32), their softmax in float32 (64), a copy (32)
        (step(), M, SMALL + 12 + 16 + 12 + 32 + 64 + 32, 8 + 5 + 32),
        # Scores of 2 heads with all tokens in float32 (32) twice; queries and keys of the indexer
        # (2 and 1), and turned
        (sdpa(), PICKED, SMALL + 12 + 16 + 12 + 2 * 3 + 2 * 32, 8 + 5),
        # What was expanded (16) stays beside the keys (12) and values (8) in the cache; then the
        # output (8) and what the layer makes of it (8)
        (sdpa(5, 14), M, 12 + 5 + 12 + 16 + (12 + 8) + 8 + 8, 8 + 12 + 8),
        # They are kept as they are, with what a value is a view of (8); for the kernel queries, keys
        # and values are made contiguous (12, 12, 8), and so is the output (8 and 8)
        (sdpa(4, 50), M, 12 + 5 + 12 + 12 + 8 + 8 + 32 + 8 + 8, 8 + 12 + 8 + 8),
        # Of one token all is half a KiB but what is expanded for all 64
        (sdpa(tokens=1, past=63), M, 3 * 0.5 + 5 + 0.5 + 16 + 12 + 2 * 0.5, 0.5 + 5),
        (sdpa(5, 14, tokens=1, past=63), M, 7 * 0.5 + 12 + 8, 0.5 + 12 + 8),
    ],
)
def test_a_layer(s, m, peak, left):
    """modeling_deepseek_v3.py: DeepseekV3Attention.forward."""
    assert most(latent, s, m, MixerCache(), 0, 0) == (peak * KIB, left * KIB)


def test_queries_through_a_small_vector():
    """48 numbers (6); their norm makes a copy in float32, its square (12 each), or casts (6)."""
    assert most(_queries, sdpa(), M, 48) == ((6 + 2 * 12) * KIB, 12 * KIB)
    assert most(_queries, sdpa(), M, 0) == (12 * KIB, 12 * KIB)


@pytest.mark.parametrize(("s", "left"), [(sdpa(), 4 + 4), (step(), 4 + 8)])
def test_masks_of_an_indexer(s, left):
    """Which are picked, and a mask of its own; in 16 bits where scores are written out."""
    assert most(_picked, s, PICKED.indexer) == ((6 + 2 * 32) * KIB, left * KIB)


def test_keys_of_an_indexer_are_copied_for_every_query_of_two_sequences():
    """2 x 64 x 8 numbers in float32 (4), 64 times, beside queries (8), and scores (64)."""
    found = most(_picked, replace(sdpa(), batch=2), PICKED.indexer)
    assert found[0] == (2 * 6 + 8 + 4 + 64 * 4 + 64) * KIB


@all_of(
    ("past", "rate", "rank", "seen"),
    [(0, 1, 0, 64), (0, 4, 0, 64 + 16), (0, 4, 24, 64 + 16), (63, 1, 0, 32), (63, 4, 0, 32 + 16)],
)
def test_one_vector_for_key_and_value(past, rate, rank, seen):
    """DeepseekV4Attention: a window of 32, and one for each four tokens before; of the prompt all.
    Scores of 4 heads, their float32 softmax and a copy, beside 4 x 16 turned queries."""
    s = step(tokens=64 if not past else 1, past=past)
    m = Compressed(heads=4, dim=16, rotary=8, window=32, rate=rate)
    keys = align_up(stored(s, m).kv, 512)
    small, turned, cells = (align_up(s.tokens * 2 * n, 512) for n in (rank or 16, 64, 4 * seen))
    soft = align_up(4 * s.tokens * 4 * seen, 512)
    peak = most(compressed, s, m, MixerCache(), 0, rank)[0]
    assert peak == small + turned + keys + 2 * cells + soft


@pytest.mark.parametrize(
    ("rate", "peak"),
    [
        # Its numbers and 64 turned queries of two sequences (4, 16), what is kept (8), which all four
        # heads have for themselves, as keys and as values (16 each); scores, softmax and copy
        (1, 4 + 16 + 8 + 2 * 16 + 64 + 128 + 64),
        # 80 keys; groups (1), and keys and gates of all tokens (4) beside the window's (8)
        (4, 4 + 16 + 13 + 2 * 20 + 80 + 160 + 80),
    ],
)
def test_that_vector_is_repeated_for_two_sequences(rate, peak):
    m = Compressed(heads=4, dim=16, rotary=8, window=32, rate=rate)
    assert most(compressed, replace(step(), batch=2), m, MixerCache(), 0, 0)[0] == peak * KIB


# Towers: four items of 16 positions, 48 numbers of a patch (12 KiB in float32)

TOWER = Tower(
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


@all_of(
    ("s", "tower", "peak", "left"),
    [
        # Pixels, a layer's input, the sum, its norm (8 each), inside twice (32); two tokens stay
        (sdpa(), TOWER, 12 + 3 * 8 + 2 * 32, 12 + 2 + 8),
        (sdpa(), replace(TOWER, layers=1), 12 + 3 * 8 + 2 * 32, 12 + 2 + 8),
        (sdpa(5, 18), TOWER, 12 + 3 * 8 + 2 * 32, 12 + 2),  # what its last layer made goes
        (sdpa(), replace(TOWER, kind="audio"), 12 + 3 * 8 + 2 * 32, 12 + 2),
        (sdpa(dtype=FLOAT32), TOWER, 12 + 3 * 16 + 2 * 64, 12 + 4 + 16),
        # Without layers the pixels, cast (6), and what is made of them
        (sdpa(), replace(TOWER, layers=0), 12 + 6 + 8, 12 + 2 + 8),
        (sdpa(dtype=FLOAT32), replace(TOWER, layers=0), 12 + 16 + 4, 12 + 4 + 16),
    ],
)
def test_towers(s, tower, peak, left):
    assert most(encode, s, tower, 4) == (peak * KIB, left * KIB)
