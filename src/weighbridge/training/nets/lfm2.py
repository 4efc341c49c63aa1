"""LFM2: gated convolutions over the last few tokens, and attention in some layers; dense, or with
experts that are scored by sigmoids.

Source: transformers 5.23 models/lfm2/modeling_lfm2.py, models/lfm2_moe/modeling_lfm2_moe.py.
"""

from weighbridge.arch.body import Experts
from weighbridge.arch.mixers import Attention, ShortConv
from weighbridge.arch.rotary import head_dim
from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.experts import gather, topk
from weighbridge.autograd.ops.matrix import linear
from weighbridge.autograd.ops.norms import rms_norm
from weighbridge.autograd.ops.pointwise import add, divide, mul, of_input, of_result, scale, shift
from weighbridge.autograd.ops.pointwise import total as summed_up
from weighbridge.autograd.ops.shaping import split, turned
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import FLOAT32
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder, moe
from weighbridge.training.nets.hybrid import Seen, hybrid, unpadded
from weighbridge.training.nets.mamba2 import convolved
from weighbridge.training.step import Step

MIXES = (Attention, ShortConv)

KIND = decoder.Kind(out="out_proj")


def forward(s: Step) -> Tensor:
    """Lfm2Model.forward"""
    return decoder.forward(s, hybrid(s, decoder_layer), head_dim(s.built.config))


def decoder_layer(
    x: Tensor, s: Step, p: Module, number: int, seen: Seen, padding: Tensor | None
) -> Tensor:
    """Lfm2DecoderLayer.forward"""
    m, residual = s.m, x
    x = rms_norm(m, x, p.weight("operator_norm"))
    if p.has("self_attn.q_proj"):
        x, _ = decoder.attention_and_weights(s, p.at("self_attn"), x, number, *seen[:2], kind=KIND)
    else:
        x = short_conv(m, p.at("conv"), unpadded(m, x, padding))
    x = add(m, x, residual)
    del residual
    return add(m, x, feed(s, p.at("feed_forward"), rms_norm(m, x, p.weight("ffn_norm")), number))


def short_conv(m: Machine, p: Module, x: Tensor) -> Tensor:
    """Lfm2ShortConv.forward"""
    both = turned(m, p.linear(m, x, "in_proj"))
    width = both.shape[-1] // 3
    b, c, x = split(m, both, (width, width, width))
    hidden = mul(m, b, x)
    hidden = convolved(m, p, hidden, "conv")
    y = mul(m, c, hidden)
    return p.linear(m, y, "out_proj")


def feed(s: Step, p: Module, x: Tensor, number: int) -> Tensor:
    """Lfm2MLP.forward, Lfm2MoeSparseMoeBlock.forward"""
    m, found = s.m, moe.experts_of(s, number)
    if found is None:
        inner = mul(m, of_input(m, p.linear(m, x, "w1")), p.linear(m, x, "w3"))
        return p.linear(m, inner, "w2")
    flat = x.view(s.rows, x.shape[-1])
    logits, weights, numbers = routed(s, p, flat, found)
    out = moe.experts(s, p.at("experts"), flat, weights, numbers)
    del logits
    return out.view(*x.shape)


def routed(s: Step, p: Module, x: Tensor, e: Experts) -> tuple[Tensor, Tensor, Tensor]:
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
