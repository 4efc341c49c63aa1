"""Qwen's mixtures, OLMoE and their kin.

Qwen's mixtures of experts and its hybrids of full attention and gated delta nets; OLMoE,
FlexOlmo and Mellum, which name experts as Qwen does.

    a sparse block: mlp.gate E x D, mlp.experts.N.{gate,up,down}_proj; in Qwen 1.5, 3-Next and 3.5
    also mlp.shared_expert, always used, and a gate on it of D weights

    a gated delta net, K key heads of size H and V value heads of size W:
    in_proj D x (2KH + 2VW + 2V), convolution over 2KH + VW, A_log V, dt_bias V, norm W, out_proj

Source: transformers 5.23 models/{qwen2_moe,qwen3_moe,qwen3_next,qwen3_5,qwen3_5_moe,olmoe,
flex_olmo,mellum}/modeling_*.py and conversion_mapping.py.

Mixture-of-experts decoders that exist only beside a tower: Qwen3-VL-MoE's.

    a sparse block: router E x D, gate_up_proj E x D x 2F, down_proj E x F x D in one each

Source: transformers 5.23 models/qwen3_vl_moe/modeling_qwen3_vl_moe.py and conversion_mapping.py.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Family, Param, conv, gated_mlp, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodule,
    Submodules,
    alike,
    by_kind,
    gated,
    kinds,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.llama import AFTER, SPANS, LlamaSwitches, attention, grouped
from weighbridge.models.arch.families.olmo import wide_norms
from weighbridge.models.arch.heads import DECODER_HEADS, DecoderFamily, causal_lm
from weighbridge.models.arch.mixers import GatedDelta
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.rotary import frequencies, head_dim, partly_rotary, rotary
from weighbridge.models.arch.sparse import (
    Parts,
    RoutedExperts,
    block,
    by_kinds,
    by_step,
    every,
    fed,
    moe,
    routed,
    router,
    sparse_decoder,
    stacked_pair,
)
from weighbridge.models.arch.windows import layer_kinds


def choice(c: Config) -> RoutedExperts:
    return routed(c, "num_experts", "moe_intermediate_size")


def qwen_moe(c: Config) -> Submodule:
    return moe("mlp.", c.num("hidden_size"), choice(c))


def moe_and_shared(c: Config) -> Submodule:
    width, inner, e = c.num("hidden_size"), c.num("shared_expert_intermediate_size"), choice(c)
    return submodule(
        block("mlp.", width, e),
        gated_mlp("mlp.shared_expert", width, inner),
        linear("mlp.shared_expert_gate", 1, width),
        feed=fed(e, shared=inner),
    )


def qwen2_attention(c: Config) -> Submodule:
    return attention(c, LlamaSwitches(qkv_bias=c.enabled("qkv_bias")))


def qwen3_attention(c: Config) -> Submodule:
    bias = c.flag("attention_bias")
    return attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias, qk_norm=True))


QWEN2 = Parts(attention=qwen2_attention, moe=moe_and_shared, sparse=by_step)
QWEN3 = Parts(attention=qwen3_attention, moe=qwen_moe, sparse=by_step)
MELLUMS = Parts(attention=qwen3_attention, moe=qwen_moe, sparse=lambda c: by_kinds(c, 0))


# Qwen3-Next and Qwen3.5: three of four layers are gated delta nets.


def gated_attention(c: Config) -> Submodule:
    """Return gated attention: q_proj makes an output gate next to the queries."""
    usual, a, path = qwen3_attention(c), grouped(c), "self_attn.q_proj"
    width, bias = c.num("hidden_size"), c.flag("attention_bias")
    wide = tuple(linear(path, 2 * a.heads * a.key_dim, width, bias=bias))
    return usual._replace(params=(*wide, *usual.params[len(wide) :]))


def delta(c: Config) -> GatedDelta:
    return GatedDelta(
        key_heads=c.num("linear_num_key_heads"),
        value_heads=c.num("linear_num_value_heads"),
        key_dim=c.num("linear_key_head_dim"),
        value_dim=c.num("linear_value_head_dim"),
        kernel=c.num("linear_conv_kernel_dim"),
    )


def delta_net(c: Config, *, fused: bool) -> Submodule:
    """Return a gated delta net. With `fused`, one Linear makes queries, keys, values and gate
    (Qwen3-Next)."""
    width, d, prefix = c.num("hidden_size"), delta(c), "linear_attn."
    heads, values = d.value_heads, d.value_heads * d.value_dim
    sizes = {"qkv": d.channels, "z": values, "b": heads, "a": heads}
    if fused:
        sizes = {"qkvz": d.channels + values, "ba": 2 * heads}
    return submodule(
        conv(f"{prefix}conv1d", (d.channels, 1, d.kernel), bias=False),
        *(linear(f"{prefix}in_proj_{name}", size, width) for name, size in sizes.items()),
        (Param(f"{prefix}{name}", (heads,), "other") for name in ("dt_bias", "A_log")),
        norm(f"{prefix}norm", d.value_dim),
        linear(f"{prefix}out_proj", width, values),
        mixer=d,
    )


def mixers(c: Config) -> list[str]:
    period = max(1, c.num("full_attention_interval", default=4))
    return kinds(
        c, "layer_types", lambda i: "linear_attention" if (i + 1) % period else "full_attention"
    )


Kind = tuple[str, bool]  # of the mixer; whether the layer has experts


def hybrid(
    c: Config, feed: Callable[[bool], Submodule], sparse: Sequence[bool], *, fused: bool = False
) -> Decoder:
    kinds, width = mixers(c), c.num("hidden_size")
    c.skip("intermediate_size", "mlp_only_layers")

    def layer(kind: Kind) -> Submodules:
        linear = kind[0] == "linear_attention"
        mixer = delta_net(c, fused=fused) if linear else gated_attention(c)
        return (mixer, feed(kind[1]), normed(width, *BEFORE))

    return tree(c, by_kind(list(zip(kinds, sparse, strict=True)), layer))


def dense(c: Config) -> Submodule:
    return gated("mlp", c.num("hidden_size"), c.num("intermediate_size"))


def qwen3_next(c: Config) -> Decoder:
    def feed(sparse: bool) -> Submodule:
        return moe_and_shared(c) if sparse else dense(c)

    return hybrid(c, feed, by_step(c), fused=True)


def qwen3_5(c: Config) -> Decoder:
    return hybrid(c, lambda _: dense(c), (False,) * c.layers("num_hidden_layers"))


def qwen3_5_moe(c: Config) -> Decoder:
    return hybrid(c, lambda _: moe_and_shared(c), every(c))


# OLMoE, FlexOlmo, Mellum


def olmo_moe(c: Config, norms: tuple[str, ...]) -> Decoder:
    """Return OLMoE's decoder, whose query and key norms span all heads at once."""
    bias, width = c.flag("attention_bias"), c.num("hidden_size")
    e = routed(c, "num_experts", "intermediate_size")

    def layer() -> Submodules:
        own_attention = attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias))
        return (own_attention, wide_norms(grouped(c)), moe("mlp.", width, e), normed(width, *norms))

    return tree(c, alike(c, layer), kinds=layer_kinds)


def mellum_rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies of each kind of attention."""
    for kind in sorted(set(kinds(c, "layer_types", lambda _: "full_attention"))):
        yield from frequencies(f"{prefix}rotary_emb.{kind}_", head_dim(c))


QWEN2_MOE = DecoderFamily(
    tree=partial(sparse_decoder, parts=QWEN2),
    cls="Qwen2MoeForCausalLM",
    buffers=rotary,
)
QWEN3_MOE = DecoderFamily(
    tree=partial(sparse_decoder, parts=QWEN3),
    cls="Qwen3MoeForCausalLM",
    bases=SPANS,
    buffers=rotary,
)
QWEN3_NEXT = DecoderFamily(
    tree=qwen3_next,
    cls="Qwen3NextForCausalLM",
    bases=SPANS,
    buffers=partly_rotary(0.25),
)
# Text alone under the name of the class with images: as that class stores it.
WITH_IMAGES = "ForConditionalGeneration"
HEADS = {**DECODER_HEADS, WITH_IMAGES: causal_lm}
BASES = {WITH_IMAGES: "model.language_model"}
QWEN3_5 = Family(
    tree=qwen3_5, cls="Qwen3_5ForCausalLM", heads=HEADS, bases=BASES, buffers=partly_rotary(0.25)
)
QWEN3_5_MOE = Family(
    tree=qwen3_5_moe,
    cls="Qwen3_5MoeForCausalLM",
    heads=HEADS,
    bases=BASES,
    buffers=partly_rotary(0.25),
)
OLMOE = DecoderFamily(
    tree=partial(olmo_moe, norms=BEFORE),
    cls="OlmoeForCausalLM",
    buffers=rotary,
)
FLEX_OLMO = DecoderFamily(
    tree=partial(olmo_moe, norms=AFTER),
    cls="FlexOlmoForCausalLM",
    buffers=rotary,
)
MELLUM = DecoderFamily(
    tree=partial(sparse_decoder, parts=MELLUMS),
    cls="MellumForCausalLM",
    buffers=mellum_rotary,
)


def visual_moe(c: Config) -> Submodule:
    e, width = choice(c), c.num("hidden_size")
    return submodule(
        router("mlp.gate", e.count, width),
        stacked_pair("mlp.experts", width, e, transposed=True),
        feed=fed(e),
    )


VISUAL = Parts(attention=qwen3_attention, moe=visual_moe, sparse=by_step)
QWEN3_VL_MOE_TEXT = DecoderFamily(
    tree=partial(sparse_decoder, parts=VISUAL),
    cls="Qwen3VLMoeTextModel",
    buffers=rotary,
)


TYPES = {
    "qwen2_moe": ModelType(QWEN2_MOE, windows=windows.lower, gguf="qwen2moe"),
    "qwen3_moe": ModelType(QWEN3_MOE, windows=windows.everywhere, gguf="qwen3moe"),
    "qwen3_next": ModelType(QWEN3_NEXT, predicts="last", gguf="qwen3next"),
    "qwen3_5_text": ModelType(QWEN3_5, gguf="qwen35"),
    "qwen3_5_moe_text": ModelType(QWEN3_5_MOE, gguf="qwen35moe"),
    "olmoe": ModelType(OLMOE),
    "flex_olmo": ModelType(FLEX_OLMO, computes=("wide_rotary",)),
    "mellum": ModelType(MELLUM, windows=windows.nowhere),
    "qwen3_vl_moe_text": ModelType(
        QWEN3_VL_MOE_TEXT, computes=("repeated_experts",), gguf="qwen3vlmoe"
    ),
}
