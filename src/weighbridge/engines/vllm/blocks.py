"""vLLM's pool of blocks: which layers share one, and how many a request draws.

A block id is good for one group of layers at a time, so every group draws from one pool and a block
is as large as the largest group:

    one kind of layer           one group; a block is the sum of its layers' pages
    kinds of equal page         groups of equally many layers: as many as the rarest kind has, or
                                as the commonest has when that is less than half as many again
    kinds of other pages        the smaller pages cover more tokens, or are padded (states always)
    packed (block-outermost)    kinds of any page side by side in a block: DeepSeek-V4. Before 0.29
                                other pages were padded to those of full layers, and a block had as
                                many of each as the group with the most; before 0.24 as many of all

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
    """One layer's cache: bytes of a block, the tokens in it, and how far back it looks. A state has
    all tokens of a request in one block, however many: none are named."""

    kind: BlockKind
    page: int
    tokens: int = 0
    reach: int = 0
    latent: bool = False  # rows that cannot be padded
    encoder: int = 0  # cross: positions that are kept

    def fits_with(self, other: "Spec") -> bool:
        """Tell whether both always need equally many blocks, so that they can share one row of
        ids."""
        return (self.kind, self.tokens, self.reach) == (other.kind, other.tokens, other.reach)


@frozen_record
class RequestLoad:
    """Facts that decide a request's blocks: its length, tokens on their way, states kept a
    request."""

    context: int
    in_flight: int
    states: int = 1


def blocks(spec: Spec, load: RequestLoad) -> int:
    """A window rarely begins where a block does, so it takes one more."""
    if spec.kind == "sliding":
        seen = min(spec.reach - 1 + load.in_flight, load.context)
        return ceil_div(seen, spec.tokens) + 1
    if spec.kind == "chunked":
        return ceil_div(min(spec.reach + load.in_flight, load.context), spec.tokens)
    if spec.kind == "state":
        return load.states
    return ceil_div(spec.encoder if spec.kind == "cross" else load.context, spec.tokens)


@dataclass(frozen=True)  # not slotted: it keeps what it has computed
class CacheGroup:
    """Layers that share a row of block ids."""

    specs: tuple[Spec, ...]

    @cached_property
    def page(self) -> int:
        return sum(spec.page for spec in self.specs)

    @property
    def tokens(self) -> int:
        return self.specs[0].tokens

    @cached_property
    def kinds(self) -> tuple[Spec, ...]:
        """Caches of layers that differ, each once."""
        return tuple(dict.fromkeys(self.specs))

    def blocks(self, load: RequestLoad) -> int:
        return max(blocks(spec, load) for spec in self.kinds)


@dataclass(frozen=True)  # not slotted, as above
class CachePool:
    """All groups. One block of a pool is kept empty and never given out."""

    groups: tuple[CacheGroup, ...]
    padded: int = 0  # bytes of a block, where they are not those of the largest group

    @cached_property
    def block(self) -> int:
        return self.padded or max((group.page for group in self.groups), default=0)

    def request(self, load: RequestLoad) -> int:
        """Blocks of one request."""
        return sum(group.blocks(load) for group in self.groups)

    def count(self, available: int) -> int:
        return available // self.block if self.block else 0

    def concurrency(self, available: int, load: RequestLoad) -> float:
        return self.count(available) / self.request(load) if self.groups else 0.0

    def tokens(self, available: int, load: RequestLoad) -> int:
        """ "GPU KV cache size" as newer versions log it."""
        return int(self.concurrency(available, load) * load.context)

    def tokens_by_groups(self, available: int, context: int) -> int:
        """The same as older versions log it."""
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
        # windows beside latents: all tokens are kept (_try_get_full_allocation_fallback_groups)
        return CachePool(
            (CacheGroup(tuple(replace(spec, kind="full", reach=0) for spec in specs)),)
        )


def _one_page(specs: Sequence[Spec]) -> list[Spec]:
    """Every page as large as the largest."""
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
    """Groups of equally many layers; the last of a kind may have fewer and still takes a block."""
    kinds = Counter(specs)
    size = min(kinds.values())
    if max(kinds.values()) < size * 1.5:
        size = max(kinds.values())
    for spec, count in kinds.items():
        number = ceil_div(count, size)
        for i in range(number):
            yield CacheGroup((spec,) * len(range(i, count, number)))


# Packed


def _packed(specs: Sequence[Spec]) -> Iterable[CacheGroup]:
    """Kinds whose pages differ but alternate evenly are split into as many repeats a group as
    waste least; kinds that hold states or windows into as many as fit the widest block."""
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
    """Bytes of a block of pages as full layers have them (_get_kv_cache_config_deepseek_v4 of 0.23,
    _get_kv_cache_config_packed of 0.25)."""
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
    """The group size that pads `counts` least, the larger of two that do."""
    sizes = range(max(1, floor), max(*counts, floor) + 1)
    return min(sizes, key=lambda size: (sum(-count % size for count in counts), -size))
