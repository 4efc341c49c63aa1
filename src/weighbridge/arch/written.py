"""Llama's modules as bare parameters, for the families that have no tree."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from weighbridge.arch.blueprint import Param, ParamRule, embedding, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.rotary import head_dim

BEFORE = ("input_layernorm", "post_attention_layernorm")  # before attention, before the MLP
AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")  # after each: OLMo 2, EXAONE 4


class Switches(NamedTuple):
    """What distinguishes one relative from the next."""

    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False  # one norm of head size on queries, one on keys
    qk_names: tuple[str, str] = ("q_norm", "k_norm")
    norms: tuple[str, ...] = BEFORE
    norm_bias: bool = False  # LayerNorm in place of RMSNorm
    mlp: Callable[..., Iterator[Param]] = gated_mlp  # (path, width, inner, *, bias)


def ungated_mlp(path: str, width: int, inner: int, *, bias: bool = False) -> Iterator[Param]:
    """up_proj, down_proj: squared ReLU and its relatives."""
    yield from linear(f"{path}.up_proj", inner, width, bias=bias)
    yield from linear(f"{path}.down_proj", width, inner, bias=bias)


def fused_mlp(path: str, width: int, inner: int, *, bias: bool = False) -> Iterator[Param]:
    """gate and up in one Linear: Phi-3, GLM-4."""
    yield from linear(f"{path}.gate_up_proj", 2 * inner, width, bias=bias)
    yield from linear(f"{path}.down_proj", width, inner, bias=bias)


def gpt_mlp(path: str, width: int, inner: int, *, bias: bool = False) -> Iterator[Param]:
    """c_fc, c_proj, as plain Linears."""
    yield from linear(f"{path}.c_fc", inner, width, bias=bias)
    yield from linear(f"{path}.c_proj", width, inner, bias=bias)


def kv_heads(c: Config) -> int:
    return c.num("num_key_value_heads", default=c.num("num_attention_heads"))


def attention(c: Config, at: str, s: Switches) -> Iterator[Param]:
    width, size = c.num("hidden_size"), head_dim(c)
    heads = c.num("num_attention_heads")
    yield from linear(f"{at}q_proj", heads * size, width, bias=s.qkv_bias)
    yield from linear(f"{at}k_proj", kv_heads(c) * size, width, bias=s.qkv_bias)
    yield from linear(f"{at}v_proj", kv_heads(c) * size, width, bias=s.qkv_bias)
    yield from linear(f"{at}o_proj", width, heads * size, bias=s.o_bias)
    if s.qk_norm:
        for name in s.qk_names:
            yield from norm(f"{at}{name}", size)


def norms(c: Config, at: str, names: tuple[str, ...], *, bias: bool = False) -> Iterator[Param]:
    """Norms over the hidden size."""
    for name in names:
        yield from norm(f"{at}{name}", c.num("hidden_size"), bias=bias)


def layer(c: Config, at: str, s: Switches) -> Iterator[Param]:
    yield from attention(c, f"{at}self_attn.", s)
    yield from s.mlp(f"{at}mlp", c.num("hidden_size"), c.num("intermediate_size"), bias=s.mlp_bias)
    yield from norms(c, at, s.norms, bias=s.norm_bias)


def stack(
    c: Config, at: str, one: ParamRule, *, last: str = "norm", norm_bias: bool = False
) -> Iterator[Param]:
    """embed_tokens, as many of `one` as the config asks for, and the last norm."""
    yield from embedding(f"{at}embed_tokens", c.num("vocab_size"), c.num("hidden_size"))
    for i in range(c.layers("num_hidden_layers")):
        yield from one(c, f"{at}layers.{i}.")
    if last:
        yield from norm(f"{at}{last}", c.num("hidden_size"), bias=norm_bias)


def decoder(c: Config, at: str, s: Switches) -> Iterator[Param]:
    yield from stack(c, at, partial(layer, s=s), norm_bias=s.norm_bias)


def body(switches: Callable[[Config], Switches]) -> ParamRule:
    """The body of a relative whose switches `switches` reads off the config."""
    return lambda c, at: decoder(c, at, switches(c))
