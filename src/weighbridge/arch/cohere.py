"""Command R and Aya: Llama with one norm a layer, attention and MLP side by side after it.

Command R+ normalises queries and keys, each head with weights of its own.
Source: transformers 5.23 models/{cohere,cohere2}/modeling_*.py.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.arch.blueprint import Family, Param
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import head_dim, rotary
from weighbridge.arch.written import Switches, kv_heads, layer, stack


def one(c: Config, at: str) -> Iterator[Param]:
    bias = c.flag("attention_bias")
    yield from layer(c, at, Switches(qkv_bias=bias, o_bias=bias, norms=("input_layernorm",)))
    if c.flag("use_qk_norm"):
        shapes = {"q_norm": c.num("num_attention_heads"), "k_norm": kv_heads(c)}
        for name, heads in shapes.items():
            yield Param(f"{at}self_attn.{name}.weight", (heads, head_dim(c)), "norm")


COHERE = Family(
    body=partial(stack, one=one), cls="CohereForCausalLM", heads=DECODER_HEADS, buffers=rotary
)
COHERE2 = Family(
    body=partial(stack, one=one), cls="Cohere2ForCausalLM", heads=DECODER_HEADS, buffers=rotary
)
