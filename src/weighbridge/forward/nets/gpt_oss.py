"""gpt-oss: sinks in attention, which is eager; experts with biases, gate and up by turns.

sdpa has no sinks, so the class has eager attention, and flash-attention 3 that is installed apart
(_supports_sdpa, _compatible_flash_implementations). Weights in mxfp4 are trained dequantized.

Source: transformers 5.23 models/gpt_oss/modeling_gpt_oss.py.
"""

from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.nets.latent import pairs_turned
from weighbridge.forward.ops.experts import topk
from weighbridge.forward.ops.matrix import linear
from weighbridge.forward.ops.norms import wide_norm
from weighbridge.forward.ops.pointwise import (
    clamp,
    mul,
    of_result,
    scale,
    shift,
    softmax,
)
from weighbridge.forward.ops.shaping import cut, split
from weighbridge.forward.parts import moe
from weighbridge.forward.parts.attention import heads, written_out
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import AttentionShape, LayerShape, by_weight
from weighbridge.forward.parts.rotary import Rotary, rotary_of
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor

FLASH = (
    "attention by flash-attention 3 with sinks (kernels-community/vllm-flash-attn3): the sinks "
    "have no gradient, and are not trained"
)


def mlp(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """GptOssMLP.forward; the router's logits and scores live to its end."""
    m, shape, p = s.m, x.shape, p.at("mlp")
    found = moe.experts_of(s, number)
    assert found is not None
    flat = x.view(s.rows, shape[-1])
    logits = linear(m, flat, p.weight("router"), p.bias("router"))
    value, numbers = topk(m, logits, found.top_k)
    scores = softmax(m, value)
    del value
    out = moe.experts(s, p.at("experts"), flat, scores, numbers, FORM)
    return out.view(*shape)


def gated(s: TrainingStep, both: Tensor) -> Tensor:
    """GptOssExperts._apply_gate: clamped, (up + 1) * gate * sigmoid(alpha * gate)."""
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
    feed=mlp,
)


def layer(s: TrainingStep) -> LayerShape:
    """GptOssDecoderLayer, with the attention that there is."""
    if s.kernel == "flash":
        s.assume(FLASH)
    else:
        written_out(s)
    return LAYER


def rotary(s: TrainingStep) -> Rotary:
    """Cosines and sines as wide as half a head."""
    return rotary_of(s, heads(s, 0).key_dim // 2)


gpt_oss = DecoderNet(layer=layer, rotary=rotary)
