"""Layers of every kind, small, for the laws that all caches obey."""

from hypothesis import strategies as st

from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    Indexer,
    KimiDelta,
    Latent,
    Layer,
    LinearAttention,
    Mamba1,
    Mamba2,
    Rwkv,
    Shared,
    ShortConv,
)

FEW = st.integers(1, 4)
SIZES = st.sampled_from((16, 32, 64))
KERNELS = st.integers(2, 4)
INDEX = st.none() | st.builds(Indexer, heads=FEW, dim=st.just(128))

PLAIN = st.builds(
    Attention,
    heads=st.just(8),
    kv_heads=st.sampled_from((1, 2, 4, 8)),
    key_dim=SIZES,
    value_dim=SIZES,
)
SLIDING = st.builds(
    Attention,
    heads=st.just(8),
    kv_heads=st.sampled_from((1, 2, 8)),
    key_dim=SIZES,
    value_dim=SIZES,
    window=st.integers(2, 600),
)
CHUNKED = st.builds(
    Attention,
    heads=st.just(8),
    kv_heads=st.sampled_from((2, 8)),
    key_dim=SIZES,
    value_dim=SIZES,
    chunk=st.integers(2, 600),
)
LATENT = st.builds(
    Latent,
    heads=FEW,
    rank=st.sampled_from((128, 512)),
    rotary=st.just(64),
    nope=SIZES,
    value_dim=SIZES,
    indexer=INDEX,
)
CROSS = st.builds(
    CrossAttention,
    heads=st.just(8),
    kv_heads=st.sampled_from((2, 8)),
    key_dim=SIZES,
    value_dim=SIZES,
    source=st.sampled_from(("text", "audio", "image")),
    length=st.none() | st.integers(0, 300),
)
WINDOWED = st.builds(
    Compressed,
    heads=FEW,
    dim=st.just(128),
    rotary=st.just(64),
    window=st.just(128),
    rate=st.just(1),
)
SPARSE = st.builds(
    Compressed,
    heads=FEW,
    dim=st.just(128),
    rotary=st.just(64),
    window=st.just(128),
    rate=st.just(4),
    indexer=st.builds(Indexer, heads=FEW, dim=st.just(128)),
)
HEAVY = st.builds(
    Compressed,
    heads=FEW,
    dim=st.just(128),
    rotary=st.just(64),
    window=st.just(128),
    rate=st.just(128),
)
STATES = (
    st.builds(Mamba1, inner=SIZES, state=SIZES, kernel=KERNELS),
    st.builds(
        Mamba2,
        inner=SIZES,
        heads=st.just(8),
        groups=st.sampled_from((1, 2, 8)),
        state=SIZES,
        kernel=KERNELS,
    ),
    st.builds(
        GatedDelta,
        key_heads=st.just(8),
        value_heads=st.just(16),
        key_dim=SIZES,
        value_dim=SIZES,
        kernel=KERNELS,
    ),
    st.builds(KimiDelta, heads=st.just(8), dim=SIZES, kernel=KERNELS),
    st.builds(LinearAttention, heads=st.just(8), dim=SIZES),
    st.builds(ShortConv, width=SIZES, kernel=KERNELS),
)
OLDER = (
    st.builds(Rwkv, width=SIZES, inner=SIZES, head_dim=st.sampled_from((0, 16))),
    st.builds(GatedRecurrence, width=SIZES, kernel=KERNELS),
)
ATTENTIONS = (PLAIN, SLIDING, CHUNKED)
COMPRESSED = (WINDOWED, SPARSE, HEAVY)
SHARED = st.builds(Shared, owner=st.just(0))


def models(*mixers, size=6):
    """A few layers, each of one to two of these."""
    one = st.builds(Layer, mixers=st.lists(st.one_of(*mixers), min_size=0, max_size=2).map(tuple))
    return st.lists(one, min_size=1, max_size=size).map(tuple)


def with_reach(layers, reach):
    """The same layers, every window and chunk replaced."""
    from dataclasses import replace

    def far(m):
        if not isinstance(m, Attention) or m.reach is None:
            return m
        return replace(m, window=reach, chunk=None)

    return tuple(Layer(mixers=tuple(far(m) for m in layer.mixers)) for layer in layers)
