"""The caches of a model's layers for the tokens it has seen, from its config alone.

    layers(config)      one Layer per layer, of the records in `mixers.py`; () without a cache

The model type's record says how they are read: from its family's tree of modules, by a function of
the family's file, by one of READERS, or from the config of the language model inside it.

K = num_key_value_heads, else as many as heads; H = head_dim, else D / N. Keys and values of an
encoder's output are computed once, and kept as long as the request lives.
"""

from collections.abc import Mapping, Sequence

from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.arch.compose import TEXT, nested
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import Decoder, Submodules
from weighbridge.models.arch.mixers import Attention, CrossAttention, Layer, Mixer, Shared, Source
from weighbridge.models.arch.model_types import LayerReader, facts
from weighbridge.models.arch.windows import CHUNKED, FULL, SLIDING, layer_kinds, window

HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")


def layers(c: Config) -> tuple[Layer, ...]:
    """Return the caches of each layer of the language model or decoder; () without a cache. Raises
    UnsupportedError for a model type whose caches are not described."""
    known = facts(c.model_type)
    if known.no_cache:
        return ()
    if known.language:
        return layers(nested(c, replace(TEXT, config=known.language, flat=known.flat)))
    if known.layers:
        reader = READERS[known.layers] if isinstance(known.layers, str) else known.layers
        return reader(c)
    tree = known.family.tree if known.family is not None else None
    if tree is None:
        raise UnsupportedError(sentence("caches_unlisted", kind=c.model_type), where=c.where)
    return remembered(tree(c), c)


def embeds(model_type: str) -> bool:
    """Return whether a model type uses a language model as an embedder, without a cache."""
    return facts(model_type).no_cache == "embeds"


# Layers of a family's tree


def remembered(tree: Decoder, c: Config) -> tuple[Layer, ...]:
    """Return each layer's mixers (attention, state space), with attention windowed as the layer's
    kind requires."""
    kinds = (FULL,) * len(tree.layers) if tree.kinds is None else tree.kinds(c)
    by_module: dict[tuple[int, str], Layer] = {}  # equal layers share one object
    result = []
    for modules, kind in zip(tree.layers, kinds, strict=False):
        key = (id(modules), kind)
        if key not in by_module:
            by_module[key] = Layer(mixers=tuple(_mixers(modules, c, kind)))
        result.append(by_module[key])
    return sharing(result, len(result) - tree.sharing) if tree.sharing else tuple(result)


def _mixers(modules: Submodules, c: Config, kind: str) -> list[Mixer]:
    mixers = (part.mixer for part in modules if part.mixer is not None)
    return [seen(c, m, kind) if isinstance(m, Attention) else m for m in mixers]


def seen(c: Config, whole: Attention, kind: str) -> Attention:
    """Return the attention `whole` with the window of a layer of `kind`. Raises BadFileError for
    impossible sizes."""
    if min(whole.heads, whole.kv_heads, whole.key_dim) < 1:
        raise BadFileError(
            sentence(
                "no_attention", heads=whole.heads, key_dim=whole.key_dim, kv_heads=whole.kv_heads
            ),
            where=c.where,
        )
    if kind == SLIDING:
        return replace(whole, window=_reach(c, "sliding_window", window(c)))
    if kind == CHUNKED:
        chunk = c.num("attention_chunk_size")
        return replace(whole, chunk=_reach(c, "attention_chunk_size", chunk))
    if kind == FULL:
        return whole
    known = ", ".join((FULL, SLIDING, CHUNKED))
    raise BadFileError(sentence("layer_types", kind=shown(kind), known=known), where=c.where)


def _reach(c: Config, name: str, tokens: int | None) -> int:
    if not tokens:
        raise c.error(name, "is.missing_though")
    return tokens


def sharing(all_layers: Sequence[Layer], stored: int) -> tuple[Layer, ...]:
    """Return the layers; those from `stored` on reuse the keys and values of the last earlier layer
    with an equal window."""
    first = tuple(all_layers[:stored])
    owners = (_owner(first, layer) for layer in all_layers[stored:])
    return (*first, *(Layer(mixers=(Shared(owner=owner),)) for owner in owners))


def _owner(stored: Sequence[Layer], layer: Layer) -> int:
    def reach(mixer: Mixer) -> int | None:
        return mixer.reach if isinstance(mixer, Attention) else None

    wanted = reach(layer.mixers[0])
    same = [i for i, one in enumerate(stored) if reach(one.mixers[0]) == wanted]
    return same[-1] if same else max(0, len(stored) - 1)


# Attention with keys and values of its own in every layer, where there is no tree


@dataclass(frozen=True, slots=True)
class AttentionSizes:
    """Heads, KV heads and head sizes of one attention layer."""

    heads: int
    kv_heads: int
    dim: int
    value_dim: int | None = None


def attention(c: Config, sizes: AttentionSizes, kind: str = FULL) -> Attention:
    """Return attention of the given sizes in a layer of `kind`."""
    whole = Attention(
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        key_dim=sizes.dim,
        value_dim=sizes.value_dim or sizes.dim,
    )
    return seen(c, whole, kind)


def usual(c: Config) -> tuple[Layer, ...]:
    """Return layers of grouped-query attention, with sizes from the usual config keys."""
    kinds, sizes = layer_kinds(c), grouped(c)
    return tuple(Layer(mixers=(attention(c, sizes, kind),)) for kind in kinds)


def multi_head(c: Config) -> tuple[Layer, ...]:
    """Return layers of multi-head attention, whatever KV heads the config states."""
    kinds, heads = layer_kinds(c), c.num(*HEADS)
    sizes = AttentionSizes(heads, heads, _width(c) // max(1, heads))
    return tuple(Layer(mixers=(attention(c, sizes, kind),)) for kind in kinds)


def grouped(c: Config) -> AttentionSizes:
    """Return the attention sizes under the usual config keys; null counts as missing."""
    heads = c.num(*HEADS)
    name = "num_key_value_heads"
    kv_heads = heads if c.null(name) else c.num(name, default=heads)
    return AttentionSizes(heads, kv_heads, c.num("head_dim", default=_width(c) // max(1, heads)))


def _width(c: Config) -> int:
    return c.num("hidden_size", "n_embd", "d_model")


# Decoders with self-attention and cross-attention to an encoder


def beside_text(c: Config) -> tuple[Layer, ...]:
    """Return the layers of a decoder with BART's config keys, with cross-attention to a text."""
    return pairs(c, c.layers("decoder_layers"), bart_sizes(c), "text")


def beside_sound(c: Config) -> tuple[Layer, ...]:
    """Return the layers of a decoder with BART's config keys, with cross-attention to audio."""
    return pairs(c, c.layers("decoder_layers"), bart_sizes(c), "audio")


def beside_encoder(c: Config, source: Source) -> tuple[Layer, ...]:
    """Return a decoder's layers, each with a cross-attention of its self-attention's sizes, unless
    some layer already has one."""
    if facts(c.model_type).decodes:
        sizes = even(c.num("num_attention_heads"), c.num("hidden_size"))
        return pairs(c, c.layers("num_hidden_layers"), sizes, source)
    decoder_layers = layers(c)
    if any(isinstance(m, CrossAttention) for layer in decoder_layers for m in layer.mixers):
        return decoder_layers
    return tuple(
        Layer(
            mixers=(
                *layer.mixers,
                *([over(m, source) for m in layer.mixers if isinstance(m, Attention)]),
            )
        )
        for layer in decoder_layers
    )


def pairs(
    c: Config, count: int, sizes: AttentionSizes, source: Source, length: int | None = None
) -> tuple[Layer, ...]:
    """Return `count` layers with self-attention, and cross-attention to a `source` of `length`
    positions (None: it varies by request)."""
    attended = attention(c, sizes)
    return (Layer(mixers=(attended, over(attended, source, length))),) * count


def over(whole: Attention, source: Source, length: int | None = None) -> CrossAttention:
    """Return cross-attention to an encoder's output, with the sizes of the attention `whole`."""
    return CrossAttention(
        heads=whole.heads,
        kv_heads=whole.kv_heads,
        key_dim=whole.key_dim,
        value_dim=whole.value_dim,
        source=source,
        length=length,
    )


def even(heads: int, width: int) -> AttentionSizes:
    """Return the sizes of multi-head attention whose heads split `width`."""
    return AttentionSizes(heads, heads, width // max(1, heads))


def bart_sizes(c: Config) -> AttentionSizes:
    """Return the attention sizes under BART's config keys."""
    return even(c.num("decoder_attention_heads"), c.num("d_model", "hidden_size"))


# Readers that several families share, by the names that their records give
READERS: Mapping[str, LayerReader] = {
    "usual": usual,
    "multi_head": multi_head,
    "beside_text": beside_text,
    "beside_sound": beside_sound,
}
