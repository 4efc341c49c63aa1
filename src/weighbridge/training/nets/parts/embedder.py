"""Encoders without a head, as sentence-transformers trains them: pairs of sentences, of which both
sides pass the encoder one after the other; the mean of a sentence's tokens; and, as the loss, the
other sentences of the batch as negatives (MultipleNegativesRankingLoss).

Source: sentence-transformers 6.2 sentence_transformer/modules/pooling.py,
sentence_transformer/losses/multiple_negatives_ranking.py.
"""

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.losses import cross_entropy
from weighbridge.autograd.ops.matrix import matmul
from weighbridge.autograd.ops.norms import normalize
from weighbridge.autograd.ops.pointwise import cast, mul, scale
from weighbridge.autograd.ops.sums import over_tokens
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.training.nets import Net
from weighbridge.training.step import TrainingStep


def pair(s: TrainingStep, encode: Net) -> Tensor:
    """The embeddings of the first sentences; those of the second are kept beside them."""
    s.assume(
        f"{s.built.kind}: its class has no head and no loss; it is trained as "
        "sentence-transformers trains embeddings: a batch is of pairs, the mean of tokens is the "
        "embedding, and the loss is MultipleNegativesRankingLoss"
    )
    first = sentence(s, encode(s))
    second = sentence(s, encode(s))
    s.outputs.append(second)
    return first


def sentence(s: TrainingStep, token_embeddings: Tensor) -> Tensor:
    """Pooling.forward; the features hold the tokens' embeddings until the loss is there."""
    m = s.m
    s.outputs.append(token_embeddings)
    attention_mask = m.new((s.batch, s.length), INT64)
    mask = m.new((s.batch, s.length, 1), token_embeddings.dtype)
    mean_sum = over_tokens(m, mul(m, token_embeddings, mask))
    mean_mask = m.new((s.batch, 1), FLOAT32)
    del attention_mask
    return cast(m, mul(m, mean_sum, mean_mask), token_embeddings.dtype)


def loss(s: TrainingStep, first: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of all pairs of the batch, which stand for logits."""
    m, second = s.m, s.outputs[-1]
    with m.making("logits"):
        scores = scale(m, similar(m, first, second))
        return cross_entropy(m, scores, m.new((s.batch,), INT64)), scores


def similar(m: Machine, a: Tensor, b: Tensor) -> Tensor:
    """cos_sim"""
    return matmul(m, normalize(m, a), normalize(m, b), b.shape[0])
