"""GLM-4, and ChatGLM that came before it.

GLM-4 (9B, 32B): Llama with gate and up fused and half of each head rotated.

GLM-4-0414 has two more norms, after attention and after the MLP.
Source: transformers 5.23 models/{glm,glm4}/modeling_*.py.

ChatGLM (remote code): the first 6B, and the design of ChatGLM2, ChatGLM3, CodeGeeX2, GLM-4-9B.

    first   query_key_value 3 D x D, dense, two-layer MLP, biases and LayerNorms; lm_head is tied
    later   query_key_value (N + 2 K) H x D, h_to_4h 2 F x D, RMSNorms, output_layer V x D

Configs name the class `ChatGLMModel` and their code hands out the one with the head, so that is
what the name means here: checkpoints hold everything below "transformer.".
Source: THUDM/chatglm{,2,3}-6b modeling_chatglm.py (remote code), as the weight maps show it.
"""

from collections.abc import Callable, Iterator

from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    embedding,
    layer_norm,
    linear,
    norm,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodules,
    alike,
    fused_gated,
    fused_gqa,
    normed,
    packed,
    submodule,
    ungated,
)
from weighbridge.models.arch.families.llama import LlamaSwitches, decoder
from weighbridge.models.arch.heads import DecoderFamily, labels
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.parts import Attention, Dense
from weighbridge.models.arch.rotary import partly_rotary
from weighbridge.models.arch.windows import layer_kinds

FOUR = (*BEFORE, "post_self_attn_layernorm", "post_mlp_layernorm")


def glm(norms: tuple[str, ...]) -> Callable[[Config], Decoder]:
    def read(c: Config) -> Decoder:
        one = LlamaSwitches(qkv_bias=c.flag("attention_bias"), mlp=fused_gated, norms=norms)
        return decoder(c, one)

    return read


GLM = DecoderFamily(tree=glm(BEFORE), cls="GlmForCausalLM", buffers=partly_rotary(0.5))
GLM4 = DecoderFamily(tree=glm(FOUR), cls="Glm4ForCausalLM", buffers=partly_rotary(0.5))


MEGATRON = ("dense_h_to_4h", "dense_4h_to_h")
# Halves of a head's numbers are rotated by one frequency each, over half the head (2D positions).
ROTATED = 4


def first(c: Config) -> bool:
    """Return whether it is ChatGLM-6B of March 2023; later ones have `ffn_hidden_size` instead."""
    return c.has("inner_hidden_size")


def first_layer(c: Config) -> Submodules:
    width = c.num("hidden_size")
    return (
        normed(width, "input_layernorm", bias=True),
        packed("attention.", width, c.num("num_attention_heads"), bias=True),
        normed(width, "post_attention_layernorm", bias=True),
        ungated("mlp", width, c.num("inner_hidden_size"), names=MEGATRON, bias=True),
    )


def first_tree(c: Config) -> Decoder:
    width = c.num("hidden_size")
    return Decoder(
        width=width,
        first=tuple(embedding("word_embeddings", c.num("vocab_size"), width)),
        layers=alike(c, lambda: first_layer(c), "num_layers"),
        last=tuple(layer_norm("final_layernorm", width)),
        kinds=layer_kinds,
    )


def channels(c: Config) -> int:
    default = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    return c.num("kv_channels", default=default)


def later_layer(c: Config) -> Submodules:
    width, inner, heads = (
        c.num("hidden_size"),
        c.num("ffn_hidden_size"),
        c.num("num_attention_heads"),
    )
    size = channels(c)
    groups = c.num("multi_query_group_num") if c.flag("multi_query_attention") else heads
    a = Attention(heads=heads, kv_heads=groups, key_dim=size, value_dim=size)
    bias, centred = c.flag("add_bias_linear"), not c.enabled("rmsnorm")
    return (
        normed(width, "input_layernorm", bias=centred),
        fused_gqa("self_attention.", width, a, bias=(bias or c.flag("add_qkv_bias"), bias)),
        normed(width, "post_attention_layernorm", bias=centred),
        submodule(
            linear("mlp.dense_h_to_4h", 2 * inner, width, bias=bias),
            linear("mlp.dense_4h_to_h", width, inner, bias=bias),
            feed=Dense(width=inner, fused=True),
        ),
    )


def later_tree(c: Config) -> Decoder:
    width, rows = c.num("hidden_size"), c.num("padded_vocab_size", "vocab_size")
    centred = not c.enabled("rmsnorm")
    last = list(norm("encoder.final_layernorm", width, bias=centred))
    return Decoder(
        width=width,
        first=tuple(embedding("embedding.word_embeddings", rows, width)),
        layers=alike(c, lambda: later_layer(c), "num_layers"),
        last=(
            *(last if c.enabled("post_layer_norm") else ()),
            *linear("output_layer", rows, width),
        ),
        path="encoder.layers.",
        kinds=layer_kinds,
    )


def chatglm(c: Config) -> Decoder:
    return first_tree(c) if first(c) else later_tree(c)


def lm(c: Config, prefix: str) -> Iterator[Param]:
    if first(c):
        yield from linear(f"{prefix}lm_head", c.num("vocab_size"), c.num("hidden_size"))


def classify(c: Config, prefix: str) -> Iterator[Param]:
    yield from affine(f"{prefix}classifier_head", labels(c), c.num("hidden_size"))


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies, which the checkpoint stores in the model's dtype."""
    shape = (channels(c) // ROTATED,)
    if not first(c):
        yield Buffer(f"{prefix}rotary_pos_emb.inv_freq", shape, "", persistent=True)
        return
    for i in range(c.layers("num_layers")):
        path = f"{prefix}layers.{i}.attention.rotary_emb.inv_freq"
        yield Buffer(path, shape, "", persistent=True)


CHATGLM = Family(
    tree=chatglm,
    base="transformer",
    cls="ChatGLMForConditionalGeneration",
    heads={
        "ForConditionalGeneration": lm,
        "ChatGLMModel": lm,
        "ForSequenceClassification": classify,
    },
    buffers=buffers,
    blocks=lambda c: ("layers.*",) if first(c) else ("encoder.layers.*",),
    ties=True,
)


TYPES = {
    "glm": ModelType(GLM),
    "glm4": ModelType(GLM4),
    "chatglm": ModelType(CHATGLM, windows=windows.nowhere),
}
