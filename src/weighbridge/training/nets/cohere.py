"""Cohere: attention and feed-forward beside each other, norms written out, interleaved positions.

Source: transformers 5.23 models/cohere/modeling_cohere.py, models/cohere2/modeling_cohere2.py.
"""

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.norms import cohere_norm
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
    """CohereModel.forward"""
    return decoder.forward(s, decoder_layer, norm=cohere_norm)


def decoder_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """CohereDecoderLayer.forward"""
    m = s.m
    residual = x
    x = cohere_norm(m, x, p.weight("input_layernorm"))
    attended, _ = attention_and_weights(
        s,
        p.at("self_attn"),
        x,
        number,
        positions,
        masks,
        kind=COHERE,
    )
    forwarded = mlp(s, p.at("mlp"), x)
    return add(m, add(m, residual, attended), forwarded)


def wide_rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb, in float32 and back."""
    dtype = q.dtype
    q, k = cast(m, q, FLOAT32), cast(m, k, FLOAT32)
    q_embed, k_embed = rotated(m, q, k, positions)
    return cast(m, q_embed, dtype), cast(m, k_embed, dtype)


COHERE = Kind(norm=cohere_norm, late=True, rotate=wide_rotated)
