"""Qwen3-Next and Qwen3.5: gated delta nets, and every fourth layer attention whose output is gated;
experts and one more that all tokens go to, or a dense feed-forward.

Source: transformers 5.23 models/qwen3_next/modeling_qwen3_next.py,
models/qwen3_5/modeling_qwen3_5.py, models/qwen3_5_moe/modeling_qwen3_5_moe.py.
"""

from typing import Any

from weighbridge.arch.mixers import Attention, GatedDelta
from weighbridge.arch.rotary import head_dim, share
from weighbridge.dtypes import FLOAT32
from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net, sparse
from weighbridge.forward.nets.delta import delta_of, mixer
from weighbridge.forward.ops.norms import gemma_norm
from weighbridge.forward.ops.pointwise import mul, of_result
from weighbridge.forward.ops.shaping import copied, split, turned
from weighbridge.forward.parts.attention import Masks, attended, heads
from weighbridge.forward.parts.layer import (
    DecoderNet,
    LayerShape,
    by_weight,
    unpadded,
    with_padding,
)
from weighbridge.forward.parts.rotary import Rotary, part_rotated, rotary_of
from weighbridge.forward.parts.rotary import angles as cosines
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Shape, Tensor


def rotary_width(s: TrainingStep) -> int:
    config = s.built.config
    return int(head_dim(config) * share(config, default=0.25))


def rotary_3_5(s: TrainingStep) -> Rotary:
    """Qwen3_5TextRotaryEmbedding.forward: times, rows and columns of every sequence, from which one
    set is put together, in place."""
    m, width = s.m, rotary_width(s)
    axes = 3, s.batch, s.length, width // 2
    freqs = angles(m, axes)
    cos, sin = cosines(m, axes), cosines(m, axes)
    shape = s.batch, s.length, 1, width
    sin = m.new(shape, FLOAT32)
    cos = m.new(shape, FLOAT32)
    if s.dtype == FLOAT32:
        return cos, sin
    lower_cos, lower_sin = m.new(shape, s.dtype), m.new(shape, s.dtype)
    del freqs, cos, sin
    return lower_cos, lower_sin


def angles(m: Machine, axes: Shape) -> Tensor:
    wide = m.new((*axes[:-1], 1), FLOAT32)
    out = m.new(axes, FLOAT32)
    del wide
    return out


def rotary(s: TrainingStep) -> Rotary:
    """Cosines and sines of Qwen3-Next."""
    return rotary_of(s, rotary_width(s))


def mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, *seen: Any, padding: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Attention, or a gated delta net."""
    if p.has("self_attn.q_proj"):
        return attention(s, p.at("self_attn"), x, number, *seen)
    inner = p.at("linear_attn")
    return mixer(s, inner, unpadded(s.m, x, padding), delta_of(s, number)), None


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Qwen3NextAttention.forward: the gate lies beside the queries of each head."""
    m, h = s.m, heads(s, number)
    lead = h.batch, h.length
    both = p.linear(m, x, "q_proj").view(*lead, h.heads, 2 * h.key_dim)
    q, gate = split(m, both, (h.key_dim, h.key_dim))
    del both
    gate = copied(m, gate).view(*lead, h.heads * h.key_dim)
    q = gemma_norm(m, q, p.weight("q_norm"))
    k = p.linear(m, x, "k_proj").view(*lead, h.kv_heads, h.key_dim)
    k = gemma_norm(m, k, p.weight("k_norm"))
    v = p.linear(m, x, "v_proj").view(*lead, h.kv_heads, h.value_dim)
    q, k = part_rotated(m, turned(m, q), turned(m, k), positions)
    rate = s.rate("attention_dropout")
    out, weights = attended(s, q, k, v, h, mask=masks[None], p=rate, first=True)
    out = mul(m, out.view(*lead, h.heads * h.value_dim), of_result(m, gate))
    return p.linear(m, out, "o_proj"), weights


LAYER = LayerShape(attend=mixed, norm=by_weight(gemma_norm), feed=sparse.gated_shared, at="")
qwen3_next = Net(
    DecoderNet(layer=with_padding(LAYER), rotary=rotary), mixes=(Attention, GatedDelta)
)
qwen3_5 = Net(
    DecoderNet(layer=with_padding(LAYER), rotary=rotary_3_5), mixes=(Attention, GatedDelta)
)
