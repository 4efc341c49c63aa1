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
    Phi-3.5-MoE    Mixtral's experts behind a router that draws them (sparsemixer): the two of a
                   token one after the other from its scores, without those far below the best. What
                   is drawn is weighed by a function of its own, whose gradient goes to the scores
                   at once; the softmax that it came from is kept, and gets none
    gpt-oss        sinks in attention, which sdpa has not: it is eager, or flash-attention 3 that is
                   installed apart (_supports_sdpa, _compatible_flash_implementations); experts with
                   biases, gate and up by turns. Weights in mxfp4 are trained dequantized

Source: transformers 5.23 models/*/modeling_*.py.
"""

from functools import partial
from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.training.forward.machine import Grads, Machine, Needs, record, remade
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets.decoders import OLMO2_LAYER, olmo2
from weighbridge.training.forward.nets.latent import pairs_turned
from weighbridge.training.forward.ops.experts import gather, masked, topk
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.norms import rms_norm, wide_norm
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    clamp,
    mul,
    of_result,
    scale,
    shift,
    softmax,
)
from weighbridge.training.forward.ops.shaping import cut, join, split
from weighbridge.training.forward.parts import moe
from weighbridge.training.forward.parts.attention import heads, mask, windows, written_out
from weighbridge.training.forward.parts.layer import (
    AttentionShape,
    DecoderNet,
    LayerShape,
    by_weight,
    mlp,
)
from weighbridge.training.forward.parts.moe import router
from weighbridge.training.forward.parts.rotary import (
    Rotary,
    grids,
    part_rotary,
    part_rotated,
    products_in_float,
    rotary_of,
    turned_width,
    wide_rotary,
)
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, Tensor


def qwen2(s: TrainingStep) -> Tensor:
    """Return Qwen2MoeModel.forward, which makes a window's mask even if no layer has a window."""
    spare = mask(s, 0) if windows(s) == {None} else None
    out = DecoderNet(layer=LayerShape(feed=gated_shared))(s)
    del spare
    return out


def some_turned(s: TrainingStep) -> Rotary:
    """Return the cosines and sines of MiniMax-M2, for a part of each head."""
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
    """Return the output of GraniteMoeMoE, GraniteMoeHybridMoE or Qwen3VLMoeTextSparseMoeBlock,
    whose parameters are named and transposed as in checkpoints."""
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


def whole_norm(m: Machine, x: Tensor, weight: Tensor) -> Tensor:
    """Return x, [batch, length, heads, size], normalized over all heads together."""
    whole = x.view(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
    return rms_norm(m, whole, weight).view(*x.shape)


GRANITE = moe.Form(up="input_linear.weight", down="output_linear.weight")
QWEN3_VL = moe.Form(up="experts.gate_up_proj", down="experts.down_proj", transposed=True)

qwen3 = DecoderNet(layer=moe.LAYER)
olmoe = DecoderNet(layer=replace(moe.LAYER, attend=AttentionShape(norm=whole_norm)))
granite = DecoderNet(layer=LayerShape(feed=partial(named_experts, form=GRANITE)))
three_grids = DecoderNet(
    layer=LayerShape(feed=partial(named_experts, form=QWEN3_VL)), rotary=grids
)  # of Qwen3-VL-MoE, for text only
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
glm4 = DecoderNet(  # the rotated part of a head is joined with the rest
    layer=replace(moe.LAYER, attend=AttentionShape(rotate=part_rotated, late=True, first=True)),
    rotary=part_rotary,
)


# ---- Phi-3.5-MoE


def feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """Return PhimoeSparseMoeBlock.forward: inputs are multiplied by noise before the block, and in
    the router."""
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
    """Return x *= noise."""
    noise = m.new(x.shape, x.dtype)
    return remade(m, x, Computed(x.shape, x.dtype, x.storage), noise)


def drawn(m: Machine, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return (weights, experts) of sparsemixer, two per token; its local variables live until it
    returns."""
    first, one, gates = _one(m, scores, scores)
    second, two, others = _one(m, scores, scattered(m, scores, one))
    multiplier = join(m, first, second)
    numbers = m.new((scores.shape[0], 2), INT64)
    del one, two, gates, others
    return multiplier, numbers


def _one(m: Machine, scores: Tensor, among: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (weight, expert index, softmax from which the expert was drawn)."""
    gates = masked(m, among)
    number = m.new((scores.shape[0], 1), INT64)
    gates = softmax(m, gates if m.autocast is None else cast(m, gates, FLOAT32))
    chosen = gather(m, gates, number)
    return weighed(m, scores, chosen, number, gates), number, gates


def scattered(m: Machine, x: Tensor, number: Tensor) -> Tensor:
    """Return torch.scatter(x, -1, number, -inf)."""
    return remade(m, x, m.new(x.shape, x.dtype), number)


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


# ---- gpt-oss


def gpt_oss_mlp(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """Return GptOssMLP.forward; the router's logits and scores live until it returns."""
    m, shape, p = s.m, x.shape, p.at("mlp")
    e = moe.experts_of(s, number)
    assert e is not None
    flat = x.view(s.rows, shape[-1])
    logits = linear(m, flat, p.weight("router"), p.bias("router"))
    value, numbers = topk(m, logits, e.top_k)
    scores = softmax(m, value)
    del value
    out = moe.experts(s, p.at("experts"), flat, scores, numbers, FORM)
    return out.view(*shape)


def gated(s: TrainingStep, both: Tensor) -> Tensor:
    """Return GptOssExperts._apply_gate: clamped, (up + 1) * gate * sigmoid(alpha * gate)."""
    m, half = s.m, both.shape[-1] // 2
    gate, up = cut(m, both, half), cut(m, both, half)
    gate = clamp(m, gate, bounds=1)
    up = clamp(m, up)
    glu = mul(m, gate, of_result(m, scale(m, gate)))
    return mul(m, shift(m, up), glu)


def rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb"""
    cos, sin = positions
    return _turned(m, q, cos, sin), _turned(m, k, cos, sin)


def _turned(m: Machine, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """_apply_rotary_emb"""
    half = x.shape[-1] // 2
    a, b = split(m, x, (half, half))
    return pairs_turned(m, a, b, cos, sin)


FORM = moe.Form(gate=gated, transposed=True)
LAYER = LayerShape(
    norm=by_weight(wide_norm),
    attend=AttentionShape(rotate=rotated, first=True, sinks="sinks"),
    feed=gpt_oss_mlp,
)


def layer(s: TrainingStep) -> LayerShape:
    """Return GptOssDecoderLayer with the attention that is set, or eager."""
    if s.kernel == "flash":
        s.assume(sentence("flash_sinks"))
    elif (
        s.kernel != "flex"
    ):  # saves what flash-attention does (torch nn/attention/flex_attention.py)
        written_out(s)
    return LAYER


def rotary(s: TrainingStep) -> Rotary:
    """Return cosines and sines half as wide as a head."""
    return rotary_of(s, heads(s, 0).key_dim // 2)


gpt_oss = DecoderNet(layer=layer, rotary=rotary)
