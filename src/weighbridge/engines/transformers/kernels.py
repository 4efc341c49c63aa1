"""The kernels of attention: what each makes, beside queries, keys and values.

    sdpa, flash      the output, and 4 bytes a row and head of softmax sums
    efficient        the same; torch makes of a bool mask one of the queries' dtype
    math             float32 copies of queries, keys and values, scaled ones, two float32 score
                     matrices and one of a byte each: of groups in float32, which no other takes
    eager            scores written out, as classes do (scores.py)

`sdpa` takes the flash kernel where heads are alike and no mask is given, else the efficient one,
which makes the same; one head for all, and no word of groups, leaves math. Sources: torch
aten/native/SoftMax.cpp, aten/native/transformers/attention.cpp, cuda/sdp_utils.cpp, flash_api.cpp;
transformers integrations/sdpa_attention.py (use_gqa_in_sdpa, pack_gqa).
"""

from collections.abc import Callable, Mapping

from weighbridge.accelerators.chips import ASSUMED
from weighbridge.components.activations import Heap, LiveTensor
from weighbridge.engines.transformers.scores import KernelHeads, eager
from weighbridge.engines.transformers.step import ForwardStep
from weighbridge.kernels.attention import (
    FLASH_MOST,
    KernelShape,
    efficient_forward,
    flash_forward,
)


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
