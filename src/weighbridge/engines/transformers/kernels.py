"""The kernels of attention: what each allocates, besides queries, keys and values.

    sdpa, flash      the output, and 4 bytes per row and head of softmax sums
    efficient        the same; torch converts a bool mask to the queries' dtype
    math             float32 copies of queries, keys and values, scaled ones, two float32 score
                     matrices and one of a byte each: for groups in float32, which no other supports
    eager            scores are stored, as each class computes them

`sdpa` uses the flash kernel if heads are alike and no mask is given, else the efficient one, which
allocates the same; for one KV head without enable_gqa only math is left.

Eager attention takes, in bytes per score of 16 bits:

    usual       scores, their float32 softmax and the copy back: 8 in float16, 10 in bfloat16, which
                is copied to float32 before
    own         the softmax in the dtype of the scores: 4
    sinks       a column more, and no float32; the product reads the weights without that column as
                they lie
    wide        queries and keys, and so scores, in float32: 8 (GPT-J, GPT-Neo)
    biases      float32 distance biases are added, so the sum is float32: 10 (MPT)
    raw         the product's output stays beside its sum with the mask (BLOOM, Falcon)

Its weights are returned, and live as long as the layer runs; in classes of an older style to the
end of the next layer.

Source: torch aten/native/SoftMax.cpp, aten/native/transformers/attention.cpp, cuda/sdp_utils.cpp,
flash_api.cpp; transformers 5.23 integrations/sdpa_attention.py (use_gqa_in_sdpa, pack_gqa),
eager_attention_forward of models/llama/modeling_llama.py, models/bert/modeling_bert.py and
models/gpt_oss/modeling_gpt_oss.py; models/gptj/modeling_gptj.py (GPTJAttention._attn),
models/gpt_neo/modeling_gpt_neo.py, models/mpt/modeling_mpt.py, models/bloom/modeling_bloom.py,
models/falcon/modeling_falcon.py (forward of their attention).
"""

from collections.abc import Callable, Mapping

from weighbridge.base.records import frozen_record
from weighbridge.engines.transformers.step import ForwardStep
from weighbridge.machines.accelerators.chips import ASSUMED
from weighbridge.machines.kernels.attention import (
    FLASH_MOST,
    KernelShape,
    efficient_forward,
    flash_forward,
)
from weighbridge.memory.components.activations import Heap, LiveTensor


@frozen_record
class KernelHeads:
    """The sizes of a kernel's inputs. `mask`: elements of its mask, 0 for none; `seen`: keys per
    query."""

    count: int
    groups: int  # query heads per KV head
    key_dim: int
    value_dim: int
    seen: int
    mask: int = 0
    own: bool = True  # whether it is self-attention: only that has a distance bias


def eager(heap: Heap, step: ForwardStep, heads: KernelHeads) -> tuple[LiveTensor, ...]:
    """Return the output, and the attention weights if the layer gets them."""
    cells = step.rows * heads.count * heads.seen
    wide = _widened(heap, step, heads)
    weights, beside = _scored(heap, step, heads, cells)
    soft, behind = (_with_sinks if step.style.sinks else _softmax)(heap, step, weights, cells)
    heap.drop(*wide)
    plain = heap.take(step.wide(heads.count * heads.value_dim))
    out = heap.into(plain.nbytes, plain)  # made contiguous
    heap.drop(*behind, *beside)
    if step.rules.scores_returned:
        return out, soft
    heap.drop(soft)
    return (out,)


def _widened(heap: Heap, step: ForwardStep, heads: KernelHeads) -> tuple[LiveTensor, ...]:
    """Return float32 copies of queries and keys, if the class computes scores in it."""
    if not step.style.wide_queries or step.size == 4:
        return ()
    keys = 4 * step.batch * heads.seen * heads.count * heads.key_dim
    return heap.all((4 * step.rows * heads.count * heads.key_dim, keys), "activations")


def _scored(
    heap: Heap, step: ForwardStep, heads: KernelHeads, cells: int
) -> tuple[LiveTensor, tuple[LiveTensor, ...]]:
    """Return the scores with mask and bias added, and what stays beside them."""
    size = 4 if step.style.wide_queries else step.size
    weights = heap.into(size * cells, heap.take(size * cells))  # scaled
    if step.style.wide_biases:
        weights = heap.into(4 * cells, weights)
    if not heads.mask and not (step.style.biased and heads.own):
        return weights, ()
    masked = heap.take(weights.nbytes)
    if step.style.raw_scores:
        return masked, (weights,)
    heap.drop(weights)
    return masked, ()


def _softmax(
    heap: Heap, step: ForwardStep, weights: LiveTensor, cells: int
) -> tuple[LiveTensor, tuple[LiveTensor, ...]]:
    """Return the softmax, computed in float32: for float16 in one kernel, for bfloat16 from a copy.
    Else in the dtype of the scores, which are freed before it is cast."""
    if step.style.kept_scores:
        return heap.take(weights.nbytes), (weights,)
    if step.style.own_softmax:
        soft = heap.into(weights.nbytes, weights)
        return (heap.into(step.size * cells, soft) if soft.nbytes > step.size * cells else soft), ()
    copied = step.dtype.name == "bfloat16" and weights.nbytes < 4 * cells
    copy = heap.take(4 * cells if copied else 0)
    soft = heap.take(4 * cells)
    heap.drop(copy)
    soft = heap.into(step.size * cells, soft) if step.size < 4 else soft
    heap.drop(weights)
    return soft, ()


def _with_sinks(
    heap: Heap, step: ForwardStep, weights: LiveTensor, cells: int
) -> tuple[LiveTensor, tuple[LiveTensor, ...]]:
    """Return the softmax of the scores with one more column, less their maximum."""
    joined = heap.take(step.size * cells)
    lowered = heap.into(step.size * cells, joined)
    soft = heap.take(step.size * cells)
    heap.drop(weights)
    return soft, (lowered,)


# ---- kernels


def attend(
    heap: Heap, step: ForwardStep, heads: KernelHeads, keys: int, values: int
) -> tuple[LiveTensor, ...]:
    """Run the kernel; return the output, and scores that the layer holds to its end; `keys` and
    `values` are bytes."""
    repeated = _repeated(heap, step, heads, keys, values)
    out = KERNELS.get(_kernel(step, heads), _fused)(heap, step, heads)
    heap.drop(*repeated)
    return out


def _kernel(step: ForwardStep, heads: KernelHeads) -> str:
    """Return the kernel. With `enable_gqa`, SDPA has another one than math only in 16 bits, if keys
    and values have one size; without it, keys and values are repeated first."""
    if step.kernel != "sdpa":
        return step.kernel
    if heads.groups > 1 and step.style.ungrouped:
        return "math"
    return (
        "math" if _told_of_groups(step, heads) and (step.size == 4 or not _alike(heads)) else "sdpa"
    )


def _alike(heads: KernelHeads) -> bool:
    return heads.key_dim == heads.value_dim <= FLASH_MOST


def _told_of_groups(step: ForwardStep, heads: KernelHeads) -> bool:
    """Return whether enable_gqa is passed: for fewer KV heads; in some releases also if each head
    has its own, if the class counts groups."""
    if heads.mask or step.rules.sdpa_repeats or step.style.ungrouped:
        return False
    if heads.groups == 1:
        return heads.own and step.style.counts_groups and step.rules.groups_told
    return _alike(heads)


def _repeated(
    heap: Heap, step: ForwardStep, heads: KernelHeads, keys: int, values: int
) -> tuple[LiveTensor, ...]:
    """Return keys and values repeated for all query heads, if the kernel has no groups."""
    if heads.groups > 1 and _repeats(step, heads):
        both = heap.all((keys * heads.groups, values * heads.groups), "activations")
        return both + _copied(heap, step, heads)
    return _copied(heap, step, heads, keys, values)


def _copied(
    heap: Heap, step: ForwardStep, heads: KernelHeads, *others: int
) -> tuple[LiveTensor, ...]:
    """Return the copies of 4.48 to 4.54, which made queries, keys and values contiguous."""
    if step.kernel != "sdpa" or not step.rules.sdpa_copies or step.tokens == 1:
        return ()
    return heap.all((step.wide(heads.count * heads.key_dim), *others), "activations")


def _repeats(step: ForwardStep, heads: KernelHeads) -> bool:
    if step.kernel == "flash":
        return step.rules.flash_repeats
    if step.kernel == "eager":
        return heads.groups < heads.count or step.batch > 1  # one head of one sequence is broadcast
    if heads.groups == heads.count and not step.rules.sdpa_copies:
        return False  # repeat_kv: one head for all is a view
    if step.rules.sdpa_repeats:
        return True
    packed = step.tokens == 1 and step.rules.packs_queries
    return not (_told_of_groups(step, heads) or step.style.ungrouped or packed)


def _fused(heap: Heap, step: ForwardStep, heads: KernelHeads) -> tuple[LiveTensor, ...]:
    sums = heap.take(4 * step.rows * heads.count)
    biased = step.rows * heads.count * heads.seen if step.style.biased and heads.own else 0
    mask = heap.take(max(heads.mask, biased) * step.size)
    out = heap.take(step.wide(heads.count * heads.value_dim))
    heap.passing(*_accumulated(step, heads, masked=bool(mask.nbytes)))
    heap.drop(sums, mask)
    first = step.style.turned or (step.kernel == "sdpa" and step.rules.sdpa_copies)
    if first and step.tokens > 1:  # queries with heads first, joined or copied: so is the output
        out = heap.into(out.nbytes, out)
    return (out,)


def _accumulated(step: ForwardStep, heads: KernelHeads, *, masked: bool) -> list[int]:
    """Return the bytes of the kernel's float32 partial sums; the number of split-KV parts is an
    A100's."""
    shape = KernelShape(
        batch=step.batch,
        heads=heads.count,
        kv_heads=heads.count // heads.groups,
        queries=step.tokens,
        keys=heads.seen,
        key_dim=heads.key_dim,
        value_dim=heads.value_dim,
        itemsize=step.size,
    )
    return efficient_forward(shape) if masked else flash_forward(shape, 0.0, ASSUMED)


def _math(heap: Heap, step: ForwardStep, heads: KernelHeads) -> tuple[LiveTensor, ...]:
    """Return the math kernel's output; since torch 2.5 all in float32. With `enable_gqa` it repeats
    KV heads; else the product broadcasts them, one after the other."""
    cells = 4 * step.rows * heads.count * heads.seen
    groups_told = _told_of_groups(step, heads)
    inner = heads.groups if groups_told or step.style.ungrouped else 1
    queries, out = (
        4 * step.rows * heads.count * heads.key_dim,
        4 * step.rows * heads.count * heads.value_dim,
    )
    keys = 4 * step.batch * heads.seen * heads.count * heads.key_dim
    values = 4 * step.batch * heads.seen * heads.count * heads.value_dim
    small = (queries, keys // inner, values // inner) if step.size < 4 else ()
    causal = 4 * step.tokens * heads.seen if heads.own and step.tokens > 1 else 0
    repeated = (keys, values) if groups_told and heads.groups > 1 else ()
    beside = heap.all((*small, causal, *repeated, queries), "activations")
    shared = (
        heads.groups if step.style.ungrouped and step.batch == 1 else 1
    )  # broadcast by the product
    scores = heap.into(cells, heap.take(keys // shared))  # of keys that are scaled
    soft = heap.take(cells)
    heap.passing(cells // 4)  # which of them are -inf
    heap.drop(scores)
    plain = heap.into(out, soft, *beside)
    return (heap.into(step.wide(heads.count * heads.value_dim), plain),)


KERNELS: Mapping[str, Callable[[Heap, ForwardStep, KernelHeads], tuple[LiveTensor, ...]]] = {
    "math": _math,
    "eager": eager,
}
