"""Attention that is always written out, whatever kernels there are: BLOOM, GPT-Neo, MPT.

    bloom      biases of distance instead of positions, queries, keys and values of a head side by
               side, a GELU that computes itself again in backward
    gpt_neo    scores in float32; what is out of reach is overwritten, then a mask is added
    mpt        biases of distance in float32, over the longest sequence; the mask overwrites

Source: transformers 5.23 models/bloom/modeling_bloom.py, models/gpt_neo/modeling_gpt_neo.py,
models/mpt/modeling_mpt.py.
"""

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.training.forward.machine import Machine, lower
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.matrix import matmul
from weighbridge.training.forward.ops.norms import layer_norm
from weighbridge.training.forward.ops.pointwise import (
    add,
    bloom_gelu,
    cast,
    dropout,
    of_input,
    of_result,
    scale,
    several,
    softmax,
)
from weighbridge.training.forward.ops.scans import clamped, masked
from weighbridge.training.forward.ops.shaping import copied, cuts, embedding, split, turned
from weighbridge.training.forward.parts.attention import heads, mask, written_out
from weighbridge.training.forward.parts.layer import normed, run
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Computed, Tensor, absent


def bloom(s: TrainingStep) -> Tensor:
    """BloomModel.forward"""
    m, base = s.m, s.built.base
    written_out(s)
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, base.weight("word_embeddings")))
    x = normed(m, inputs_embeds, base, "word_embeddings_layernorm")
    alibi = m.new((s.batch * heads(s, 0).heads, 1, s.length), x.dtype)
    causal_mask = mask(s, None)
    outputs: list[Tensor] = []  # weights of the layer before are held until the next is over
    for i, layer in enumerate(s.built.layers):
        x = run(s, block, x, layer, i, (alibi, causal_mask), outputs)
    outputs.clear()
    return normed(m, x, base, "ln_f")


def block(
    x: Tensor,
    s: TrainingStep,
    p: Module,
    number: int,
    biases: tuple[Tensor, Tensor | None],
    outputs: list[Tensor],
) -> Tensor:
    """BloomBlock.forward"""
    m, rate = s.m, s.rate("hidden_dropout")
    after = bool(s.built.config.get("apply_residual_connection_post_layernorm"))
    layernorm_output = normed(m, x, p, "input_layernorm")
    residual = layernorm_output if after else x
    attention_output, weights = attention(
        s, p.at("self_attention"), layernorm_output, number, *biases
    )
    attention_output = add(m, residual, dropout(m, attention_output, rate))
    layernorm_output = normed(m, attention_output, p, "post_attention_layernorm")
    residual = layernorm_output if after else attention_output
    inner = p.at("mlp")
    out = bloom_gelu(m, inner.linear(m, layernorm_output, "dense_h_to_4h"))
    out = inner.linear(m, out, "dense_4h_to_h")
    out = add(m, residual, dropout(m, out, rate))
    outputs[:] = [weights]
    return out


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, alibi: Tensor, causal_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """BloomAttention.forward"""
    m, h = s.m, heads(s, number)
    fused = p.linear(m, x, "query_key_value")
    thirds = cuts(m, fused, [h.heads * h.key_dim] * 3)
    q, k, v = (_placed(m, third, h) for third in thirds)
    bias = lower(m, alibi)
    scores = weights = matmul(m, q, k, h.seen).view(*h.scores)
    if causal_mask is not None:
        weights = add(m, weights, causal_mask)
    probs = cast(m, of_result(m, cast(m, weights, FLOAT32)), q.dtype)
    probs = dropout(m, probs, s.rate("attention_dropout"))
    context = copied(m, matmul(m, probs, v, h.value_dim))
    del bias, scores
    context = context.view(*h.joined)
    return p.linear(m, context, "dense"), probs


def _placed(m: Machine, third: Tensor, heads: AttentionHeads) -> Tensor:
    """Return queries, keys or values of each head, heads before tokens; copied if there are several
    sequences."""
    part = third.view(heads.batch, heads.heads, heads.length, heads.key_dim)
    return copied(m, part) if heads.batch > 1 else part


# ---- GPT-Neo


Held = list[Tensor]  # attention weights of the previous layer, held until the next is over


def gpt_neo(s: TrainingStep) -> Tensor:
    """GPTNeoModel.forward"""
    m, base = s.m, s.built.base
    written_out(s)
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, base.weight("wte")))
    position_ids = m.new((1, s.length), INT64)
    causal_mask = mask(s, None)
    position_embeds = embedding(m, position_ids, base.weight("wpe"))
    x = dropout(m, add(m, inputs_embeds, position_embeds), s.rate("embed_dropout"))
    outputs: Held = []
    for i, p in enumerate(s.built.layers):
        x = run(s, neo_block, x, p, i, causal_mask, outputs)
    outputs.clear()
    return normed(m, x, base, "ln_f")


def neo_block(
    x: Tensor, s: TrainingStep, p: Module, number: int, causal_mask: Tensor | None, outputs: Held
) -> Tensor:
    """GPTNeoBlock.forward"""
    m, rate, inner = s.m, s.rate("resid_dropout"), p.at("mlp")
    residual = x
    x = normed(m, x, p, "ln_1")
    attn_output, weights = neo_attention(s, p.at("attn.attention"), x, number, causal_mask)
    x = add(m, attn_output, residual)
    residual = x
    x = normed(m, x, p, "ln_2")
    kind = str(s.built.config.get("activation_function") or "gelu_new")
    out = inner.linear(m, several(m, inner.linear(m, x, "c_fc"), kind), "c_proj")
    out = add(m, residual, dropout(m, out, rate))
    outputs[:] = [weights]
    return out


def neo_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, causal_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """GPTNeoSelfAttention.forward"""
    m, h = s.m, heads(s, number)
    shape = h.queries
    query, key, value = (
        turned(m, p.linear(m, x, name).view(*shape)) for name in ("q_proj", "k_proj", "v_proj")
    )
    attn_output, weights = _weighed(s, query, key, value, causal_mask)
    attn_output = p.linear(m, attn_output.view(h.batch, h.length, x.shape[-1]), "out_proj")
    return dropout(m, attn_output, s.rate("resid_dropout")), weights


def _weighed(
    s: TrainingStep, query: Tensor, key: Tensor, value: Tensor, causal_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """GPTNeoSelfAttention._attn"""
    m = s.m
    query, key = cast(m, query, FLOAT32), cast(m, key, FLOAT32)
    weights = matmul(m, _first(m, query), _first(m, key), s.length)
    reach = Computed((s.length, s.length), BOOL, None)  # a slice of the class's buffer
    weights = masked(m, weights, reach)
    if causal_mask is not None:
        weights = add(m, weights, causal_mask)
    weights = softmax(m, weights if m.autocast is None else cast(m, weights, FLOAT32))
    weights = cast(m, weights, value.dtype)
    weights = dropout(m, weights, s.rate("attention_dropout"))
    return _mixed(m, weights, value), weights


def _first(m: Machine, x: Tensor) -> Tensor:
    """Return `x` with heads before tokens: a view of one sequence, a copy of several."""
    x = lower(m, x)
    return (copied(m, x) if x.shape[0] > 1 else x).view(
        x.shape[0], x.shape[2], x.shape[1], x.shape[3]
    )


def _mixed(m: Machine, weights: Tensor, value: Tensor) -> Tensor:
    """Return weights @ value, with tokens before heads again."""
    return copied(m, turned(m, matmul(m, weights, _first(m, value), value.shape[-1])))


def mpt(s: TrainingStep) -> Tensor:
    """MptModel.forward"""
    m, base, longest = s.m, s.built.base, s.built.config.get("max_seq_len")
    written_out(s)
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = x = entered(s, embedding(m, ids, base.weight("wte")))
    alibi = m.new((heads(s, 0).heads, 1, int(longest or s.length)), FLOAT32)
    added = mask(s, None)
    causal_mask = m.new((s.batch, 1, s.length, s.length), BOOL)
    del added
    outputs: Held = []
    for i, p in enumerate(s.built.layers):
        x = run(s, mpt_block, x, p, i, (alibi, causal_mask), outputs)
    outputs.clear()
    del inputs_embeds
    return plain_norm(m, x, base, "norm_f")


def plain_norm(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """Return the layer norm without a bias."""
    weight = p.weight(name)
    return x if absent(weight) else layer_norm(m, x, weight)


def mpt_block(
    x: Tensor, s: TrainingStep, p: Module, number: int, biases: tuple[Tensor, Tensor], outputs: Held
) -> Tensor:
    """MptBlock.forward"""
    m, inner = s.m, p.at("ffn")
    layernorm_output = plain_norm(m, x, p, "norm_1")
    residual = x
    attn_outputs, weights = mpt_attention(s, p.at("attn"), layernorm_output, number, biases)
    x = add(m, attn_outputs, residual)
    layernorm_output = plain_norm(m, x, p, "norm_2")
    residual = x
    out = of_input(m, inner.linear(m, layernorm_output, "up_proj"))
    out = add(m, inner.linear(m, out, "down_proj"), residual)
    outputs[:] = [weights]
    return out


def mpt_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, biases: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """MptAttention.forward"""
    m, h = s.m, heads(s, number)
    query, key, value = _cut(s, p.linear(m, x, "Wqkv"), h)
    scores = scale(m, matmul(m, _first(m, query), _first(m, key), h.seen))
    alibi, causal_mask = biases
    position_bias = Computed((h.heads, 1, h.seen), alibi.dtype, alibi.storage)
    scores = add(m, scores, position_bias)
    scores = masked(m, scores, causal_mask)
    weights = cast(m, softmax(m, cast(m, scores, FLOAT32)), value.dtype)
    context = _mixed(m, weights, value)
    return p.linear(m, context.view(*x.shape), "out_proj"), weights


def _cut(s: TrainingStep, mixed: Tensor, heads: AttentionHeads) -> list[Tensor]:
    """Return queries, keys and values, clipped if the config says so."""
    m = s.m
    attending = s.built.config.get("attn_config")
    if isinstance(attending, dict) and attending.get("clip_qkv"):
        mixed = clamped(m, mixed)
    shape = heads.queries
    thirds = split(m, mixed, [heads.heads * heads.key_dim] * 3)
    return [turned(m, t.view(*shape)) for t in thirds]
