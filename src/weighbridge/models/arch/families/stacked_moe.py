"""Models whose checkpoints store all experts of a layer in one parameter: gpt-oss, Llama 4, DBRX,
JetMoE.

    gpt-oss and Llama 4: gate_up_proj E x D x 2F, down_proj E x F x D (gpt-oss: with biases)
    DBRX: w1, v1 and w2, each EF x D         JetMoE: 2F, with experts in attention too

Source: transformers 5.23 models/{gpt_oss,llama4,dbrx,jetmoe}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.base.records import replace
from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Param, gated_mlp, linear
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    DecoderNames,
    Submodule,
    Submodules,
    alike,
    by_kind,
    gated,
    multi_head,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.llama import LlamaSwitches, attention
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Attention
from weighbridge.models.arch.rotary import frequencies, rotary
from weighbridge.models.arch.sparse import RoutedExperts, fed, routed, router, stacked, stacked_pair
from weighbridge.models.arch.windows import layer_kinds


def all_bias(c: Config) -> Submodule:
    bias = c.flag("attention_bias")
    return attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias))


# gpt-oss


def gpt_oss(c: Config) -> Decoder:
    e, width = routed(c, "num_local_experts", "intermediate_size"), c.num("hidden_size")
    c.skip("experts_per_token")  # an older spelling beside num_experts_per_tok

    def layer() -> Submodules:
        return (
            all_bias(c),
            submodule([Param("self_attn.sinks", (c.num("num_attention_heads"),), "other")]),
            submodule(
                router("mlp.router", e.count, width),
                [Param("mlp.router.bias", (e.count,), "bias")],
                stacked_pair("mlp.experts", width, e, transposed=True),
                stacked("mlp.experts.gate_up_proj_bias", (e.count, 2 * e.inner), e),
                stacked("mlp.experts.down_proj_bias", (e.count, width), e),
                feed=fed(e),
            ),
            normed(width, *BEFORE),
        )

    return tree(c, alike(c, layer), kinds=layer_kinds)


# Llama 4: one routed and one shared expert a token


def moe_layers(c: Config) -> frozenset[int]:
    if c.get("moe_layers") is not None:
        return frozenset(c.nums("moe_layers"))
    period = max(1, c.num("interleave_moe_layer_step"))
    return frozenset(range(period - 1, c.layers("num_hidden_layers"), period))


def llama4_moe(c: Config) -> Submodule:
    e, width = routed(c, "num_local_experts", "intermediate_size"), c.num("hidden_size")
    return submodule(
        router("feed_forward.router", e.count, width),
        stacked_pair("feed_forward.experts", width, e, transposed=True),
        gated_mlp("feed_forward.shared_expert", width, e.inner),
        feed=fed(e, shared=e.inner),
    )


def llama4(c: Config) -> Decoder:
    sparse, width = moe_layers(c), c.num("hidden_size")

    def feed(has_experts: bool) -> Submodule:
        if has_experts:
            return llama4_moe(c)
        return gated("feed_forward", width, c.num("intermediate_size_mlp"))

    def layer(has_experts: bool) -> Submodules:
        return (all_bias(c), feed(has_experts), normed(width, *BEFORE))

    mixtures = [i in sparse for i in range(c.layers("num_hidden_layers"))]
    return tree(c, by_kind(mixtures, layer), kinds=layer_kinds)


# DBRX


def dbrx_layer(c: Config) -> Submodules:
    attn, ffn, width = c.sub("attn_config"), c.sub("ffn_config"), c.num("d_model")
    path = "norm_attn_norm."
    e = RoutedExperts(
        count=ffn.num("moe_num_experts", default=4),
        inner=ffn.num("ffn_hidden_size", default=3584),
        top_k=ffn.num("moe_top_k", default=1),
    )
    a = multi_head(c.num("n_heads"), width)
    kv = attn.num("kv_n_heads", default=1)
    rows = width + 2 * kv * a.key_dim
    return (
        normed(width, f"{path}norm_1"),
        submodule(
            linear(f"{path}attn.Wqkv", rows, width),
            linear(f"{path}attn.out_proj", width, width),
            mixer=replace(a, kv_heads=kv),
        ),
        normed(width, f"{path}norm_2"),
        submodule(
            router("ffn.router.layer", e.count, width),
            *(
                stacked(f"ffn.experts.mlp.{name}", (e.count * e.inner, width), e)
                for name in ("w1", "v1", "w2")
            ),
            feed=fed(e),
        ),
    )


def dbrx(c: Config) -> Decoder:
    names = DecoderNames(embed="wte", layers="blocks", final="norm_f")
    return tree(c, alike(c, lambda: dbrx_layer(c), "n_layers"), names, kinds=layer_kinds)


def dbrx_rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from frequencies(f"{prefix}rotary_emb.", c.num("d_model") // max(1, c.num("n_heads")))


# JetMoE: experts for queries and outputs of attention, and for the MLP


def jet_experts(prefix: str, width: int, experts: RoutedExperts, *, inputs: int) -> Iterator[Param]:
    yield Param(f"{prefix}bias", (width,), "bias")
    yield from stacked(f"{prefix}input_linear.weight", (experts.count, inputs, width), experts)
    yield from stacked(
        f"{prefix}output_linear.weight", (experts.count, width, experts.inner), experts
    )
    yield from router(f"{prefix}router.layer", experts.count, width)


def jetmoe(c: Config) -> Decoder:
    """Return JetMoE's decoder, in which each selected expert has its own queries over shared keys
    and values."""
    mlp = routed(c, "num_local_experts", "intermediate_size")
    width, size, kv = c.num("hidden_size"), c.num("kv_channels"), c.num("num_key_value_heads")
    inner = size * kv
    each_has = RoutedExperts(count=mlp.count, inner=inner, top_k=mlp.top_k)
    heads = kv * c.num("num_experts_per_tok", default=1)

    def layer() -> Submodules:
        return (
            submodule(jet_experts("mlp.", width, mlp, inputs=2 * mlp.inner), feed=fed(mlp)),
            submodule(
                jet_experts("self_attention.experts.", width, each_has, inputs=inner),
                linear("self_attention.kv_proj", 2 * inner, width),
                mixer=Attention(heads=heads, kv_heads=kv, key_dim=size, value_dim=size),
            ),
            normed(width, *BEFORE),
        )

    return tree(c, alike(c, layer), kinds=layer_kinds)


def jetmoe_rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from frequencies(f"{prefix}rotary_emb.", c.num("kv_channels"))


GPT_OSS = DecoderFamily(tree=gpt_oss, cls="GptOssForCausalLM", buffers=rotary)
LLAMA4_TEXT = DecoderFamily(tree=llama4, cls="Llama4ForCausalLM", buffers=rotary)
DBRX = DecoderFamily(
    tree=dbrx,
    base="transformer",
    cls="DbrxForCausalLM",
    buffers=dbrx_rotary,
    blocks=("blocks.*",),
)
JETMOE = DecoderFamily(tree=jetmoe, cls="JetMoeForCausalLM", buffers=jetmoe_rotary)

TYPES = {
    "gpt_oss": ModelType(
        GPT_OSS, windows=windows.period(2), computes=("repeated_experts",), gguf="gpt-oss"
    ),
    "llama4_text": ModelType(
        LLAMA4_TEXT,
        windows=windows.chunks,
        computes=("every_fourth_unrotated", "every_expert", "own_softmax", "holds_attended"),
        gguf="llama4",
    ),
    "dbrx": ModelType(DBRX, computes=("looped_experts",)),
    "jetmoe": ModelType(JETMOE, computes=("expert_attention", "sorted_experts")),
}
