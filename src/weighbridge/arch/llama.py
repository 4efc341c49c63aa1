"""Llama 1 to 3 and the decoders that differ from it only in a few switches.

    embed_tokens V x D, L layers of (q, k, v, o; gate, up, down; two norms), norm, lm_head V x D

Source: transformers 5.23 models/{llama,mistral,qwen2,qwen3}/modeling_*.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from weighbridge.arch.blueprint import Buffer, Family, Param, embedding, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """What distinguishes one relative from the next."""

    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False  # one norm of head size on queries, one on keys


def head_dim(c: Config) -> int:
    """The explicit size of a head; absent or null, hidden size over heads."""
    return c.num("head_dim", default=c.num("hidden_size") // max(1, c.num("num_attention_heads")))


def attention(c: Config, at: str, s: Switches) -> Iterator[Param]:
    width, size = c.num("hidden_size"), head_dim(c)
    heads = c.num("num_attention_heads")
    kv_heads = c.num("num_key_value_heads", default=heads)
    yield from linear(f"{at}q_proj", heads * size, width, bias=s.qkv_bias)
    yield from linear(f"{at}k_proj", kv_heads * size, width, bias=s.qkv_bias)
    yield from linear(f"{at}v_proj", kv_heads * size, width, bias=s.qkv_bias)
    yield from linear(f"{at}o_proj", width, heads * size, bias=s.o_bias)
    if s.qk_norm:
        yield from norm(f"{at}q_norm", size)
        yield from norm(f"{at}k_norm", size)


def layer(c: Config, at: str, s: Switches) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from attention(c, f"{at}self_attn.", s)
    yield from gated_mlp(f"{at}mlp", width, c.num("intermediate_size"), bias=s.mlp_bias)
    yield from norm(f"{at}input_layernorm", width)
    yield from norm(f"{at}post_attention_layernorm", width)


def decoder(c: Config, at: str, s: Switches) -> Iterator[Param]:
    yield from embedding(f"{at}embed_tokens", c.num("vocab_size"), c.num("hidden_size"))
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{at}layers.{i}.", s)
    yield from norm(f"{at}norm", c.num("hidden_size"))


def llama(c: Config, at: str) -> Iterator[Param]:
    bias = c.flag("attention_bias")
    yield from decoder(c, at, Switches(qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias")))


def mistral(c: Config, at: str) -> Iterator[Param]:
    yield from decoder(c, at, Switches())


def qwen2(c: Config, at: str) -> Iterator[Param]:
    yield from decoder(c, at, Switches(qkv_bias=True))


def qwen3(c: Config, at: str) -> Iterator[Param]:
    bias = c.flag("attention_bias")
    yield from decoder(c, at, Switches(qkv_bias=bias, o_bias=bias, qk_norm=True))


def rotary(c: Config, at: str) -> Iterator[Buffer]:
    """inv_freq and its copy before scaling, float32 whatever the model's dtype."""
    half = head_dim(c) // 2
    yield Buffer(f"{at}rotary_emb.inv_freq", (half,), "float32")
    yield Buffer(f"{at}rotary_emb.original_inv_freq", (half,), "float32")


LLAMA = Family(body=llama, cls="LlamaForCausalLM", heads=DECODER_HEADS, buffers=rotary)
MISTRAL = Family(body=mistral, cls="MistralForCausalLM", heads=DECODER_HEADS, buffers=rotary)
QWEN2 = Family(body=qwen2, cls="Qwen2ForCausalLM", heads=DECODER_HEADS, buffers=rotary)
QWEN3 = Family(body=qwen3, cls="Qwen3ForCausalLM", heads=DECODER_HEADS, buffers=rotary)
