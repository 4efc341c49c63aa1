"""The kernels of attention: what each makes, beside queries, keys and values.

    sdpa, flash      the output, and 4 bytes a row and head of softmax sums
    efficient        the same; torch makes of a bool mask one of the queries' dtype
    math             float32 copies of queries, keys and values, and two float32 score matrices
    eager            scores, their float32 softmax and the copy back: 8 bytes a score in 16 bits

`sdpa` takes the flash kernel where heads are alike and no mask is given, else the efficient one,
which makes the same. Sources: torch aten/native/transformers/attention.cpp and cuda/
flash_attn/flash_api.cpp; transformers integrations/sdpa_attention.py (use_gqa_in_sdpa, pack_gqa),
eager_attention_forward of models/llama/modeling_llama.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from weighbridge.components.activations import Heap, Held
from weighbridge.engines.transformers.step import Step

FLASH_MOST = 256  # the widest head that the flash kernel takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What a kernel is given. `mask` is the elements of its mask, 0 for none; `seen` the keys that
    a query is compared with."""

    count: int
    groups: int  # query heads that share a key and value
    key_dim: int
    value_dim: int
    seen: int
    mask: int = 0
    own: bool = True  # whether it attends to its own tokens: a bias by distance is for these


def attend(heap: Heap, s: Step, h: Heads, keys: int, values: int) -> Held:
    """What the kernel returns; `keys` and `values` are the bytes of what it attends to."""
    repeated = _repeated(heap, s, h, keys, values)
    made = KERNELS.get(s.kernel, _fused)(heap, s, h)
    heap.drop(*repeated)
    return made


def _repeated(heap: Heap, s: Step, h: Heads, keys: int, values: int) -> tuple[Held, ...]:
    """Keys and values copied for all query heads, where the kernel has no groups."""
    if h.groups > 1 and _repeats(s, h):
        both = heap.all((keys * h.groups, values * h.groups), "activations")
        return both + _copied(heap, s, h)
    return _copied(heap, s, h, keys, values)


def _copied(heap: Heap, s: Step, h: Heads, *others: int) -> tuple[Held, ...]:
    """4.48 to 4.54 made queries contiguous, and keys and values that were not."""
    if s.kernel != "sdpa" or not s.rules.sdpa_copies or s.tokens == 1:
        return ()
    return heap.all((s.wide(h.count * h.key_dim), *others), "activations")


def _repeats(s: Step, h: Heads) -> bool:
    if s.kernel == "flash":
        return s.rules.flash_repeats
    if s.kernel in ("eager", "math") or s.rules.sdpa_repeats:
        return True
    grouped = not h.mask and h.key_dim == h.value_dim <= FLASH_MOST
    return not grouped and not (s.tokens == 1 and s.rules.packs_queries)


def _fused(heap: Heap, s: Step, h: Heads) -> Held:
    sums = heap.take(4 * s.rows * h.count)
    biased = s.rows * h.count * h.seen if s.style.biased and h.own else 0
    mask = heap.take(max(h.mask, biased) * s.size)
    made = heap.take(s.wide(h.count * h.value_dim))
    heap.drop(sums, mask)
    return made


def _math(heap: Heap, s: Step, h: Heads) -> Held:
    """Since torch 2.5 all of it in float32."""
    cells = 4 * s.rows * h.count * h.seen
    queries, values = 4 * s.rows * h.count * h.key_dim, 4 * s.rows * h.count * h.value_dim
    keys = 4 * s.batch * h.seen * h.count * h.key_dim
    others = 4 * s.batch * h.seen * h.count * h.value_dim
    copies = heap.all((queries, keys, others), "activations")
    soft = heap.into(cells, heap.take(cells))
    plain = heap.into(values, soft, *copies)
    return heap.into(s.wide(h.count * h.value_dim), plain)


def _eager(heap: Heap, s: Step, h: Heads) -> Held:
    cells = s.rows * h.count * h.seen
    weights = heap.into(s.size * cells, heap.take(s.size * cells))  # scaled
    if h.mask:
        weights = heap.into(s.size * cells, weights)  # masked
    soft = heap.take(4 * cells)
    if s.size < 4:
        soft = heap.into(s.size * cells, soft)
    heap.drop(weights)
    plain = heap.take(s.wide(h.count * h.value_dim))
    made = heap.into(plain.nbytes, plain)  # made contiguous
    heap.drop(soft)
    return made


KERNELS: Mapping[str, Callable[[Heap, Step, Heads], Held]] = {"math": _math, "eager": _eager}
