"""Llama's Chinese relatives whose code is remote: Baichuan, InternLM, Orion, openPangu, Qwen 1.

    Baichuan    W_pack 3 D x D for queries, keys and values
    InternLM    biases on all of attention, by `bias`; openPangu Embedded likewise
    InternLM2   wqkv (N + 2 K) H x D, wo; w1, w3 F x D, w2 D x F, and names of its own
    Orion       LayerNorms
    Qwen 1      GPT-2's names: c_attn 3 N H x D with bias, c_proj; w1, w2 (F / 2) x D, mlp.c_proj
                D x F / 2; two RMSNorms. `intermediate_size` counts both halves of the gated MLP.
                Early configs use Megatron's names.

Source: the modeling_*.py of baichuan-inc/Baichuan2-13B-Chat, internlm/internlm-7b,
internlm/internlm2-7b, OrionStarAI/Orion-14B-Base, openPangu-Embedded-7B and Qwen/Qwen-7B (remote
code), as their weight maps show them.
"""

from collections.abc import Iterator

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Buffer, Family, Param, embedding, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    DecoderNames,
    Submodules,
    alike,
    fused_gqa,
    gated,
    named_gated,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.llama import LlamaSwitches, decoder, grouped
from weighbridge.models.arch.heads import DECODER_HEADS, DecoderFamily, labels, lm_called
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.parts import Attention, Dense
from weighbridge.models.arch.windows import layer_kinds


def packed_layer(c: Config) -> Submodules:
    """Return a layer with W_pack, three times the hidden size whatever heads the config states."""
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
    bias = c.enabled("bias")
    return decoder(c, LlamaSwitches(qkv_bias=bias, o_bias=bias))


def orion(c: Config) -> Decoder:
    return decoder(c, LlamaSwitches(norm_bias=True))


def internlm2_layer(c: Config) -> Submodules:
    width, bias = c.num("hidden_size"), c.enabled("bias")
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


BAICHUAN = DecoderFamily(
    tree=baichuan,
    cls="BaichuanForCausalLM",
)
INTERNLM = DecoderFamily(
    tree=internlm,
    cls="InternLMForCausalLM",
)
PANGU = DecoderFamily(
    tree=internlm,
    cls="PanguEmbeddedForCausalLM",
)
ORION = DecoderFamily(
    tree=orion,
    cls="OrionForCausalLM",
)
INTERNLM2 = Family(
    tree=internlm2,
    cls="InternLM2ForCausalLM",
    heads={
        **DECODER_HEADS,
        "ForCausalLM": lm_called("output", "model.tok_embeddings"),
        "ForRewardModel": reward,
    },
)


# Qwen 1


def width_of(c: Config) -> int:
    return c.num("hidden_size", "n_embd")


def vocabulary(c: Config) -> int:
    return c.num("vocab_size", "padded_vocab_size")


def layer(c: Config) -> Submodules:
    width, bias = width_of(c), not c.enabled("no_bias")
    heads = c.num("num_attention_heads", "n_head")
    inner = c.num("intermediate_size", "ffn_hidden_size") // 2
    size = c.num("kv_channels", default=width // max(1, heads))
    a = Attention(heads=heads, kv_heads=heads, key_dim=size, value_dim=size)
    return (
        normed(width, "ln_1"),
        fused_gqa("attn.", width, a, bias=(True, bias), names=("c_attn", "c_proj")),
        normed(width, "ln_2"),
        submodule(  # what w2 gives is activated, w1 comes first in the class
            linear("mlp.w1", inner, width, bias=bias, role="up"),
            linear("mlp.w2", inner, width, bias=bias, role="gate"),
            linear("mlp.c_proj", width, inner, bias=bias, role="down"),
            feed=Dense(width=inner),
        ),
    )


def qwen(c: Config) -> Decoder:
    width = width_of(c)
    return Decoder(
        width=width,
        first=tuple(embedding("wte", vocabulary(c), width)),
        layers=alike(c, lambda: layer(c), "num_hidden_layers", "n_layer"),
        last=tuple(norm("ln_f", width)),
        path="h.",
        kinds=layer_kinds,
    )


def lm(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}lm_head", vocabulary(c), width_of(c))


def score(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}score", labels(c), width_of(c))


def no_images(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield no buffers. Raises UnsupportedError for Qwen-VL, whose image tower is not known."""
    if c.has("visual"):
        raise UnsupportedError(sentence("qwen_vl_tower"), where=c.where)
    return iter(())


QWEN = Family(
    tree=qwen,
    buffers=no_images,
    base="transformer",
    cls="QWenLMHeadModel",
    heads={"LMHeadModel": lm, "ForCausalLM": lm, "ForSequenceClassification": score},
    blocks=("h.*",),
)

TYPES = {
    "PanguEmbedded": ModelType(PANGU),
    "baichuan": ModelType(BAICHUAN),
    "internlm": ModelType(INTERNLM, gguf="llama"),
    "internlm2": ModelType(INTERNLM2),
    "orion": ModelType(ORION),
    "qwen": ModelType(QWEN),
}
