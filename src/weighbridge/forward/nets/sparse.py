"""Decoders with experts whose attention, feed-forward and norms are known parts.

    Qwen3-MoE      and Mixtral, dots.1: a decoder of Llama's shape with experts in most layers
    Qwen2-MoE      a shared expert that is weighed by a gate of its own, and runs first
    OLMoE          queries and keys are normed whole
    GraniteMoE     the softmax is of the best scores alone; residuals are scaled
    MiniMax-M2     normed whole, and a part of each head has positions; scores are sigmoids
    Qwen3-VL-MoE   positions in three grids, which are made for every sequence
    ERNIE 4.5      positions in float32, by pairs; the shared experts run first
    Hunyuan-MoE    one shared expert, which runs first; queries and keys are normed once turned
    FlexOLMo       OLMo 2's layers
    GLM-4 MoE      a part of each head has positions

Source: transformers 5.23 models/*/modeling_*.py.
"""

from dataclasses import replace
from functools import partial

from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.nets.decoders import OLMO2_LAYER, olmo2
from weighbridge.forward.ops.norms import rms_norm
from weighbridge.forward.ops.pointwise import add, cast, mul, of_result
from weighbridge.forward.parts import moe
from weighbridge.forward.parts.attention import mask, windows
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import AttentionShape, LayerShape, mlp
from weighbridge.forward.parts.rotary import (
    Rotary,
    grids,
    part_rotary,
    part_rotated,
    products_in_float,
    rotary_of,
    turned_width,
    wide_rotary,
)
from weighbridge.forward.parts.routers import router
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor


def qwen2(s: TrainingStep) -> Tensor:
    """Qwen2MoeModel.forward: the mask of a window is made for no layer, too."""
    spare = mask(s, 0) if windows(s) == {None} else None
    made = DecoderNet(layer=LayerShape(feed=gated_shared))(s)
    del spare
    return made


def some_turned(s: TrainingStep) -> Rotary:
    """Cosines and sines of MiniMax-M2."""
    return rotary_of(s, s.built.config.num("rotary_dim", default=0) or turned_width(s))


def gated_shared(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """Qwen2MoeSparseMoeBlock.forward, Qwen3NextSparseMoeBlock.forward"""
    m, e, shape = s.m, moe.experts_of(s, number), x.shape
    if e is None:
        return moe.feed(s, p, x, number)
    p, flat = p.at("mlp"), x.view(s.rows, shape[-1])
    shared = mlp(s, p.at("shared_expert"), flat)
    _, weights, numbers = router(s)(s, p, flat, e)
    out = moe.experts(s, p.at("experts"), flat, weights, numbers)
    shared = mul(m, of_result(m, p.linear(m, flat, "shared_expert_gate")), shared)
    return add(m, out, shared).view(*shape)


def named_experts(s: TrainingStep, p: Module, x: Tensor, number: int, form: moe.Form) -> Tensor:
    """GraniteMoeMoE.forward, GraniteMoeHybridMoE.forward, Qwen3VLMoeTextSparseMoeBlock.forward:
    parameters as checkpoints name and turn them."""
    e = moe.experts_of(s, number)
    if e is None:
        return moe.feed(s, p, x, number)
    p, flat = p.at("mlp" if p.has("mlp.gate") else "block_sparse_moe"), x.view(s.rows, x.shape[-1])
    _, weights, numbers = router(s)(s, p, flat, e)
    return moe.experts(s, p, flat, weights, numbers, form).view(*x.shape)


def shared_first(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """Ernie4_5_MoeSparseMoeBlock.forward"""
    m, e, shape = s.m, moe.experts_of(s, number), x.shape
    if e is None:
        return moe.feed(s, p, x, number)
    p, flat = p.at("mlp"), x.view(s.rows, shape[-1])
    shared = mlp(s, p.at("shared_experts"), flat) if e.shared else None
    _, weights, numbers = router(s)(s, p, flat, e)
    out = moe.experts(s, p.at("experts"), flat, weights, numbers)
    if shared is not None:
        out = add(m, out, shared)
    return cast(m, out.view(*shape), flat.dtype)


def shared_mlp(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """HunYuanMoEV1Moe.forward"""
    m, e = s.m, moe.experts_of(s, number)
    if e is None:
        return moe.feed(s, p, x, number)
    p = p.at("mlp")
    hidden_states_mlp = mlp(s, p.at("shared_mlp"), x)
    flat = x.view(s.rows, x.shape[-1])
    _, weights, numbers = router(s)(s, p, flat, e)
    out = moe.experts(s, p.at("experts"), flat, weights, numbers).view(*x.shape)
    return add(m, out, hidden_states_mlp)


def whole_norm(m: Machine, x: Tensor, w: Tensor) -> Tensor:
    """Normalize x, [batch, length, heads, size], over all heads together."""
    whole = x.view(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
    return rms_norm(m, whole, w).view(*x.shape)


GRANITE = moe.Form(up="input_linear.weight", down="output_linear.weight")
QWEN3_VL = moe.Form(up="experts.gate_up_proj", down="experts.down_proj", transposed=True)

qwen3 = DecoderNet(layer=moe.LAYER)
olmoe = DecoderNet(layer=replace(moe.LAYER, attend=AttentionShape(norm=whole_norm)))
granite = DecoderNet(layer=LayerShape(feed=partial(named_experts, form=GRANITE)))
three_grids = DecoderNet(
    layer=LayerShape(feed=partial(named_experts, form=QWEN3_VL)), rotary=grids
)  # of Qwen3-VL-MoE, for text alone
minimax = DecoderNet(
    layer=replace(
        moe.LAYER, attend=AttentionShape(norm=whole_norm, rotate=part_rotated, first=True)
    ),
    rotary=some_turned,
)
ernie = DecoderNet(
    layer=LayerShape(attend=AttentionShape(rotate=products_in_float), feed=shared_first),
    rotary=wide_rotary,
)
hunyuan = DecoderNet(layer=LayerShape(feed=shared_mlp))
flex_olmo = replace(olmo2, layer=replace(OLMO2_LAYER, feed=moe.feed))
glm4 = DecoderNet(  # what has positions is joined with the rest
    layer=replace(moe.LAYER, attend=AttentionShape(rotate=part_rotated, late=True, first=True)),
    rotary=part_rotary,
)
