"""Phi-3 and GLM: queries, keys and values from one linear, gate and up from another.

Source: transformers 5.23 models/phi3/modeling_phi3.py, models/glm/modeling_glm.py.
"""

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.norms import rms_norm
from weighbridge.autograd.ops.pointwise import add, dropout, mul, several
from weighbridge.autograd.ops.shaping import cut, split, turned
from weighbridge.autograd.tensors import Tensor
from weighbridge.training.attend import attended
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder
from weighbridge.training.nets.decoder import (
    Kind,
    Masks,
    Rotary,
    attention_and_weights,
    heads,
    part_rotated,
    turned_width,
    window,
)
from weighbridge.training.step import Step


def forward(s: Step) -> Tensor:
    """Phi3Model.forward"""
    return decoder.forward(s, decoder_layer, turned_width(s))


def decoder_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """Phi3DecoderLayer.forward"""
    m, rate = s.m, s.rate("resid_pdrop")
    residual = x
    x = rms_norm(m, x, p.weight("input_layernorm"))
    x, self_attn_weights = attention(s, p.at("self_attn"), x, number, positions, masks)
    x = add(m, residual, dropout(m, x, rate))
    residual = x
    x = rms_norm(m, x, p.weight("post_attention_layernorm"))
    x = mlp(s, p.at("mlp"), x)
    del self_attn_weights
    return add(m, residual, dropout(m, x, rate))


def attention(
    s: Step, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Phi3Attention.forward: slices, whose gradients are each put into zeros of the whole."""
    m, h = s.m, heads(s, number)
    qkv = p.linear(m, x, "qkv_proj")
    q = cut(m, qkv, h.heads * h.key_dim).view(h.batch, h.length, h.heads, h.key_dim)
    k = cut(m, qkv, h.kv_heads * h.key_dim).view(h.batch, h.length, h.kv_heads, h.key_dim)
    v = cut(m, qkv, h.kv_heads * h.value_dim).view(h.batch, h.length, h.kv_heads, h.value_dim)
    q, k = part_rotated(m, turned(m, q), turned(m, k), positions)
    reach, rate = window(s, number), s.rate("attention_dropout")
    out, weights = attended(s, q, k, v, h, mask=masks[reach], p=rate, first=True)
    return p.linear(m, out.view(h.batch, h.length, h.heads * h.value_dim), "o_proj"), weights


def mlp(s: Step, p: Module, x: Tensor) -> Tensor:
    """Phi3MLP.forward"""
    m = s.m
    up_states = p.linear(m, x, "gate_up_proj")
    gate, up_states = split(m, up_states, [up_states.shape[-1] // 2] * 2)
    up_states = mul(m, up_states, several(m, gate, str(s.built.config.get("hidden_act") or "silu")))
    return p.linear(m, up_states, "down_proj")


def glm(s: Step) -> Tensor:
    """GlmModel.forward"""
    return decoder.forward(s, glm_layer, turned_width(s))


def glm_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """Glm4DecoderLayer.forward; the older GLM has two of the four norms."""
    m, both = s.m, p.has("post_mlp_layernorm")
    residual = x
    x = rms_norm(m, x, p.weight("input_layernorm"))
    x, _ = attention_and_weights(
        s, p.at("self_attn"), x, number, positions, masks, kind=GLM, first=True
    )
    if both:
        x = rms_norm(m, x, p.weight("post_self_attn_layernorm"))
    x = add(m, residual, x)
    residual = x
    x = rms_norm(m, x, p.weight("post_attention_layernorm"))
    x = mlp(s, p.at("mlp"), x)
    if both:
        x = rms_norm(m, x, p.weight("post_mlp_layernorm"))
    return add(m, residual, x)


def interleaved(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb: each layer makes cosines and sines of its own."""
    own_cos, own_sin = (m.new(t.shape, t.dtype) for t in positions)
    return part_rotated(m, q, k, (own_cos, own_sin))


GLM = Kind(rotate=interleaved)
