"""Phi, StableLM and StarCoder2: layer norms, rotary positions on a part of each head, feed-forwards
that may stand beside attention.

Source: transformers 5.23 models/phi/modeling_phi.py, models/stablelm/modeling_stablelm.py,
models/starcoder2/modeling_starcoder2.py.
"""

from weighbridge.autograd.ops.pointwise import add, dropout, several
from weighbridge.autograd.tensors import Tensor
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder
from weighbridge.training.nets.decoder import (
    Kind,
    Masks,
    Rotary,
    attention_and_weights,
    mlp,
    normed,
    part_rotated,
    turned_width,
)
from weighbridge.training.step import Step

PART = Kind(rotate=part_rotated, late=True)
PHI = Kind(rotate=part_rotated, late=True, out="dense")


def phi(s: Step) -> Tensor:
    """PhiModel.forward"""
    return decoder.forward(s, phi_layer, turned_width(s), rate=s.rate("embd_pdrop"))


def stablelm(s: Step) -> Tensor:
    """StableLmModel.forward"""
    return decoder.forward(s, stablelm_layer, turned_width(s))


def starcoder2(s: Step) -> Tensor:
    """Starcoder2Model.forward"""
    layer = decoder.layers(attention_and_weights, feeds=starcoder2_feed)
    return decoder.forward(s, layer, rate=s.rate("embedding_dropout"))


def starcoder2_feed(s: Step, p: Module, x: Tensor, _number: int) -> Tensor:
    return plain(s, p.at("mlp"), x, "c_fc", "c_proj")


def phi_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """PhiDecoderLayer.forward"""
    m, rate, inner = s.m, s.rate("resid_pdrop"), p.at("self_attn")
    residual = x
    x = normed(m, x, p, "input_layernorm")
    attended, _ = attention_and_weights(s, inner, x, number, positions, masks, kind=PHI, first=True)
    attended = dropout(m, attended, rate)
    forwarded = dropout(m, plain(s, p.at("mlp"), x, "fc1", "fc2"), rate)
    return add(m, add(m, attended, forwarded), residual)


def stablelm_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """StableLmDecoderLayer.forward"""
    m, rate, inner = s.m, s.rate("hidden_dropout"), p.at("self_attn")
    residual = x
    x = normed(m, x, p, "input_layernorm")
    attended, _ = attention_and_weights(
        s, inner, x, number, positions, masks, kind=PART, first=True
    )
    if s.built.config.get("use_parallel_residual"):
        forwarded = dropout(m, mlp(s, p.at("mlp"), x), rate)
        return add(m, add(m, residual, attended), forwarded)
    residual = add(m, residual, attended)
    forwarded = mlp(s, p.at("mlp"), normed(m, residual, p, "post_attention_layernorm"))
    return add(m, residual, dropout(m, forwarded, rate))


def plain(s: Step, p: Module, x: Tensor, up: str, down: str) -> Tensor:
    """A feed-forward without a gate."""
    m = s.m
    x = p.linear(m, x, up)
    x = several(m, x, str(s.built.config.get("hidden_act", "hidden_activation") or "gelu"))
    return p.linear(m, x, down)
