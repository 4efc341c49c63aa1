"""Encoders whose scores have positions in them: DeBERTa v2 and v3, and MPNet.

    DeBERTa   BERT's layers, whose scores are of contents, of contents and positions, and of
              positions and contents. N sequences times heads, L tokens, A distances, d head
              dimension: scores N L L, of positions N L A and, picked from them, N L L; each layer
              keeps all of them. The outputs of all layers are held until the encoder is through
    MPNet     RoBERTa's layers with relative positions, which are looked up once, copied for every
              sequence and added to the scores of every layer; attention is written out

Source: transformers 5.23 models/deberta_v2/modeling_deberta_v2.py, models/mpnet/modeling_mpnet.py.
"""

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import about, sentence
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net, bert
from weighbridge.training.forward.ops.attention import (
    AttentionHeads,
    contiguous,
    own_softmax,
    product,
)
from weighbridge.training.forward.ops.biases import buckets
from weighbridge.training.forward.ops.matrix import linear, matmul
from weighbridge.training.forward.ops.pointwise import (
    add,
    add_,
    cast,
    dropout,
    mul,
    scale,
    several,
    shift,
)
from weighbridge.training.forward.ops.scans import interleaved, masked
from weighbridge.training.forward.ops.shaping import (
    copied,
    embedding,
    expand,
    first,
    gathered,
    turned,
)
from weighbridge.training.forward.parts import encoder
from weighbridge.training.forward.parts.attention import heads, written_out
from weighbridge.training.forward.parts.encoder import classified, first_token, never_checkpointed
from weighbridge.training.forward.parts.layer import normed, run
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Computed, LeafTensor, Tensor

DROPOUT = "hidden_dropout_prob"


class Places(NamedTuple):
    """Distances of tokens, int64, and their embeddings."""

    relative_pos: Tensor
    rel_embeddings: Tensor


def deberta_model(s: TrainingStep) -> Tensor:
    """DebertaV2Model.forward, DebertaV2Encoder.forward"""
    written_out(s)
    m, p = s.m, bert.base(s)
    if p.has("encoder.conv.conv"):
        raise UnsupportedError(sentence("uncovered.convolution", kind=s.built.kind))
    ids = m.new((s.batch, s.length), INT64)
    attention_mask = m.new((s.batch, s.length), INT64 if s.padded else FLOAT32)
    token_type_ids = m.new((s.batch, s.length), INT64)
    x = embeddings(s, p.at("embeddings"), (ids, token_type_ids), attention_mask)
    extended = m.new((s.batch, 1, s.length, s.length), attention_mask.dtype)
    relative = p.has("encoder.rel_embeddings")
    places = Places(distances(s), embedded(s, p.at("encoder"))) if relative else None
    all_hidden_states = [x]
    for number, q in enumerate(s.built.layers):
        x = run(s, layer, x, q, heads(s, number), extended, places)
        all_hidden_states.append(x)
    return x


def embeddings(s: TrainingStep, p: Module, ids: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """DebertaV2Embeddings.forward"""
    m = s.m
    inputs_embeds = entered(s, embedding(m, ids[0], p.weight("word_embeddings")))
    if p.has("position_embeddings"):
        position_ids = Computed((1, s.length), INT64, None)  # a view of a buffer
        position_embeddings = embedding(m, position_ids, p.weight("position_embeddings"))
        x = add(m, inputs_embeds, position_embeddings)
    else:
        position_embeddings = m.new(inputs_embeds.shape, inputs_embeds.dtype)
        x = inputs_embeds
    if p.has("token_type_embeddings"):
        x = add(m, x, embedding(m, ids[1], p.weight("token_type_embeddings")))
    if p.has("embed_proj"):
        x = p.linear(m, x, "embed_proj")
    x = normed(m, x, p, "LayerNorm")
    x = mul(m, x, cast(m, mask.view(s.batch, s.length, 1), x.dtype))
    return dropout(m, x, s.rate(DROPOUT))


def distances(s: TrainingStep) -> Tensor:
    """Return the distances of build_relative_position and make_log_bucket_position."""
    m, shape = s.m, (s.length, s.length)
    relative_pos = m.new(shape, INT64)
    sign, abs_pos = m.new(shape, INT64), m.new(shape, INT64)
    log_pos, bucket_pos = m.new(shape, FLOAT32), m.new(shape, FLOAT32)
    del relative_pos, sign, abs_pos, log_pos
    numbers = m.new(shape, INT64)
    del bucket_pos
    return numbers


def embedded(s: TrainingStep, p: Module) -> Tensor:
    """DebertaV2Encoder.get_rel_embedding"""
    weight = p.weight("rel_embeddings")
    return normed(s.m, weight, p, "LayerNorm") if p.has("LayerNorm") else weight


def layer(
    x: Tensor,
    s: TrainingStep,
    p: Module,
    heads: AttentionHeads,
    mask: Tensor,
    places: Places | None,
) -> Tensor:
    """DebertaV2Layer.forward"""
    attention_output = attention(s, p.at("attention"), x, heads, mask, places)
    intermediate_output = bert.intermediate(s, p, attention_output)
    return bert.output(s, p.at("output"), intermediate_output, attention_output)


def attention(
    s: TrainingStep,
    p: Module,
    x: Tensor,
    heads: AttentionHeads,
    mask: Tensor,
    places: Places | None,
) -> Tensor:
    """DebertaV2Attention.forward"""
    return bert.output(s, p.at("output"), disentangled(s, p.at("self"), x, heads, mask, places), x)


def disentangled(
    s: TrainingStep,
    p: Module,
    x: Tensor,
    heads: AttentionHeads,
    mask: Tensor,
    places: Places | None,
) -> Tensor:
    """Return DisentangledSelfAttention.forward; its local variables live until it returns."""
    m, shape = s.m, (heads.batch * heads.heads, heads.length, heads.key_dim)
    query_layer = first(m, p.linear(m, x, "query_proj")).view(*shape)
    key_layer = first(m, p.linear(m, x, "key_proj")).view(*shape)
    value_layer = first(m, p.linear(m, x, "value_proj")).view(*shape)
    attention_scores = matmul(m, query_layer, scale(m, key_layer), heads.seen)
    if places is not None:
        rel_embeddings = dropout(m, places.rel_embeddings, s.rate(DROPOUT))
        looked_up = places._replace(rel_embeddings=rel_embeddings)
        rel_att = bias(s, p, heads, (query_layer, key_layer), looked_up)
        if rel_att is not None:
            attention_scores = add(m, attention_scores, rel_att)
    attention_scores = attention_scores.view(*heads.scores)
    seen = m.new(mask.shape, BOOL)
    attention_scores = masked(m, attention_scores, m.new(mask.shape, BOOL))
    attention_probs = own_softmax(m, attention_scores)
    attention_probs = dropout(m, attention_probs, s.rate("attention_probs_dropout_prob"))
    rows = attention_probs.view(shape[0], heads.length, heads.seen)
    context_layer = matmul(m, rows, value_layer, heads.value_dim)
    context_layer = contiguous(m, turned(m, context_layer), heads)
    del seen
    return context_layer.view(heads.batch, heads.length, heads.heads * heads.value_dim)


def bias(
    s: TrainingStep, p: Module, heads: AttentionHeads, layers: tuple[Tensor, Tensor], places: Places
) -> Tensor | None:
    """DisentangledSelfAttention.disentangled_attention_bias"""
    m, kinds = s.m, s.built.config.get("pos_att_type") or ()
    query_layer, key_layer = layers
    if s.built.config.get("share_att_key"):
        pos_query_layer = placed(s, p, "query_proj", heads, places)
        pos_key_layer = placed(s, p, "key_proj", heads, places)
    else:
        pos_key_layer = placed(s, p, "pos_key_proj", heads, places)
        pos_query_layer = placed(s, p, "pos_query_proj", heads, places)
    score = None
    if "c2p" in kinds:
        assert pos_key_layer is not None
        c2p_att = matmul(m, query_layer, pos_key_layer, pos_key_layer.shape[1])
        c2p_pos = clamped(s, places)
        c2p_att = gathered(m, c2p_att, c2p_pos, (c2p_att.shape[0], heads.length, heads.seen))
        score = shift(m, scale(m, c2p_att))
    if "p2c" in kinds:
        assert pos_query_layer is not None
        p2c_pos = clamped(s, places)
        p2c_att = matmul(m, key_layer, pos_query_layer, pos_query_layer.shape[1])
        p2c_att = gathered(m, p2c_att, p2c_pos, (p2c_att.shape[0], heads.length, heads.seen))
        scaled = scale(m, p2c_att)
        score = shift(m, scaled) if score is None else add_(m, score, scaled)
    return score


def placed(
    s: TrainingStep, p: Module, name: str, heads: AttentionHeads, places: Places
) -> Tensor | None:
    """Return the projected position embeddings of every head, repeated for every sequence; None
    without projection `name`."""
    if not p.has(name):
        return None
    m, rows = s.m, places.rel_embeddings.shape[0]
    x = first(m, p.linear(m, places.rel_embeddings, name)).view(heads.heads, rows, heads.key_dim)
    return interleaved(m, x, (heads.batch * heads.heads, rows, heads.key_dim))


def clamped(s: TrainingStep, places: Places) -> Tensor:
    """Return clamp(distance + span); the sum is freed."""
    shape = places.relative_pos.shape
    total = s.m.new(shape, INT64)
    numbers = s.m.new(shape, INT64)
    del total
    return numbers


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """DebertaV2ForSequenceClassification; other heads are as BERT's."""
    m, root, rate = s.m, s.built.root, s.rate("cls_dropout", DROPOUT)
    if not (bert.headless(s) or root.has("pooler.dense")):
        return bert.loss(s, hidden)
    with m.making("logits"):
        if bert.headless(s):
            s.assume(about(s.built.kind, sentence("no_loss.sentences")))
            weight = LeafTensor("classifier", (2, hidden.shape[-1]), hidden.dtype, None)
            return classified(s, linear(m, dropout(m, first_token(m, hidden), rate), weight))
        pooled = dropout(m, first_token(m, hidden), s.rate("pooler_dropout"))
        kind = str(s.built.config.get("pooler_hidden_act") or "gelu")
        pooled = several(m, root.linear(m, pooled, "pooler.dense"), kind)
        return classified(s, root.linear(m, dropout(m, pooled, rate), "classifier"))


deberta = Net(deberta_model, loss=loss)


# ---- MPNet


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
        x = run(s, mpnet_layer, x, p, number, attention_mask, position_bias)
    return x


def biases(s: TrainingStep, p: Module, heads: AttentionHeads) -> Tensor:
    """MPNetEncoder.compute_position_bias"""
    m = s.m
    numbers = buckets(m, heads.length, heads.seen, causal=False)
    values = embedding(m, numbers, p.weight("relative_attention_bias"))
    values = expand(m, values.view(1, heads.heads, heads.length, heads.seen), *heads.scores)
    return copied(m, values)


def mpnet_layer(
    x: Tensor,
    s: TrainingStep,
    p: Module,
    number: int,
    attention_mask: Tensor | None,
    position_bias: Tensor,
) -> Tensor:
    """MPNetLayer.forward"""
    attention_output = mpnet_attention(
        s, p.at("attention"), x, heads(s, number), attention_mask, position_bias
    )
    intermediate_output = bert.intermediate(s, p, attention_output)
    return bert.output(s, p.at("output"), intermediate_output, attention_output)


def mpnet_attention(
    s: TrainingStep,
    p: Module,
    x: Tensor,
    heads: AttentionHeads,
    attention_mask: Tensor | None,
    position_bias: Tensor,
) -> Tensor:
    """MPNetAttention.forward"""
    m = s.m
    out = mpnet_self_attention(s, p.at("attn"), x, heads, attention_mask, position_bias)
    return normed(m, add(m, dropout(m, out, s.rate("hidden_dropout_prob")), x), p, "LayerNorm")


def mpnet_self_attention(
    s: TrainingStep,
    p: Module,
    x: Tensor,
    heads: AttentionHeads,
    attention_mask: Tensor | None,
    position_bias: Tensor,
) -> Tensor:
    """MPNetSelfAttention.forward: its local variables live to its end."""
    m, shape = s.m, heads.queries
    q, k, v = (turned(m, p.linear(m, x, name).view(*shape)) for name in QKV)
    attention_scores = scale(m, product(m, q, k, heads))
    attention_scores = add_(m, attention_scores, position_bias)
    if attention_mask is not None:
        attention_scores = add(m, attention_scores, attention_mask)
    attention_probs = own_softmax(m, attention_scores)
    attention_probs = dropout(m, attention_probs, s.rate("attention_probs_dropout_prob"))
    c = product(m, attention_probs, v, heads, columns=heads.value_dim)
    c = contiguous(m, c, heads)
    return p.linear(m, c.view(heads.batch, heads.length, heads.heads * heads.key_dim), "o")


mpnet = Net(mpnet_model, loss=bert.loss)
