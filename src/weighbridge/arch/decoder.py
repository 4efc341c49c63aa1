"""What nearly every decoder shares: an embedding, numbered layers, a final norm; layers of several
kinds, by a list in the config or by a rule.

Source of the older names: transformers 5.23 configuration_utils.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from weighbridge.arch.blueprint import Param, Params, embedding, norm
from weighbridge.arch.config import MAX_LAYERS, Config
from weighbridge.arch.modules import Decoder, Kinds, Submodules, by_kind

Layer = Callable[[Config, str, int], Params]  # the tensors of layer i below a path

OLDER = {
    "mamba": "linear_attention",
    "attention": "full_attention",
    "deepseek_sparse_attention": "indexed_attention",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderNames:
    """Names that a decoder gives its parts, and the key that counts its layers."""

    embed: str = "embed_tokens"
    layers: str = "layers"
    final: str = "norm"
    count: str = "num_hidden_layers"
    norm_bias: bool = False


USUAL = DecoderNames()
BEFORE = ("input_layernorm", "post_attention_layernorm")  # before attention, before the MLP

# Layers that guess further tokens: in the files, not in these classes.
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
    """The usual decoder around `layers`: embedding before, one norm behind (none without a name).

    `kinds` as in Decoder.
    """
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
    """Return as many equal layers as the config asks for, under the first of `counts` that it
    has."""
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
    """The kind of each layer: the config's list under today's names, else by the rule.

    A list may be longer: some publish the kinds of multi-token-prediction layers behind it.
    """
    count = c.layers("num_hidden_layers")
    found = c.many(name)
    if not found:
        return [rule(i) for i in range(count)]
    if len(found) < count:
        raise c.error(name, f"has {len(found)} entries for {count} layers")
    return [OLDER.get(str(kind), str(kind)) for kind in found[:count]]


def counted(c: Config, name: str, found: list[str]) -> list[str]:
    """The list itself says how many layers there are; bounded as a number would be."""
    if len(found) > MAX_LAYERS:
        raise c.error(name, f"asks for {len(found):,} layers; the limit is {MAX_LAYERS:,}")
    return [OLDER.get(kind, kind) for kind in found]
