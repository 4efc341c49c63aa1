"""Llama's Chinese relatives whose code is remote: Baichuan, InternLM 1 and 2, Orion, openPangu.

    Baichuan    W_pack 3 D x D for queries, keys and values
    InternLM    biases on all of attention, by `bias`; openPangu Embedded likewise
    InternLM2   wqkv (N + 2 K) H x D, wo; w1, w3 F x D, w2 D x F, and names of its own
    Orion       LayerNorms

Source: the modeling_*.py of baichuan-inc/Baichuan2-13B-Chat, internlm/internlm-7b,
internlm/internlm2-7b, OrionStarAI/Orion-14B-Base and openPangu-Embedded-7B (remote code), as
their weight maps show them.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, linear
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import BEFORE, DecoderNames, alike, tree
from weighbridge.arch.families.llama import LlamaSwitches, decoder, grouped
from weighbridge.arch.heads import DECODER_HEADS, lm_called
from weighbridge.arch.model_types import MlxFacts, ModelType, VllmFacts
from weighbridge.arch.modules import (
    Decoder,
    Submodules,
    fused_gqa,
    gated,
    named_gated,
    normed,
    submodule,
)
from weighbridge.arch.windows import layer_kinds


def packed_layer(c: Config) -> Submodules:
    """W_pack is as wide as three times the model, whatever the config says of heads."""
    width = c.num("hidden_size")
    return (
        submodule(
            linear("self_attn.W_pack", 3 * width, width),
            linear("self_attn.o_proj", width, width),
            mixer=grouped(c),
        ),
        gated("mlp", width, c.num("intermediate_size")),
        normed(width, *BEFORE),
    )


def baichuan(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: packed_layer(c)), kinds=layer_kinds)


def internlm(c: Config) -> Decoder:
    bias = c.flag("bias", default=True)
    return decoder(c, LlamaSwitches(qkv_bias=bias, o_bias=bias))


def orion(c: Config) -> Decoder:
    return decoder(c, LlamaSwitches(norm_bias=True))


def internlm2_layer(c: Config) -> Submodules:
    width, bias = c.num("hidden_size"), c.flag("bias", default=True)
    both = (bias, bias)
    return (
        fused_gqa("attention.", width, grouped(c), bias=both, names=("wqkv", "wo")),
        named_gated("feed_forward.", width, c.num("intermediate_size"), ("w1", "w3", "w2")),
        normed(width, "attention_norm", "ffn_norm"),
    )


def internlm2(c: Config) -> Decoder:
    layers = alike(c, lambda: internlm2_layer(c))
    return tree(c, layers, DecoderNames(embed="tok_embeddings"), kinds=layer_kinds)


def reward(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}v_head", 1, c.num("hidden_size"))


BAICHUAN = Family(tree=baichuan, cls="BaichuanForCausalLM", heads=DECODER_HEADS)
INTERNLM = Family(tree=internlm, cls="InternLMForCausalLM", heads=DECODER_HEADS)
PANGU = Family(tree=internlm, cls="PanguEmbeddedForCausalLM", heads=DECODER_HEADS)
ORION = Family(tree=orion, cls="OrionForCausalLM", heads=DECODER_HEADS)
INTERNLM2 = Family(
    tree=internlm2,
    cls="InternLM2ForCausalLM",
    heads={
        **DECODER_HEADS,
        "ForCausalLM": lm_called("output", "model.tok_embeddings"),
        "ForRewardModel": reward,
    },
)

TYPES = {
    "PanguEmbedded": ModelType(PANGU),
    "baichuan": ModelType(BAICHUAN),
    "internlm": ModelType(INTERNLM, gguf="llama"),
    "internlm2": ModelType(
        INTERNLM2, vllm=VllmFacts(every_stage="both"), mlx=MlxFacts(has_class=True)
    ),
    "orion": ModelType(ORION, vllm=VllmFacts(every_stage="both")),
}
