"""Decoders that look at an encoder: attention over what they wrote, and over what it read.

The keys and values of the encoder's states are made once and kept as long as the request lives.
"""

from weighbridge.arch.cache_layers.attention import AttentionSizes, attention
from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Attention, CrossAttention, Layer, Source
from weighbridge.arch.model_types import facts


def over(one: Attention, source: Source, length: int | None = None) -> CrossAttention:
    """Attention of the same sizes, over an encoder."""
    return CrossAttention(
        heads=one.heads,
        kv_heads=one.kv_heads,
        key_dim=one.key_dim,
        value_dim=one.value_dim,
        source=source,
        length=length,
    )


def pairs(
    c: Config, count: int, s: AttentionSizes, source: Source, length: int | None = None
) -> tuple[Layer, ...]:
    own = attention(c, s)
    return (Layer(mixers=(own, over(own, source, length))),) * count


def even(heads: int, width: int) -> AttentionSizes:
    return AttentionSizes(heads, heads, width // max(1, heads))


def bart_sizes(c: Config) -> AttentionSizes:
    return even(c.num("decoder_attention_heads"), c.num("d_model", "hidden_size"))


def bart(c: Config) -> tuple[Layer, ...]:
    return pairs(c, c.layers("decoder_layers"), bart_sizes(c), "text")


def speech(c: Config) -> tuple[Layer, ...]:
    return pairs(c, c.layers("decoder_layers"), bart_sizes(c), "audio")


def beside_encoder(c: Config, source: Source) -> tuple[Layer, ...]:
    """Return the layers of a decoder with a cross-attention of the same sizes in each, where it has
    none already."""
    from weighbridge.arch.layers import layers

    if facts(c.model_type).decodes:
        sizes = even(c.num("num_attention_heads"), c.num("hidden_size"))
        return pairs(c, c.layers("num_hidden_layers"), sizes, source)
    found = layers(c)
    if any(isinstance(m, CrossAttention) for layer in found for m in layer.mixers):
        return found
    return tuple(
        Layer(mixers=(*x.mixers, *(over(m, source) for m in x.mixers if isinstance(m, Attention))))
        for x in found
    )
