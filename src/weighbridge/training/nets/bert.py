"""BERT: three embeddings and a norm, norms behind attention and feed-forward, dropouts; the head
of masked language models, or a pooler and a classifier.

Source: transformers 5.23 models/bert/modeling_bert.py.
"""

from weighbridge.autograd.ops.losses import embedding
from weighbridge.autograd.ops.matrix import linear
from weighbridge.autograd.ops.pointwise import add, dropout, of_result, several
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import INT64
from weighbridge.training.modules import Module
from weighbridge.training.nets.decoder import heads, normed, run
from weighbridge.training.nets.encoder import by_token, classified, first_token, mask
from weighbridge.training.nets.encoder import self_attention as attend
from weighbridge.training.step import Step

QKV = ("query", "key", "value")
ENCODER = "encoder."


def forward(s: Step) -> Tensor:
    """BertModel.forward, without its pooler"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    embedding_output = embeddings(s, base(s).at("embeddings"), ids)
    attention_mask = mask(s, s.length)
    x = embedding_output
    for i, p in enumerate(built.layers):
        x = run(s, layer, x, p, i, attention_mask)
    return x


def base(s: Step) -> Module:
    """The encoder's owner, which has embeddings and pooler."""
    return s.built.root.at(s.built.base.path.removesuffix(ENCODER).rstrip("."))


def embeddings(s: Step, p: Module, ids: Tensor) -> Tensor:
    """BertEmbeddings.forward; positions are a buffer's, types are gathered from one."""
    m = s.m
    position_ids = Tensor((1, s.length), INT64, None)
    token_type_ids = m.new((1, s.length), INT64)
    inputs_embeds = embedding(m, ids, p.weight("word_embeddings"))
    if p.has("token_type_embeddings"):
        types = Tensor(ids.shape, INT64, token_type_ids.storage)
        token_type_embeddings = embedding(m, types, p.weight("token_type_embeddings"))
        x = add(m, inputs_embeds, token_type_embeddings)
    else:
        x = inputs_embeds
    position_embeddings = embedding(m, position_ids, p.weight("position_embeddings"))
    x = add(m, x, position_embeddings)
    x = normed(m, x, p, "LayerNorm")
    return dropout(m, x, s.rate("hidden_dropout_prob"))


def layer(x: Tensor, s: Step, p: Module, number: int, attention_mask: Tensor | None) -> Tensor:
    """BertLayer.forward"""
    attention_output, _ = attention(s, p.at("attention"), x, number, attention_mask)
    intermediate_output = intermediate(s, p, attention_output)
    return output(s, p.at("output"), intermediate_output, attention_output)


def attention(
    s: Step, p: Module, x: Tensor, number: int, attention_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """BertAttention.forward"""
    rate = s.rate("attention_probs_dropout_prob")
    h = heads(s, number)
    out, weights = attend(
        s, p.at("self"), x, h, attention_mask, names=QKV, rate=rate, wide=False, own=True
    )
    out = output(s, p.at("output"), out, x)
    return out, weights


def output(s: Step, p: Module, x: Tensor, residual: Tensor) -> Tensor:
    """BertSelfOutput.forward, BertOutput.forward"""
    m = s.m
    x = p.linear(m, x, "dense")
    x = dropout(m, x, s.rate("hidden_dropout_prob"))
    return normed(m, add(m, x, residual), p, "LayerNorm")


def intermediate(s: Step, p: Module, x: Tensor) -> Tensor:
    m = s.m
    x = p.linear(m, x, "intermediate.dense")
    return several(m, x, str(s.built.config.get("hidden_act") or "gelu"))


def loss(s: Step, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """BertForMaskedLM, BertForSequenceClassification"""
    with s.m.making("logits"):
        if s.built.root.has("classifier"):
            return classified(s, _pooled(s, hidden))
        return by_token(s, _predicted(s, hidden))


def _predicted(s: Step, hidden: Tensor) -> Tensor:
    """BertLMPredictionHead.forward"""
    m, p = s.m, s.built.root.at("cls.predictions")
    x = p.linear(m, hidden, "transform.dense")
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu"))
    x = normed(m, x, p, "transform.LayerNorm")
    words = base(s).weight("embeddings.word_embeddings")
    weight = p.weight("decoder") if p.has("decoder") else words
    return linear(m, x, weight, p.bare("bias"))


def _pooled(s: Step, hidden: Tensor) -> Tensor:
    """BertPooler.forward, dropout, classifier"""
    m = s.m
    pooled = of_result(m, base(s).linear(m, first_token(m, hidden), "pooler.dense"))
    rate = s.rate("classifier_dropout", "hidden_dropout_prob")
    pooled = dropout(m, pooled, rate)
    return s.built.root.linear(m, pooled, "classifier")
