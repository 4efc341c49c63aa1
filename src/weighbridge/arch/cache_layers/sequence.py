"""Decoders that look at an encoder: attention over what they wrote, and over what it read.

The keys and values of the encoder's states are made once and kept as long as the request lives.
"""

from collections.abc import Callable

from weighbridge.arch import mllama as mllama_family
from weighbridge.arch.cache_layers.attention import AttentionSizes, attention, grouped
from weighbridge.arch.clip import side
from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Attention, CrossAttention, Layer, Source
from weighbridge.arch.table import column


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


def t5(c: Config) -> tuple[Layer, ...]:
    count = c.layers("num_decoder_layers", default=c.num("num_layers"))
    heads = c.num("num_heads")
    return pairs(c, count, AttentionSizes(heads, heads, c.num("d_kv")), "text")


def bart_sizes(c: Config) -> AttentionSizes:
    return even(c.num("decoder_attention_heads"), c.num("d_model", "hidden_size"))


def bart(c: Config) -> tuple[Layer, ...]:
    return pairs(c, c.layers("decoder_layers"), bart_sizes(c), "text")


def whisper(c: Config) -> tuple[Layer, ...]:
    """30 seconds, always: 1,500 frames after the convolutions."""
    length = c.num("max_source_positions")
    return pairs(c, c.layers("decoder_layers"), bart_sizes(c), "audio", length)


def speech(c: Config) -> tuple[Layer, ...]:
    return pairs(c, c.layers("decoder_layers"), bart_sizes(c), "audio")


def prophetnet(c: Config) -> tuple[Layer, ...]:
    sizes = even(c.num("num_decoder_attention_heads"), c.num("hidden_size"))
    return pairs(c, c.layers("num_decoder_layers"), sizes, "text")


def blip(c: Config) -> tuple[Layer, ...]:
    """A caption looks at the patches of its image and the class token."""
    text = c.sub("text_config")
    vision = c.sub("vision_config")
    sizes = even(text.num("num_attention_heads"), text.num("hidden_size"))
    length = side(vision) ** 2 + 1
    return pairs(text, text.layers("num_hidden_layers"), sizes, "image", length)


def any_decoder(source: Source) -> Callable[[Config], tuple[Layer, ...]]:
    """Whatever the decoder is, with a cross-attention of the same sizes in each layer."""

    def read(c: Config) -> tuple[Layer, ...]:
        from weighbridge.arch.layers import layers

        inner = c.sub("decoder")
        if inner.model_type in column("decodes"):
            sizes = even(inner.num("num_attention_heads"), inner.num("hidden_size"))
            return pairs(inner, inner.layers("num_hidden_layers"), sizes, source)
        found = layers(inner)
        if any(isinstance(m, CrossAttention) for layer in found for m in layer.mixers):
            return found
        return tuple(
            Layer(
                mixers=(*x.mixers, *(over(m, source) for m in x.mixers if isinstance(m, Attention)))
            )
            for x in found
        )

    return read


TEXT, IMAGE, AUDIO = any_decoder("text"), any_decoder("image"), any_decoder("audio")


def mllama_text(c: Config) -> tuple[Layer, ...]:
    return _mllama(c, None)


def mllama(c: Config) -> tuple[Layer, ...]:
    """An image takes all its tiles, used or not, each of its patches and a class token."""
    vision = c.sub("vision_config")
    length = vision.num("max_num_tiles") * (side(vision) ** 2 + 1)
    return _mllama(c.sub("text_config"), length)


def _mllama(c: Config, length: int | None) -> tuple[Layer, ...]:
    """Return the layers of Llama 3.2 Vision: some look at the image alone, the others at the
    text."""
    cross = c.nums("cross_attention_layers") or mllama_family.CROSS
    own = attention(c, grouped(c))
    image = over(own, "image", length)
    count = c.layers("num_hidden_layers")
    return tuple(Layer(mixers=(image if i in cross else own,)) for i in range(count))
