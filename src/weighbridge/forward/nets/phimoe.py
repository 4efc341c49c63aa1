"""Phi-3.5-MoE: Mixtral's experts behind a router that draws them (sparsemixer).

The two experts of a token are drawn one after the other from its scores, without those that are
far below the best. What is drawn is weighed by a function of its own, whose gradient goes to the
scores at once; the softmax that it came from is kept, and gets none.

Source: transformers 5.23 models/phimoe/modeling_phimoe.py.
"""

from typing import Any

from weighbridge.dtypes import BOOL, FLOAT32, INT64
from weighbridge.forward.machine import Grads, Machine, Needs, record
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.experts import gather, masked
from weighbridge.forward.ops.matrix import linear
from weighbridge.forward.ops.pointwise import cast, softmax
from weighbridge.forward.ops.shaping import join
from weighbridge.forward.parts import moe
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import LayerShape
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Computed, Tensor


def feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """PhimoeSparseMoeBlock.forward: noise is multiplied in before the block, and in the router."""
    m, shape, p = s.m, x.shape, p.at("block_sparse_moe")
    noisy = bool(s.built.config.get("input_jitter_noise")) and m.training
    if noisy:
        x = jittered(m, x)
    flat = x.view(s.rows, shape[-1])
    if noisy:
        flat = jittered(m, flat)
    logits = linear(m, flat, p.stacked(m, "gate.weight"))
    weights, numbers = drawn(m, logits)
    return moe.experts(s, p.at("experts"), flat, weights, numbers).view(*shape)


def jittered(m: Machine, x: Tensor) -> Tensor:
    """x *= noise"""
    noise = m.new(x.shape, x.dtype)
    out = Computed(x.shape, x.dtype, x.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(grads[0].shape, grads[0].dtype)]

    record(m, back, [x], [noise], out)
    return out


def drawn(m: Machine, scores: Tensor) -> tuple[Tensor, Tensor]:
    """sparsemixer: two multipliers and experts a token; its local variables live to its end."""
    first, one, gates = _one(m, scores, scores)
    second, two, others = _one(m, scores, scattered(m, scores, one))
    multiplier = join(m, first, second)
    numbers = m.new((scores.shape[0], 2), INT64)
    del one, two, gates, others
    return multiplier, numbers


def _one(m: Machine, scores: Tensor, among: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(multiplier, expert, the softmax that it was drawn from)"""
    gates = masked(m, among)
    number = m.new((scores.shape[0], 1), INT64)
    gates = softmax(m, gates if m.autocast is None else cast(m, gates, FLOAT32))
    chosen = gather(m, gates, number)
    return weighed(m, scores, chosen, number, gates), number, gates


def scattered(m: Machine, x: Tensor, number: Tensor) -> Tensor:
    """torch.scatter(x, -1, number, -inf)"""
    out = m.new(x.shape, x.dtype)
    whole = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(whole, grads[0].dtype)]

    record(m, back, [x], [number], out)
    return out


def weighed(m: Machine, scores: Tensor, chosen: Tensor, number: Tensor, gates: Tensor) -> Tensor:
    """PhimoeMultiplier"""
    m.new(chosen.shape, BOOL)
    out = m.new(chosen.shape, chosen.dtype)
    whole = scores.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(whole, scores_dtype), None, None]

    scores_dtype = scores.dtype
    record(m, back, [scores, chosen, gates], [chosen.detach(), number, gates.detach()], out)
    return out


phimoe = DecoderNet(layer=LayerShape(feed=feed))
