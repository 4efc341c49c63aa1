"""State-space layers: the mixers of Mamba 1 and 2, the models that are nothing but them, and Zamba.

    Mamba 1, inner size I, state N, rank R, kernel k:
    in_proj 2I x D, conv1d I x k, x_proj (R + 2N) x I, dt_proj I x R, A_log I x N, D I, out D x I

    Mamba 2, heads M, groups G: channels of the convolution C = I + 2GN
    in_proj (I + C + M) x D, conv1d C x k, A_log, D and dt_bias M each, norm I, out_proj D x I

    Zamba, a hybrid layer: one or two transformer blocks that many layers share (its tensors owned
    by the first layer that uses it), linear D x D, and a Mamba layer; the block attends over the
    state beside the embedding, 2D wide. Zamba 2: low-rank adapters of the block for each use of it

Source: transformers 5.23 models/{mamba,mamba2,falcon_mamba,zamba,zamba2}/modeling_*.py.
"""

from collections.abc import Iterator, Sequence

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import ceil_div
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    Params,
    affine,
    conv,
    linear,
    norm,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    Decoder,
    DecoderNames,
    Submodule,
    Submodules,
    alike,
    below,
    by_kind,
    fused_gated,
    gated,
    kinds,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.heads import DECODER_HEADS, DecoderFamily
from weighbridge.models.arch.mixers import Mamba1, Mamba2
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Attention
from weighbridge.models.arch.rotary import frequencies


def expanded(c: Config, name: str) -> int:
    return int(c.ratio(name) * c.num("hidden_size"))


def inner_size(c: Config) -> int:
    """Return the inner size in the config, else `expand` times the hidden size. Falcon-Mamba-7B
    states 8,192 next to an `expand` of 16 x 4,096; its published parameter count fits the
    former."""
    expand = expanded(c, "expand")
    return c.num("intermediate_size") if c.has("intermediate_size") else expand


def step_rank(c: Config, name: str) -> int:
    """Return the rank of the time step; "auto" is a sixteenth of the hidden size."""
    if c.get(name) == "auto":
        return ceil_div(c.num("hidden_size"), 16)
    return c.num(name)


class Biases(NamedTuple):
    """The linears of a Mamba layer, and its convolution, that have a bias."""

    conv: bool
    inner: bool  # in_proj
    out: bool


def mamba1(path: str, width: int, mamba: Mamba1, rank: int, has: Biases) -> Submodule:
    return submodule(
        conv(f"{path}conv1d", (mamba.inner, 1, mamba.kernel), bias=has.conv),
        linear(f"{path}in_proj", 2 * mamba.inner, width, bias=has.inner),
        linear(f"{path}x_proj", rank + 2 * mamba.state, mamba.inner),
        affine(f"{path}dt_proj", mamba.inner, rank),
        [Param(f"{path}A_log", (mamba.inner, mamba.state), "other")],
        [Param(f"{path}D", (mamba.inner,), "other")],
        linear(f"{path}out_proj", width, mamba.inner, bias=has.out),
        mixer=mamba,
    )


def mamba2(
    path: str, width: int, mamba: Mamba2, has: Biases, *, has_norm: bool = True
) -> Submodule:
    rows = mamba.inner + mamba.channels + mamba.heads
    return submodule(
        conv(f"{path}conv1d", (mamba.channels, 1, mamba.kernel), bias=has.conv),
        linear(f"{path}in_proj", rows, width, bias=has.inner),
        (Param(f"{path}{name}", (mamba.heads,), "other") for name in ("dt_bias", "A_log", "D")),
        norm(f"{path}norm", mamba.inner) if has_norm else (),
        linear(f"{path}out_proj", width, mamba.inner, bias=has.out),
        mixer=mamba,
    )


NAMES = DecoderNames(embed="embeddings", final="norm_f")


def biases(c: Config) -> Biases:
    bias = c.flag("use_bias")
    return Biases(conv=c.flag("use_conv_bias"), inner=bias, out=bias)


def mamba(c: Config) -> Decoder:
    m = Mamba1(inner=inner_size(c), state=c.num("state_size"), kernel=c.num("conv_kernel"))

    def layer() -> Submodules:
        width, rank = c.num("hidden_size"), step_rank(c, "time_step_rank")
        return (normed(width, "norm"), mamba1("mixer.", width, m, rank, biases(c)))

    return tree(c, alike(c, layer), NAMES)


def mamba_2(c: Config) -> Decoder:
    m = Mamba2(
        inner=expanded(c, "expand"),
        heads=c.num("num_heads"),
        groups=c.num("n_groups"),
        state=c.num("state_size"),
        kernel=c.num("conv_kernel"),
    )

    def layer() -> Submodules:
        width = c.num("hidden_size")
        return (normed(width, "norm"), mamba2("mixer.", width, m, biases(c)))

    return tree(c, alike(c, layer), NAMES)


def falcon_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the norms of Falcon-Mamba's mixer: vectors of ones, never trained nor stored."""
    sizes = {"dt": inner_size(c), "b": c.num("state_size"), "c": c.num("state_size")}
    for i in range(c.layers("num_hidden_layers")):
        for name, size in sizes.items():
            yield Buffer(f"{prefix}layers.{i}.mixer.{name}_layernorm.weight", (size,), "")


MAMBA = DecoderFamily(
    tree=mamba,
    base="backbone",
    cls="MambaForCausalLM",
)
MAMBA_2 = DecoderFamily(
    tree=mamba_2,
    base="backbone",
    cls="Mamba2ForCausalLM",
)
FALCON_MAMBA = DecoderFamily(
    tree=mamba,
    base="backbone",
    cls="FalconMambaForCausalLM",
    buffers=falcon_buffers,
)


ZAMBA_NAMES = DecoderNames(final="final_layernorm")


def shared(params: Params, owner: int | None) -> Iterator[Param]:
    """Yield the tensors of a block whose storage layer `owner` holds; None means that this layer
    holds it."""
    for p in params:
        yield p if owner is None else p._replace(tied=f"layers.{owner}.{p.name}")


def ties(c: Config) -> bool:
    """Return whether layers share the blocks (as tied embeddings do); else each has a copy."""
    return c.enabled("tie_word_embeddings")


def wide_attention(c: Config, path: str, wide: int, size: int) -> Submodule:
    """Return attention from `wide` input elements per token to the hidden size."""
    heads = c.num("num_attention_heads")
    kv = c.num("num_key_value_heads", default=heads)
    return submodule(
        linear(f"{path}q_proj", heads * size, wide),
        linear(f"{path}k_proj", kv * size, wide),
        linear(f"{path}v_proj", kv * size, wide),
        linear(f"{path}o_proj", c.num("hidden_size"), heads * size),
        mixer=Attention(heads=heads, kv_heads=kv, key_dim=size, value_dim=size),
    )


def hybrid(c: Config, block: Submodules, mamba: Submodules, owner: int | None) -> Submodules:
    """Return a hybrid layer: the block, a linear and a Mamba layer. Mamba's cache comes first."""
    width = c.num("hidden_size")
    views = submodule(*(shared(part.params, owner) for part in block))
    feeds = (submodule(feed=part.feed) for part in block if part.feed)
    mixers = (submodule(mixer=part.mixer) for part in block if part.mixer)
    inside = (part._replace(params=tuple(below("mamba_decoder.", part))) for part in mamba)
    return (views, submodule(linear("linear", width, width)), *inside, *mixers, *feeds)


# Zamba


def zamba_mamba(c: Config) -> Submodule:
    """Return Zamba's Mamba 1, whose channels are split into heads of equal size."""
    width, heads, prefix = c.num("hidden_size"), c.num("n_mamba_heads"), "mamba."
    m = Mamba1(
        inner=c.num("mamba_expand") * width,
        state=c.num("mamba_d_state"),
        kernel=c.num("mamba_d_conv"),
    )
    size, rank = m.inner // max(1, heads), step_rank(c, "mamba_dt_rank")
    bias = c.flag("mamba_proj_bias")
    return submodule(
        conv(f"{prefix}conv1d", (m.inner, 1, m.kernel), bias=c.flag("mamba_conv_bias")),
        linear(f"{prefix}in_proj", 2 * m.inner, width, bias=bias),
        [Param(f"{prefix}x_proj_weight", (heads, rank + 2 * m.state, size), "other")],
        [Param(f"{prefix}dt_proj_weight", (heads, size, rank), "other")],
        [Param(f"{prefix}dt_proj_bias", (heads, size), "other")],
        [Param(f"{prefix}A_log", (heads, size, m.state), "other", "float32")],
        [Param(f"{prefix}D", (heads, size), "other")],
        linear(f"{prefix}out_proj", width, m.inner, bias=bias),
        mixer=m,
    )


def zamba_block(c: Config) -> Submodules:
    width, heads, prefix = c.num("hidden_size"), c.num("num_attention_heads"), "shared_transf."
    wide = c.num("attention_hidden_size", default=2 * width)
    size = c.num("attention_head_dim", default=2 * width // max(1, heads))
    return (
        wide_attention(c, f"{prefix}self_attn.", wide, size),
        gated(f"{prefix}feed_forward", width, c.num("intermediate_size")),
        normed(wide, f"{prefix}input_layernorm"),
        normed(width, f"{prefix}pre_ff_layernorm"),
    )


def zamba_kinds(c: Config) -> list[str]:
    period, offset = max(1, c.num("attn_layer_period")), c.num("attn_layer_offset")

    def rule(i: int) -> str:
        hybrid = i == 2 if i < 3 else (i - 3) % period == offset
        return "hybrid" if hybrid else "linear_attention"

    return kinds(c, "layers_block_type", rule)


def zamba(c: Config) -> Decoder:
    kinds, width = zamba_kinds(c), c.num("hidden_size")
    first = kinds.index("hybrid") if "hybrid" in kinds else 0

    def layer(kind: tuple[str, bool]) -> Submodules:
        mamba = (zamba_mamba(c), normed(width, "input_layernorm"))
        if kind[0] != "hybrid":
            return mamba
        return hybrid(c, zamba_block(c), mamba, first if kind[1] and ties(c) else None)

    keys = [(kind, i != first) for i, kind in enumerate(kinds)]
    return tree(c, by_kind(keys, layer), ZAMBA_NAMES)


# Zamba 2


def zamba2_mamba(c: Config) -> Submodules:
    width, bias = c.num("hidden_size"), c.flag("add_bias_linear")
    m = Mamba2(
        inner=expanded(c, "mamba_expand"),
        heads=c.num("n_mamba_heads"),
        groups=c.num("mamba_ngroups"),
        state=c.num("mamba_d_state"),
        kernel=c.num("mamba_d_conv"),
    )
    one = mamba2("mamba.", width, m, Biases(conv=True, inner=bias, out=bias))
    return (one, normed(width, "input_layernorm"))


def adapter(path: str, inputs: int, rank: int, outputs: int) -> Iterator[Param]:
    yield from linear(f"{path}.0", rank, inputs)
    yield from linear(f"{path}.1", outputs, rank)


def zamba2_adapters(c: Config, prefix: str, inner: int, uses: Sequence[int]) -> Iterator[Param]:
    """Yield a block's low-rank adapters. `uses`: the hybrid layers that use the block, numbered
    among the hybrid layers."""
    width, rank = c.num("hidden_size"), c.num("adapter_rank")
    for i in uses:
        path = f"{prefix}feed_forward.gate_up_proj_adapter_list.{i}"
        yield from adapter(path, width, rank, 2 * inner)
        for name in "qkv" if c.flag("use_shared_attention_adapter") else "":
            path = f"{prefix}self_attn.linear_{name}_adapter_list.{i}"
            yield from adapter(path, 2 * width, rank, 2 * width)


def zamba2_block(c: Config, uses: Sequence[int]) -> Submodules:
    width, wide, prefix = c.num("hidden_size"), 2 * c.num("hidden_size"), "shared_transformer."
    inner, bias = c.num("intermediate_size", default=4 * width), c.flag("add_bias_linear")
    size = wide // max(1, c.num("num_attention_heads"))
    return (
        wide_attention(c, f"{prefix}self_attn.", wide, size),
        fused_gated(f"{prefix}feed_forward", width, inner, bias=bias),
        submodule(zamba2_adapters(c, prefix, inner, uses)),
        normed(wide, f"{prefix}input_layernorm"),
        normed(width, f"{prefix}pre_ff_layernorm"),
    )


def zamba2_kinds(c: Config) -> list[str]:
    """Return the kind of each layer: from the config, else the published pattern of 54 layers,
    mostly a hybrid layer per six."""
    hybrids = frozenset((6, 12, 18, 24, 30, 36, 42, 47, 51))
    return kinds(c, "layers_block_type", lambda i: "hybrid" if i in hybrids else "linear_attention")


def zamba2(c: Config) -> Decoder:
    """Return Zamba 2's decoder. Hybrid layers use the blocks in turn; the first that uses a block
    holds its parameters."""
    blocks, kinds = max(1, c.num("num_mem_blocks")), zamba2_kinds(c)
    hybrids = [i for i, kind in enumerate(kinds) if kind == "hybrid"]

    def layer(kind: tuple[int, bool] | None) -> Submodules:
        if kind is None:
            return zamba2_mamba(c)
        turn, again = kind
        block = zamba2_block(c, range(turn, len(hybrids), blocks))
        owner = hybrids[turn] if again and ties(c) else None
        return hybrid(c, block, zamba2_mamba(c), owner)

    turns = {i: (n % blocks, n >= blocks) for n, i in enumerate(hybrids)}
    return tree(c, by_kind([turns.get(i) for i in range(len(kinds))], layer), ZAMBA_NAMES)


def zamba2_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    if c.flag("use_mem_rope"):
        size = 2 * c.num("hidden_size") // max(1, c.num("num_attention_heads"))
        yield from frequencies(f"{prefix}rotary_emb.", size)


HEADS = {name: DECODER_HEADS[name] for name in ("ForCausalLM", "ForSequenceClassification")}
ZAMBA = Family(tree=zamba, cls="ZambaForCausalLM", heads=HEADS)
ZAMBA_2 = Family(tree=zamba2, cls="Zamba2ForCausalLM", heads=HEADS, buffers=zamba2_buffers)

TYPES = {
    "mamba": ModelType(MAMBA, positions="endless", computes=("not_rotary",)),
    "mamba2": ModelType(MAMBA_2, positions="endless", computes=("not_rotary",)),
    "falcon_mamba": ModelType(
        FALCON_MAMBA, positions="endless", computes=("not_rotary", "unweighted_norms"), gguf="mamba"
    ),
    "zamba": ModelType(ZAMBA, gguf="none"),
    "zamba2": ModelType(ZAMBA_2, gguf="none"),
}
