"""Decoders with experts whose attention or router is not Qwen3-MoE's.

    Qwen2-MoE      a shared expert that is weighed by a gate of its own, and runs first
    OLMoE          queries and keys are normed whole
    GraniteMoE     the softmax is of the best scores alone; residuals are scaled
    MiniMax-M2     normed whole, and a part of each head has positions; scores are sigmoids
    Qwen3-VL-MoE   positions in three grids, which are made for every sequence
    ERNIE 4.5      positions in float32, by pairs; the shared experts run first
    GLM-4 MoE      a part of each head has positions

Source: transformers 5.23 models/*/modeling_*.py.
"""

from functools import partial

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.norms import rms_norm
from weighbridge.autograd.ops.pointwise import add, cast, mul, of_result
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import FLOAT32
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder, dense, moe
from weighbridge.training.nets.decoder import (
    Kind,
    Rotary,
    attention_and_weights,
    part_rotated,
    turned_width,
)
from weighbridge.training.nets.routers import router
from weighbridge.training.step import Step


def qwen2(s: Step) -> Tensor:
    """Qwen2MoeModel.forward: the mask of a window is made for no layer, too."""
    spare = decoder.mask(s, 0) if decoder.windows(s) == {None} else None
    made = decoder.forward(s, moe.layers(attention_and_weights, feeds=gated_shared))
    del spare
    return made


def olmoe(s: Step) -> Tensor:
    """OlmoeModel.forward"""
    return decoder.forward(s, moe.layers(partial(attention_and_weights, kind=WHOLE)))


def granite(s: Step) -> Tensor:
    """GraniteMoeModel.forward"""
    feeds = partial(named_experts, form=GRANITE)
    return decoder.forward(s, moe.layers(attention_and_weights, feeds=feeds))


def minimax(s: Step) -> Tensor:
    """MiniMaxM2Model.forward"""
    attend = partial(attention_and_weights, kind=PART_WHOLE, first=True)
    width = s.built.config.num("rotary_dim", default=0) or turned_width(s)
    return decoder.forward(s, moe.layers(attend), width)


def ernie(s: Step) -> Tensor:
    """Ernie4_5_MoeModel.forward"""
    attend = partial(attention_and_weights, kind=dense.ERNIE)
    return decoder.forward(s, moe.layers(attend, feeds=shared_first), wide=True)


def glm4(s: Step) -> Tensor:
    """Glm4MoeModel.forward: what has positions is joined with the rest."""
    attend = partial(attention_and_weights, kind=GLM4, first=True)
    return decoder.forward(s, moe.layers(attend), turned_width(s))


def three_grids(s: Step) -> Tensor:
    """Qwen3VLMoeTextModel.forward, of text alone."""
    layer = moe.layers(attention_and_weights, feeds=partial(named_experts, form=QWEN3_VL))
    return decoder.forward(s, layer, grids)


def grids(s: Step) -> Rotary:
    """Qwen3VLMoeTextRotaryEmbedding.forward: time, height and width, of every sequence."""
    m, width = s.m, decoder.heads(s, 0).key_dim
    half, whole = (3, s.batch, s.length, width // 2), (s.batch, s.length, 1, width)
    freqs = m.new(half, FLOAT32)
    halves = m.new(half, FLOAT32), m.new(half, FLOAT32)
    cos, sin = m.new(whole, FLOAT32), m.new(whole, FLOAT32)
    del halves
    if s.dtype == FLOAT32:
        return cos, sin
    lower = m.new(whole, s.dtype), m.new(whole, s.dtype)
    del freqs
    return lower


def gated_shared(s: Step, p: Module, x: Tensor, number: int) -> Tensor:
    """Qwen2MoeSparseMoeBlock.forward, Qwen3NextSparseMoeBlock.forward"""
    m, e, shape = s.m, moe.experts_of(s, number), x.shape
    if e is None:
        return moe.feed(s, p, x, number)
    p, flat = p.at("mlp"), x.view(s.rows, shape[-1])
    shared = decoder.mlp(s, p.at("shared_expert"), flat)
    _, weights, numbers = router(s)(s, p, flat, e)
    out = moe.experts(s, p.at("experts"), flat, weights, numbers)
    shared = mul(m, of_result(m, p.linear(m, flat, "shared_expert_gate")), shared)
    return add(m, out, shared).view(*shape)


def named_experts(s: Step, p: Module, x: Tensor, number: int, form: moe.Form) -> Tensor:
    """GraniteMoeMoE.forward, GraniteMoeHybridMoE.forward, Qwen3VLMoeTextSparseMoeBlock.forward:
    parameters as checkpoints name and turn them."""
    e = moe.experts_of(s, number)
    if e is None:
        return moe.feed(s, p, x, number)
    p, flat = p.at("mlp" if p.has("mlp.gate") else "block_sparse_moe"), x.view(s.rows, x.shape[-1])
    _, weights, numbers = router(s)(s, p, flat, e)
    return moe.experts(s, p, flat, weights, numbers, form).view(*x.shape)


def shared_first(s: Step, p: Module, x: Tensor, number: int) -> Tensor:
    """Ernie4_5_MoeSparseMoeBlock.forward"""
    m, e, shape = s.m, moe.experts_of(s, number), x.shape
    if e is None:
        return moe.feed(s, p, x, number)
    p, flat = p.at("mlp"), x.view(s.rows, shape[-1])
    shared = decoder.mlp(s, p.at("shared_experts"), flat) if e.shared else None
    _, weights, numbers = router(s)(s, p, flat, e)
    out = moe.experts(s, p.at("experts"), flat, weights, numbers)
    if shared is not None:
        out = add(m, out, shared)
    return cast(m, out.view(*shape), flat.dtype)


def whole_norm(m: Machine, x: Tensor, w: Tensor) -> Tensor:
    """Normalize x, [batch, length, heads, size], over all heads together."""
    whole = x.view(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
    return rms_norm(m, whole, w).view(*x.shape)


WHOLE = Kind(norm=whole_norm)
PART_WHOLE = Kind(norm=whole_norm, rotate=part_rotated)
GLM4 = Kind(rotate=part_rotated, late=True)
GRANITE = moe.Form(up="input_linear.weight", down="output_linear.weight")
QWEN3_VL = moe.Form(up="experts.gate_up_proj", down="experts.down_proj", transposed=True)
