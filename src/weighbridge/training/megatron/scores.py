"""Attention that materializes the scores of all pairs of tokens: [batch x heads, tokens, tokens].

    a buffer for the product, which Megatron's own modules keep, the product, its softmax, and the
    result of dropout
    kept       queries, keys and values, these once for each head that reads them; the softmax; with
               dropout its mask and its result, too
    softmax    in its own kernel, or by torch if Megatron's own modules are set so
               (no_masked_softmax_fusion) or a sequence has more than 4,096 tokens. By torch in
               float32 (attention_softmax_in_fp32, apply_query_key_layer_scaling) the product is
               copied first, scaled into another copy, and the softmax is kept in float32

Source: Megatron-LM d98e8a6 core/transformer/dot_product_attention.py, core/fusions/fused_softmax.py
(is_kernel_available, forward_torch_softmax); Transformer Engine c188b53
pytorch/attention/dot_product_attention/backends.py (UnfusedDotProductAttention).
"""

from typing import TYPE_CHECKING, Any

from weighbridge.base.dtypes import BFLOAT16, BOOL, FLOAT32, DType
from weighbridge.training.forward.machine import Grads, Machine, Needs, record, remade
from weighbridge.training.forward.tensors import Shape, Tensor
from weighbridge.training.megatron.run import MegatronRun

if TYPE_CHECKING:
    from weighbridge.training.megatron.layers import RankMachine

LONGEST = 4096  # most tokens for which the softmax has its own kernel


def by_torch(run: MegatronRun) -> bool:
    """Return whether torch computes the softmax of Megatron's own attention."""
    fused = run.fused_softmax and run.length // run.context <= LONGEST
    return not run.engine and not fused


def unfused(rank: "RankMachine", q: Tensor, k: Tensor, v: Tensor, columns: int) -> Tensor:
    m, run = rank.m, rank.run
    k, v = _for_each_head(rank, k), _for_each_head(rank, v)
    scores = (run.batch * (rank.model.heads // run.tensor), run.length, run.length)
    buffer = m.new(scores, BFLOAT16) if run.engine else rank.buffer(scores)
    product = m.new(scores, BFLOAT16)
    del buffer
    of_torch = by_torch(run)
    wide = FLOAT32 if of_torch and run.wide_softmax else BFLOAT16
    soft, probs = _softmax(m, run, scores, wide) if of_torch else (m.new(scores, BFLOAT16), None)
    del product
    kept: list[Tensor | None] = [q, k, v, soft]
    drops = bool(run.attention_dropout)
    if drops:
        kept += [m.new(scores, BFLOAT16), m.new(scores, BOOL)]
    elif probs is not None:
        kept.append(probs)
    del soft, probs
    out = m.new((q.rows, columns), q.dtype)
    shapes = q.shape, k.shape, v.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        of_probs = m.new(scores, BFLOAT16)
        of_v = m.new(shapes[2], BFLOAT16)
        if drops:
            of_probs = m.new(scores, BFLOAT16)
        if of_torch:
            of_probs = _softmax_back(m, scores, wide, of_probs)
        of_q = m.new(shapes[0], BFLOAT16)
        of_k = m.new(shapes[1], BFLOAT16)
        del of_probs
        return [of_q, of_k, of_v]

    record(m, back, [q, k, v], kept, out)
    return out


def _for_each_head(rank: "RankMachine", x: Tensor) -> Tensor:
    """Return keys or values of each group repeated for its heads (repeat_interleave)."""
    model, tensor = rank.model, rank.run.tensor
    heads, groups = model.heads // tensor, max(1, model.kv_heads // tensor)
    if model.latent is not None or heads == groups:
        return x
    return remade(rank.m, x, rank.m.new((x.rows, x.shape[-1] * heads // groups), x.dtype))


def _softmax(
    m: Machine, run: MegatronRun, scores: Shape, wide: DType
) -> tuple[Tensor, Tensor | None]:
    """Return (softmax of the product, which is saved; its 16-bit copy, None if that is the same
    tensor) (forward_torch_softmax)."""
    given = m.new(scores, wide) if wide != BFLOAT16 else None
    if run.scaled_by_layer:
        given = m.new(scores, wide)
    soft = m.new(scores, wide)
    probs = m.new(scores, BFLOAT16) if wide != BFLOAT16 else None
    del given
    return soft, probs


def _softmax_back(m: Machine, scores: Shape, wide: DType, given: Tensor) -> Tensor:
    """Return the gradient of the product; that of the softmax is cast to `wide` first."""
    if wide == BFLOAT16:
        return m.new(scores, BFLOAT16)
    of_soft = m.new(scores, wide)
    of_wide = m.new(scores, wide)
    del given, of_soft
    out = m.new(scores, BFLOAT16)
    del of_wide
    return out
