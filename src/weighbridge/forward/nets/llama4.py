"""Llama 4: every expert of a layer works on every token, and what it was not chosen for is zero.

    routed_in     [E N, D], all tokens once for each of the E experts, times their scores
    experts       two products of E matrices each, of all these rows
    attention     positions by complex numbers, and norms without weights; every fourth layer has
                  neither, and scales its queries

Source: transformers 5.23 models/llama4/modeling_llama4.py.
"""

from weighbridge.arch.body import Experts
from weighbridge.dtypes import FLOAT32
from weighbridge.forward.machine import Machine, remade
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.experts import summed_k, topk
from weighbridge.forward.ops.matrix import linear, matmul
from weighbridge.forward.ops.norms import plain_norm
from weighbridge.forward.ops.pointwise import (
    add_,
    cast,
    mul,
    of_result,
    several,
)
from weighbridge.forward.ops.shaping import copied, repeat, split, turned
from weighbridge.forward.parts import moe
from weighbridge.forward.parts.attention import Masks, attended, heads, window
from weighbridge.forward.parts.layer import DecoderNet, Held, LayerShape, mlp
from weighbridge.forward.parts.rotary import complex_rotary, complex_rotated, has_positions
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor, absent


def norm(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """Llama4TextRMSNorm.forward"""
    w = p.weight(name)
    return x if absent(w) else mul(m, plain_norm(m, x), w)


def feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Held:
    """A dense feed-forward, or experts, whose router's logits live to the layer's end."""
    e, p, shape = moe.experts_of(s, number), p.at("feed_forward"), x.shape
    if e is None:
        return mlp(s, p, x), x
    out, logits = experts(s, p, x.view(s.rows, shape[-1]), e)
    return out.view(*shape), logits


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, freqs_cis: Tensor, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Llama4TextAttention.forward"""
    m, h, config = s.m, heads(s, number), s.built.config
    q = p.linear(m, x, "q_proj").view(h.batch, h.length, h.heads, h.key_dim)
    k = p.linear(m, x, "k_proj").view(h.batch, h.length, h.kv_heads, h.key_dim)
    v = p.linear(m, x, "v_proj").view(h.batch, h.length, h.kv_heads, h.value_dim)
    turns = has_positions(s, number)
    if turns:
        q, k = complex_rotated(m, q, k, freqs_cis)
        if config.get("use_qk_norm") is not False:
            q, k = plain_norm(m, q), plain_norm(m, k)
    elif config.get("attn_temperature_tuning") is not False:
        scales = m.new((1, h.length, 1, 1), FLOAT32)
        q = cast(m, mul(m, q, scales), q.dtype)
    reach, rate = window(s, number), s.rate("attention_dropout")
    out, weights = attended(
        s, turned(m, q), turned(m, k), v, h, mask=masks[reach], p=rate, wide=False
    )
    out = out.view(h.batch, h.length, h.heads * h.value_dim)
    return p.linear(m, out, "o_proj"), weights


def experts(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> tuple[Tensor, Tensor]:
    """Llama4TextMoe.forward: (output, the router's logits)"""
    m, tokens, width = s.m, x.shape[0], x.shape[-1]
    scores, logits = router(m, p, x, experts)
    routed_in = repeat(m, x, experts.count, (experts.count * tokens, width))
    column = copied(m, scores).view(experts.count * tokens, 1)
    routed_in = mul(m, routed_in, column)
    routed_out = every_expert(s, p.at("experts"), routed_in, experts)
    out = mlp(s, p.at("shared_expert"), x)
    return add_(m, out, summed_k(m, routed_out, tokens)), logits


def router(m: Machine, p: Module, x: Tensor, experts: Experts) -> tuple[Tensor, Tensor]:
    """Llama4Router.forward: scores of those that were not chosen are the sigmoid of -inf."""
    logits = linear(m, x, p.stacked(m, "router.weight"))
    value, numbers = topk(m, logits, experts.top_k)
    wide = cast(m, scattered(m, value, numbers, logits.shape[-1]), FLOAT32)
    return cast(m, of_result(m, wide), logits.dtype), logits


def scattered(m: Machine, value: Tensor, numbers: Tensor, count: int) -> Tensor:
    """full_like(-inf).scatter_(1, numbers, value)"""
    return remade(m, value, m.new((value.shape[0], count), value.dtype), numbers)


def every_expert(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Tensor:
    """Llama4TextExperts.forward"""
    m, shape = s.m, x.shape
    up_weight, down_weight = p.stacked(m, "gate_up_proj"), p.stacked(m, "down_proj")
    x = x.view(experts.count, shape[0] // experts.count, shape[1])
    gate_up = matmul(m, x, up_weight, up_weight.shape[-1])
    gate, up = split(m, gate_up, (gate_up.shape[-1] // 2,) * 2)
    kind = str(s.built.config.get("hidden_act") or "silu")
    out = matmul(m, mul(m, up, several(m, gate, kind)), down_weight, shape[1])
    return out.view(*shape)


LAYER = LayerShape(norm=norm, attend=attention, feed=feed, holds=("attended",))


def rotary(s: TrainingStep) -> Tensor:
    return complex_rotary(s, heads(s, 0).key_dim)


llama4 = DecoderNet(layer=LAYER, rotary=rotary)
