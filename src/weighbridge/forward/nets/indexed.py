"""DeepSeek-V3.2 and GLM-5: latent attention behind an indexer, which picks the keys that a token
sees.

    indexer     scores of all keys, [B, S, H, T] in float32, without gradients; keys are copied for
                every query where there are several sequences: B S D T
    mask        of every layer its own, [B, 1, S, T]: no kernel of flash attention takes it

The indexer's own weights are never trained by this class: nothing gives them a gradient. Its
kernels for sparse attention are installed apart.

Source: transformers 5.23 models/deepseek_v32/modeling_deepseek_v32.py,
models/glm_moe_dsa/modeling_glm_moe_dsa.py.
"""

from dataclasses import replace
from typing import NamedTuple

from weighbridge.arch.mixers import Latent
from weighbridge.arch.model_types import differs
from weighbridge.dtypes import BOOL, FLOAT32, INT32, INT64
from weighbridge.errors import UsageError
from weighbridge.forward.machine import Machine, lower
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net, latent
from weighbridge.forward.ops.experts import topk
from weighbridge.forward.ops.matrix import matmul
from weighbridge.forward.ops.norms import layer_norm
from weighbridge.forward.ops.pointwise import cast, of_result, scale
from weighbridge.forward.ops.shaping import embedding, join, split
from weighbridge.forward.parts import moe
from weighbridge.forward.parts.attention import mask
from weighbridge.forward.parts.layer import normed, run
from weighbridge.forward.parts.rotary import Rotary, rotary_of, rotated
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor

MOST = 2048  # tokens that are picked, where the config does not say


def indexed_model(s: TrainingStep) -> Tensor:
    """DeepseekV32Model.forward"""
    if s.kernel == "flash":
        raise UsageError(
            f"--attention flash: {s.built.kind} has a mask in every layer, which flash attention "
            "does not take; leave it out"
        )
    m, base = s.m, s.built.base
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, base.weight("embed_tokens")))
    position_ids = m.new((1, s.length), INT64)
    mask = causal(s)
    turns = rotary_of(s, latent.of(s, 0).rotary)
    x, found, layer = inputs_embeds, Picked(), replace(moe.LAYER, attend=attention)
    for i, p in enumerate(s.built.layers):
        before = found.numbers
        x = run(s, layer, x, p, i, IndexedInputs(turns, before, found), mask, position_ids)
        del before
    found.numbers = None
    return normed(m, x, base, "norm")


class Picked:
    """The keys that the last layer picked: GLM hands them to the next, which may take them over."""

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers: Tensor | None = None


class IndexedInputs(NamedTuple):
    """The inputs of a layer beside its states: a checkpoint keeps the keys that were picked
    `before`."""

    turns: Rotary
    before: Tensor | None
    found: Picked


def causal(s: TrainingStep) -> Tensor:
    """The mask is made even where sdpa could do without."""
    if s.kernel == "eager" or s.padded:
        out = mask(s, None)
        assert out is not None
        return out
    return s.m.new((1, 1, s.length, s.length), BOOL)


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, given: IndexedInputs, mask: Tensor
) -> tuple[Tensor, Tensor | None]:
    """DeepseekV32Attention.forward, GlmMoeDsaAttention.forward"""
    found = latent.states(s, p, x, number, given.turns)
    with s.m.no_grad():
        if p.has("indexer.wk"):
            numbers = indexer(s, p.at("indexer"), x, found, given.turns)
        else:
            assert given.before is not None
            numbers = given.before
        index_mask, mask = hidden(s, numbers, mask)
    result = latent.out(s, p, found, mask)
    if differs(s.built.kind, "shared_picks") and not s.m.in_backward:
        given.found.numbers = numbers
    del index_mask
    return result


def indexer(
    s: TrainingStep, p: Module, x: Tensor, found: latent.States, positions: Rotary
) -> Tensor:
    """DeepseekV32Indexer.forward: the numbers of the best keys; its local variables live to its
    end."""
    m, of, turned = s.m, found.a.indexer, found.a.rotary
    assert of is not None
    assert found.small is not None
    q = p.linear(m, found.small, "wq_b").view(s.batch, s.length, of.heads, of.dim)
    k = layer_norm(m, p.linear(m, x, "wk"), p.weight("k_norm"), p.bias("k_norm"))
    k = k.view(s.batch, s.length, 1, of.dim)
    (q_rot, q_pass), (k_rot, k_pass) = (split(m, t, (turned, of.dim - turned)) for t in (q, k))
    turn = latent.interleaved if differs(s.built.kind, "shared_picks") else rotated
    q_rot, k_rot = turn(m, q_rot, k_rot, positions)
    whole_q, whole_k = join(m, q_rot, q_pass), join(m, k_rot, k_pass)
    scores = scale(m, _compared(m, whole_q, whole_k))
    scores = of_result(m, scores)
    weights = cast(m, p.linear(m, x, "weights_proj"), FLOAT32)
    weights = scale(m, weights)
    index_scores = _weighed(m, weights, scores)
    return _best(s, index_scores)


def _compared(m: Machine, q: Tensor, k: Tensor) -> Tensor:
    """[B, S, H, T] in float32, or as autocast multiplies."""
    batch, length, _, dim = q.shape
    wide_q, wide_k = cast(m, q, FLOAT32), cast(m, k, FLOAT32)
    low_q, low_k = lower(m, wide_q), lower(m, wide_k)
    copies = m.new((batch, length, dim, length), low_k.dtype) if batch > 1 else low_k
    return matmul(m, low_q, copies, length)


def _weighed(m: Machine, weights: Tensor, scores: Tensor) -> Tensor:
    """[B, S, T]: the sum over heads."""
    batch, length, heads, seen = scores.shape
    return matmul(m, weights.view(batch, length, 1, heads), scores, seen).view(batch, length, seen)


def _best(s: TrainingStep, scores: Tensor) -> Tensor:
    m = s.m
    inverse = m.new(scores.shape, BOOL) if s.kernel != "eager" else None
    scores = m.new(scores.shape, FLOAT32)
    del inverse
    most = s.built.config.num("index_topk", default=0) or MOST
    count = min(most, scores.shape[-1])
    values, numbers = topk(m, scores, count)
    del values
    return cast(m, numbers, INT32)


def hidden(s: TrainingStep, numbers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(which keys are not picked, the mask with them)"""
    m, shape = s.m, (s.batch, s.length, s.length)
    ones = m.new(shape, BOOL)
    wide = m.new(numbers.shape, INT64)
    index_mask = m.new((shape[0], 1, *shape[1:]), BOOL)
    del ones, wide
    if mask.dtype == BOOL:
        m.new(index_mask.shape, BOOL)
    return index_mask, m.new(index_mask.shape, mask.dtype)


indexed = Net(indexed_model, mixes=Latent)
