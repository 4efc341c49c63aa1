"""OLMo 1 to 3: norms without weights; then norms after each block, and on all queries at once.

    OLMo 1      no norm has a parameter
    OLMo 2, 3   two norms after the blocks; q_norm over N H numbers, k_norm over K H

Source: transformers 5.23 models/{olmo,olmo2,olmo3}/modeling_*.py.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.arch.blueprint import Buffer, Family, Param, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import AFTER
from weighbridge.arch.rotary import head_dim, layered_rotary, rotary
from weighbridge.arch.written import Switches, kv_heads, layer, stack


def bare_layer(c: Config, at: str) -> Iterator[Param]:
    bias = c.flag("attention_bias")
    yield from layer(c, at, Switches(qkv_bias=bias, o_bias=bias, norms=()))


def olmo2_layer(c: Config, at: str) -> Iterator[Param]:
    bias, size = c.flag("attention_bias"), head_dim(c)
    yield from layer(c, at, Switches(qkv_bias=bias, o_bias=bias, norms=AFTER))
    yield from norm(f"{at}self_attn.q_norm", c.num("num_attention_heads") * size)
    yield from norm(f"{at}self_attn.k_norm", kv_heads(c) * size)


def olmo3_buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield from layered_rotary(c, at, period=4)


OLMO = Family(
    body=partial(stack, one=bare_layer, last=""),
    cls="OlmoForCausalLM",
    heads=DECODER_HEADS,
    buffers=rotary,
)
OLMO2 = Family(
    body=partial(stack, one=olmo2_layer),
    cls="Olmo2ForCausalLM",
    heads=DECODER_HEADS,
    buffers=rotary,
)
OLMO3 = Family(
    body=partial(stack, one=olmo2_layer),
    cls="Olmo3ForCausalLM",
    heads=DECODER_HEADS,
    buffers=olmo3_buffers,
)
