"""Qwen3-Next and Qwen3.5: gated delta nets, and every fourth layer attention whose output is gated;
experts and one more that all tokens go to, or a dense feed-forward.

Source: transformers 5.23 models/qwen3_next/modeling_qwen3_next.py,
models/qwen3_5/modeling_qwen3_5.py (Qwen3_5GatedDeltaNet),
models/qwen3_5_moe/modeling_qwen3_5_moe.py.
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32
from weighbridge.models.arch.mixers import Attention, GatedDelta
from weighbridge.models.arch.rotary import head_dim, share
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net, installed, sparse
from weighbridge.training.forward.nets.delta import (
    SOLVED_SINCE,
    TRIANGULAR_SINCE,
    Delta,
    DeltaInputs,
    delta_of,
    delta_rule,
    delta_rule_by_rows,
)
from weighbridge.training.forward.nets.mamba import along
from weighbridge.training.forward.ops.norms import gemma_norm
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    mean,
    mul,
    of_input,
    of_result,
    power,
    rsqrt,
    scale,
    shift,
)
from weighbridge.training.forward.ops.scans import softplus
from weighbridge.training.forward.ops.shaping import copied, join, split, turned
from weighbridge.training.forward.parts.attention import Masks, attended, heads
from weighbridge.training.forward.parts.layer import (
    DecoderNet,
    LayerShape,
    by_weight,
    unpadded,
    with_padding,
)
from weighbridge.training.forward.parts.rotary import Rotary, part_rotated, rotary_of
from weighbridge.training.forward.parts.rotary import angles as cosines
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Shape, Tensor


def rotary_width(s: TrainingStep) -> int:
    config = s.built.config
    return int(head_dim(config) * share(config, default=0.25))


def rotary_3_5(s: TrainingStep) -> Rotary:
    """Return Qwen3_5TextRotaryEmbedding.forward: positions in time, rows and columns for each
    sequence, merged in place into one set."""
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
    """Return the cosines and sines of Qwen3-Next, for a part of each head."""
    return rotary_of(s, rotary_width(s))


def mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, *seen: Any, padding: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return (output of attention or a gated delta net, whichever the layer has; attention
    weights)."""
    if p.has("self_attn.q_proj"):
        return attention(s, p.at("self_attn"), x, number, *seen)
    inner = p.at("linear_attn")
    return delta_net(s, inner, unpadded(s.m, x, padding), delta_of(s, number)), None


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Return Qwen3NextAttention.forward; the queries' linear outputs a gate for each head, too."""
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


# ---- gated delta nets


def delta_net(s: TrainingStep, p: Module, x: Tensor, delta: Delta) -> Tensor:
    """Return Qwen3NextGatedDeltaNet.forward or Qwen3_5GatedDeltaNet.forward; local variables live
    until it returns."""
    m = s.m
    projected, parts, mixed, z, b, a = (fused if p.has("in_proj_qkvz") else apart)(m, p, x, delta)
    mixed = along(m, p, mixed)
    query, key, value = heads_of(m, mixed, delta)
    del parts
    beta = of_result(m, b)
    g = decays(m, p, a)
    inputs = DeltaInputs(query, key, value, g, beta)
    if m.installed:
        core = installed.delta_rule(m, inputs, delta)
    elif s.transformers < SOLVED_SINCE:
        core = delta_rule_by_rows(
            m, inputs, delta, filled_in_place=s.transformers < TRIANGULAR_SINCE
        )
    else:
        core = delta_rule(m, inputs, delta)
    if core.dtype == FLOAT32 and s.transformers >= SOLVED_SINCE and not m.installed:
        core = copied(m, core)  # the delta rule returns heads before tokens
    core = gated_norm(m, core, z, p.weight("norm"))
    out = p.linear(m, core.view(delta.batch, delta.length, delta.values), "out_proj")
    del projected, mixed, query, key, value, g
    return out


# (tensors held until the layer returns, those held until heads are split, mixed, z, b, a)
Projected = tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor, Tensor, Tensor, Tensor]


def fused(m: Machine, p: Module, x: Tensor, delta: Delta) -> Projected:
    """Return the projections of fix_query_key_value_ordering: one key head's outputs are adjacent,
    and copied apart."""
    each = delta.values // delta.key_heads
    qkvz, ba = p.linear(m, x, "in_proj_qkvz"), p.linear(m, x, "in_proj_ba")
    lead = delta.batch, delta.length, delta.key_heads
    query, key, value, z = split(
        m,
        qkvz.view(*lead, qkvz.shape[-1] // delta.key_heads),
        (delta.key_dim, delta.key_dim, each, each),
    )
    few = delta.heads // delta.key_heads
    b, a = split(m, ba.view(*lead, 2 * few), (few, few))
    value, z, b, a = copied(m, value), copied(m, z), copied(m, b), copied(m, a)
    query, key = copied(m, query), copied(m, key)
    flat = [
        t.view(delta.batch, delta.length, t.numel // (delta.batch * delta.length))
        for t in (query, key, value)
    ]
    b, a = (t.view(delta.batch, delta.length, delta.heads) for t in (b, a))
    z = z.view(delta.batch, delta.length, delta.heads, delta.value_dim)
    return (qkvz, ba), (query, key, value), join(m, *flat), z, b, a


def apart(m: Machine, p: Module, x: Tensor, delta: Delta) -> Projected:
    mixed = p.linear(m, x, "in_proj_qkv")
    z = p.linear(m, x, "in_proj_z").view(delta.batch, delta.length, delta.heads, delta.value_dim)
    return (), (), mixed, z, p.linear(m, x, "in_proj_b"), p.linear(m, x, "in_proj_a")


def heads_of(m: Machine, mixed: Tensor, delta: Delta) -> tuple[Tensor, ...]:
    """Return queries, keys and values by head. Their gradients come with heads before tokens,
    except those summed over repeats, and those of kernels."""
    query, key, value = split(m, mixed, (delta.keys, delta.keys, delta.values))
    lead = delta.batch, delta.length
    if not m.installed:
        value = turned(m, value)
        if delta.key_heads == delta.heads:
            query, key = turned(m, query), turned(m, key)
    return (
        query.view(*lead, delta.key_heads, delta.key_dim),
        key.view(*lead, delta.key_heads, delta.key_dim),
        value.view(*lead, delta.heads, delta.value_dim),
    )


def decays(m: Machine, p: Module, a: Tensor) -> Tensor:
    """Return -A_log.float().exp() * softplus(a.float() + dt_bias)."""
    rates = scale(m, of_result(m, cast(m, p.bare("A_log"), FLOAT32)))
    return mul(m, rates, softplus(m, add(m, cast(m, a, FLOAT32), p.bare("dt_bias"))))


def gated_norm(m: Machine, x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
    """Return Qwen3NextRMSNormGated.forward, which normalizes before gating."""
    dtype = x.dtype
    hidden = cast(m, x, FLOAT32)
    variance = mean(m, power(m, hidden))
    hidden = mul(m, hidden, rsqrt(m, shift(m, variance)))
    hidden = mul(m, weight, cast(m, hidden, dtype))
    hidden = mul(m, hidden, of_input(m, cast(m, gate, FLOAT32)))
    return cast(m, hidden, dtype)


LAYER = LayerShape(attend=mixed, norm=by_weight(gemma_norm), feed=sparse.gated_shared, at="")
qwen3_next = Net(
    DecoderNet(layer=with_padding(LAYER), rotary=rotary), mixes=(Attention, GatedDelta)
)
qwen3_5 = Net(
    DecoderNet(layer=with_padding(LAYER), rotary=rotary_3_5), mixes=(Attention, GatedDelta)
)
