"""BERT and its kin, with three embeddings and a norm, and norms behind attention and feed-forward.

    BERT, RoBERTa, ELECTRA   with dropouts; the head of masked language models, labels of tokens, or
                             a pooler and a classifier
    DistilBERT               without types and pooler, and without a dropout behind attention
    ALBERT                   with narrow embeddings, and one layer (or a few) in the place of all

Source: transformers 5.23 models/{bert,roberta,electra,distilbert,albert}/modeling_*.py.
"""

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.model_types import differs
from weighbridge.training.forward.losses import binary_cross_entropy
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.pointwise import add, dropout, of_result, several
from weighbridge.training.forward.ops.shaping import embedding
from weighbridge.training.forward.parts import encoder
from weighbridge.training.forward.parts.attention import heads
from weighbridge.training.forward.parts.encoder import (
    by_token,
    classified,
    first_token,
    mask,
    never_checkpointed,
    self_attention,
)
from weighbridge.training.forward.parts.encoder import self_attention as attend
from weighbridge.training.forward.parts.layer import normed, run
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Computed, Tensor

QKV = ("query", "key", "value")
ENCODER = "encoder."


def bert_model(s: TrainingStep) -> Tensor:
    return encoder.pair(s, encoded) if headless(s) else encoded(s)


def headless(s: TrainingStep) -> bool:
    """Return whether the class is the encoder itself, without a head."""
    return not base(s).path


def encoded(s: TrainingStep) -> Tensor:
    """BertModel.forward, without its pooler"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    embedding_output = embeddings(s, base(s).at("embeddings"), ids)
    if base(s).has("embeddings_project"):
        embedding_output = base(s).linear(m, embedding_output, "embeddings_project")
    attention_mask = mask(s, s.length)
    x = embedding_output
    for i, p in enumerate(built.layers):
        x = run(s, layer, x, p, i, attention_mask)
    return x


def base(s: TrainingStep) -> Module:
    """Return the module that has the embeddings, the encoder and the pooler."""
    return s.built.root.at(s.built.base.path.removesuffix(ENCODER).rstrip("."))


def embeddings(s: TrainingStep, p: Module, ids: Tensor) -> Tensor:
    """Return BertEmbeddings.forward; positions are a buffer's, types are gathered from one. RoBERTa
    computes positions for each sequence, since padding has none."""
    m = s.m
    if differs(s.built.kind, "buffered_positions"):
        position_ids: Tensor = Computed((1, s.length), INT64, None)
    else:
        position_ids = m.new(ids.shape, INT64)
    inputs_embeds = entered(s, embedding(m, ids, p.weight("word_embeddings")))
    if p.has("token_type_embeddings"):
        token_type_ids = m.new(position_ids.shape, INT64)
        types = Computed(ids.shape, INT64, token_type_ids.storage)
        token_type_embeddings = embedding(m, types, p.weight("token_type_embeddings"))
        x = add(m, inputs_embeds, token_type_embeddings)
    else:
        x = inputs_embeds
    position_embeddings = embedding(m, position_ids, p.weight("position_embeddings"))
    x = add(m, x, position_embeddings)
    x = normed(m, x, p, "LayerNorm")
    return dropout(m, x, s.rate("hidden_dropout_prob"))


def layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, attention_mask: Tensor | None
) -> Tensor:
    """BertLayer.forward"""
    attention_output, _ = attention(s, p.at("attention"), x, number, attention_mask)
    intermediate_output = intermediate(s, p, attention_output)
    return output(s, p.at("output"), intermediate_output, attention_output)


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, attention_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """BertAttention.forward"""
    rate = s.rate("attention_probs_dropout_prob")
    h = heads(s, number)
    more = {"mask": attention_mask, "p": rate, "wide": False, "own": True}
    out, weights = attend(s, p.at("self"), x, h, QKV, **more)
    out = output(s, p.at("output"), out, x)
    return out, weights


def output(s: TrainingStep, p: Module, x: Tensor, residual: Tensor) -> Tensor:
    """BertSelfOutput.forward, BertOutput.forward"""
    m = s.m
    x = p.linear(m, x, "dense")
    x = dropout(m, x, s.rate("hidden_dropout_prob"))
    return normed(m, add(m, x, residual), p, "LayerNorm")


def intermediate(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    m = s.m
    x = p.linear(m, x, "intermediate.dense")
    return several(m, x, str(s.built.config.get("hidden_act") or "gelu"))


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """BertForMaskedLM, BertForTokenClassification, BertForSequenceClassification, RoBERTa's and
    ELECTRA's"""
    m, root = s.m, s.built.root
    if headless(s):
        return encoder.loss(s, hidden)
    with m.making("logits"):
        if root.has("classifier.dense"):
            return classified(s, _first(s, root.at("classifier"), hidden))
        if root.has("classifier") and base(s).has("pooler.dense"):
            return classified(s, _pooled(s, hidden))
        if root.has("classifier"):
            return by_token(s, root.linear(m, dropout(m, hidden, _rate(s)), "classifier"))
        if root.has("discriminator_predictions.dense"):
            return _told_apart(s, root.at("discriminator_predictions"), hidden)
        name = root.first(*MASKED)
        if not name:
            raise UnsupportedError(sentence("no_masked_head", kind=s.built.kind))
        return by_token(s, _predicted(s, name, hidden))


MASKED = ("cls.predictions.transform.dense", "lm_head.dense", "generator_predictions.dense")


def _told_apart(s: TrainingStep, p: Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss, logits) of ElectraDiscriminatorPredictions, which predicts whether each token
    was replaced."""
    m = s.m
    x = p.linear(m, hidden, "dense")
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu"))
    logits = p.linear(m, x, "dense_prediction").view(s.batch, s.length)
    labels = m.new((s.batch, s.length), FLOAT32)
    return binary_cross_entropy(m, logits, labels), logits


def _predicted(s: TrainingStep, name: str, hidden: Tensor) -> Tensor:
    """BertLMPredictionHead.forward, RobertaLMHead.forward, ElectraGeneratorPredictions.forward"""
    m, root = s.m, s.built.root
    owner, inner = root.at(name.split(".transform")[0].removesuffix(".dense")), name[:-6]
    x = root.linear(m, hidden, name)
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu"))
    x = normed(m, x, root, root.first(f"{inner}.LayerNorm", f"{inner}.layer_norm"))
    words = base(s).weight("embeddings.word_embeddings")
    if name.startswith("generator"):
        return linear(m, x, words, root.bias("generator_lm_head"))
    weight = owner.weight("decoder") if owner.has("decoder") else words
    return linear(m, x, weight, owner.bare("bias"))


def _rate(s: TrainingStep) -> float:
    return s.rate("classifier_dropout", "hidden_dropout_prob")


def _pooled(s: TrainingStep, hidden: Tensor) -> Tensor:
    """BertPooler.forward, dropout, classifier"""
    m = s.m
    pooled = of_result(m, base(s).linear(m, first_token(m, hidden), "pooler.dense"))
    return s.built.root.linear(m, dropout(m, pooled, _rate(s)), "classifier")


def _first(s: TrainingStep, p: Module, hidden: Tensor) -> Tensor:
    """RobertaClassificationHead.forward; ELECTRA's has a GELU."""
    m = s.m
    x = dropout(m, first_token(m, hidden), _rate(s))
    kind = "gelu" if differs(s.built.kind, "gelu_classifier") else "tanh"
    x = several(m, p.linear(m, x, "dense"), kind)
    return p.linear(m, dropout(m, x, _rate(s)), "out_proj")


bert = Net(bert_model, loss=loss)


# ---- DistilBERT


DISTILBERT_QKV = ("q_lin", "k_lin", "v_lin")
DISTILBERT_ENCODER = "transformer."


def distilbert_model(s: TrainingStep) -> Tensor:
    return encoder.pair(s, distilbert_encoded) if distilbert_headless(s) else distilbert_encoded(s)


def distilbert_headless(s: TrainingStep) -> bool:
    """Return whether the class is the encoder itself, without a head."""
    return not distilbert_base(s).path


def distilbert_encoded(s: TrainingStep) -> Tensor:
    """DistilBertModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    embedded = distilbert_embeddings(s, distilbert_base(s).at("embeddings"), ids)
    attention_mask = mask(s, s.length)
    x = embedded
    for i, p in enumerate(built.layers):
        x = run(s, distilbert_layer, x, p, i, attention_mask)
    return x


def distilbert_base(s: TrainingStep) -> Module:
    return s.built.root.at(s.built.base.path.removesuffix(DISTILBERT_ENCODER).rstrip("."))


def distilbert_embeddings(s: TrainingStep, p: Module, ids: Tensor) -> Tensor:
    m = s.m
    position_ids = Computed((1, s.length), INT64, None)  # a view of a buffer
    inputs_embeds = entered(s, embedding(m, ids, p.weight("word_embeddings")))
    position_embeddings = embedding(m, position_ids, p.weight("position_embeddings"))
    x = add(m, inputs_embeds, position_embeddings)
    x = normed(m, x, p, "LayerNorm")
    return dropout(m, x, s.rate("dropout"))


def distilbert_layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, attention_mask: Tensor | None
) -> Tensor:
    """TransformerBlock.forward"""
    m = s.m
    attention_output, _ = distilbert_attention(s, p.at("attention"), x, number, attention_mask)
    attention_output = normed(m, add(m, attention_output, x), p, "sa_layer_norm")
    ffn_output = distilbert_feed(s, p.at("ffn"), attention_output)
    return normed(m, add(m, ffn_output, attention_output), p, "output_layer_norm")


def distilbert_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, attention_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """DistilBertSelfAttention.forward"""
    more = {"mask": attention_mask, "p": s.rate("attention_dropout"), "wide": False, "own": True}
    out, weights = self_attention(s, p, x, heads(s, number), DISTILBERT_QKV, **more)
    return p.linear(s.m, out, "out_lin"), weights


def distilbert_feed(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """FFN.forward"""
    m = s.m
    x = p.linear(m, x, "lin1")
    x = several(m, x, str(s.built.config.get("activation") or "gelu"))
    x = p.linear(m, x, "lin2")
    return dropout(m, x, s.rate("dropout"))


def distilbert_loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """DistilBertForMaskedLM, DistilBertForSequenceClassification"""
    m, root = s.m, s.built.root
    if distilbert_headless(s):
        return encoder.loss(s, hidden)
    with m.making("logits"):
        if root.has("pre_classifier"):
            pooled = of_result(m, root.linear(m, first_token(m, hidden), "pre_classifier"))
            pooled = dropout(m, pooled, s.rate("seq_classif_dropout"))
            return classified(s, root.linear(m, pooled, "classifier"))
        x = root.linear(m, hidden, "vocab_transform")
        x = several(m, x, str(s.built.config.get("activation") or "gelu"))
        x = normed(m, x, root, "vocab_layer_norm")
        words = distilbert_base(s).weight("embeddings.word_embeddings")
        weight = root.weight("vocab_projector") if root.has("vocab_projector") else words
        return by_token(s, linear(m, x, weight, root.bias("vocab_projector")))


distilbert = Net(distilbert_model, loss=distilbert_loss)


# ---- ALBERT


CLASSIFIER = "classifier_dropout_prob"


def albert_model(s: TrainingStep) -> Tensor:
    never_checkpointed(s)
    return encoder.pair(s, albert_encoded) if headless(s) else albert_encoded(s)


def albert_encoded(s: TrainingStep) -> Tensor:
    """AlbertModel.forward, without its pooler"""
    m, inner = s.m, base(s)
    ids = m.new((s.batch, s.length), INT64)
    embedding_output = embeddings(s, inner.at("embeddings"), ids)
    attention_mask = mask(s, s.length)
    x = inner.linear(m, embedding_output, "encoder.embedding_hidden_mapping_in")
    for number, p in enumerate(s.built.layers):
        x = run(s, group, x, p, number, attention_mask)
    return x


def group(
    x: Tensor, s: TrainingStep, p: Module, number: int, attention_mask: Tensor | None
) -> Tensor:
    """AlbertLayerGroup.forward"""
    inner = 0
    while p.has(f"albert_layers.{inner}.ffn"):
        x = albert_layer(x, s, p.at(f"albert_layers.{inner}"), number, attention_mask)
        inner += 1
    return x


def albert_layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, attention_mask: Tensor | None
) -> Tensor:
    """AlbertLayer.forward"""
    m = s.m
    attention_output, _ = albert_attention(s, p.at("attention"), x, number, attention_mask)
    ffn_output = albert_feed(s, p, attention_output)
    return normed(m, add(m, ffn_output, attention_output), p, "full_layer_layer_norm")


def albert_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, attention_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """AlbertAttention.forward"""
    m, rate = s.m, s.rate("attention_probs_dropout_prob")
    h, wide = heads(s, number), {"wide": False, "own": True}
    out, weights = self_attention(s, p, x, h, QKV, mask=attention_mask, p=rate, **wide)
    out = p.linear(m, out, "dense")
    out = dropout(m, out, s.rate("hidden_dropout_prob"))
    return normed(m, add(m, x, out), p, "LayerNorm"), weights


def albert_feed(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """AlbertLayer.ff_chunk"""
    m = s.m
    x = p.linear(m, x, "ffn")
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu_new"))
    return p.linear(m, x, "ffn_output")


def albert_loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """AlbertForMaskedLM, AlbertForSequenceClassification, AlbertForTokenClassification"""
    m, root, inner = s.m, s.built.root, base(s)
    if headless(s):
        return encoder.loss(s, hidden)
    with m.making("logits"):
        if root.has("classifier") and inner.has("pooler"):
            pooled = of_result(m, inner.linear(m, first_token(m, hidden), "pooler"))
            pooled = dropout(m, pooled, s.rate(CLASSIFIER))
            return classified(s, root.linear(m, pooled, "classifier"))
        if root.has("classifier"):
            return by_token(s, root.linear(m, dropout(m, hidden, s.rate(CLASSIFIER)), "classifier"))
        if not root.has("predictions.dense") or root.has("sop_classifier.classifier"):
            raise UnsupportedError(sentence("no_known_loss", kind=s.built.kind))
        return by_token(s, _albert_predicted(s, root.at("predictions"), hidden))


def _albert_predicted(s: TrainingStep, p: Module, hidden: Tensor) -> Tensor:
    """AlbertMLMHead.forward"""
    m = s.m
    x = p.linear(m, hidden, "dense")
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu_new"))
    x = normed(m, x, p, "LayerNorm")
    words = base(s).weight("embeddings.word_embeddings")
    return linear(m, x, p.weight("decoder") if p.has("decoder") else words, p.bare("bias"))


albert = Net(albert_model, loss=albert_loss)
