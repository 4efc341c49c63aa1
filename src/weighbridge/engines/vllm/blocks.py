"""vLLM's KV cache block pool: which layers share a block table, and a request's number of blocks.

A block id is valid within one group of layers, so every group allocates from one pool and a block
is as large as the largest group's page:

    one kind of layer           one group; a block is the sum of its layers' pages
    kinds with equal pages      groups of equally many layers: the count of the rarest kind, or of
                                the commonest if that is less than 1.5 times as many
    kinds with unequal pages    smaller pages cover more tokens, or are padded (states always)
    packed (block-outermost)    pages of any size side by side in a block: DeepSeek-V4. Before 0.29
                                all were padded to those of full attention, and a block had as many
                                of each as the largest group; before 0.24 as many of all

Source: vllm 0.33 v1/core/kv_cache_planning.py (get_kv_cache_groups,
_get_kv_cache_groups_uniform_page_size, unify_kv_cache_spec_page_size, _get_packed_kv_cache_groups),
v1/kv_cache_interface.py (max_memory_usage_bytes of each spec), v1/core/kv_cache_utils.py
(get_max_concurrency_for_kv_cache_config); 0.19 to 0.29 v1/core/kv_cache_utils.py.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Literal

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import dataclass, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div

Packing = Literal["tuples", "slots", "groups"]
BlockKind = Literal["full", "sliding", "chunked", "cross", "state"]


@frozen_record
class Spec:
    """KV cache of one layer: `page` bytes per block, `tokens` per block, `reach` tokens of window
    (0: all). A recurrent state is one block per request whatever its length, so `tokens` is 0."""

    kind: BlockKind
    page: int
    tokens: int = 0
    reach: int = 0
    latent: bool = False  # MLA rows, which cannot be padded
    encoder: int = 0  # encoder positions cached for cross attention

    def fits_with(self, other: "Spec") -> bool:
        """Return whether both specs always need the same number of blocks, so one block table
        serves both."""
        return (self.kind, self.tokens, self.reach) == (other.kind, other.tokens, other.reach)


@frozen_record
class RequestLoad:
    """Inputs to the block count of a request: tokens of context and in flight, state blocks."""

    context: int
    in_flight: int
    states: int = 1


def blocks(spec: Spec, load: RequestLoad) -> int:
    """Return a request's blocks; a window rarely starts at a block boundary and takes one more."""
    if spec.kind == "sliding":
        seen = min(spec.reach - 1 + load.in_flight, load.context)
        return ceil_div(seen, spec.tokens) + 1
    if spec.kind == "chunked":
        return ceil_div(min(spec.reach + load.in_flight, load.context), spec.tokens)
    if spec.kind == "state":
        return load.states
    return ceil_div(spec.encoder if spec.kind == "cross" else load.context, spec.tokens)


@dataclass(frozen=True)  # not slotted: cached_property needs a __dict__
class CacheGroup:
    """Layers that share a block table (vLLM's KV cache group)."""

    specs: tuple[Spec, ...]

    @cached_property
    def page(self) -> int:
        return sum(spec.page for spec in self.specs)

    @property
    def tokens(self) -> int:
        return self.specs[0].tokens

    @cached_property
    def kinds(self) -> tuple[Spec, ...]:
        """Return the distinct specs of the group."""
        return tuple(dict.fromkeys(self.specs))

    def blocks(self, load: RequestLoad) -> int:
        return max(blocks(spec, load) for spec in self.kinds)


@dataclass(frozen=True)  # not slotted, as above
class CachePool:
    """All KV cache groups of a rank. One block of the pool, the null block, is never allocated."""

    groups: tuple[CacheGroup, ...]
    padded: int = 0  # bytes of a block, if it is not as large as the largest group's page

    @cached_property
    def block(self) -> int:
        return self.padded or max((group.page for group in self.groups), default=0)

    def request(self, load: RequestLoad) -> int:
        """Return the number of blocks of one request."""
        return sum(group.blocks(load) for group in self.groups)

    def count(self, available: int) -> int:
        return available // self.block if self.block else 0

    def concurrency(self, available: int, load: RequestLoad) -> float:
        return self.count(available) / self.request(load) if self.groups else 0.0

    def tokens(self, available: int, load: RequestLoad) -> int:
        """Return the tokens of the log line "GPU KV cache size", as newer versions compute it."""
        return int(self.concurrency(available, load) * load.context)

    def tokens_by_groups(self, available: int, context: int) -> int:
        """Return the tokens of the log line "GPU KV cache size", as older versions compute it."""
        smallest = min((group.tokens or context for group in self.groups), default=0)
        return self.count(available) // max(1, len(self.groups)) * smallest


def pool(specs: Sequence[Spec], *, packed: bool = False, packing: Packing = "groups") -> CachePool:
    if not specs:
        return CachePool(())
    if all(spec.fits_with(specs[0]) for spec in specs):
        return CachePool((CacheGroup(tuple(specs)),))
    if packed and len({spec.page for spec in specs}) > 1:
        groups = tuple(_packed(specs))
        return CachePool(
            groups, padded=0 if packing == "groups" else _padded_block(groups, packing)
        )
    try:
        return CachePool(tuple(_split(_one_page(specs))))
    except UnsupportedError:
        if any(spec.kind not in ("full", "sliding") for spec in specs):
            raise
        # windows beside MLA: all become full attention (_try_get_full_allocation_fallback_groups)
        return CachePool(
            (CacheGroup(tuple(replace(spec, kind="full", reach=0) for spec in specs)),)
        )


def _one_page(specs: Sequence[Spec]) -> list[Spec]:
    """Return the specs with every page grown to the largest."""
    largest = max(spec.page for spec in specs)
    return [_grown(spec, largest) for spec in specs]


def _grown(spec: Spec, page: int) -> Spec:
    if spec.kind == "state" or spec.page == page:
        return replace(spec, page=page)
    if page % spec.page == 0:
        return replace(spec, page=page, tokens=spec.tokens * (page // spec.page))
    if spec.latent:
        raise UnsupportedError(sentence("pages_unequal"))
    return replace(spec, page=page)


def _split(specs: Iterable[Spec]) -> Iterable[CacheGroup]:
    """Split layers into groups of one size; the last of a kind may be smaller, in a full block."""
    kinds = Counter(specs)
    size = min(kinds.values())
    if max(kinds.values()) < size * 1.5:
        size = max(kinds.values())
    for spec, count in kinds.items():
        number = ceil_div(count, size)
        for i in range(number):
            yield CacheGroup((spec,) * len(range(i, count, number)))


# Packed block layout


def _packed(specs: Sequence[Spec]) -> Iterable[CacheGroup]:
    """Group specs of unequal pages. A kind whose page sizes alternate evenly is split into the
    repeats per group that pad least; states and windows into as many as fit the widest block."""
    buckets = _buckets(specs)
    floor = max((_repeats(b) for b in buckets if _even(b) and len(_pages(b)) > 1), default=0)
    repeats = _fitting([_repeats(b) for b in buckets if _even(b)], floor) if floor else 0
    widest = max(_widest(b, len(b) if _small(b, repeats) else _parts(b, repeats)) for b in buckets)
    for bucket in buckets:
        parts = _parts(bucket, repeats)
        if _small(bucket, repeats):
            room = max(1, widest // bucket[0].page)
            parts = max(parts, ceil_div(len(bucket), room))
        for i in range(parts):
            chosen = [
                spec
                for page, count in _pages(bucket).items()
                for spec in [s for s in bucket if s.page == page][i:count:parts]
            ]
            yield CacheGroup(tuple(chosen))


def _padded_block(groups: Sequence[CacheGroup], packing: Packing) -> int:
    """Return the bytes of a block whose pages are padded to those of full attention
    (_get_kv_cache_config_deepseek_v4 of 0.23, _get_kv_cache_config_packed of 0.25)."""
    pages = sorted({spec.page for group in groups for spec in group.specs if spec.kind == "full"})

    def padded(spec: Spec) -> int:
        return next(page for page in (*pages, spec.page) if page >= spec.page)

    counts = [Counter(map(padded, group.specs)) for group in groups]
    most = {page: max(count[page] for count in counts) for page in pages}
    if packing == "tuples":
        return max(most.values()) * sum(pages)
    return sum(page * count for page, count in most.items())


def _buckets(specs: Sequence[Spec]) -> list[list[Spec]]:
    buckets: list[list[Spec]] = []
    for spec in specs:
        home = next((bucket for bucket in buckets if spec.fits_with(bucket[0])), None)
        if home is None:
            buckets.append([spec])
        else:
            home.append(spec)
    return buckets


def _pages(bucket: Sequence[Spec]) -> Counter[int]:
    return Counter(spec.page for spec in bucket)


def _even(bucket: Sequence[Spec]) -> bool:
    return len(set(_pages(bucket).values())) == 1


def _repeats(bucket: Sequence[Spec]) -> int:
    return max(_pages(bucket).values())


def _parts(bucket: Sequence[Spec], repeats: int) -> int:
    return ceil_div(_repeats(bucket), repeats) if repeats and _even(bucket) else 1


def _small(bucket: Sequence[Spec], repeats: int) -> bool:
    return bucket[0].kind == "state" or (not repeats and bucket[0].kind == "sliding")


def _widest(bucket: Sequence[Spec], parts: int) -> int:
    return sum(ceil_div(count, parts) * page for page, count in _pages(bucket).items())


def _fitting(counts: Sequence[int], floor: int) -> int:
    """Return the group size that pads `counts` least; the larger one in a tie."""
    sizes = range(max(1, floor), max(*counts, floor) + 1)
    return min(sizes, key=lambda size: (sum(-count % size for count in counts), -size))
