"""Bamba: Mamba-2 or attention in each layer, positions on a part of each head.

Source: transformers 5.23 models/bamba/modeling_bamba.py.
"""

from weighbridge.arch.body import Block
from weighbridge.arch.mixers import Attention, Mamba2
from weighbridge.autograd.ops.norms import rms_norm
from weighbridge.autograd.ops.pointwise import add
from weighbridge.autograd.tensors import Tensor
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder
from weighbridge.training.nets.decoder import (
    Kind,
    Masks,
    Rotary,
    attention_and_weights,
    mlp,
    part_rotated,
    rotary_of,
    turned_width,
)
from weighbridge.training.nets.mamba2 import mixer, scan_of
from weighbridge.training.step import Step

MIXES = (Mamba2, Attention)

PART = Kind(rotate=part_rotated, late=True)


def forward(s: Step) -> Tensor:
    """BambaModel.forward"""
    return decoder.forward(s, decoder_layer, positions)


def positions(s: Step) -> Rotary | None:
    """Make the rotary positions of the first layer with attention; None where no layer has it."""
    first = next((i for i, b in enumerate(s.built.body.blocks) if not _scans(b)), None)
    return None if first is None else rotary_of(s, turned_width(s, first))


def decoder_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary | None,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """BambaDecoderLayer.forward"""
    m = s.m
    residual = x
    x = rms_norm(m, x, p.weight("input_layernorm"))
    if _scans(s.built.body.blocks[number]):
        x = mixer(s, p.at("mamba"), x, scan_of(s, number))
    else:
        x, _ = attention_and_weights(
            s, p.at("self_attn"), x, number, positions, masks, kind=PART, first=True
        )
    x = add(m, residual, x)
    residual = x
    x = rms_norm(m, x, p.weight("pre_ff_layernorm"))
    x = mlp(s, p.at("feed_forward"), x)
    return add(m, residual, x)


def _scans(block: Block) -> bool:
    return any(isinstance(each, Mamba2) for each in block.mixers)
