"""Decoders of Llama's shape: RMS norms, rotary positions, grouped heads, gated feed-forwards.

Source: transformers 5.23 models/llama/modeling_llama.py, models/qwen3/modeling_qwen3.py.
"""

from collections.abc import Callable
from typing import Any

from weighbridge.arch.mixers import Attention
from weighbridge.autograd.checkpoint import checkpoint
from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.attention import Heads
from weighbridge.autograd.ops.losses import embedding
from weighbridge.autograd.ops.norms import rms_norm
from weighbridge.autograd.ops.pointwise import add, mul, scale, several
from weighbridge.autograd.ops.shaping import cut, join
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import BOOL, FLOAT32, INT64
from weighbridge.training.attend import attend
from weighbridge.training.modules import Module
from weighbridge.training.step import Step

Rotary = tuple[Tensor, Tensor]
EMBEDDINGS = ("embed_tokens", "wte", "tok_embeddings", "embed_in", "word_embeddings")
FINAL = ("norm", "ln_f", "final_layernorm", "final_layer_norm")


def forward(s: Step) -> Tensor:
    """LlamaModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = embedding(m, ids, built.base.weight(built.base.first(*EMBEDDINGS)))
    masks = {window: mask(s, window) for window in _windows(s)}
    cos, sin = rotary(s)
    x = inputs_embeds
    for i, layer in enumerate(built.layers):
        x = run(s, decoder_layer, x, layer, i, (cos, sin), masks)
    return rms_norm(m, x, built.base.weight(built.base.first(*FINAL)))


def run(s: Step, layer: Callable[..., Tensor], x: Tensor, p: Module, *rest: Any) -> Tensor:
    """A layer, under the checkpointing and the sharding of the step."""
    again = s.checkpointing != "none" and s.m.training

    def whole(x: Tensor) -> Tensor:
        if not again:
            return layer(x, s, p, *rest)
        made: Tensor = checkpoint(s.m, layer, x, s, p, *rest, reentrant=s.reentrant)
        return made

    return s.around.layer(p, whole, x)


def decoder_layer(
    x: Tensor, s: Step, p: Module, number: int, positions: Rotary, masks: dict[Any, Any]
) -> Tensor:
    m = s.m
    residual = x
    x = rms_norm(m, x, p.weight("input_layernorm"))
    x = attention(s, p.at("self_attn"), x, number, positions, masks)
    x = add(m, residual, x)
    residual = x
    x = rms_norm(m, x, p.weight("post_attention_layernorm"))
    x = mlp(s, p.at("mlp"), x)
    return add(m, residual, x)


def attention(
    s: Step, p: Module, x: Tensor, number: int, positions: Rotary, masks: dict[Any, Any]
) -> Tensor:
    m, h = s.m, heads(s, number)
    q = p.linear(m, x, "q_proj").view(h.batch, h.length, h.heads, h.key_dim)
    if p.has("q_norm"):
        q = rms_norm(m, q, p.weight("q_norm"))
    k = p.linear(m, x, "k_proj").view(h.batch, h.length, h.kv_heads, h.key_dim)
    if p.has("k_norm"):
        k = rms_norm(m, k, p.weight("k_norm"))
    v = p.linear(m, x, "v_proj").view(h.batch, h.length, h.kv_heads, h.value_dim)
    q, k = rotated(m, q, k, positions)
    out = attend(s, q, k, v, h, mask=masks[window(s, number)], p=s.rate("attention_dropout"))
    return p.linear(m, out.view(h.batch, h.length, h.heads * h.value_dim), "o_proj")


def heads(s: Step, number: int) -> Heads:
    """Of the layer's first attention."""
    found = next(x for x in s.built.body.blocks[number].mixers if isinstance(x, Attention))
    return Heads(
        batch=s.batch,
        length=s.length,
        seen=s.length,
        heads=found.heads,
        kv_heads=found.kv_heads,
        key_dim=found.key_dim,
        value_dim=found.value_dim,
    )


def window(s: Step, number: int) -> int | None:
    found = next(x for x in s.built.body.blocks[number].mixers if isinstance(x, Attention))
    return found.reach


def _windows(s: Step) -> set[int | None]:
    return {window(s, i) for i in range(len(s.built.layers))}


def mask(s: Step, reach: int | None) -> Tensor | None:
    """sdpa is given none where nothing is padded and all is within reach (masking_utils.py,
    _ignore_causal_mask_sdpa); eager has one of the model's dtype, flash_attention_2 never."""
    if s.kernel == "flash":
        return None
    batch = s.batch if s.padded else 1
    if s.kernel == "eager":
        return s.m.new((batch, 1, s.length, s.length), s.dtype)
    if not s.padded and (reach is None or s.length < reach):
        return None
    return s.m.new((batch, 1, s.length, s.length), BOOL)


def rotary(s: Step) -> Rotary:
    """Cosines and sines of the step's tokens, in float32 first."""
    m, width = s.m, heads(s, 0).key_dim
    freqs = m.new((1, s.length, width // 2), FLOAT32)
    emb = m.new((1, s.length, width), FLOAT32)
    del freqs
    cos, sin = (m.new((1, s.length, 1, width), FLOAT32) for _ in range(2))
    del emb
    if s.dtype == FLOAT32:
        return cos, sin
    return m.new(cos.shape, s.dtype), m.new(sin.shape, s.dtype)


def rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb"""
    cos, sin = positions
    q_embed = add(m, mul(m, q, cos), mul(m, _half(m, q), sin))
    k_embed = add(m, mul(m, k, cos), mul(m, _half(m, k), sin))
    return q_embed, k_embed


def _half(m: Machine, x: Tensor) -> Tensor:
    """rotate_half"""
    half = x.shape[-1] // 2
    x1 = cut(m, x, half)
    x2 = cut(m, x, x.shape[-1] - half)
    return join(m, scale(m, x2), x1)


def mlp(s: Step, p: Module, x: Tensor) -> Tensor:
    m = s.m
    kind = str(s.built.config.get("hidden_act", "hidden_activation") or "silu")
    gate = several(m, p.linear(m, x, "gate_proj"), kind)
    return p.linear(m, mul(m, gate, p.linear(m, x, "up_proj")), "down_proj")
