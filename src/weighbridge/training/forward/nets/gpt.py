"""Decoders of the GPT line, each with a forward of its own.

    GPT-2      and GPT-BigCode: layer norms, learned positions, queries, keys and values from one
               linear, dropouts
    GPT-NeoX   layer norms, queries, keys and values of a head side by side, rotary positions on a
               part of them, attention and feed-forward beside each other
    GPT-J      interleaved positions from a table, scores in float32, feed-forward beside attention
    OPT        layer norms, learned positions, plain feed-forwards, dropouts

Source: transformers 5.23 models/{gpt2,gpt_bigcode,gpt_neox,gptj,opt}/modeling_*.py.
"""

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.base.records import replace
from weighbridge.models.arch.model_types import differs
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.ops.attention import AttentionOptions, eager
from weighbridge.training.forward.ops.pointwise import add, cast, dropout, scale, several
from weighbridge.training.forward.ops.shaping import cut, embedding, join, split, turned
from weighbridge.training.forward.parts.attention import attended, heads, mask
from weighbridge.training.forward.parts.layer import LayerShape, normed, run, ungated
from weighbridge.training.forward.parts.rotary import (
    Rotary,
    part_rotated,
    rotary_of,
    rotated_one,
    turned_width,
)
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Tensor


def gpt2(s: TrainingStep) -> Tensor:
    """GPT2Model.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, built.base.weight("wte")))
    position_ids = m.new((1, s.length), INT64)
    position_embeds = embedding(m, position_ids, built.base.weight("wpe"))
    x = add(m, inputs_embeds, position_embeds)
    causal_mask = mask(s, None)
    x = dropout(m, x, s.rate("embd_pdrop"))
    for i, layer in enumerate(built.layers):
        x = run(s, LAYER, x, layer, i, None, causal_mask, position_ids)
    return normed(m, x, built.base, "ln_f")


def gpt2_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, _: None, causal_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """GPT2Attention.forward"""
    m, h = s.m, heads(s, number)
    width, shared = h.heads * h.key_dim, h.kv_heads * h.key_dim
    q, k, v = split(m, p.linear(m, x, "c_attn"), [width, shared, shared])
    q, k, v = (t.view(*t.shape[:2], t.shape[2] // h.key_dim, h.key_dim) for t in (q, k, v))
    wide, rate = differs(s.built.kind, "wide_scores"), s.rate("attn_pdrop")
    out, weights = attended(s, q, k, v, h, mask=causal_mask, p=rate, views=True, wide=wide)
    out = p.linear(m, out.view(h.batch, h.length, width), "c_proj")
    return dropout(m, out, s.rate("resid_pdrop")), weights


LAYER = LayerShape(
    attend=gpt2_attention,
    feed=ungated("c_fc", "c_proj", act="activation_function", usual="gelu_new", rate="resid_pdrop"),
    at="attn",
    before=("ln_1", "ln_2"),
    holds=("attended", "fed"),
)


# ---- GPT-NeoX


def neox(s: TrainingStep) -> Tensor:
    """GPTNeoXModel.forward"""
    m, built, shape = s.m, s.built, neox_layer_of(s)
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, built.base.weight("embed_in")))
    position_ids = m.new((1, s.length), INT64)
    causal_mask = mask(s, None)
    x = dropout(m, inputs_embeds, s.rate("hidden_dropout"))
    positions = rotary_of(s, turned_width(s))
    for i, layer in enumerate(built.layers):
        x = run(s, shape, x, layer, i, positions, causal_mask, position_ids)
    return normed(m, x, built.base, "final_layer_norm")


def neox_attention(
    s: TrainingStep,
    p: Module,
    x: Tensor,
    number: int,
    positions: Rotary,
    causal_mask: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """GPTNeoXAttention.forward"""
    m, h = s.m, heads(s, number)
    qkv = p.linear(m, x, "query_key_value").view(h.batch, h.length, h.heads, 3 * h.key_dim)
    qkv = turned(m, qkv)
    q, k, v = split(m, qkv, [h.key_dim] * 3)
    q, k = part_rotated(m, q, k, positions)
    out, weights = attended(
        s, q, k, v, h, mask=causal_mask, p=s.rate("attention_dropout"), first=True
    )
    return p.linear(m, out.view(*h.joined), "dense"), weights


TURNED = LayerShape(
    attend=neox_attention,
    feed=ungated("dense_h_to_4h", "dense_4h_to_h"),
    at="attention",
    rates=("hidden_dropout", "hidden_dropout"),
)
BESIDE = replace(TURNED, sums="together")


def neox_layer_of(s: TrainingStep) -> LayerShape:
    return TURNED if s.built.config.get("use_parallel_residual") is False else BESIDE


# ---- GPT-J


def gptj(s: TrainingStep) -> Tensor:
    """GPTJModel.forward"""
    m, base = s.m, s.built.base
    s.kernel = s.kernel or "eager"
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, base.weight("wte")))
    position_ids = m.new((1, s.length), INT64)
    causal_mask = mask(s, None)
    outputs: list[Tensor] = []  # weights of the layer before are held until the next is over
    x = dropout(m, inputs_embeds, s.rate("embd_pdrop"))
    for i, layer in enumerate(s.built.layers):
        x = run(s, block, x, layer, i, causal_mask, (position_ids, outputs))
    outputs.clear()
    return normed(m, x, base, "ln_f")


def block(
    x: Tensor,
    s: TrainingStep,
    p: Module,
    number: int,
    causal_mask: Tensor | None,
    held: tuple[Tensor, list[Tensor]],
) -> Tensor:
    """GPTJBlock.forward"""
    m = s.m
    residual = x
    x = normed(m, x, p, "ln_1")
    attn_outputs, weights = gptj_attention(s, p.at("attn"), x, number, causal_mask)
    inner = p.at("mlp")
    forwarded = inner.linear(m, x, "fc_in")
    forwarded = several(m, forwarded, str(s.built.config.get("activation_function") or "gelu_new"))
    forwarded = inner.linear(m, forwarded, "fc_out")
    forwarded = dropout(m, forwarded, s.rate("resid_pdrop"))
    out = add(m, add(m, attn_outputs, forwarded), residual)
    held[1][:] = [weights]
    return out


def gptj_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, causal_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """GPTJAttention.forward"""
    m, h = s.m, heads(s, number)
    shape = h.queries
    q, k, v = (p.linear(m, x, name).view(*shape) for name in ("q_proj", "k_proj", "v_proj"))
    width = s.built.config.num("rotary_dim", default=0) or h.key_dim
    table = m.new((1, s.built.config.num("max_position_embeddings"), width), FLOAT32)
    index = m.new((1, s.length, width), INT64)
    sincos = m.new((1, s.length, width), k.dtype)
    k, *k_parts = _turned(m, k, width)
    q, *q_parts = _turned(m, q, width)
    wide_q, wide_k = cast(m, q, FLOAT32), cast(m, k, FLOAT32)
    rate = s.rate("attn_pdrop")
    out, weights = eager(
        m, wide_q, wide_k, v, h, AttentionOptions(p=rate, mask=causal_mask, wide=False)
    )
    del table, index, sincos, k_parts, q_parts
    out = p.linear(m, out.view(h.batch, h.length, h.heads * h.key_dim), "out_proj")
    return dropout(m, out, s.rate("resid_pdrop")), weights


def _turned(m: Machine, x: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (rotated heads, rotated slice, other slice) of apply_rotary_pos_emb; attention holds
    the slices until it returns. Cosines and sines are repeated for queries and for keys."""
    shape = (1, x.shape[1], 1, width)
    sin, cos = m.new(shape, x.dtype), m.new(shape, x.dtype)
    part, unturned = cut(m, x, width), cut(m, x, x.shape[-1] - width)
    part = rotated_one(m, part, cos, sin)
    return join(m, part, unturned), part, unturned


# ---- OPT


def opt(s: TrainingStep) -> Tensor:
    """OPTDecoder.forward"""
    m, base, whole = s.m, s.built.base, (s.batch, s.length)
    shape = opt_layer_of(s)
    ids = m.new(whole, INT64)
    inputs_embeds = entered(s, embedding(m, ids, base.weight("embed_tokens")))
    seen = None if s.padded else m.new(whole, FLOAT32)
    position_ids = m.new(whole, INT64)
    causal_mask = mask(s, None)
    pos_embeds = embedding(m, m.new(whole, INT64), base.weight("embed_positions"))
    if base.has("project_in"):
        inputs_embeds = base.linear(m, inputs_embeds, "project_in")
    x = add(m, inputs_embeds, pos_embeds)
    for i, layer in enumerate(s.built.layers):
        x = run(s, shape, x, layer, i, None, causal_mask, position_ids)
    del seen
    if base.has("final_layer_norm"):
        x = normed(m, x, base, "final_layer_norm")
    return base.linear(m, x, "project_out") if base.has("project_out") else x


def opt_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, _: None, causal_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return OPTAttention.forward; queries are scaled before the kernel."""
    m, h = s.m, heads(s, number)
    shape = h.queries
    q = scale(m, p.linear(m, x, "q_proj")).view(*shape)
    k = p.linear(m, x, "k_proj").view(*shape)
    v = p.linear(m, x, "v_proj").view(*shape)
    rate = s.rate("attention_dropout")
    out, weights = attended(s, q, k, v, h, mask=causal_mask, p=rate, views=True)
    return p.linear(m, out.view(h.batch, h.length, h.heads * h.key_dim), "out_proj"), weights


FEED = ungated("fc1", "fc2", at="", act="activation_function", usual="relu")
NORMS = ("self_attn_layer_norm", "final_layer_norm")
BEFORE = LayerShape(
    attend=opt_attention, feed=FEED, before=NORMS, rates=("dropout", "dropout"), handed=True
)
BEHIND = replace(BEFORE, before=("", ""), last=NORMS)


def opt_layer_of(s: TrainingStep) -> LayerShape:
    return BEHIND if s.built.config.get("do_layer_norm_before") is False else BEFORE
