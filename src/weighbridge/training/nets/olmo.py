"""OLMo: layer norms without weights; OLMo 2 and 3: norms behind attention and feed-forward, and of
all queries and keys at once. Cosines and sines stay in float32.

Source: transformers 5.23 models/olmo/modeling_olmo.py, models/olmo2/modeling_olmo2.py.
"""

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.norms import layer_norm, wide_norm
from weighbridge.autograd.ops.pointwise import add, cast
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import FLOAT32
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder
from weighbridge.training.nets.decoder import (
    Kind,
    Masks,
    Rotary,
    attention_and_weights,
    mlp,
    rotated,
)
from weighbridge.training.step import Step


def forward(s: Step) -> Tensor:
    """OlmoModel.forward"""
    return decoder.forward(s, first_layer, norm=plain_norm, wide=True)


def forward_2(s: Step) -> Tensor:
    """Olmo2Model.forward"""
    return decoder.forward(s, second_layer, norm=wide_norm, wide=True)


def plain_norm(m: Machine, x: Tensor, _weight: Tensor | None = None) -> Tensor:
    """OlmoLayerNorm.forward"""
    dtype = x.dtype
    return cast(m, layer_norm(m, cast(m, x, FLOAT32), None), dtype)


def narrowed(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb"""
    q_type, k_type = q.dtype, k.dtype
    q_embed, k_embed = rotated(m, q, k, positions)
    return cast(m, q_embed, q_type), cast(m, k_embed, k_type)


def first_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """OlmoDecoderLayer.forward"""
    m, inner = s.m, p.at("self_attn")
    residual = x
    x = plain_norm(m, x)
    x, _ = attention_and_weights(s, inner, x, number, positions, masks, kind=FIRST)
    x = add(m, residual, x)
    residual = x
    x = plain_norm(m, x)
    x = mlp(s, p.at("mlp"), x)
    return add(m, residual, x)


def second_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """Olmo2DecoderLayer.forward"""
    m, inner = s.m, p.at("self_attn")
    residual = x
    x, _ = attention_and_weights(s, inner, x, number, positions, masks, kind=SECOND)
    x = wide_norm(m, x, p.weight("post_attention_layernorm"))
    x = add(m, residual, x)
    residual = x
    x = mlp(s, p.at("mlp"), x)
    x = wide_norm(m, x, p.weight("post_feedforward_layernorm"))
    return add(m, residual, x)


def whole_norm(m: Machine, x: Tensor, w: Tensor) -> Tensor:
    """Normalize x, [batch, length, heads, size], over all heads together."""
    whole = x.view(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
    return wide_norm(m, whole, w).view(*x.shape)


FIRST = Kind(rotate=narrowed)
SECOND = Kind(norm=whole_norm, rotate=narrowed)
