"""Granite 4: Mamba-2 or attention in each layer, and beside experts, where there are some, a
feed-forward for all tokens.

Source: transformers 5.23 models/granitemoehybrid/modeling_granitemoehybrid.py.
"""

from weighbridge.arch.mixers import Attention, Mamba2
from weighbridge.autograd.ops.norms import rms_norm
from weighbridge.autograd.ops.pointwise import add, scale
from weighbridge.autograd.tensors import Tensor
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder
from weighbridge.training.nets.decoder import (
    Masks,
    Rotary,
    attention_and_weights,
    rotary_of,
)
from weighbridge.training.nets.mamba2 import mixer, scan_of
from weighbridge.training.nets.moe import experts_of, gated
from weighbridge.training.nets.sparse import GRANITE, named_experts
from weighbridge.training.step import Step

MIXES = (Mamba2, Attention)


def forward(s: Step) -> Tensor:
    """GraniteMoeHybridModel.forward"""
    return decoder.forward(s, decoder_layer, positions)


def positions(s: Step) -> Rotary | None:
    """Make rotary positions as wide as a head, also where no layer has attention; None without
    RoPE."""
    config = s.built.config
    if config.get("position_embedding_type") != "rope":
        return None
    return rotary_of(s, config.num("hidden_size") // config.num("num_attention_heads"))


def decoder_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary | None,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """GraniteMoeHybridDecoderLayer.forward"""
    m, mixers = s.m, s.built.body.blocks[number].mixers
    residual = x
    x = rms_norm(m, x, p.weight("input_layernorm"))
    if any(isinstance(each, Mamba2) for each in mixers):
        x = mixer(s, p.at("mamba"), x, scan_of(s, number))
    else:
        x, _ = attention_and_weights(s, p.at("self_attn"), x, number, positions, masks)
    x = add(m, residual, scale(m, x))
    residual = x
    x = rms_norm(m, x, p.weight("post_attention_layernorm"))
    if experts_of(s, number) is None:
        x = shared(s, p.at("shared_mlp"), x)
    else:
        moe_x = named_experts(s, p, x, number, GRANITE)
        x = add(m, moe_x, shared(s, p.at("shared_mlp"), x))
    return add(m, residual, scale(m, x))


def shared(s: Step, p: Module, x: Tensor) -> Tensor:
    """GraniteMoeHybridMLP.forward"""
    x = p.linear(s.m, x, "input_linear")
    return p.linear(s.m, gated(s, x), "output_linear")
