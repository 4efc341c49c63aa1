"""LFM2: gated convolutions over the last few tokens, and attention in some layers; dense, or with
experts that are scored by sigmoids.

Source: transformers 5.23 models/lfm2/modeling_lfm2.py, models/lfm2_moe/modeling_lfm2_moe.py.
"""

from typing import Any

from weighbridge.arch.body import Experts
from weighbridge.arch.mixers import Attention, ShortConv
from weighbridge.arch.rotary import head_dim
from weighbridge.dtypes import FLOAT32
from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net
from weighbridge.forward.nets.mamba2 import convolved
from weighbridge.forward.ops.experts import gather, topk
from weighbridge.forward.ops.matrix import linear
from weighbridge.forward.ops.norms import rms_norm
from weighbridge.forward.ops.pointwise import add, divide, mul, of_input, of_result, scale, shift
from weighbridge.forward.ops.pointwise import total as summed_up
from weighbridge.forward.ops.shaping import split, turned
from weighbridge.forward.parts import moe
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import (
    AttentionShape,
    LayerShape,
    by_weight,
    unpadded,
    with_padding,
)
from weighbridge.forward.parts.rotary import Rotary, rotary_of
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor


def mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, *seen: Any, padding: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Attention, or a convolution."""
    if p.has("self_attn.q_proj"):
        return ATTENTION(s, p.at("self_attn"), x, number, *seen)
    return short_conv(s.m, p.at("conv"), unpadded(s.m, x, padding)), None


def rotary(s: TrainingStep) -> Rotary:
    return rotary_of(s, head_dim(s.built.config))


def short_conv(m: Machine, p: Module, x: Tensor) -> Tensor:
    """Lfm2ShortConv.forward"""
    both = turned(m, p.linear(m, x, "in_proj"))
    width = both.shape[-1] // 3
    b, c, x = split(m, both, (width, width, width))
    hidden = mul(m, b, x)
    hidden = convolved(m, p, hidden, "conv")
    y = mul(m, c, hidden)
    return p.linear(m, y, "out_proj")


def feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """Lfm2MLP.forward, Lfm2MoeSparseMoeBlock.forward"""
    p = p.at("feed_forward")
    m, found = s.m, moe.experts_of(s, number)
    if found is None:
        inner = mul(m, of_input(m, p.linear(m, x, "w1")), p.linear(m, x, "w3"))
        return p.linear(m, inner, "w2")
    flat = x.view(s.rows, x.shape[-1])
    logits, weights, numbers = routed(s, p, flat, found)
    out = moe.experts(s, p.at("experts"), flat, weights, numbers)
    del logits
    return out.view(*x.shape)


def routed(s: TrainingStep, p: Module, x: Tensor, e: Experts) -> tuple[Tensor, Tensor, Tensor]:
    """Lfm2MoeTopKRouter.forward: chosen with a bias in float32, weighed without it."""
    m, config = s.m, s.built.config
    logits = linear(m, x, p.stacked(m, "gate.weight"))
    scores = of_result(m, logits)
    if config.get("use_expert_bias") is not False:
        biased = add(m, scores, m.new((e.count,), FLOAT32))
        chosen, numbers = topk(m, biased, e.top_k)
        weights = gather(m, scores, numbers)
        del chosen
    else:
        weights, numbers = topk(m, scores, e.top_k)
    if config.get("norm_topk_prob") is not False:
        weights = divide(m, weights, shift(m, summed_up(m, weights)))
    return logits, scale(m, weights), numbers


ATTENTION = AttentionShape(out="out_proj")
LAYER = LayerShape(
    attend=mixed,
    norm=by_weight(rms_norm),
    feed=feed,
    at="",
    before=("operator_norm", "ffn_norm"),
    handed=True,
)
lfm2 = Net(DecoderNet(layer=with_padding(LAYER), rotary=rotary), mixes=(Attention, ShortConv))
