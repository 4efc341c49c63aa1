"""ALBERT: BERT with narrow embeddings, and one layer (or a few) in the place of all.

Source: transformers 5.23 models/albert/modeling_albert.py.
"""

from weighbridge.dtypes import INT64
from weighbridge.errors import UnsupportedError
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import INSTEAD, Net, bert
from weighbridge.forward.ops.matrix import linear
from weighbridge.forward.ops.pointwise import add, dropout, of_result, several
from weighbridge.forward.parts import encoder
from weighbridge.forward.parts.attention import heads
from weighbridge.forward.parts.encoder import (
    by_token,
    classified,
    first_token,
    mask,
    never_checkpointed,
    self_attention,
)
from weighbridge.forward.parts.layer import normed, run
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor

CLASSIFIER = "classifier_dropout_prob"


def albert_model(s: TrainingStep) -> Tensor:
    never_checkpointed(s)
    return encoder.pair(s, encoded) if bert.headless(s) else encoded(s)


def encoded(s: TrainingStep) -> Tensor:
    """AlbertModel.forward, without its pooler"""
    m, base = s.m, bert.base(s)
    ids = m.new((s.batch, s.length), INT64)
    embedding_output = bert.embeddings(s, base.at("embeddings"), ids)
    attention_mask = mask(s, s.length)
    x = base.linear(m, embedding_output, "encoder.embedding_hidden_mapping_in")
    for number, p in enumerate(s.built.layers):
        x = run(s, group, x, p, number, attention_mask)
    return x


def group(
    x: Tensor, s: TrainingStep, p: Module, number: int, attention_mask: Tensor | None
) -> Tensor:
    """AlbertLayerGroup.forward"""
    inner = 0
    while p.has(f"albert_layers.{inner}.ffn"):
        x = layer(x, s, p.at(f"albert_layers.{inner}"), number, attention_mask)
        inner += 1
    return x


def layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, attention_mask: Tensor | None
) -> Tensor:
    """AlbertLayer.forward"""
    m = s.m
    attention_output, _ = attention(s, p.at("attention"), x, number, attention_mask)
    ffn_output = feed(s, p, attention_output)
    return normed(m, add(m, ffn_output, attention_output), p, "full_layer_layer_norm")


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, attention_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """AlbertAttention.forward"""
    m, rate = s.m, s.rate("attention_probs_dropout_prob")
    h, wide = heads(s, number), {"wide": False, "own": True}
    out, weights = self_attention(s, p, x, h, bert.QKV, mask=attention_mask, p=rate, **wide)
    out = p.linear(m, out, "dense")
    out = dropout(m, out, s.rate("hidden_dropout_prob"))
    return normed(m, add(m, x, out), p, "LayerNorm"), weights


def feed(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """AlbertLayer.ff_chunk"""
    m = s.m
    x = p.linear(m, x, "ffn")
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu_new"))
    return p.linear(m, x, "ffn_output")


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """AlbertForMaskedLM, AlbertForSequenceClassification, AlbertForTokenClassification"""
    m, root, base = s.m, s.built.root, bert.base(s)
    if bert.headless(s):
        return encoder.loss(s, hidden)
    with m.making("logits"):
        if root.has("classifier") and base.has("pooler"):
            pooled = of_result(m, base.linear(m, first_token(m, hidden), "pooler"))
            pooled = dropout(m, pooled, s.rate(CLASSIFIER))
            return classified(s, root.linear(m, pooled, "classifier"))
        if root.has("classifier"):
            return by_token(s, root.linear(m, dropout(m, hidden, s.rate(CLASSIFIER)), "classifier"))
        if not root.has("predictions.dense") or root.has("sop_classifier.classifier"):
            raise UnsupportedError(f"{s.built.kind}: its class has no loss that we know: {INSTEAD}")
        return by_token(s, _predicted(s, root.at("predictions"), hidden))


def _predicted(s: TrainingStep, p: Module, hidden: Tensor) -> Tensor:
    """AlbertMLMHead.forward"""
    m = s.m
    x = p.linear(m, hidden, "dense")
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu_new"))
    x = normed(m, x, p, "LayerNorm")
    words = bert.base(s).weight("embeddings.word_embeddings")
    return linear(m, x, p.weight("decoder") if p.has("decoder") else words, p.bare("bias"))


albert = Net(albert_model, loss=loss)
