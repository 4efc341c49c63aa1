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
from weighbridge.autograd.ops.shaping import cut, join, turned
from weighbridge.autograd.tensors import Shape, Tensor
from weighbridge.dtypes import BOOL, FLOAT32, INT64
from weighbridge.training.attend import attended
from weighbridge.training.modules import Module
from weighbridge.training.step import Step

Rotary = tuple[Tensor, Tensor]
Masks = dict[int | None, Tensor | None]  # by how many tokens back are seen
EMBEDDINGS = ("embed_tokens", "wte", "tok_embeddings", "embed_in", "word_embeddings")
FINAL = ("norm", "ln_f", "final_layernorm", "final_layer_norm")


def forward(s: Step) -> Tensor:
    """LlamaModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = embedding(m, ids, built.base.weight(built.base.first(*EMBEDDINGS)))
    position_ids = m.new((1, s.length), INT64)
    masks = {window: mask(s, window) for window in windows(s)}
    cos, sin = rotary(s)
    x = inputs_embeds
    for i, layer in enumerate(built.layers):
        x = run(s, decoder_layer, x, layer, i, (cos, sin), masks, position_ids)
    return rms_norm(m, x, built.base.weight(built.base.first(*FINAL)))


def run(s: Step, layer: Callable[..., Tensor], x: Tensor, p: Module, *rest: Any) -> Tensor:
    """A layer, under the checkpointing and the sharding of the step."""
    again = s.checkpointing != "none" and s.m.training

    def whole(x: Tensor) -> Tensor:
        if not again:
            return layer(x, s, p, *rest)
        made: Tensor = checkpoint(s.m, layer, x, s, p, *rest, reentrant=s.reentrant)
        return made

    return s.around.layer(s.m, p, whole, x)


def decoder_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    _position_ids: Tensor | None = None,
) -> Tensor:
    m = s.m
    residual = x
    x = rms_norm(m, x, p.weight("input_layernorm"))
    x, _ = attention_and_weights(s, p.at("self_attn"), x, number, positions, masks)
    x = add(m, residual, x)
    residual = x
    x = rms_norm(m, x, p.weight("post_attention_layernorm"))
    x = mlp(s, p.at("mlp"), x)
    return add(m, residual, x)


def attention(
    s: Step, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> Tensor:
    return attention_and_weights(s, p, x, number, positions, masks)[0]


def attention_and_weights(
    s: Step, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """LlamaAttention.forward; the weights are eager attention's."""
    m, h = s.m, heads(s, number)
    q = p.linear(m, x, "q_proj").view(h.batch, h.length, h.heads, h.key_dim)
    if p.has("q_norm"):
        q = rms_norm(m, q, p.weight("q_norm"))
    k = p.linear(m, x, "k_proj").view(h.batch, h.length, h.kv_heads, h.key_dim)
    if p.has("k_norm"):
        k = rms_norm(m, k, p.weight("k_norm"))
    v = p.linear(m, x, "v_proj").view(h.batch, h.length, h.kv_heads, h.value_dim)
    q, k = rotated(m, turned(m, q), turned(m, k), positions)
    out, weights = attended(
        s, q, k, v, h, mask=masks[window(s, number)], p=s.rate("attention_dropout")
    )
    out = p.linear(m, out.view(h.batch, h.length, h.heads * h.value_dim), "o_proj")
    return out, weights


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


def windows(s: Step) -> set[int | None]:
    return {window(s, i) for i in range(len(s.built.layers))}


def mask(s: Step, reach: int | None) -> Tensor | None:
    """[batch, 1, length, length]. sdpa is given none where nothing is padded and all is within
    reach (masking_utils.py, _ignore_causal_mask_sdpa), and one for all sequences where they are
    alike; eager has one of the model's dtype for each; flash_attention_2 never."""
    m, whole = s.m, (s.batch, 1, s.length, s.length)
    if s.kernel == "flash":
        return None
    if s.kernel == "eager":
        return m.new(whole, s.dtype)
    if s.padded:
        return m.new(whole, BOOL)
    if reach is None or s.length < reach:
        return None
    return m.new((1, *whole[1:]), BOOL).view(*whole)


def rotary(s: Step) -> Rotary:
    """Cosines and sines of the step's tokens, in float32 first."""
    return rotary_of(s, heads(s, 0).key_dim)


def rotary_of(s: Step, width: int) -> Rotary:
    """LlamaRotaryEmbedding.forward, for `width` numbers of a head."""
    m, shape = s.m, (1, s.length, 1, width)
    freqs = m.new((1, s.length, width // 2), FLOAT32)
    emb = m.new((1, s.length, width), FLOAT32)
    cos = _scaled(m, shape)
    sin = _scaled(m, shape)
    if s.dtype == FLOAT32:
        return cos, sin
    lower_cos, lower_sin = m.new(shape, s.dtype), m.new(shape, s.dtype)
    del freqs, emb
    return lower_cos, lower_sin


def _scaled(m: Machine, shape: Shape) -> Tensor:
    """emb.cos() * attention_scaling"""
    plain = m.new(shape, FLOAT32)
    scaled = m.new(shape, FLOAT32)
    del plain
    return scaled


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
