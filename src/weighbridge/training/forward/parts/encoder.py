"""Parts of encoders: bidirectional attention, heads that classify an input, and training without a
head.

sentence-transformers trains encoders without a head on pairs of sentences: both sides pass the
encoder one after the other; a sentence is the mean of its tokens; and the loss takes the other
sentences of the batch as negatives (MultipleNegativesRankingLoss).

Source: transformers 5.23 models/bert/modeling_bert.py, models/vit/modeling_vit.py, masking_utils.py
(create_bidirectional_mask), loss/loss_utils.py (ForSequenceClassificationLoss);
sentence-transformers 6.2 sentence_transformer/modules/pooling.py,
sentence_transformer/losses/multiple_negatives_ranking.py.
"""

from typing import Any

from weighbridge.base import sentences
from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.base.errors import UsageError
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.mixers import Attention
from weighbridge.training.forward.losses import cross_entropy
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Forward
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.matrix import matmul
from weighbridge.training.forward.ops.norms import normalize
from weighbridge.training.forward.ops.pointwise import cast, mul, scale
from weighbridge.training.forward.ops.shaping import cut, over_tokens
from weighbridge.training.forward.parts.attention import attended
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Tensor

Names = tuple[str, str, str]


def never_checkpointed(s: TrainingStep) -> None:
    """Raise UsageError if gradient checkpointing is set: these classes refuse to enable it."""
    if s.checkpointing != "none":
        raise UsageError(sentences.sentence("no_checkpoints", kind=s.built.kind))


def heads_of(s: TrainingStep, body: Body, length: int) -> AttentionHeads:
    """Return the attention sizes of an encoder, or of the decoder that reads it; all layers have
    the same."""
    mixer = next(x for x in body.blocks[0].mixers if isinstance(x, Attention))
    return AttentionHeads(
        batch=s.batch,
        length=length,
        seen=length,
        heads=mixer.heads,
        kv_heads=mixer.heads,
        key_dim=mixer.key_dim,
        value_dim=mixer.value_dim,
    )


def mask(s: TrainingStep, length: int) -> Tensor | None:
    """Return the padding mask; None if nothing is padded, also for eager attention."""
    if not s.padded or s.kernel == "flash":
        return None
    whole = (s.batch, 1, length, length)
    return s.m.new(whole, s.dtype if s.kernel == "eager" else BOOL)


def decoder_mask(s: TrainingStep) -> Tensor | None:
    """Return the causal mask of a decoder that attends to an encoder; only eager attention makes
    one. Padding comes last and needs none."""
    whole = s.batch, 1, s.length, s.length
    return s.m.new(whole, s.dtype) if s.kernel == "eager" else None


def self_attention(
    s: TrainingStep, p: Module, x: Tensor, heads: AttentionHeads, names: Names, /, **more: Any
) -> tuple[Tensor, Tensor | None]:
    """Return (output of self-attention [batch, length, width], weights): queries, keys and values
    are those of three linears. `more` has fields of `AttentionOptions`."""
    m, width = s.m, heads.heads * heads.key_dim
    query, key, value = (p.linear(m, x, name).view(*heads.queries) for name in names)
    out, weights = attended(s, query, key, value, heads, causal=False, views=True, **more)
    return out.view(heads.batch, heads.length, width), weights


def first_token(m: Machine, x: Tensor) -> Tensor:
    """Return x[:, 0], a view; backward allocates zeros of the shape of `x`."""
    batch, _, width = x.shape
    return cut(m, x.view(batch, x.numel // batch), width)


def classified(s: TrainingStep, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss with one label per input, logits); the loss is in the dtype of the logits."""
    labels = s.m.new((s.batch,), INT64)
    return cross_entropy(s.m, logits, labels), logits


def by_token(s: TrainingStep, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss with one label per token, not shifted; logits)."""
    labels = s.m.new((s.batch, s.length), INT64)
    rows = logits.view(labels.numel, logits.shape[-1])
    return cross_entropy(s.m, rows, labels), logits


# ---- pairs of sentences


def pair(s: TrainingStep, encode: Forward) -> Tensor:
    """Return the embeddings of each pair's first sentence; those of the second are kept in
    `s.outputs`."""
    s.assume(sentences.about(s.built.kind, sentences.sentence("no_loss.embeds")))
    first = sentence(s, encode(s))
    second = sentence(s, encode(s))
    s.outputs.append(second)
    return first


def sentence(s: TrainingStep, token_embeddings: Tensor) -> Tensor:
    """Return the sentence embeddings of Pooling.forward; `s.outputs` holds the tokens' embeddings
    until the loss."""
    m = s.m
    s.outputs.append(token_embeddings)
    attention_mask = m.new((s.batch, s.length), INT64)
    mask = m.new((s.batch, s.length, 1), token_embeddings.dtype)
    mean_sum = over_tokens(m, mul(m, token_embeddings, mask))
    mean_mask = m.new((s.batch, 1), FLOAT32)
    del attention_mask
    return cast(m, mul(m, mean_sum, mean_mask), token_embeddings.dtype)


def loss(s: TrainingStep, first: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss, scores of all pairs of the batch); the scores are in place of logits."""
    m, second = s.m, s.outputs[-1]
    with m.making("logits"):
        scores = scale(m, similar(m, first, second))
        return cross_entropy(m, scores, m.new((s.batch,), INT64)), scores


def similar(m: Machine, a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine similarity of all pairs of rows of `a` and `b` (cos_sim)."""
    return matmul(m, normalize(m, a), normalize(m, b), b.shape[0])
