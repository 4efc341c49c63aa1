"""DistilBERT: BERT without types and pooler, and without a dropout behind attention.

Source: transformers 5.23 models/distilbert/modeling_distilbert.py.
"""

from weighbridge.dtypes import INT64
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.matrix import linear
from weighbridge.forward.ops.pointwise import add, dropout, of_result, several
from weighbridge.forward.parts import encoder
from weighbridge.forward.parts.attention import heads
from weighbridge.forward.parts.encoder import (
    by_token,
    classified,
    first_token,
    mask,
    self_attention,
)
from weighbridge.forward.parts.layer import normed, run
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Computed, Tensor

QKV = ("q_lin", "k_lin", "v_lin")
ENCODER = "transformer."


def distilbert_model(s: TrainingStep) -> Tensor:
    return encoder.pair(s, encoded) if headless(s) else encoded(s)


def headless(s: TrainingStep) -> bool:
    """Whether the class is the encoder itself."""
    return not base(s).path


def encoded(s: TrainingStep) -> Tensor:
    """DistilBertModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    embedded = embeddings(s, base(s).at("embeddings"), ids)
    attention_mask = mask(s, s.length)
    x = embedded
    for i, p in enumerate(built.layers):
        x = run(s, layer, x, p, i, attention_mask)
    return x


def base(s: TrainingStep) -> Module:
    return s.built.root.at(s.built.base.path.removesuffix(ENCODER).rstrip("."))


def embeddings(s: TrainingStep, p: Module, ids: Tensor) -> Tensor:
    m = s.m
    position_ids = Computed((1, s.length), INT64, None)  # a buffer's
    inputs_embeds = entered(s, embedding(m, ids, p.weight("word_embeddings")))
    position_embeddings = embedding(m, position_ids, p.weight("position_embeddings"))
    x = add(m, inputs_embeds, position_embeddings)
    x = normed(m, x, p, "LayerNorm")
    return dropout(m, x, s.rate("dropout"))


def layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, attention_mask: Tensor | None
) -> Tensor:
    """TransformerBlock.forward"""
    m = s.m
    attention_output, _ = attention(s, p.at("attention"), x, number, attention_mask)
    attention_output = normed(m, add(m, attention_output, x), p, "sa_layer_norm")
    ffn_output = feed(s, p.at("ffn"), attention_output)
    return normed(m, add(m, ffn_output, attention_output), p, "output_layer_norm")


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, attention_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """DistilBertSelfAttention.forward"""
    more = {"mask": attention_mask, "p": s.rate("attention_dropout"), "wide": False, "own": True}
    out, weights = self_attention(s, p, x, heads(s, number), QKV, **more)
    return p.linear(s.m, out, "out_lin"), weights


def feed(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """FFN.forward"""
    m = s.m
    x = p.linear(m, x, "lin1")
    x = several(m, x, str(s.built.config.get("activation") or "gelu"))
    x = p.linear(m, x, "lin2")
    return dropout(m, x, s.rate("dropout"))


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """DistilBertForMaskedLM, DistilBertForSequenceClassification"""
    m, root = s.m, s.built.root
    if headless(s):
        return encoder.loss(s, hidden)
    with m.making("logits"):
        if root.has("pre_classifier"):
            pooled = of_result(m, root.linear(m, first_token(m, hidden), "pre_classifier"))
            pooled = dropout(m, pooled, s.rate("seq_classif_dropout"))
            return classified(s, root.linear(m, pooled, "classifier"))
        x = root.linear(m, hidden, "vocab_transform")
        x = several(m, x, str(s.built.config.get("activation") or "gelu"))
        x = normed(m, x, root, "vocab_layer_norm")
        words = base(s).weight("embeddings.word_embeddings")
        weight = root.weight("vocab_projector") if root.has("vocab_projector") else words
        return by_token(s, linear(m, x, weight, root.bias("vocab_projector")))


distilbert = Net(distilbert_model, loss=loss)
