"""Attention in layers that read their input at once and remember nothing: encoders and towers.

    heads N, each of the width over N; every position sees all, or those of a window around it

Source: transformers 5.23 models/<type>/configuration_<type>.py and modeling_<type>.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Attention
from weighbridge.arch.table import column

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

# How its class tells heads, beside the rules of READERS
PYRAMID = (
    "pyramid"  # ever fewer and wider positions, convolutions, codecs: no block stands for them
)
WRITES = "writes"  # as a language model, though without a cache
CAUSAL = (WRITES, "causal")  # a token sees those before it


def is_pyramid(model_type: str) -> bool:
    return column("heads").get(model_type) == PYRAMID


def writes(model_type: str) -> bool:
    return column("heads").get(model_type) == WRITES


def reading_part(c: Config, *, seeing: bool = False) -> Config:
    """The config of the encoder. A pair of towers reads text, unless only its images are there."""
    reads = column("reads").get(c.model_type)
    if reads == "half":
        half = "vision" if seeing else "text"
        return c.sub(f"{half}_config", f"{half}_config_dict")
    return c if reads is None else c.sub(reads)


def mixers(c: Config, count: int) -> tuple[Attention, ...]:
    """One a layer."""
    return tuple(READERS.get(column("heads").get(c.model_type, ""), same)(c, count))


def mixers_of_gguf(metadata: Mapping[str, Any], count: int) -> tuple[Attention, ...]:
    """The same from a GGUF file's metadata: modern-bert alone has windows."""
    from weighbridge.arch.cache_layers.gguf import Keys

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
    return replace(one(n, size, causal=column("heads").get(c.model_type) in CAUSAL), kv_heads=kv)


def same(c: Config, count: int) -> Sequence[Attention]:
    return (even(c),) * count


def named(heads: Sequence[str] = HEADS, widths: Sequence[str] = WIDTHS) -> Reader:
    return lambda c, count: (even(c, heads, widths),) * count


def t5(c: Config, count: int) -> Sequence[Attention]:
    return (one(c.num("num_heads"), c.num("d_kv")),) * count


def longt5(c: Config, count: int) -> Sequence[Attention]:
    """Blocks of radius + 1 tokens, each of which sees its own and those beside it."""
    near = replace(t5(c, 1)[0], window=3 * (c.num("local_radius") + 1))
    return (near,) * count


def funnel(c: Config, count: int) -> Sequence[Attention]:
    return (one(c.num("n_head"), c.num("d_head")),) * count


def mobilebert(c: Config, count: int) -> Sequence[Attention]:
    """Attention works on the narrow state between the bottlenecks."""
    narrow = c.flag("use_bottleneck", default=True)
    width = c.num("intra_bottleneck_size" if narrow else "hidden_size")
    return (one(c.num(*HEADS), width // max(1, c.num(*HEADS))),) * count


def modernbert(c: Config, count: int) -> Sequence[Attention]:
    """`local_attention` is the window, half of it to either side."""
    every = max(1, c.num("global_attn_every_n_layers", default=3))
    kinds = c.many("layer_types") if c.has("layer_types") else []
    near = replace(even(c), window=c.num("local_attention", default=128))
    return [
        near if (kinds[i] == "sliding_attention" if i < len(kinds) else i % every) else even(c)
        for i in range(count)
    ]


def longformer(c: Config, count: int) -> Sequence[Attention]:
    """`attention_window`: all that a token sees, half of it to either side; one number a layer."""
    windows = c.per_layer("attention_window", count=count, default=512)
    return [replace(even(c), window=w) for w in windows]


def qwen2_5_vision(c: Config, count: int) -> Sequence[Attention]:
    """A window of so many pixels a side, but in a few layers."""
    whole = frozenset(c.nums("fullatt_block_indexes"))
    side = c.num("window_size", default=112) // max(1, c.num("patch_size"))
    near = replace(even(c), window=side**2)
    return [even(c) if i in whole else near for i in range(count)]


# Named by the keys that they read
READERS: Mapping[str, Reader] = {
    "d_kv": t5,
    "local_radius": longt5,
    "d_head": funnel,
    "use_bottleneck": mobilebert,
    "local_attention": modernbert,
    "attention_window": longformer,
    "fullatt_block_indexes": qwen2_5_vision,
    "num_encoder_attention_heads": named(("num_encoder_attention_heads",)),
    "encoder_attention_heads,d_model": named(("encoder_attention_heads",), ("d_model",)),
    "speech_encoder_attention_heads": named(("speech_encoder_attention_heads",)),
    "encoder_attention_heads": named(("encoder_attention_heads",)),
    "conf_num_attention_heads": named(("conf_num_attention_heads",)),
    "num_heads,embed_dim": named(("num_heads",), ("embed_dim",)),
}
