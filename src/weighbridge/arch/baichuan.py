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
from functools import partial

from weighbridge.arch.blueprint import Family, Param, embedding, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS, lm_called
from weighbridge.arch.llama import BEFORE
from weighbridge.arch.rotary import head_dim
from weighbridge.arch.written import Switches, body, kv_heads, norms, stack


def packed_layer(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    c.skip("num_attention_heads")
    yield from linear(f"{at}self_attn.W_pack", 3 * width, width)
    yield from linear(f"{at}self_attn.o_proj", width, width)
    yield from gated_mlp(f"{at}mlp", width, c.num("intermediate_size"))
    yield from norms(c, at, BEFORE)


def internlm(c: Config) -> Switches:
    bias = c.flag("bias", default=True)
    return Switches(qkv_bias=bias, o_bias=bias)


def orion(c: Config) -> Switches:
    return Switches(norm_bias=True)


def internlm2_layer(c: Config, at: str) -> Iterator[Param]:
    width, inner, size = c.num("hidden_size"), c.num("intermediate_size"), head_dim(c)
    heads, bias = c.num("num_attention_heads"), c.flag("bias", default=True)
    rows = (heads + 2 * kv_heads(c)) * size
    yield from linear(f"{at}attention.wqkv", rows, width, bias=bias)
    yield from linear(f"{at}attention.wo", width, heads * size, bias=bias)
    yield from linear(f"{at}feed_forward.w1", inner, width)
    yield from linear(f"{at}feed_forward.w3", inner, width)
    yield from linear(f"{at}feed_forward.w2", width, inner)
    yield from norms(c, at, ("attention_norm", "ffn_norm"))


def internlm2(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{at}tok_embeddings", c.num("vocab_size"), width)
    for i in range(c.layers("num_hidden_layers")):
        yield from internlm2_layer(c, f"{at}layers.{i}.")
    yield from norm(f"{at}norm", width)


def reward(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}v_head", 1, c.num("hidden_size"))


BAICHUAN = Family(
    body=partial(stack, one=packed_layer), cls="BaichuanForCausalLM", heads=DECODER_HEADS
)
INTERNLM = Family(body=body(internlm), cls="InternLMForCausalLM", heads=DECODER_HEADS)
PANGU = Family(body=body(internlm), cls="PanguEmbeddedForCausalLM", heads=DECODER_HEADS)
ORION = Family(body=body(orion), cls="OrionForCausalLM", heads=DECODER_HEADS)
INTERNLM2 = Family(
    body=internlm2,
    cls="InternLM2ForCausalLM",
    heads={
        **DECODER_HEADS,
        "ForCausalLM": lm_called("output", "model.tok_embeddings"),
        "ForRewardModel": reward,
    },
)
