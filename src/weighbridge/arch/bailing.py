"""Ling and Ring, first and second generation (BailingMoE).

    query_key_value (N + 2K)H x D and dense D x NH; experts as DeepSeek names them, with one shared
    MLP as wide as all shared experts. The second generation has norms on queries and keys, and a
    correction bias in its router.

Source: modeling_bailing_moe.py of inclusionAI/Ling-lite, modeling_bailing_moe_v2.py of
inclusionAI/Ling-mini-2.0 (remote code).
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.arch.blueprint import Buffer, Family, Param, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Names, stack, two_norms
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import head_dim, partly_rotary
from weighbridge.arch.sparse import Routed, after_first, block, correction, routed
from weighbridge.arch.written import kv_heads


def attention(c: Config, at: str, *, normed: bool) -> Iterator[Param]:
    width, size, heads = c.num("hidden_size"), head_dim(c), c.num("num_attention_heads")
    inner = (heads + 2 * kv_heads(c)) * size
    yield from linear(f"{at}query_key_value", inner, width, bias=c.flag("use_qkv_bias"))
    yield from linear(f"{at}dense", width, heads * size, bias=c.flag("use_bias"))
    if normed and c.flag("use_qk_norm", default=True):
        yield from norm(f"{at}query_layernorm", size)
        yield from norm(f"{at}key_layernorm", size)


def choice(c: Config) -> Routed:
    return routed(c, "num_experts", "moe_intermediate_size")


def bailing_moe(c: Config, at: str, *, normed: bool) -> Iterator[Param]:
    sparse, e = after_first(c), choice(c)
    shared = c.num("num_shared_experts", default=0) * e.inner

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        width = c.num("hidden_size")
        yield from attention(c, f"{at}attention.", normed=normed)
        if sparse[i]:
            yield from block(f"{at}mlp.", width, e, shared=shared or None)
        else:
            yield from gated_mlp(f"{at}mlp", width, c.num("intermediate_size"))
        yield from two_norms(c, at)

    yield from stack(c, at, layer, Names(embed="word_embeddings"))


def balanced(c: Config, at: str) -> Iterator[Buffer]:
    yield from partly_rotary(1.0)(c, at)
    yield from correction(at, after_first(c), "mlp.gate.expert_bias", choice(c).count)


BAILING_MOE = Family(
    body=partial(bailing_moe, normed=False),
    cls="BailingMoeForCausalLM",
    heads=DECODER_HEADS,
    buffers=partly_rotary(1.0),
)
BAILING_MOE_V2 = Family(
    body=partial(bailing_moe, normed=True),
    cls="BailingMoeV2ForCausalLM",
    heads=DECODER_HEADS,
    buffers=balanced,
)
