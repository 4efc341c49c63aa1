"""Recurrent models without a state-space layer: RWKV, RecurrentGemma (Griffin) and LFM2.

RWKV, version 4, and 5 (remote code), mixes tokens and channels without attention:

    time mixing: key, value, receptance A x D, output D x A; decays and mixes are vectors
    version 5 adds a gate A x D, a norm over A, and decays a head
    channel mixing: key F x D, receptance D x D, value D x F

RecurrentGemma has two layers of a gated linear recurrence to one of local attention:

    recurrence of width R in N blocks: linear_x and linear_y R x D, convolution R x k, two gates of
    N (R/N)^2 weights, R decays, linear_out D x R; the MLP is F/2 wide

LFM2, dense or with experts, has short gated convolutions and a few layers of attention:

    convolution layer: in_proj 3D x D, conv D x k, out_proj D x D
    feed-forward w1, w3 F x D and w2 D x F; F of the dense models is adjusted as Llama 1's was

Sources: transformers 5.23 models/{rwkv,recurrent_gemma}/modeling_*.py and
models/{lfm2,lfm2_moe}/{modeling,configuration}_*.py; modeling_rwkv5.py of RWKV/rwkv-5-world-3b.
"""

from collections.abc import Callable, Iterator

from weighbridge.base.units import ceil_div
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    conv,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    Decoder,
    DecoderNames,
    Submodule,
    Submodules,
    by_kind,
    gated,
    gqa,
    kinds,
    named_gated,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.llama import grouped, kv_heads
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.mixers import GatedRecurrence, Rwkv, ShortConv
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Attention, Dense
from weighbridge.models.arch.rotary import frequencies, head_dim, rotary, share
from weighbridge.models.arch.sparse import NUMBERED, correction, each, fed, routed, router


def mixes(prefix: str, width: int, names: tuple[str, ...]) -> Iterator[Param]:
    for name in names:
        yield Param(f"{prefix}time_mix_{name}", (1, 1, width), "other")


def projections(prefix: str, width: int, inner: int, names: tuple[str, ...]) -> Iterator[Param]:
    for name in names:
        yield from linear(f"{prefix}{name}", inner, width)
    yield from linear(f"{prefix}output", width, inner)


def attention_size(c: Config) -> int:
    return c.num("attention_hidden_size", default=c.num("hidden_size"))


def time_mixing(c: Config) -> Submodule:
    width, inner, prefix = c.num("hidden_size"), attention_size(c), "attention."
    return submodule(
        [
            Param(f"{prefix}time_decay", (inner,), "other"),
            Param(f"{prefix}time_first", (inner,), "other"),
        ],
        mixes(prefix, width, ("key", "value", "receptance")),
        projections(prefix, width, inner, ("key", "value", "receptance")),
        mixer=Rwkv(width=width, inner=inner, head_dim=0),
    )


def time_mixing5(c: Config) -> Submodule:
    width, inner, prefix = c.num("hidden_size"), attention_size(c), "attention."
    size, names = max(1, c.num("head_size")), ("key", "value", "receptance", "gate")
    heads = (inner // size, size)
    return submodule(
        [
            Param(f"{prefix}time_decay", heads, "other"),
            Param(f"{prefix}time_faaaa", heads, "other"),
        ],
        mixes(prefix, width, names),
        projections(prefix, width, inner, names),
        layer_norm(f"{prefix}ln_x", inner),
        mixer=Rwkv(width=width, inner=inner, head_dim=c.num("head_size")),
    )


def channel_mixing(width: int, inner: int) -> Submodule:
    prefix = "feed_forward."
    return submodule(
        mixes(prefix, width, ("key", "receptance")),
        linear(f"{prefix}key", inner, width),
        linear(f"{prefix}receptance", width, width),
        linear(f"{prefix}value", width, inner),
        feed=Dense(width=inner, gated=False),
    )


NAMES = DecoderNames(embed="embeddings", layers="blocks", final="ln_out", norm_bias=True)


def mixed(c: Config, time: Callable[[Config], Submodule], usual: int) -> Decoder:
    """Return RWKV's decoder, with time and channel mixing per layer and one more norm in the first.
    `usual`: the MLP's default width."""

    def layer(is_first: bool) -> Submodules:
        width, names = c.num("hidden_size"), ("pre_ln", "ln1", "ln2")
        norms = normed(width, *names[0 if is_first else 1 :], bias=True)
        return (norms, time(c), channel_mixing(width, c.num("intermediate_size", default=usual)))

    return tree(c, by_kind([i == 0 for i in range(c.layers("num_hidden_layers"))], layer), NAMES)


def rwkv(c: Config) -> Decoder:
    return mixed(c, time_mixing, 4 * c.num("hidden_size"))


def rwkv5(c: Config) -> Decoder:
    """Return RWKV 5's decoder; by default the MLP is 3.5 hidden sizes, in multiples of 32."""
    return mixed(c, time_mixing5, c.num("hidden_size") * 7 // 64 * 32)


def head(c: Config, prefix: str) -> Iterator[Param]:
    owner = f"{prefix}rwkv.embeddings.weight" if c.flag("tie_word_embeddings") else ""
    shape = (c.num("vocab_size"), c.num("hidden_size"))
    yield Param(f"{prefix}head.weight", shape, tied=owner)


RWKV = Family(
    tree=rwkv, base="rwkv", cls="RwkvForCausalLM", heads={"ForCausalLM": head}, blocks=("blocks.*",)
)
RWKV_5 = Family(
    tree=rwkv5,
    base="rwkv",
    cls="RwkvForCausalLM",
    heads={"ForCausalLM": head},
    blocks=("blocks.*",),
)


# RecurrentGemma


def recurrence(c: Config) -> Submodule:
    width, heads, prefix = c.num("hidden_size"), c.num("num_attention_heads"), "temporal_block."
    gated = GatedRecurrence(width=c.num("lru_width", default=width), kernel=c.num("conv1d_width"))
    wide, size = gated.width, gated.width // max(1, heads)
    return submodule(
        affine(f"{prefix}linear_y", wide, width),
        affine(f"{prefix}linear_x", wide, width),
        affine(f"{prefix}linear_out", width, wide),
        conv(f"{prefix}conv_1d", (wide, 1, gated.kernel)),
        [Param(f"{prefix}rg_lru.recurrent_param", (wide,), "other")],
        (
            Param(f"{prefix}rg_lru.{gate}_gate_{name}", shape, "other")
            for gate in ("input", "recurrent")
            for name, shape in (("weight", (heads, size, size)), ("bias", (heads, size)))
        ),
        mixer=gated,
    )


def head_size(c: Config) -> int:
    return c.num("hidden_size") // max(1, c.num("num_attention_heads"))


def attention(c: Config) -> Submodule:
    """Return RecurrentGemma's attention, which always has a window."""
    heads, bias = c.num("num_attention_heads"), c.flag("attention_bias")
    a = Attention(
        heads=heads,
        kv_heads=kv_heads(c),
        key_dim=head_size(c),
        value_dim=head_size(c),
        window=c.num("attention_window_size"),
    )
    return gqa("temporal_block.", c.num("hidden_size"), a, bias=(bias, True))


def pattern(c: Config) -> list[str]:
    """Return the kind of each layer: `block_types`, repeated."""
    listed = [str(kind) for kind in c.many("block_types")] or [
        "recurrent",
        "recurrent",
        "attention",
    ]
    return [listed[i % len(listed)] for i in range(c.layers("num_hidden_layers"))]


def recurrent_gemma(c: Config) -> Decoder:
    def layer(kind: str) -> Submodules:
        width, inner = c.num("hidden_size"), c.num("intermediate_size") // 2
        mixer = recurrence(c) if kind == "recurrent" else attention(c)
        mlp = gated("mlp_block", width, inner, bias=True)
        return (mixer, mlp, normed(width, "temporal_pre_norm", "channel_pre_norm"))

    return tree(c, by_kind(pattern(c), layer), DecoderNames(final="final_norm"))


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the embedding's scale, and the rotary frequencies of each attention layer."""
    yield Buffer(f"{prefix}normalizer", (), "bfloat16")
    rotated = int(head_size(c) * share(c, "partial_rotary_factor", default=0.5))
    for i, kind in enumerate(pattern(c)):
        if kind != "recurrent":
            yield from frequencies(f"{prefix}layers.{i}.temporal_block.rotary_emb.", rotated)


RECURRENT_GEMMA = DecoderFamily(
    tree=recurrent_gemma, cls="RecurrentGemmaForCausalLM", buffers=buffers
)


# LFM2

LFM2_NAMES = DecoderNames(final="embedding_norm")


def short_conv(c: Config) -> Submodule:
    width, bias = c.num("hidden_size"), c.flag("conv_bias")
    convolution = ShortConv(width=width, kernel=c.num("conv_L_cache"))
    return submodule(
        conv("conv.conv", (width, 1, convolution.kernel), bias=bias),
        linear("conv.in_proj", 3 * width, width, bias=bias),
        linear("conv.out_proj", width, width, bias=bias),
        mixer=convolution,
    )


def mixer(c: Config, kind: str) -> Submodules:
    width = c.num("hidden_size")
    names, norms = ("q_proj", "k_proj", "v_proj", "out_proj"), ("q_layernorm", "k_layernorm")
    if kind == "conv":
        part = short_conv(c)
    else:
        part = gqa("self_attn.", width, grouped(c), names=names, norms=norms)
    return (part, normed(width, "operator_norm", "ffn_norm"))


def numbered_mlp(width: int, inner: int) -> Submodule:
    return named_gated("feed_forward.", width, inner, NUMBERED)


def adjusted(c: Config) -> int:
    """Return the width of the MLP: with auto-adjust, two thirds of the config's, times a factor,
    rounded up to a multiple."""
    inner = c.num("block_ff_dim", "intermediate_size")
    if not c.flag("block_auto_adjust_ff_dim"):
        return inner
    inner = 2 * inner // 3
    if c.null("block_ffn_dim_multiplier"):
        return inner
    multiple = max(1, c.num("block_multiple_of"))
    return multiple * ceil_div(
        int(c.ratio("block_ffn_dim_multiplier", default=1.0) * inner), multiple
    )


def lfm2_kinds(c: Config) -> list[str]:
    attends = frozenset(c.nums("full_attn_idxs"))
    everywhere = c.get("full_attn_idxs") is None
    return kinds(
        c, "layer_types", lambda i: "full_attention" if everywhere or i in attends else "conv"
    )


def lfm2(c: Config) -> Decoder:
    inner = adjusted(c)
    c.skip("block_dim", "conv_dim", "conv_dim_out", "num_heads")  # repeat hidden size and heads

    def layer(kind: str) -> Submodules:
        return (*mixer(c, kind), numbered_mlp(c.num("hidden_size"), inner))

    return tree(c, by_kind(lfm2_kinds(c), layer), LFM2_NAMES)


def lfm2_moe(c: Config) -> Decoder:
    each_kind, dense = lfm2_kinds(c), c.num("num_dense_layers")
    e, width = routed(c, "num_experts", "moe_intermediate_size"), c.num("hidden_size")

    def feed(sparse: bool) -> Submodule:
        if not sparse:
            return numbered_mlp(width, c.num("intermediate_size"))
        return submodule(
            router("feed_forward.gate", e.count, width),
            each("feed_forward.experts", width, e, NUMBERED),
            feed=fed(e),
        )

    def layer(kind: tuple[str, bool]) -> Submodules:
        return (*mixer(c, kind[0]), feed(kind[1]))

    return tree(
        c, by_kind([(kind, i >= dense) for i, kind in enumerate(each_kind)], layer), LFM2_NAMES
    )


def lfm2_moe_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from frequencies(f"{prefix}pos_emb.", head_dim(c))
    if c.flag("use_expert_bias"):
        dense, layers = c.num("num_dense_layers"), range(c.layers("num_hidden_layers"))
        sparse = [i >= dense for i in layers]
        yield from correction(prefix, sparse, "feed_forward.expert_bias", c.num("num_experts"))


def ties(c: Config) -> bool:
    """Return whether the embedding is tied; the published key `tie_embedding` wins."""
    return c.flag("tie_embedding", default=c.enabled("tie_word_embeddings"))


LFM2 = DecoderFamily(tree=lfm2, cls="Lfm2ForCausalLM", buffers=rotary, ties=ties)
LFM2_MOE = DecoderFamily(
    tree=lfm2_moe,
    cls="Lfm2MoeForCausalLM",
    buffers=lfm2_moe_buffers,
    ties=ties,
)

TYPES = {
    "rwkv": ModelType(RWKV, positions="endless", gguf="none"),
    "rwkv5": ModelType(RWKV_5, positions="endless"),
    "recurrent_gemma": ModelType(RECURRENT_GEMMA, gguf="none"),
    "lfm2": ModelType(LFM2),
    "lfm2_moe": ModelType(LFM2_MOE, gguf="lfm2moe"),
}
