"""LFM2: short gated convolutions and a few layers of attention; dense, or with experts.

    convolution layer: in_proj 3D x D, conv D x k, out_proj D x D
    feed-forward w1, w3 F x D and w2 D x F; F of the dense models is adjusted as Llama 1's was

Source: transformers 5.23 models/{lfm2,lfm2_moe}/{modeling,configuration}_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, conv, linear
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import DecoderNames, kinds, tree
from weighbridge.arch.families.llama import grouped
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.mixers import ShortConv
from weighbridge.arch.model_types import MlxFacts, ModelType, SglangFacts, TrainingFacts, VllmFacts
from weighbridge.arch.modules import (
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    gqa,
    named_gated,
    normed,
    submodule,
)
from weighbridge.arch.rotary import frequencies, head_dim, rotary
from weighbridge.arch.sparse import NUMBERED, correction, each, fed, routed, router
from weighbridge.units import ceil_div

NAMES = DecoderNames(final="embedding_norm")


def short_conv(c: Config) -> Submodule:
    width, bias = c.num("hidden_size"), c.flag("conv_bias")
    own = ShortConv(width=width, kernel=c.num("conv_L_cache"))
    return submodule(
        conv("conv.conv", (width, 1, own.kernel), bias=bias),
        linear("conv.in_proj", 3 * width, width, bias=bias),
        linear("conv.out_proj", width, width, bias=bias),
        mixer=own,
    )


def mixer(c: Config, kind: str) -> Submodules:
    width = c.num("hidden_size")
    names, norms = ("q_proj", "k_proj", "v_proj", "out_proj"), ("q_layernorm", "k_layernorm")
    if kind == "conv":
        found = short_conv(c)
    else:
        found = gqa("self_attn.", width, grouped(c), names=names, norms=norms)
    return (found, normed(width, "operator_norm", "ffn_norm"))


def numbered_mlp(width: int, inner: int) -> Submodule:
    return named_gated("feed_forward.", width, inner, NUMBERED)


def adjusted(c: Config) -> int:
    """Two thirds, times a factor, rounded up to a multiple."""
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

    return tree(c, by_kind(lfm2_kinds(c), layer), NAMES)


def lfm2_moe(c: Config) -> Decoder:
    found, dense = lfm2_kinds(c), c.num("num_dense_layers")
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

    return tree(c, by_kind([(kind, i >= dense) for i, kind in enumerate(found)], layer), NAMES)


def lfm2_moe_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from frequencies(f"{prefix}pos_emb.", head_dim(c))
    if c.flag("use_expert_bias"):
        dense, layers = c.num("num_dense_layers"), range(c.layers("num_hidden_layers"))
        sparse = [i >= dense for i in layers]
        yield from correction(prefix, sparse, "feed_forward.expert_bias", c.num("num_experts"))


def ties(c: Config) -> bool:
    """`tie_embedding` is the published spelling, and wins."""
    return c.flag("tie_embedding", default=c.flag("tie_word_embeddings", default=True))


LFM2 = Family(tree=lfm2, cls="Lfm2ForCausalLM", heads=DECODER_HEADS, buffers=rotary, ties=ties)
LFM2_MOE = Family(
    tree=lfm2_moe,
    cls="Lfm2MoeForCausalLM",
    heads=DECODER_HEADS,
    buffers=lfm2_moe_buffers,
    ties=ties,
)

TYPES = {
    "lfm2": ModelType(
        LFM2,
        training=TrainingFacts(net="hybrids.lfm2"),
        vllm=VllmFacts(every_stage="embedding", adapted_embedding=True, tied_head="freed"),
        sglang=SglangFacts(every_stage="both"),
        mlx=MlxFacts(has_class=True, own_caches=True),
    ),
    "lfm2_moe": ModelType(
        LFM2_MOE,
        gguf="lfm2moe",
        training=TrainingFacts(net="hybrids.lfm2"),
        vllm=VllmFacts(every_stage="embedding", adapted_embedding=True, tied_head="freed"),
        sglang=SglangFacts(every_stage="both"),
        mlx=MlxFacts(has_class=True, own_caches=True),
    ),
}
