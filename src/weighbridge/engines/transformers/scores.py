"""Scores written out: eager attention, as each class writes it. Bytes a score, of 16 bits:

    usual       scores, their float32 softmax and the copy back: 8 in float16, 10 in bfloat16, which
                is copied to float32 before
    own         the softmax in the dtype of the scores: 4
    sinks       a column more, and no float32; the product takes the weights without that column as
                they lie
    wide        queries and keys, and so scores, in float32: 8 (GPT-J, GPT-Neo)
    biases      biases of distance in float32 are added, and so the sum is: 10 (MPT)
    raw         what the product gave stays beside what the mask was added to (BLOOM, Falcon)

The weights are returned, and live as long as the layer runs; in classes of an older style to the
end of the next layer.

Source: transformers 5.23 eager_attention_forward of models/llama/modeling_llama.py,
models/bert/modeling_bert.py and models/gpt_oss/modeling_gpt_oss.py; models/gptj/modeling_gptj.py
(GPTJAttention._attn), models/gpt_neo/modeling_gpt_neo.py, models/mpt/modeling_mpt.py,
models/bloom/modeling_bloom.py, models/falcon/modeling_falcon.py (forward of their attention).
"""

from dataclasses import dataclass

from weighbridge.components.activations import Heap, LiveTensor
from weighbridge.engines.transformers.step import ForwardStep


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelHeads:
    """What a kernel is given. `mask` is the elements of its mask, 0 for none; `seen` the keys that
    a query is compared with."""

    count: int
    groups: int  # query heads that share a key and value
    key_dim: int
    value_dim: int
    seen: int
    mask: int = 0
    own: bool = True  # whether it attends to its own tokens: a bias by distance is for these


def eager(heap: Heap, s: ForwardStep, h: KernelHeads) -> tuple[LiveTensor, ...]:
    """The output, and the weights where the layer is handed them."""
    cells = s.rows * h.count * h.seen
    wide = _widened(heap, s, h)
    weights, beside = _scored(heap, s, h, cells)
    soft, behind = (_with_sinks if s.style.sinks else _softmax)(heap, s, weights, cells)
    heap.drop(*wide)
    plain = heap.take(s.wide(h.count * h.value_dim))
    made = heap.into(plain.nbytes, plain)  # made contiguous
    heap.drop(*behind, *beside)
    if s.rules.scores_returned:
        return made, soft
    heap.drop(soft)
    return (made,)


def _widened(heap: Heap, s: ForwardStep, h: KernelHeads) -> tuple[LiveTensor, ...]:
    """Queries and keys in float32."""
    if not s.style.wide_queries or s.size == 4:
        return ()
    keys = 4 * s.batch * h.seen * h.count * h.key_dim
    return heap.all((4 * s.rows * h.count * h.key_dim, keys), "activations")


def _scored(
    heap: Heap, s: ForwardStep, h: KernelHeads, cells: int
) -> tuple[LiveTensor, tuple[LiveTensor, ...]]:
    """The scores with what is added to them, and what stays beside them."""
    size = 4 if s.style.wide_queries else s.size
    weights = heap.into(size * cells, heap.take(size * cells))  # scaled
    if s.style.wide_biases:
        weights = heap.into(4 * cells, weights)
    if not h.mask and not (s.style.biased and h.own):
        return weights, ()
    masked = heap.take(weights.nbytes)
    if s.style.raw_scores:
        return masked, (weights,)
    heap.drop(weights)
    return masked, ()


def _softmax(
    heap: Heap, s: ForwardStep, weights: LiveTensor, cells: int
) -> tuple[LiveTensor, tuple[LiveTensor, ...]]:
    """Compute the softmax in float32: for float16 in one kernel, for bfloat16 from a copy. Else in
    the dtype of the scores, which go before it is cast."""
    if s.style.kept_scores:
        return heap.take(weights.nbytes), (weights,)
    if s.style.own_softmax:
        soft = heap.into(weights.nbytes, weights)
        return (heap.into(s.size * cells, soft) if soft.nbytes > s.size * cells else soft), ()
    copied = s.dtype.name == "bfloat16" and weights.nbytes < 4 * cells
    copy = heap.take(4 * cells if copied else 0)
    soft = heap.take(4 * cells)
    heap.drop(copy)
    soft = heap.into(s.size * cells, soft) if s.size < 4 else soft
    heap.drop(weights)
    return soft, ()


def _with_sinks(
    heap: Heap, s: ForwardStep, weights: LiveTensor, cells: int
) -> tuple[LiveTensor, tuple[LiveTensor, ...]]:
    """Scores with one more column, less their maximum; their softmax."""
    joined = heap.take(s.size * cells)
    lowered = heap.into(s.size * cells, joined)
    soft = heap.take(s.size * cells)
    heap.drop(weights)
    return soft, (lowered,)
