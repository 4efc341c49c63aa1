"""DeepSeek's multi-head latent attention, expanded to heads before the kernel.

Source: transformers 5.23 models/deepseek_v3/modeling_deepseek_v3.py (DeepseekV3Attention),
models/deepseek_v2/modeling_deepseek_v2.py.

LongCat-Flash: two halves of attention and feed-forward a layer, and experts beside the second.

    attention    DeepSeek's latent one, whose queries and keys are scaled
    experts      read what the first feed-forward reads; added at the layer's end. Some do nothing
                 to a token but weigh it; all run one after the other, in transformers 5 too

Source: transformers 5.23 and 4.57.6 models/longcat_flash/modeling_longcat_flash.py.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from weighbridge.arch.mixers import Latent
from weighbridge.arch.model_types import differs
from weighbridge.forward.machine import Grads, Machine, Needs, record
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net
from weighbridge.forward.ops.attention import AttentionHeads
from weighbridge.forward.ops.norms import rms_norm
from weighbridge.forward.ops.pointwise import add, mul, scale, sub
from weighbridge.forward.ops.shaping import cut, join, split
from weighbridge.forward.parts import moe
from weighbridge.forward.parts.attention import Masks, attended
from weighbridge.forward.parts.layer import DecoderNet, Layer, mlp, normed
from weighbridge.forward.parts.rotary import (
    Rotary,
    complex_rotary,
    complex_rotated,
    rotary_of,
    rotated,
)
from weighbridge.forward.parts.routers import router
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Computed, Tensor


def of(s: TrainingStep, number: int) -> Latent:
    return next(m for m in s.built.body.blocks[number].mixers if isinstance(m, Latent))


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """DeepseekV3Attention.forward"""
    found = states(s, p, x, number, positions)
    return out(s, p, found, masks[None])


class States(NamedTuple):
    """The tensors that go into the kernel, and those that local variables hold besides."""

    query: Tensor
    key: Tensor
    value: Tensor
    a: Latent
    small: Tensor | None  # what queries are made from, where it is held
    held: tuple[Tensor, ...]


def states(s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary) -> States:
    m, a = s.m, of(s, number)
    lead, small = (s.batch, s.length), None
    if p.has("q_a_proj"):
        small = rms_norm(m, p.linear(m, x, "q_a_proj"), p.weight("q_a_layernorm"))
        q = p.linear(m, small, "q_b_proj")
        small = small if a.indexer else None
    else:
        q = p.linear(m, x, "q_proj")
    q = q.view(*lead, a.heads, a.nope + a.rotary)
    q_pass, q_rot = split(m, q, (a.nope, a.rotary))
    compressed = p.linear(m, x, "kv_a_proj_with_mqa")
    kv, k_rot = split(m, compressed, (a.rank, a.rotary))
    kv = rms_norm(m, kv, p.weight("kv_a_layernorm"))
    k_rot = k_rot.view(*lead, 1, a.rotary)
    q_rot, k_rot = _turn(s)(m, q_rot, k_rot, positions)
    query = join(m, q_pass, q_rot)
    key, value = expanded(s, p, a, kv, k_rot)
    return States(query, key, value, a, small, (q, q_rot, compressed, kv, k_rot))


def out(
    s: TrainingStep, p: Module, found: States, mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """(output, eager attention's weights)"""
    a = found.a
    h = AttentionHeads(
        batch=s.batch,
        length=s.length,
        seen=s.length,
        heads=a.heads,
        kv_heads=a.heads,
        key_dim=a.nope + a.rotary,
        value_dim=a.value_dim,
    )
    rate = s.rate("attention_dropout")
    output, weights = attended(s, found.query, found.key, found.value, h, mask=mask, p=rate)
    output = output.view(s.batch, s.length, a.heads * a.value_dim)
    return p.linear(s.m, output, "o_proj"), weights


def _turn(s: TrainingStep) -> Callable[..., tuple[Tensor, Tensor]]:
    if differs(s.built.kind, "complex_rotary"):
        return complex_rotated
    return rotated if s.built.config.get("rope_interleave") is False else interleaved


def expanded(
    s: TrainingStep, p: Module, latent: Latent, kv: Tensor, k_rot: Tensor
) -> tuple[Tensor, Tensor]:
    """expand_kv: keys of all heads are copied together from both parts."""
    m = s.m
    both = p.linear(m, kv, "kv_b_proj").view(
        s.batch, s.length, latent.heads, latent.nope + latent.value_dim
    )
    k_nope, value = split(m, both, (latent.nope, latent.value_dim))
    key = _filled(m, k_nope, k_rot, latent)
    return key, value


def _filled(m: Machine, k_nope: Tensor, k_rot: Tensor, latent: Latent) -> Tensor:
    """new_empty, and two copies into slices of it: each copy's backward clones the gradient and
    takes its slice (CopySlices)."""
    lead = k_nope.shape[:-1]
    out = m.new((*lead, latent.nope + latent.rotary), k_nope.dtype)
    first, second = k_nope.shape, k_rot.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        rest = m.new(g.shape, g.dtype)
        rotated = m.new((*lead, latent.rotary), g.dtype)
        summed = m.new(second, g.dtype)
        del rotated
        again = m.new(g.shape, g.dtype)
        plain = m.new(first, g.dtype)
        del rest, again
        return [plain, summed]

    record(m, back, [k_nope, k_rot], [], out)
    return out


def interleaved(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb_interleave"""
    cos, sin = positions
    half = q.shape[-1] // 2
    cos, sin = (Computed((*t.shape[:-1], half), t.dtype, t.storage) for t in (cos, sin))
    q1, q2 = cut(m, q, half), cut(m, q, half)
    k1, k2 = cut(m, k, half), cut(m, k, half)
    q_embed = pairs_turned(m, q1, q2, cos, sin)
    k_embed = pairs_turned(m, k1, k2, cos, sin)
    return q_embed, k_embed


def pairs_turned(m: Machine, a: Tensor, b: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """cat([a * cos - b * sin, b * cos + a * sin])"""
    return join(
        m,
        sub(m, mul(m, a, cos), mul(m, b, sin)),
        add(m, mul(m, b, cos), mul(m, a, sin)),
    )


def rotary(s: TrainingStep) -> Rotary:
    return rotary_of(s, of(s, 0).rotary)


def rotary_2(s: TrainingStep) -> Tensor:
    """Positions of DeepSeek-V2: complex numbers."""
    return complex_rotary(s, of(s, 0).rotary)


LAYER = replace(moe.LAYER, attend=attention)
deepseek_v3 = Net(DecoderNet(layer=LAYER, rotary=rotary), mixes=Latent)
deepseek_v2 = Net(DecoderNet(layer=LAYER, rotary=rotary_2), mixes=Latent)


# ---- LongCat-Flash


def longcat_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """LongcatFlashMLA.forward"""
    m, a, lead = s.m, of(s, number), (s.batch, s.length)
    small = rms_norm(m, p.linear(m, x, "q_a_proj"), p.weight("q_a_layernorm"))
    q = p.linear(m, small, "q_b_proj").view(*lead, a.heads, a.nope + a.rotary)
    del small
    q_pass, q_rot = split(m, q, (a.nope, a.rotary))
    compressed = p.linear(m, x, "kv_a_proj_with_mqa")
    kv, k_rot = split(m, compressed, (a.rank, a.rotary))
    kv = rms_norm(m, kv, p.weight("kv_a_layernorm"))
    q_pass, q_rot, kv = scale(m, q_pass), scale(m, q_rot), scale(m, kv)
    k_rot = k_rot.view(*lead, 1, a.rotary)
    q_rot, k_rot = interleaved(m, q_rot, k_rot, positions)
    query = join(m, q_pass, q_rot)
    key, value = expanded(s, p, a, kv, k_rot)
    held = (q, q_pass, q_rot, compressed, kv, k_rot)
    return out(s, p, States(query, key, value, a, None, held), masks[None])


def experts(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """LongcatFlashMoE.forward"""
    e = moe.experts_of(s, number)
    assert e is not None
    flat, p = x.view(s.rows, x.shape[-1]), p.at("mlp")
    _, weights, numbers = router(s)(s, p, flat, e)
    return moe.experts(s, p.at("experts"), flat, weights, numbers).view(*x.shape)


def halves(
    x: Tensor,
    s: TrainingStep,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    *_more: Tensor,
) -> Tensor:
    """LongcatFlashDecoderLayer.forward"""
    m, shortcut = s.m, None
    for half in ("0", "1"):
        residual = x
        x = normed(m, x, p, f"input_layernorm.{half}")
        x, _ = longcat_attention(s, p.at(f"self_attn.{half}"), x, number, positions, masks)
        x = residual = add(m, residual, x)
        x = normed(m, x, p, f"post_attention_layernorm.{half}")
        if shortcut is None:
            shortcut = experts(s, p, x, number)
        x = mlp(s, p.at(f"mlps.{half}"), x)
        x = add(m, residual, x)
    assert shortcut is not None
    return add(m, x, shortcut)


def _layer(_: TrainingStep) -> Layer:
    return halves


longcat = Net(DecoderNet(layer=_layer, rotary=rotary, norm=normed), mixes=Latent)
