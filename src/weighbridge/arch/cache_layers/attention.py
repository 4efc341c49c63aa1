"""Attention with keys and values of its own in every layer: heads, sizes, windows, all spellings.

K = num_key_value_heads, else as many as heads; H = head_dim, else D / N
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from weighbridge.arch import falcon as falcon_family
from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Attention, Layer, Mixer, Shared
from weighbridge.arch.rotary import head_dim
from weighbridge.arch.windows import (
    CHUNKED,
    FULL,
    SLIDING,
    layer_kinds,
    window,
)
from weighbridge.errors import BadFileError, UnsupportedError

HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Heads, key-value heads and head sizes of one attention layer."""

    heads: int
    kv_heads: int
    dim: int
    value_dim: int | None = None


def heads(c: Config) -> int:
    return c.num(*HEADS)


def width(c: Config) -> int:
    return c.num("hidden_size", "n_embd", "d_model")


def size(c: Config) -> int:
    """Return the size of a head: the config's `head_dim`, else the width over the heads."""
    return c.num("head_dim", default=width(c) // max(1, heads(c)))


def grouped(c: Config) -> Sizes:
    """The usual spelling. A null of either key is as good as none."""
    kv = (
        heads(c)
        if c.null("num_key_value_heads")
        else c.num("num_key_value_heads", default=heads(c))
    )
    return Sizes(heads(c), kv, size(c))


def plain(c: Config) -> Sizes:
    """Return the sizes of multi-head attention: as many key-value heads as heads, whatever else the
    config says."""
    return Sizes(heads(c), heads(c), width(c) // max(1, heads(c)))


def attention(c: Config, s: Sizes, kind: str = FULL) -> Attention:
    whole = Attention(
        heads=s.heads, kv_heads=s.kv_heads, key_dim=s.dim, value_dim=s.value_dim or s.dim
    )
    return seen(c, whole, kind)


def seen(c: Config, whole: Attention, kind: str) -> Attention:
    """`whole` as it is in a layer of that kind. Raises BadFileError for sizes that are none."""
    if min(whole.heads, whole.kv_heads, whole.key_dim) < 1:
        raise BadFileError(
            f"{c.where}: {whole.heads} heads of {whole.key_dim} over {whole.kv_heads} key-value "
            "heads is no attention: look at num_attention_heads, num_key_value_heads and head_dim"
        )
    if kind == SLIDING:
        return replace(whole, window=reach(c, "sliding_window", window(c)))
    if kind == CHUNKED:
        return replace(whole, chunk=reach(c, "attention_chunk_size", c.num("attention_chunk_size")))
    if kind == FULL:
        return whole
    raise UnsupportedError(f"{c.where}: layer_types: {kind!r} is not a kind of attention we know")


def reach(c: Config, name: str, found: int | None) -> int:
    if not found:
        raise c.error(name, "is missing, though layers ask for it")
    return found


def layers(c: Config, sizes: Callable[[Config], Sizes], kinds: Sequence[str]) -> tuple[Layer, ...]:
    s = sizes(c)
    return tuple(Layer(mixers=(attention(c, s, kind),)) for kind in kinds)


def usual(c: Config) -> tuple[Layer, ...]:
    return layers(c, grouped, layer_kinds(c))


def multi_head(c: Config) -> tuple[Layer, ...]:
    return layers(c, plain, layer_kinds(c))


# Spellings of single families


def falcon(c: Config) -> tuple[Layer, ...]:
    """`multi_query` is one head; the new architecture has `num_kv_heads`."""
    n = falcon_family.heads(c)
    kv = 1 if c.flag("multi_query") else n
    if falcon_family.new_architecture(c):
        kv = c.num("num_kv_heads", "n_head_kv", default=n)
    return layers(c, lambda c: Sizes(n, kv, width(c) // max(1, n)), layer_kinds(c))


def bigcode(c: Config) -> tuple[Layer, ...]:
    def sizes(c: Config) -> Sizes:
        s = plain(c)
        return replace(s, kv_heads=1) if c.flag("multi_query", default=True) else s

    return layers(c, sizes, layer_kinds(c))


def chatglm(c: Config) -> tuple[Layer, ...]:
    def sizes(c: Config) -> Sizes:
        n = heads(c)
        groups = c.num("multi_query_group_num") if c.flag("multi_query_attention") else n
        return Sizes(n, groups, c.num("kv_channels", default=width(c) // max(1, n)))

    return layers(c, sizes, layer_kinds(c))


def dbrx(c: Config) -> tuple[Layer, ...]:
    kv = c.sub("attn_config").num("kv_n_heads", default=1)
    return layers(c, lambda c: replace(plain(c), kv_heads=kv), layer_kinds(c))


def mpt(c: Config) -> tuple[Layer, ...]:
    """transformers' class has as many key-value heads as heads, whatever attn_config says."""
    return layers(c, plain, layer_kinds(c))


def xglm(c: Config) -> tuple[Layer, ...]:
    """Names its heads and layers as BART does."""
    n = c.num("attention_heads", "num_attention_heads")
    one = attention(c, Sizes(n, n, c.num("d_model", "hidden_size") // max(1, n)))
    return (Layer(mixers=(one,)),) * c.layers("num_layers", "num_hidden_layers")


def kosmos(c: Config) -> tuple[Layer, ...]:
    text = c.sub("text_config")
    n = text.num("attention_heads")
    one = attention(text, Sizes(n, n, text.num("embed_dim") // max(1, n)))
    return (Layer(mixers=(one,)),) * text.layers("layers")


def jetmoe(c: Config) -> tuple[Layer, ...]:
    """Each expert of a token has queries of its own, over the same keys and values."""

    def sizes(c: Config) -> Sizes:
        kv = c.num("num_key_value_heads")
        return Sizes(kv * c.num("num_experts_per_tok", default=1), kv, c.num("kv_channels"))

    return layers(c, sizes, layer_kinds(c))


def qwen1(c: Config) -> tuple[Layer, ...]:
    return layers(
        c,
        lambda c: Sizes(heads(c), heads(c), c.num("kv_channels", default=size(c))),
        layer_kinds(c),
    )


def deci(c: Config) -> tuple[Layer, ...]:
    """Nemotron NAS: key-value heads layer by layer, and layers without attention."""
    found = []
    for i, raw in enumerate(c.many("block_configs")):
        block = Config(raw, where=f"{c.where}: block_configs[{i}]").sub("attention")
        if block.flag("no_op") or block.flag("replace_with_linear"):
            found.append(Layer())
            continue
        kv = heads(c) // max(1, block.num("n_heads_in_group"))
        found.append(Layer(mixers=(attention(c, Sizes(heads(c), kv, head_dim(c))),)))
    return tuple(found)


def hunyuan(c: Config) -> tuple[Layer, ...]:
    """`use_cla`: of `cla_share_factor` layers the first stores, the others use its keys."""
    found = usual(c)
    if not c.flag("use_cla"):
        c.skip("cla_share_factor")
        return found
    step = max(1, c.num("cla_share_factor"))
    return tuple(
        layer if i % step == 0 else Layer(mixers=(Shared(owner=i - i % step),))
        for i, layer in enumerate(found)
    )


# Layers that use the keys and values of others


def sharing(found: Sequence[Layer], stored: int) -> tuple[Layer, ...]:
    """The layers from `stored` on use those of the last one before it of their own reach."""
    mine = tuple(found[:stored])
    owners = (_owner(mine, layer) for layer in found[stored:])
    return (*mine, *(Layer(mixers=(Shared(owner=owner),)) for owner in owners))


def _owner(stored: Sequence[Layer], layer: Layer) -> int:
    def far(one: Mixer) -> int | None:
        return one.reach if isinstance(one, Attention) else None

    same = [i for i, one in enumerate(stored) if far(one.mixers[0]) == far(layer.mixers[0])]
    return same[-1] if same else max(0, len(stored) - 1)


def gemma3n(c: Config) -> tuple[Layer, ...]:
    found = usual(c)
    return sharing(found, len(found) - c.num("num_kv_shared_layers", default=0))


def gemma4(c: Config) -> tuple[Layer, ...]:
    """Heads differ by kind of layer; keys and values are normalised apart, so both are stored."""
    from weighbridge.arch.gemma4 import kinds, plan

    c.skip("attention_k_eq_v")
    found = tuple(
        Layer(mixers=(attention(c, Sizes(heads(c), one.kv_heads, one.size), kind),))
        for kind, one in zip(kinds(c), plan(c), strict=True)
    )
    return sharing(found, len(found) - c.num("num_kv_shared_layers", default=0))
