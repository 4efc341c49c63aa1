"""Decoders of Llama's shape that differ from it in one thing or two.

    ernie4_5    positions turn in float32, and each layer makes cosines of its own
    helium      each layer makes cosines of its own; norms in float32 to their end
    exaone4     norms behind attention and feed-forward; no positions where all tokens are seen
    ministral3  queries are scaled by their positions
    nemotron    layer norms of one more than their weight, positions on a part of each head, no gate

Source: transformers 5.23 models/{ernie4_5,helium,exaone4,nemotron}/modeling_*.py,
models/ministral3/modeling_ministral3.py.
"""

from functools import partial

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.norms import float_norm, layer_norm, rms_norm
from weighbridge.autograd.ops.pointwise import add, cast, mul, shift
from weighbridge.autograd.tensors import Tensor, absent
from weighbridge.dtypes import FLOAT32
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder
from weighbridge.training.nets.decoder import (
    Kind,
    Masks,
    NormOf,
    Rotary,
    attention_and_weights,
    half,
    mlp,
    normed,
    part_rotated,
    rotated,
    turned_width,
)
from weighbridge.training.step import Step


def layer(kind: Kind, norm: NormOf = normed, *, first: bool = False) -> decoder.Layer:
    """LlamaDecoderLayer.forward, with another attention and norm."""
    return decoder.layers(partial(attention_and_weights, kind=kind, first=first), norm=norm)


def ernie(s: Step) -> Tensor:
    """Ernie4_5Model.forward"""
    return decoder.forward(s, layer(ERNIE), wide=True)


def wide_rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb: halves are turned in the dtype that comes, and made wide"""
    dtype = q.dtype
    cos, sin = _own(m, positions)
    q_embed = _wide_one(m, q, cos, sin)
    k_embed = _wide_one(m, k, cos, sin)
    return cast(m, q_embed, dtype), cast(m, k_embed, dtype)


def _wide_one(m: Machine, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first = mul(m, cast(m, x, FLOAT32), cos)
    return add(m, first, mul(m, cast(m, half(m, x), FLOAT32), sin))


def _own(m: Machine, positions: Rotary) -> Rotary:
    """repeat_interleave of halves"""
    cos, sin = (m.new(t.shape, t.dtype) for t in positions)
    return cos, sin


def helium(s: Step) -> Tensor:
    """HeliumModel.forward"""
    return decoder.forward(s, layer(HELIUM, float_normed), norm=float_norm)


def float_normed(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    return float_norm(m, x, p.weight(name))


def interleaved(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb"""
    return rotated(m, q, k, _own(m, positions))


def exaone4(s: Step) -> Tensor:
    """Exaone4Model.forward"""
    return decoder.forward(s, exaone4_layer)


def exaone4_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """Exaone4DecoderLayer.forward"""
    m = s.m
    residual = x
    x, _ = attention_and_weights(s, p.at("self_attn"), x, number, positions, masks, kind=EXAONE4)
    x = rms_norm(m, x, p.weight("post_attention_layernorm"))
    x = add(m, residual, x)
    residual = x
    x = mlp(s, p.at("mlp"), x)
    x = rms_norm(m, x, p.weight("post_feedforward_layernorm"))
    return add(m, residual, x)


def ministral3(s: Step) -> Tensor:
    """Ministral3Model.forward"""
    return decoder.forward(s, layer(MINISTRAL3))


def scaled_rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb, and get_llama_4_attn_scale"""
    q, k = rotated(m, q, k, positions)
    scale = m.new((1, q.shape[1], 1, 1), FLOAT32)
    return mul(m, q, cast(m, scale, q.dtype)), k


def nemotron(s: Step) -> Tensor:
    """NemotronModel.forward"""

    def last(m: Machine, x: Tensor, _: Tensor) -> Tensor:
        return one_more(m, x, s.built.base, "norm")

    made = layer(NEMOTRON, one_more, first=True)
    return decoder.forward(s, made, turned_width(s), norm=last)


def one_more(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """NemotronLayerNorm1P.forward: in the dtype of autocast, where there is one"""
    if absent(p.weight(name)):
        return x
    weight = shift(m, p.weight(name))
    dtype, bias = m.autocast or x.dtype, p.bias(name)
    x, weight = cast(m, x, dtype), cast(m, weight, dtype)
    with m.casting(None):
        return layer_norm(m, x, weight, None if bias is None else cast(m, bias, dtype))


ERNIE = Kind(rotate=wide_rotated)
HELIUM = Kind(rotate=interleaved)
EXAONE4 = Kind(late=True)
MINISTRAL3 = Kind(rotate=scaled_rotated)
NEMOTRON = Kind(rotate=part_rotated)
