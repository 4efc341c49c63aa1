"""Llama 1 to 3 and the decoders that differ from it only in a few switches.

    embed_tokens V x D, L layers of (q, k, v, o; gate, up, down; two norms), norm, lm_head V x D

Source: transformers 5.23 models/{llama,mistral,ministral,ministral3,qwen2,qwen3,smollm3,ernie4_5,
granite,seed_oss,arcee,helium,nemotron,starcoder2,hunyuan_v1_dense,exaone4,jais2,...}/modeling_*.py.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from weighbridge.arch.blueprint import (
    Body,
    Buffer,
    Family,
    Param,
    embedding,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import frequencies, partly_rotary
from weighbridge.arch.rotary import head_dim as head_dim
from weighbridge.arch.rotary import rotary as rotary

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
    c: Config, at: str, one: Body, *, last: str = "norm", norm_bias: bool = False
) -> Iterator[Param]:
    """embed_tokens, as many of `one` as the config asks for, and the last norm."""
    yield from embedding(f"{at}embed_tokens", c.num("vocab_size"), c.num("hidden_size"))
    for i in range(c.layers("num_hidden_layers")):
        yield from one(c, f"{at}layers.{i}.")
    if last:
        yield from norm(f"{at}{last}", c.num("hidden_size"), bias=norm_bias)


def decoder(c: Config, at: str, s: Switches) -> Iterator[Param]:
    yield from stack(c, at, partial(layer, s=s), norm_bias=s.norm_bias)


def body(switches: Callable[[Config], Switches]) -> Body:
    """The body of a relative whose switches `switches` reads off the config."""
    return lambda c, at: decoder(c, at, switches(c))


def llama(c: Config) -> Switches:
    bias = c.flag("attention_bias")
    return Switches(qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"))


def mistral(c: Config) -> Switches:
    return Switches()


def cwm(c: Config) -> Switches:
    return Switches(mlp_bias=c.flag("mlp_bias"))


def qwen2(c: Config) -> Switches:
    return Switches(qkv_bias=True)


def qwen3(c: Config) -> Switches:
    bias = c.flag("attention_bias")
    return Switches(qkv_bias=bias, o_bias=bias, qk_norm=True)


def ernie(c: Config) -> Switches:
    bias = c.flag("use_bias")
    return Switches(qkv_bias=bias, o_bias=bias, mlp_bias=bias)


def seed(c: Config) -> Switches:
    return Switches(
        qkv_bias=c.flag("attention_bias"),
        o_bias=c.flag("attention_out_bias"),
        mlp_bias=c.flag("mlp_bias"),
    )


def arcee(c: Config) -> Switches:
    bias = c.flag("attention_bias")
    return Switches(qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"), mlp=ungated_mlp)


def helium(c: Config) -> Switches:
    return Switches(qkv_bias=c.flag("attention_bias"), mlp_bias=c.flag("mlp_bias"))


def nemotron(c: Config) -> Switches:
    """LayerNorm1P adds one to its weight; it holds what LayerNorm holds. Jais 2 likewise."""
    bias = c.flag("attention_bias")
    return Switches(
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=c.flag("mlp_bias"),
        norm_bias=True,
        mlp=ungated_mlp,
    )


def starcoder2(c: Config) -> Switches:
    bias = c.flag("use_bias", default=True)
    return Switches(qkv_bias=bias, o_bias=bias, mlp_bias=bias, norm_bias=True, mlp=gpt_mlp)


def hunyuan(c: Config) -> Switches:
    bias = c.flag("attention_bias")
    names = ("query_layernorm", "key_layernorm")
    return Switches(qkv_bias=bias, o_bias=bias, qk_norm=True, qk_names=names)


def exaone4(c: Config) -> Switches:
    return Switches(qk_norm=True, norms=AFTER)


def clova(c: Config) -> Switches:
    bias, extra = c.flag("attention_bias"), ("post_norm1", "post_norm2")
    return Switches(
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=c.flag("mlp_bias"),
        norms=BEFORE + (extra if c.flag("use_post_norm") else ()),
    )


def sink_layer(c: Config, at: str) -> Iterator[Param]:
    """Llama's, with one learnt logit a head that absorbs attention."""
    yield from layer(c, at, llama(c))
    yield Param(f"{at}self_attn.sinks", (c.num("num_attention_heads"),), "other")


def theta_rotary(c: Config, at: str) -> Iterator[Buffer]:
    """One for the model, unused, and one for every base that a layer asks for; 0 is none."""
    yield from rotary(c, at)
    bases = (
        {base for base in c.many("layer_rope_theta") if base} if c.has("layer_rope_theta") else {1}
    )
    for i in range(len(bases)):
        yield from frequencies(f"{at}rotary_embs.{i}.", head_dim(c))


# Their span predictors kept an old name for the model inside.
SPANS: Mapping[str, str] = {"ForQuestionAnswering": "transformer"}


def relative(cls: str, switches: Callable[[Config], Switches], *, spans: bool = False) -> Family:
    return Family(
        body=body(switches),
        cls=f"{cls}ForCausalLM",
        heads=DECODER_HEADS,
        bases=SPANS if spans else {},
        buffers=rotary,
    )


LLAMA = relative("Llama", llama, spans=True)
MISTRAL = relative("Mistral", mistral)
MINISTRAL = relative("Ministral", mistral, spans=True)
MINISTRAL3 = relative("Ministral3", mistral)
QWEN2 = relative("Qwen2", qwen2, spans=True)
QWEN3 = relative("Qwen3", qwen3, spans=True)
SMOLLM3 = relative("SmolLM3", llama, spans=True)
ERNIE4_5 = relative("Ernie4_5", ernie)
GRANITE = relative("Granite", llama)
CWM = relative("Cwm", cwm)
HYPERCLOVAX = relative("HyperCLOVAX", clova)
SEED_OSS = relative("SeedOss", seed, spans=True)
ARCEE = relative("Arcee", arcee, spans=True)
HELIUM = relative("Helium", helium)
JAIS2 = relative("Jais2", nemotron)
STARCODER2 = relative("Starcoder2", starcoder2)
HUNYUAN = relative("HunYuanDenseV1", hunyuan)
EXAONE4 = relative("Exaone4", exaone4, spans=True)
NEMOTRON = Family(
    body=body(nemotron),
    cls="NemotronForCausalLM",
    heads=DECODER_HEADS,
    bases=SPANS,
    buffers=partly_rotary(0.5),
)
GRANITE_SWA = Family(
    body=partial(stack, one=sink_layer),
    cls="GraniteSWAForCausalLM",
    heads=DECODER_HEADS,
    buffers=theta_rotary,
)
# transformers reads both with the classes of Llama
INTERNLM3 = replace(relative("InternLM3", llama, spans=True), stems=("InternLM3", "Llama"))
IQUEST_CODER = replace(relative("IQuestCoder", llama, spans=True), stems=("IQuestCoder", "Llama"))
