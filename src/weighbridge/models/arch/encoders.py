"""Attention in layers that process their input at once and cache nothing: encoders and towers.

    heads N, each of the width over N; every position attends to all, or to a window around it

Source: transformers 5.23 models/<type>/configuration_<type>.py and modeling_<type>.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from weighbridge.base.records import replace
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import Attention
from weighbridge.models.arch.model_types import facts

HEADS = (
    "num_attention_heads",
    "num_heads",
    "encoder_attention_heads",
    "num_encoder_attention_heads",
    "attention_heads",
    "n_head",
)
WIDTHS = ("hidden_size", "d_model", "embed_dim", "n_embd", "hidden_dim", "dim")
Reader = Callable[[Config, int], Sequence[Attention]]


def is_pyramid(model_type: str) -> bool:
    return facts(model_type).encodes == "pyramid"


def writes(model_type: str) -> bool:
    return facts(model_type).encodes == "writes"


def reading_part(c: Config, *, seeing: bool = False) -> Config:
    """Return the encoder's config. For a pair of towers, it is the text tower's, or with `seeing`
    the vision tower's."""
    known = facts(c.model_type)
    if known.paired:
        half = "vision" if seeing else "text"
        return c.sub(f"{half}_config", f"{half}_config_dict")
    return c.sub(known.encoder) if known.encoder else c


def mixers(c: Config, count: int) -> tuple[Attention, ...]:
    """Return the attention of each of `count` encoder layers."""
    known = facts(c.model_type)
    reader = known.encoder_heads
    if callable(reader):
        return tuple(reader(c, count))
    if reader:
        return tuple(SHARED[reader](c, count))
    heads = (known.heads_key,) if known.heads_key else HEADS
    widths = (known.width_key,) if known.width_key else WIDTHS
    return (even(c, heads, widths),) * count


def mixers_of_gguf(metadata: Mapping[str, Any], count: int) -> tuple[Attention, ...]:
    """Return the attention of each of `count` layers from GGUF metadata; only modern-bert has
    windows."""
    from weighbridge.models.arch.gguf_layers import Keys

    k = Keys(metadata)
    n = k.num("attention.head_count")
    whole = one(n, k.num("attention.key_length", default=k.num("embedding_length") // max(1, n)))
    near = replace(whole, window=k.num("attention.sliding_window", default=0) or None)
    every = k.num("attention.sliding_window_pattern", default=1)
    return tuple(near if i % max(1, every) else whole for i in range(count))


def one(heads: int, size: int, *, causal: bool = False) -> Attention:
    return Attention(heads=heads, kv_heads=heads, key_dim=size, value_dim=size, causal=causal)


def even(c: Config, heads: Sequence[str] = HEADS, widths: Sequence[str] = WIDTHS) -> Attention:
    n = c.num(*heads)
    size = c.num("head_dim", default=c.num(*widths) // max(1, n))
    kv = c.num("num_key_value_heads", default=n)
    causal = facts(c.model_type).encodes in ("causal", "writes")
    return replace(one(n, size, causal=causal), kv_heads=kv)


def window_by_layer(c: Config, count: int) -> Sequence[Attention]:
    """Return attention per layer with a window of `attention_window` tokens, half of it to each
    side."""
    windows = c.per_layer("attention_window", count=count, default=512)
    return [replace(even(c), window=w) for w in windows]


def window_of_pixels(c: Config, count: int) -> Sequence[Attention]:
    """Return attention per layer within windows of `window_size` x `window_size` pixels, full in
    the layers `fullatt_block_indexes`."""
    whole = frozenset(c.nums("fullatt_block_indexes"))
    side = c.num("window_size", default=112) // max(1, c.num("patch_size"))
    near = replace(even(c), window=side**2)
    return [even(c) if i in whole else near for i in range(count)]


# Readers that several families share
SHARED: Mapping[str, Reader] = {
    "window_by_layer": window_by_layer,
    "window_of_pixels": window_of_pixels,
}
