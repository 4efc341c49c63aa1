"""BLOOM: biases of distance instead of positions, queries, keys and values of a head side by side,
a GELU that computes itself again in backward.

Source: transformers 5.23 models/bloom/modeling_bloom.py.
"""

from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.forward.machine import Machine, lower
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.attention import AttentionHeads
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.matrix import matmul
from weighbridge.forward.ops.pointwise import add, bloom_gelu, cast, dropout, of_result
from weighbridge.forward.ops.shaping import copied, cuts
from weighbridge.forward.parts.attention import heads, mask, written_out
from weighbridge.forward.parts.layer import normed, run
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor


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
    made = bloom_gelu(m, inner.linear(m, layernorm_output, "dense_h_to_4h"))
    made = inner.linear(m, made, "dense_4h_to_h")
    made = add(m, residual, dropout(m, made, rate))
    outputs[:] = [weights]
    return made


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
    context = context.view(h.batch, h.length, h.heads * h.value_dim)
    return p.linear(m, context, "dense"), probs


def _placed(m: Machine, third: Tensor, h: AttentionHeads) -> Tensor:
    """A third of each head; heads before tokens, copied where there are several sequences."""
    part = third.view(h.batch, h.heads, h.length, h.key_dim)
    return copied(m, part) if h.batch > 1 else part
