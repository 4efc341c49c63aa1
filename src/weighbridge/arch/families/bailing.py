"""Ling and Ring, first and second generation (BailingMoE).

    query_key_value (N + 2K)H x D and dense D x NH; experts as DeepSeek names them, with one shared
    MLP as wide as all shared experts. The second generation has norms on queries and keys, and a
    correction bias in its router.

Source: modeling_bailing_moe.py of inclusionAI/Ling-lite, modeling_bailing_moe_v2.py of
inclusionAI/Ling-mini-2.0 (remote code).
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.arch.blueprint import Buffer, Family, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import BEFORE, DecoderNames, tree
from weighbridge.arch.families.llama import grouped
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.model_types import MlxFacts, ModelType, SglangFacts
from weighbridge.arch.modules import (
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    fused_gqa,
    gated,
    normed,
    submodule,
)
from weighbridge.arch.rotary import partly_rotary
from weighbridge.arch.sparse import RoutedExperts, after_first, correction, moe, routed
from weighbridge.arch.windows import layer_kinds


def attention(c: Config, *, normalised: bool) -> Submodules:
    width, a, path = c.num("hidden_size"), grouped(c), "attention."
    names = ("query_layernorm", "key_layernorm") if normalised else ()
    bias = (c.flag("use_qkv_bias"), c.flag("use_bias"))
    has = normalised and c.flag("use_qk_norm", default=True)
    norms = submodule(*(norm(path + name, a.key_dim) for name in names if has))
    return (fused_gqa(path, width, a, bias=bias), norms)


def choice(c: Config) -> RoutedExperts:
    return routed(c, "num_experts", "moe_intermediate_size")


def bailing_moe(c: Config, *, normalised: bool) -> Decoder:
    e, width = choice(c), c.num("hidden_size")
    shared = c.num("num_shared_experts", default=0) * e.inner

    def feed(sparse: bool) -> Submodule:
        if sparse:
            return moe("mlp.", width, e, shared=shared or None)
        return gated("mlp", width, c.num("intermediate_size"))

    def layer(sparse: bool) -> Submodules:
        return (*attention(c, normalised=normalised), feed(sparse), normed(width, *BEFORE))

    found = by_kind(after_first(c), layer)
    return tree(c, found, DecoderNames(embed="word_embeddings"), kinds=layer_kinds)


def balanced(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from partly_rotary(1.0)(c, prefix)
    yield from correction(prefix, after_first(c), "mlp.gate.expert_bias", choice(c).count)


BAILING_MOE = Family(
    tree=partial(bailing_moe, normalised=False),
    cls="BailingMoeForCausalLM",
    heads=DECODER_HEADS,
    buffers=partly_rotary(1.0),
)
BAILING_MOE_V2 = Family(
    tree=partial(bailing_moe, normalised=True),
    cls="BailingMoeV2ForCausalLM",
    heads=DECODER_HEADS,
    buffers=balanced,
)

TYPES = {
    "bailing_moe": ModelType(
        BAILING_MOE,
        computes=("float_routes",),
        gguf="bailingmoe",
        sglang=SglangFacts(every_stage="both"),
        mlx=MlxFacts(has_class=True),
    ),
    "bailing_moe_v2": ModelType(
        BAILING_MOE_V2, gguf="bailingmoe2", sglang=SglangFacts(every_stage="head")
    ),
}
