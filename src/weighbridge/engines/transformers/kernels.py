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

The kernels of attention: what each makes, beside queries, keys and values.

    sdpa, flash      the output, and 4 bytes a row and head of softmax sums
    efficient        the same; torch makes of a bool mask one of the queries' dtype
    math             float32 copies of queries, keys and values, scaled ones, two float32 score
                     matrices and one of a byte each: of groups in float32, which no other takes
    eager            scores written out, as classes do

`sdpa` takes the flash kernel where heads are alike and no mask is given, else the efficient one,
which makes the same; one head for all, and no word of groups, leaves math. Sources: torch
aten/native/SoftMax.cpp, aten/native/transformers/attention.cpp, cuda/sdp_utils.cpp, flash_api.cpp;
transformers integrations/sdpa_attention.py (use_gqa_in_sdpa, pack_gqa).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from weighbridge.accelerators.chips import ASSUMED
from weighbridge.components.activations import Heap, LiveTensor
from weighbridge.engines.transformers.step import ForwardStep
from weighbridge.kernels.attention import (
    FLASH_MOST,
    KernelShape,
    efficient_forward,
    flash_forward,
)


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


# ---- kernels


def attend(
    heap: Heap, s: ForwardStep, h: KernelHeads, keys: int, values: int
) -> tuple[LiveTensor, ...]:
    """What the kernel returns: the output, and scores that the layer has to its end; `keys` and
    `values` are the bytes of what it attends to."""
    repeated = _repeated(heap, s, h, keys, values)
    made = KERNELS.get(_kernel(s, h), _fused)(heap, s, h)
    heap.drop(*repeated)
    return made


def _kernel(s: ForwardStep, h: KernelHeads) -> str:
    """Choose the kernel. With `enable_gqa`, SDPA has a kernel besides math only in 16 bits; without
    it, keys and values are repeated first."""
    if s.kernel != "sdpa" or h.groups == 1:
        return s.kernel
    return "math" if s.style.ungrouped or (s.size == 4 and _told(s, h)) else "sdpa"


def _told(s: ForwardStep, h: KernelHeads) -> bool:
    """Whether the kernel is given fewer heads of keys and values, and told so (enable_gqa)."""
    alike = h.key_dim == h.value_dim <= FLASH_MOST
    return h.groups > 1 and alike and not (h.mask or s.rules.sdpa_repeats or s.style.ungrouped)


def _repeated(
    heap: Heap, s: ForwardStep, h: KernelHeads, keys: int, values: int
) -> tuple[LiveTensor, ...]:
    """Keys and values copied for all query heads, where the kernel has no groups."""
    if h.groups > 1 and _repeats(s, h):
        both = heap.all((keys * h.groups, values * h.groups), "activations")
        return both + _copied(heap, s, h)
    return _copied(heap, s, h, keys, values)


def _copied(heap: Heap, s: ForwardStep, h: KernelHeads, *others: int) -> tuple[LiveTensor, ...]:
    """4.48 to 4.54 made queries contiguous, and keys and values that were not."""
    if s.kernel != "sdpa" or not s.rules.sdpa_copies or s.tokens == 1:
        return ()
    return heap.all((s.wide(h.count * h.key_dim), *others), "activations")


def _repeats(s: ForwardStep, h: KernelHeads) -> bool:
    if s.kernel == "flash":
        return s.rules.flash_repeats
    if s.kernel == "eager":
        return h.groups < h.count or s.batch > 1  # one head of one sequence is broadcast
    if s.rules.sdpa_repeats:
        return True
    packed = s.tokens == 1 and s.rules.packs_queries
    return not (_told(s, h) or s.style.ungrouped or packed)


def _fused(heap: Heap, s: ForwardStep, h: KernelHeads) -> tuple[LiveTensor, ...]:
    sums = heap.take(4 * s.rows * h.count)
    biased = s.rows * h.count * h.seen if s.style.biased and h.own else 0
    mask = heap.take(max(h.mask, biased) * s.size)
    made = heap.take(s.wide(h.count * h.value_dim))
    heap.passing(*_accumulated(s, h, masked=bool(mask.nbytes)))
    heap.drop(sums, mask)
    if s.style.turned and s.tokens > 1:  # joined queries have heads first, and so has the output
        made = heap.into(made.nbytes, made)
    return (made,)


def _accumulated(s: ForwardStep, h: KernelHeads, *, masked: bool) -> list[int]:
    """What the kernel sums up in float32; how often flash splits the keys is an A100's number."""
    shape = KernelShape(
        batch=s.batch,
        heads=h.count,
        kv_heads=h.count // h.groups,
        queries=s.tokens,
        keys=h.seen,
        key_dim=h.key_dim,
        value_dim=h.value_dim,
        itemsize=s.size,
    )
    return efficient_forward(shape) if masked else flash_forward(shape, 0.0, ASSUMED)


def _math(heap: Heap, s: ForwardStep, h: KernelHeads) -> tuple[LiveTensor, ...]:
    """Run the math kernel; since torch 2.5 all of it in float32. Fewer heads of keys and values are
    repeated here if `enable_gqa` tells of them; else the product does it, one after the other."""
    cells = 4 * s.rows * h.count * h.seen
    told = _told(s, h)
    inner = h.groups if told or s.style.ungrouped else 1
    queries, out = 4 * s.rows * h.count * h.key_dim, 4 * s.rows * h.count * h.value_dim
    keys = 4 * s.batch * h.seen * h.count * h.key_dim
    values = 4 * s.batch * h.seen * h.count * h.value_dim
    small = (queries, keys // inner, values // inner) if s.size < 4 else ()
    causal = 4 * s.tokens * h.seen if h.own and s.tokens > 1 else 0
    beside = heap.all((*small, causal, *((keys, values) if told else ()), queries), "activations")
    shared = h.groups if s.style.ungrouped and s.batch == 1 else 1  # broadcast by the product
    scores = heap.into(cells, heap.take(keys // shared))  # of keys that are scaled
    soft = heap.take(cells)
    heap.passing(cells // 4)  # which of them are -inf
    heap.drop(scores)
    plain = heap.into(out, soft, *beside)
    return (heap.into(s.wide(h.count * h.value_dim), plain),)


KERNELS: Mapping[str, Callable[[Heap, ForwardStep, KernelHeads], tuple[LiveTensor, ...]]] = {
    "math": _math,
    "eager": eager,
}
