"""Llama's relatives with something more inside: Apertus, BitNet, DiffLlama, nanochat.

    Apertus    no gate; xIELU with two learnt numbers; queries and keys normalised
    BitNet     a norm before o_proj and before down_proj
    DiffLlama  four vectors of head size that weigh two attentions against each other
    nanochat   fc1, fc2, and norms without weights

Source: transformers 5.23 models/{apertus,bitnet,diffllama,nanochat}/modeling_*.py.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.arch.blueprint import Buffer, Family, Param, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import SPANS
from weighbridge.arch.rotary import head_dim, rotary
from weighbridge.arch.written import Switches, attention, layer, stack, ungated_mlp


def biased(c: Config) -> Switches:
    bias = c.flag("attention_bias")
    return Switches(qkv_bias=bias, o_bias=bias)


def xielu(c: Config) -> bool:
    return c.word("hidden_act") == "xielu"


def apertus_layer(c: Config, at: str) -> Iterator[Param]:
    bias = c.flag("attention_bias")
    names = ("attention_layernorm", "feedforward_layernorm")
    switches = Switches(qkv_bias=bias, o_bias=bias, qk_norm=True, norms=names, mlp=ungated_mlp)
    yield from layer(c, at, switches)
    if xielu(c):
        yield Param(f"{at}mlp.act_fn.alpha_p", (1,), "other")
        yield Param(f"{at}mlp.act_fn.alpha_n", (1,), "other")


def apertus_buffers(c: Config, at: str) -> Iterator[Buffer]:
    if xielu(c):
        for i in range(c.layers("num_hidden_layers")):
            yield Buffer(f"{at}layers.{i}.mlp.act_fn.beta", (), "", persistent=True)
            yield Buffer(f"{at}layers.{i}.mlp.act_fn.eps", (), "", persistent=True)
    yield from rotary(c, at)


def bitnet_layer(c: Config, at: str) -> Iterator[Param]:
    yield from layer(c, at, biased(c))
    yield from norm(f"{at}self_attn.attn_sub_norm", c.num("hidden_size"))
    yield from norm(f"{at}mlp.ffn_sub_norm", c.num("intermediate_size"))


def diff_layer(c: Config, at: str) -> Iterator[Param]:
    yield from layer(c, at, biased(c))
    for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
        yield Param(f"{at}self_attn.{name}", (head_dim(c),), "other")


def nanochat_layer(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from attention(c, f"{at}self_attn.", biased(c))
    yield from linear(f"{at}mlp.fc1", inner, width)
    yield from linear(f"{at}mlp.fc2", width, inner)


APERTUS = Family(
    body=partial(stack, one=apertus_layer),
    cls="ApertusForCausalLM",
    heads=DECODER_HEADS,
    buffers=apertus_buffers,
)
BITNET = Family(
    body=partial(stack, one=bitnet_layer),
    cls="BitNetForCausalLM",
    heads=DECODER_HEADS,
    buffers=rotary,
)
DIFFLLAMA = Family(
    body=partial(stack, one=diff_layer),
    cls="DiffLlamaForCausalLM",
    heads=DECODER_HEADS,
    bases=SPANS,
    buffers=rotary,
)
NANOCHAT = Family(
    body=partial(stack, one=nanochat_layer, last=""),
    cls="NanoChatForCausalLM",
    heads=DECODER_HEADS,
    buffers=rotary,
)
