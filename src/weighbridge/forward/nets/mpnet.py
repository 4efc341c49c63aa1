"""MPNet: RoBERTa's layers with relative positions, which are looked up once, copied for every
sequence and added to the scores of every layer; attention is written out.

Source: transformers 5.23 models/mpnet/modeling_mpnet.py.
"""

from weighbridge.dtypes import INT64
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net, bert
from weighbridge.forward.ops.attention import AttentionHeads, contiguous, own_softmax, product
from weighbridge.forward.ops.biases import buckets
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.pointwise import add, add_, dropout, scale
from weighbridge.forward.ops.shaping import copied, expand, turned
from weighbridge.forward.parts import encoder
from weighbridge.forward.parts.attention import heads, written_out
from weighbridge.forward.parts.encoder import never_checkpointed
from weighbridge.forward.parts.layer import normed, run
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor

QKV = ("q", "k", "v")


def mpnet_model(s: TrainingStep) -> Tensor:
    never_checkpointed(s)
    return encoder.pair(s, encoded) if bert.headless(s) else encoded(s)


def encoded(s: TrainingStep) -> Tensor:
    """MPNetModel.forward, without its pooler"""
    written_out(s)
    m, base = s.m, bert.base(s)
    ids = m.new((s.batch, s.length), INT64)
    embedding_output = bert.embeddings(s, base.at("embeddings"), ids)
    attention_mask = m.new((s.batch, 1, s.length, s.length), s.dtype) if s.padded else None
    x = embedding_output
    position_bias = biases(s, base.at("encoder"), heads(s, 0))
    for number, p in enumerate(s.built.layers):
        x = run(s, layer, x, p, number, attention_mask, position_bias)
    return x


def biases(s: TrainingStep, p: Module, h: AttentionHeads) -> Tensor:
    """MPNetEncoder.compute_position_bias"""
    m = s.m
    numbers = buckets(m, h.length, h.seen, causal=False)
    values = embedding(m, numbers, p.weight("relative_attention_bias"))
    values = expand(m, values.view(1, h.heads, h.length, h.seen), *h.scores)
    return copied(m, values)


def layer(
    x: Tensor,
    s: TrainingStep,
    p: Module,
    number: int,
    attention_mask: Tensor | None,
    position_bias: Tensor,
) -> Tensor:
    """MPNetLayer.forward"""
    attention_output = attention(
        s, p.at("attention"), x, heads(s, number), attention_mask, position_bias
    )
    intermediate_output = bert.intermediate(s, p, attention_output)
    return bert.output(s, p.at("output"), intermediate_output, attention_output)


def attention(
    s: TrainingStep,
    p: Module,
    x: Tensor,
    h: AttentionHeads,
    attention_mask: Tensor | None,
    position_bias: Tensor,
) -> Tensor:
    """MPNetAttention.forward"""
    m = s.m
    out = own(s, p.at("attn"), x, h, attention_mask, position_bias)
    return normed(m, add(m, dropout(m, out, s.rate("hidden_dropout_prob")), x), p, "LayerNorm")


def own(
    s: TrainingStep,
    p: Module,
    x: Tensor,
    h: AttentionHeads,
    attention_mask: Tensor | None,
    position_bias: Tensor,
) -> Tensor:
    """MPNetSelfAttention.forward: its local variables live to its end."""
    m, shape = s.m, (h.batch, h.length, h.heads, h.key_dim)
    q, k, v = (turned(m, p.linear(m, x, name).view(*shape)) for name in QKV)
    attention_scores = scale(m, product(m, q, k, h))
    attention_scores = add_(m, attention_scores, position_bias)
    if attention_mask is not None:
        attention_scores = add(m, attention_scores, attention_mask)
    attention_probs = own_softmax(m, attention_scores)
    attention_probs = dropout(m, attention_probs, s.rate("attention_probs_dropout_prob"))
    c = product(m, attention_probs, v, h, columns=h.value_dim)
    c = contiguous(m, c, h)
    return p.linear(m, c.view(h.batch, h.length, h.heads * h.key_dim), "o")


mpnet = Net(mpnet_model, loss=bert.loss)
