"""A decoder as a tree of modules: one description from which all answers about it follow.

    Decoder     the tensors before the layers, the layers, the tensors after them
    a layer     Submodules, in the order of checkpoints
    Submodule   its parameters; and its mixer of tokens (`mixers.py`) or its MLP (`body.py`)

Parameters, caches and the body of a step are read from it. Equal layers are one object, so that a
thousand of them are described once. A family builds its layers from the functions below (attention,
feed-forwards, norms), or builds a Submodule by hand, and passes them to `tree`, the usual decoder:
an embedding, numbered layers, a final norm.

Source of the older names of kinds: transformers 5.23 configuration_utils.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.models.arch.blueprint import (
    MAX_TENSORS,
    Param,
    Params,
    embedding,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.models.arch.config import MAX_LAYERS, Config
from weighbridge.models.arch.parts import Attention, Dense, Feed

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Mixer


Kinds = Callable[[Config], Sequence[str]]  # config -> kind of attention per layer
Key = TypeVar("Key")


class Submodule(NamedTuple):
    """A module of a layer. Names of `params` are relative to the layer."""

    params: tuple[Param, ...]
    mixer: "Mixer | None" = None
    feed: Feed | None = None
    query_rank: int = 0  # MLA: rank of the compressed queries; 0 without


Submodules = tuple[Submodule, ...]  # one layer, in the order of checkpoints


class Decoder(NamedTuple):
    """A language model without its head. Names are relative to its base ("model.").

    `kinds` gives each layer's attention window kind, computed only if needed; None is full
    attention everywhere. The last `sharing` layers use keys and values that earlier ones store.
    """

    width: int
    first: tuple[Param, ...]
    layers: tuple[Submodules, ...]
    last: tuple[Param, ...]
    path: str = "layers."
    start: int = 0  # the number of the first layer
    kinds: Kinds | None = None
    sharing: int = 0

    def tensors(self, prefix: str) -> Iterator[Param]:
        """Yield all parameters below `prefix`, in checkpoint order."""
        yield from (_with_full_name(prefix, p, prefix) for p in self.first)
        for i, layer in enumerate(self.layers, self.start):
            here = f"{prefix}{self.path}{i}."
            for part in layer:
                yield from (_with_full_name(here, p, prefix) for p in part.params)
        yield from (_with_full_name(prefix, p, prefix) for p in self.last)


def _with_full_name(path: str, param: Param, base: str) -> Param:
    """Return `param` with `path` before its name, and `base` before its tied parameter's."""
    whole = Param(path + param.name, *param[1:])
    return whole._replace(tied=base + param.tied) if param.tied else whole


def submodule(
    *params: Iterable[Param],
    mixer: "Mixer | None" = None,
    feed: Feed | None = None,
    query_rank: int = 0,
) -> Submodule:
    """Return a submodule with these parameters. It takes one more than a model may have, so that a
    config with too many is found out."""
    bounded = tuple(islice(chain(*params), MAX_TENSORS + 1))
    return Submodule(params=bounded, mixer=mixer, feed=feed, query_rank=query_rank)


def below(path: str, *parts: Submodule) -> Iterator[Param]:
    """Yield the parameters of `parts`, with `path` before their names, for a class without a
    tree."""
    yield from (p._replace(name=path + p.name) for part in parts for p in part.params)


def by_kind(keys: Sequence[Key], layer: Callable[[Key], Submodules]) -> tuple[Submodules, ...]:
    """Return one layer per key; `layer` runs once for equal keys."""
    layers = {key: layer(key) for key in dict.fromkeys(keys)}
    return tuple(layers[key] for key in keys)


QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")


def gqa(
    path: str,
    width: int,
    attention: Attention,
    *,
    bias: tuple[bool, bool] = (False, False),
    names: tuple[str, str, str, str] = QKVO,
    norms: Sequence[str] = (),
) -> Submodule:
    """Return grouped-query attention: one linear each for queries, keys and values, and an output
    linear to `width`. `bias`: for these three, for the output; `norms`: names of norms over one
    head."""
    rows = (
        attention.heads * attention.key_dim,
        attention.kv_heads * attention.key_dim,
        attention.kv_heads * attention.value_dim,
    )
    into, back = bias
    three = zip(("q", "k", "v"), names[:3], rows, strict=True)
    return submodule(
        *(linear(path + name, r, width, bias=into, role=role) for role, name, r in three),
        linear(path + names[3], width, attention.heads * attention.value_dim, bias=back, role="o"),
        *(norm(path + name, attention.key_dim) for name in norms),
        mixer=attention,
    )


def multi_head(heads: int, width: int) -> Attention:
    """Return multi-head attention: `heads` queries, keys and values, each with an equal part of
    `width`."""
    size = width // max(1, heads)
    return Attention(heads=heads, kv_heads=heads, key_dim=size, value_dim=size)


def packed(
    path: str,
    width: int,
    heads: int,
    *,
    bias: bool = False,
    names: tuple[str, str] = ("query_key_value", "dense"),
) -> Submodule:
    """Return attention with one linear 3 D x D for queries, keys and values, and one D x D for the
    output."""
    return submodule(
        linear(path + names[0], 3 * width, width, bias=bias, role="qkv"),
        linear(path + names[1], width, width, bias=bias, role="o"),
        mixer=multi_head(heads, width),
    )


def fused_gqa(
    path: str,
    width: int,
    attention: Attention,
    *,
    bias: tuple[bool, bool] = (False, False),
    names: tuple[str, str] = ("query_key_value", "dense"),
    norms: Iterable[Param] = (),
) -> Submodule:
    """Return grouped-query attention with one linear to queries, keys and values; `norms` last."""
    rows = attention.heads * attention.key_dim + attention.kv_heads * (
        attention.key_dim + attention.value_dim
    )
    return submodule(
        linear(path + names[0], rows, width, bias=bias[0], role="qkv"),
        linear(
            path + names[1], width, attention.heads * attention.value_dim, bias=bias[1], role="o"
        ),
        norms,
        mixer=attention,
    )


def gated(path: str, width: int, inner: int, *, bias: bool = False) -> Submodule:
    """Return a gated MLP: gate_proj and up_proj F x D, down_proj D x F."""
    return submodule(gated_mlp(path, width, inner, bias=bias), feed=Dense(width=inner))


def named_gated(
    path: str, width: int, inner: int, names: tuple[str, str, str], *, bias: bool = False
) -> Submodule:
    """Return a gated MLP with `names` for its gate, up and down projections."""
    gate, up, down = names
    return submodule(
        linear(path + gate, inner, width, bias=bias, role="gate"),
        linear(path + up, inner, width, bias=bias, role="up"),
        linear(path + down, width, inner, bias=bias, role="down"),
        feed=Dense(width=inner),
    )


def fused_gated(path: str, width: int, inner: int, *, bias: bool = False) -> Submodule:
    """Return a gated MLP with gate and up in one linear, gate_up_proj 2 F x D: Phi-3, GLM-4."""
    return submodule(
        linear(f"{path}.gate_up_proj", 2 * inner, width, bias=bias, role="gate_up"),
        linear(f"{path}.down_proj", width, inner, bias=bias, role="down"),
        feed=Dense(width=inner, fused=True),
    )


def ungated(
    path: str,
    width: int,
    inner: int,
    *,
    names: tuple[str, str] = ("up_proj", "down_proj"),
    bias: bool = False,
) -> Submodule:
    """Return an MLP of two linears: up F x D, down D x F."""
    prefix = f"{path}." if path else ""
    return submodule(
        linear(prefix + names[0], inner, width, bias=bias, role="up"),
        linear(prefix + names[1], width, inner, bias=bias, role="down"),
        feed=Dense(width=inner, gated=False),
    )


def normed(width: int, *names: str, bias: bool = False) -> Submodule:
    """Return norms over the hidden size, one per name."""
    return submodule(*(norm(name, width, bias=bias) for name in names))


Layer = Callable[[Config, str, int], Params]  # the tensors of layer i below a path

OLDER = {
    "mamba": "linear_attention",
    "attention": "full_attention",
    "deepseek_sparse_attention": "indexed_attention",
}


@frozen_record
class DecoderNames:
    """Names of a decoder's parts, and the config key of its number of layers."""

    embed: str = "embed_tokens"
    layers: str = "layers"
    final: str = "norm"
    count: str = "num_hidden_layers"
    norm_bias: bool = False


USUAL = DecoderNames()
BEFORE = (
    "input_layernorm",
    "post_attention_layernorm",
)  # the norms before attention and before the MLP

# Multi-token prediction layers: in the files, not in these classes
MTP = (
    "num_nextn_predict_layers",
    "mtp_num_hidden_layers",
    "mtp_transformer_layers",
    "mtp_layers_block_type",
)


def tree(
    c: Config,
    layers: Sequence[Submodules],
    names: DecoderNames = USUAL,
    *,
    kinds: Kinds | None = None,
) -> Decoder:
    """Return the usual decoder: an embedding, `layers`, and a final norm (none without a name).
    `kinds` as in Decoder."""
    c.skip(*MTP)
    width = c.num("hidden_size")
    return Decoder(
        width=width,
        first=tuple(embedding(names.embed, c.num("vocab_size"), width)),
        layers=tuple(layers),
        last=tuple(norm(names.final, width, bias=names.norm_bias)) if names.final else (),
        path=f"{names.layers}.",
        kinds=kinds,
    )


def alike(c: Config, layer: Callable[[], Submodules], *counts: str) -> tuple[Submodules, ...]:
    """Return equal layers; the first of the config keys `counts` that is set gives their number."""
    return by_kind((True,) * c.layers(*counts or ("num_hidden_layers",)), lambda _: layer())


def stack(c: Config, prefix: str, layer: Layer, names: DecoderNames = USUAL) -> Iterator[Param]:
    c.skip(*MTP)
    width = c.num("hidden_size")
    yield from embedding(f"{prefix}{names.embed}", c.num("vocab_size"), width)
    for i in range(c.layers(names.count)):
        yield from layer(c, f"{prefix}{names.layers}.{i}.", i)
    yield from norm(f"{prefix}{names.final}", width, bias=names.norm_bias)


def two_norms(c: Config, prefix: str, *, bias: bool = False) -> Iterator[Param]:
    yield from norm(f"{prefix}input_layernorm", c.num("hidden_size"), bias=bias)
    yield from norm(f"{prefix}post_attention_layernorm", c.num("hidden_size"), bias=bias)


def kinds(c: Config, name: str, rule: Callable[[int], str]) -> list[str]:
    """Return the kind of each layer, under current names: from the config's list `name`, else by
    `rule`. The list may be longer, as some files append the kinds of multi-token prediction
    layers."""
    count = c.layers("num_hidden_layers")
    listed = c.many(name)
    if not listed:
        return [rule(i) for i in range(count)]
    if len(listed) < count:
        raise c.error(name, "has.layers", count=len(listed), layers=count)
    return [OLDER.get(str(kind), str(kind)) for kind in listed[:count]]


def counted(c: Config, name: str, listed: list[str]) -> list[str]:
    """Return `listed`, one kind per layer, under current names. Raises BadFileError above
    MAX_LAYERS layers."""
    if len(listed) > MAX_LAYERS:
        raise c.error(name, "asks.layers", count=len(listed), most=MAX_LAYERS)
    return [OLDER.get(kind, kind) for kind in listed]
