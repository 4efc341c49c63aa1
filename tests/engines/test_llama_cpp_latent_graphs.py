"""Latent attention in llama.cpp's graphs, by hand: a layer of 2 heads over a latent of 8 and 4."""

from types import SimpleNamespace

import pytest

from weighbridge.engines.llama_cpp.ggml.graph import F16, F32, GgmlTensor, entry
from weighbridge.engines.llama_cpp.graphs import recurrent
from weighbridge.engines.llama_cpp.graphs.attention import absorbed, full_heads
from weighbridge.engines.llama_cpp.graphs.build import Build, GraphStep, Placement
from weighbridge.engines.llama_cpp.graphs.network import Network, Weight
from weighbridge.engines.llama_cpp.rules import rules
from weighbridge.models.arch.mixers import Latent, Layer

HIDDEN, TOKENS, CELLS = 32, 5, 16
LATENT = Latent(heads=2, rank=8, rotary=4, nope=6, value_dim=14)
SHAPES = {
    "attn_q": (HIDDEN, 2 * (6 + 4)),
    "attn_kv_a_mqa": (HIDDEN, 8 + 4),
    "attn_kv_a_norm": (8,),
    "attn_output": (2 * 14, HIDDEN),
}
ABSORBED = {"attn_k_b": (6, 8, 2), "attn_v_b": (8, 14, 2)}
FULL = {"attn_kv_b": (8, 2 * (6 + 14))}


def graph(number, shapes, mixer):
    names = {f"blk.0.{name}.weight": ne for name, ne in {**SHAPES, **shapes}.items()}
    net = Network(
        arch="deepseek2",
        hidden=HIDDEN,
        layers=(Layer(mixers=(mixer,)),),
        weights={name: Weight(name, F32, ne, 0) for name, ne in names.items()},
        rotary=4,
    )
    step = GraphStep(
        tokens=TOKENS,
        sequences=1,
        outputs=TOKENS,
        cells=CELLS,
        near=CELLS,
        flash=True,
        rules=rules(number),
    )
    at = Placement(host=1, weight=lambda name: 0, layer=lambda i: 0, cache=lambda i: 0)
    return Build(net, step, at)


def nodes(b, op):
    return [t for t in b.graph.nodes if t.op == op]


def cached(b, kind):
    """Numbers of one cell, and how many cells there are."""
    tensor = b._caches.get((0, kind))
    return tensor and tensor.ne[:2]


@pytest.mark.parametrize(
    ("number", "values", "rotated_first"),
    [(5200, (8, CELLS), True), (7400, (8, CELLS), False), (11200, None, False)],
)
def test_a_latent_is_cached_once_with_its_rotated_part(number, values, rotated_first):
    """Until January 2026 it was cached a second time, as values; in 2025 its rotated part came
    first (#19067, #17000 and near)."""
    b = graph(number, ABSORBED, LATENT)
    out = absorbed(b, 0, LATENT, entry(F32, HIDDEN, TOKENS))
    b.graph.expand(out)
    assert out.ne == (HIDDEN, TOKENS, 1, 1)
    assert cached(b, "k") == (8 + 4, CELLS)
    assert cached(b, "v") == values
    query, key = sorted(nodes(b, "concat"), key=lambda t: -t.ne[1])
    assert query.ne == (8 + 4, 2, TOKENS, 1)
    assert key.ne == (8 + 4, 1, TOKENS, 1)
    for pair, rotated in ((query, 4), (key, 4)):
        assert [s.ne[0] for s in pair.src] == ([rotated, 8] if rotated_first else [8, rotated])
    # queries of each head, and the part of them that is not rotated
    assert (6 + 4, 2, TOKENS, 1) in [t.ne for t in nodes(b, "reshape")]
    assert (6, 2, TOKENS, 1) in [t.ne for t in nodes(b, "view")]
    (normed,) = (t for t in nodes(b, "rms_norm"))
    assert normed.ne == (8, TOKENS, 1, 1)
    (flash,) = nodes(b, "flash_attn")
    assert flash.ne == (8, 2, TOKENS, 1)  # a latent a head, which is multiplied up behind it
    assert [s.ne for s in flash.src[:3]] == [
        (12, TOKENS, 2, 1), (12, CELLS, 1, 1), (8, CELLS, 1, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "whole"), [(7400, False), (11200, True)])
def test_full_heads_are_cached_with_the_rotated_part_of_each(number, whole):
    heads = LATENT.expanded
    b = graph(number, FULL, heads)
    out = full_heads(b, 0, heads, entry(F32, HIDDEN, TOKENS))
    b.graph.expand(out)
    assert out.ne == (HIDDEN, TOKENS, 1, 1)
    assert cached(b, "k") == (2 * (6 + 4), CELLS)
    assert cached(b, "v") == (2 * 14, CELLS)
    joined = nodes(b, "concat")
    assert [t.ne for t in joined] == [(6 + 4, 2, TOKENS, 1)] * (1 if whole else 2)
    for t in joined:
        assert [s.ne[0] for s in t.src] == [6, 4]
    # newer builds rotate the whole of each query
    assert sorted(t.ne[:2] for t in nodes(b, "rope")) == [(4, 1), (10, 2) if whole else (4, 2)]
    (flash,) = nodes(b, "flash_attn")
    assert [s.ne for s in flash.src[:3]] == [
        (10, TOKENS, 2, 1), (10, CELLS, 2, 1), (14, CELLS, 2, 1)
    ]  # fmt: skip
    # keys and values of a token are side by side for each head: 6 and 14 numbers of float32
    (values,) = (t for t in nodes(b, "cont") if t.src[0].op == "view")
    assert values.ne == (14, 2, TOKENS, 1)
    keys = joined[-1].src[0]
    for part in (keys, values.src[0]):
        assert part.nb[1:3] == (4 * (6 + 14), 4 * (6 + 14) * 2)
    (repeat,) = nodes(b, "repeat")
    assert repeat.ne == (4, 2, TOKENS, 1)
    assert b._caches[0, "k"].dtype is F16


def test_key_heads_are_repeated_for_their_value_heads():
    """Two of 8 numbers, for six value heads, of 3 tokens in 5 sequences: each reshape has as many
    numbers as before."""
    keys = GgmlTensor("leaf", F32, (8, 2, 3, 5))
    out = recurrent._spread(keys, SimpleNamespace(value_heads=6, key_heads=2))
    (repeated,) = {out.base or out.src[0]}
    (flat,) = repeated.src
    assert (flat.ne, repeated.ne, out.ne) == ((8, 1, 2, 15), (8, 3, 2, 15), (8, 6, 3, 5))
