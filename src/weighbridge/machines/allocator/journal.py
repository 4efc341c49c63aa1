"""A record of what happened in the allocator: the counters of `torch.cuda.memory_stats()`, the
history of `torch.cuda.memory._record_memory_history()`, and a refused request.

Source: DeviceStats and TraceEntry of c10/core/CachingDeviceAllocator.h; where each is counted,
c10/cuda/CUDACachingAllocator.cpp (alloc_found_block, free, free_block, alloc_block, map_block,
release_block, unmap_block); the TORCH_CHECK_WITH(OutOfMemoryError, ...) of its malloc, and
format_size of c10/core/CachingDeviceAllocator.cpp.
"""

from collections.abc import Iterator
from typing import Any, Literal

from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.machines.allocator.blocks import SHARED, Block, PoolId
from weighbridge.machines.allocator.options import UNLIMITED

Action = Literal[
    "alloc",
    "free_requested",
    "free_completed",
    "segment_alloc",
    "segment_free",
    "segment_map",
    "segment_unmap",
    "snapshot",
    "oom",
]


class JournalEvent(NamedTuple):
    """One line of the history. `size` of a block is the requested one; for "oom" `address` is the
    device's free bytes. `request` is the number of the allocation that the block comes from."""

    action: Action
    address: int
    size: int
    stream: int = 0
    pool: PoolId = SHARED
    request: int = -1


class Stat:
    """A quantity over time. Its fields are those of torch.cuda.memory_stats()."""

    __slots__ = ("current", "freed", "peak")

    def __init__(self) -> None:
        self.current = self.peak = self.freed = 0

    def add(self, amount: int) -> None:
        self.current += amount
        if self.current > self.peak:
            self.peak = self.current

    def remove(self, amount: int) -> None:
        self.current -= amount
        self.freed += amount

    def change(self, amount: int) -> None:
        if amount > 0:
            self.add(amount)
        elif amount < 0:
            self.remove(-amount)

    def as_dict(self) -> dict[str, int]:
        return {
            "current": self.current,
            "peak": self.peak,
            "allocated": self.current + self.freed,
            "freed": self.freed,
        }


NAMES = (
    "allocation",
    "segment",
    "active",
    "inactive_split",
    "allocated_bytes",
    "reserved_bytes",
    "active_bytes",
    "inactive_split_bytes",
    "requested_bytes",
)
EVENTS = (
    "num_alloc_retries",
    "num_ooms",
    "num_sync_all_streams",
    "num_device_alloc",
    "num_device_free",
)


@frozen_record
class OutOfMemory:
    """One refused request, after all that could be freed was. Its message reads as torch's, because
    programs look for its words, but without torch's advice at the end."""

    request: int  # its number: allocations are counted from 0
    requested: int  # bytes, by the program
    asked: int  # bytes, of the driver: the segment it would have taken
    allocated: int
    reserved: int
    in_private_pools: int  # cached there, unusable
    free: int  # bytes that the driver had left
    card: int
    allowed: int | None  # per_process_memory_fraction
    stream: int
    device: int

    @property
    def message(self) -> str:
        used = self.allocated + self.in_private_pools
        private = (
            f"with {format_size(self.in_private_pools)} allocated in private pools "
            "(e.g., CUDA Graphs), "
            if self.in_private_pools
            else ""
        )
        allowed = "" if self.allowed is None else f"{format_size(self.allowed)} allowed; "
        return (
            f"CUDA out of memory. Tried to allocate {format_size(self.asked)}. "
            f"GPU {self.device} has a total capacity of {format_size(self.card)} of which "
            f"{format_size(self.free)} is free. {allowed}Of the allocated memory "
            f"{format_size(used)} is allocated by PyTorch, {private}and "
            f"{format_size(self.reserved - used)} is reserved by PyTorch but unallocated."
        )


def format_size(nbytes: int) -> str:
    if nbytes <= KIB:
        return f"{nbytes} bytes"
    for unit, size in (("KiB", KIB), ("MiB", MIB)):
        if nbytes <= size * 1024:
            return f"{nbytes / size:.2f} {unit}"
    return f"{nbytes / GIB:.2f} GiB"


class PoolStats:
    """The statistics of all pools, of the small or of the large ones."""

    __slots__ = NAMES

    allocation: Stat
    segment: Stat
    active: Stat
    inactive_split: Stat
    allocated_bytes: Stat
    reserved_bytes: Stat
    active_bytes: Stat
    inactive_split_bytes: Stat
    requested_bytes: Stat

    def __init__(self) -> None:
        for name in NAMES:
            setattr(self, name, Stat())

    def taken(self, size: int, requested: int) -> None:
        self.allocation.add(1)
        self.allocated_bytes.add(size)
        self.active.add(1)
        self.active_bytes.add(size)
        self.requested_bytes.add(requested)

    def given_back(self, size: int) -> None:
        self.allocation.remove(1)
        self.allocated_bytes.remove(size)

    def completed(self, size: int, requested: int) -> None:
        self.active.remove(1)
        self.active_bytes.remove(size)
        self.requested_bytes.remove(requested)

    def split(self, count: int, nbytes: int) -> None:
        """Count what cannot be released to the driver because a neighbour is in use."""
        self.inactive_split.change(count)
        self.inactive_split_bytes.change(nbytes)


class Journal:
    """The counters of the Allocator that it is passed to. With `history`, `events` holds every
    event in order."""

    def __init__(self, *, history: bool = False) -> None:
        self.all, self.small, self.large = PoolStats(), PoolStats(), PoolStats()
        self.oversize_allocations, self.oversize_segments = Stat(), Stat()
        self.by_pool: dict[PoolId, tuple[Stat, Stat, Stat]] = {}  # all, small, large: reserved
        self.max_split_size = UNLIMITED
        self.happened = dict.fromkeys(EVENTS, 0)
        self.events: list[JournalEvent] | None = [] if history else None
        self.requests = 0
        self._request: dict[Block, int] = {}

    # Blocks

    def taken(self, block: Block, remainder: Block | None) -> None:
        """Count an allocated block; `remainder` was split off it."""
        group = self.small if block.pool.small else self.large
        size = block.size
        self.all.taken(size, block.requested)
        group.taken(size, block.requested)
        if block.range is None:
            following = block.next if remainder is None else remainder.next
            if block.previous is None and following is None:
                change = (
                    (0, 0) if remainder is None else (1, remainder.size)
                )  # it was a whole segment
            else:
                change = (-1, -size) if remainder is None else (0, -size)
            if change != (0, 0):
                self.all.split(*change)
                group.split(*change)
        if size >= self.max_split_size:
            self.oversize_allocations.add(1)
        if self.events is not None:
            self._request[block] = self.requests
            self._note("alloc", block.address, block.requested, block)
        self.requests += 1

    def given_back(self, block: Block) -> None:
        self.all.given_back(block.size)
        (self.small if block.pool.small else self.large).given_back(block.size)
        if block.size >= self.max_split_size:
            self.oversize_allocations.remove(1)
        if self.events is not None:
            self._note("free_requested", block.address, block.requested, block)

    def completed(self, block: Block) -> None:
        """Record that a block is free, before it merges with its neighbours."""
        group = self.small if block.pool.small else self.large
        self.all.completed(block.size, block.requested)
        group.completed(block.size, block.requested)
        if block.range is None:
            change = _split_by_freeing(block)
            self.all.split(*change)
            group.split(*change)
        if self.events is not None:
            self._note("free_completed", block.address, block.requested, block)
            del self._request[block]

    # Segments and pages

    def opened(self, block: Block) -> None:
        for group in (self.all, self.small if block.pool.small else self.large):
            group.segment.add(1)
        if block.size >= self.max_split_size:
            self.oversize_segments.add(1)
        self._reserved(block, block.size)
        self._note("segment_alloc", block.address, block.size, block)

    def closed(self, block: Block) -> None:
        for group in (self.all, self.small if block.pool.small else self.large):
            group.segment.remove(1)
        if block.size >= self.max_split_size:
            self.oversize_segments.remove(1)
        self._note("segment_free", block.address, block.size, block)
        self._reserved(block, -block.size)

    def mapped(self, block: Block, address: int, nbytes: int) -> None:
        self._reserved(block, nbytes)
        self._note("segment_map", address, nbytes, block)

    def unmapped(self, block: Block, address: int, nbytes: int) -> None:
        self._reserved(block, -nbytes)
        self._note("segment_unmap", address, nbytes, block)

    def _reserved(self, block: Block, change: int) -> None:
        small = block.pool.small
        stats = [self.all.reserved_bytes, (self.small if small else self.large).reserved_bytes]
        if block.pool.owner != SHARED:
            private = self.by_pool.setdefault(block.pool.owner, (Stat(), Stat(), Stat()))
            stats += [private[0], private[1 if small else 2]]
        for stat in stats:
            stat.change(change)
        self.happened["num_device_alloc" if change > 0 else "num_device_free"] += 1

    def out_of_memory(self, size: int, free: int, stream: int, owner: PoolId) -> None:
        self.happened["num_ooms"] += 1
        if self.events is not None:
            self.events.append(JournalEvent("oom", free, size, stream, owner, self.requests))
        self.requests += 1

    def count(self, event: str) -> None:
        self.happened[event] += 1

    def _note(self, action: Action, address: int, size: int, block: Block) -> None:
        if self.events is not None:
            request = self._request.get(block, -1)
            event = JournalEvent(action, address, size, block.stream, block.pool.owner, request)
            self.events.append(event)

    # What torch returns

    def nested(self) -> dict[str, Any]:
        """Return what torch.cuda.memory_stats_as_nested_dict() does."""
        groups = {"all": self.all, "small_pool": self.small, "large_pool": self.large}
        limit = -1 if self.max_split_size == UNLIMITED else self.max_split_size
        return {
            **{
                name: {kind: getattr(group, name).as_dict() for kind, group in groups.items()}
                for name in NAMES
            },
            "reserved_bytes_by_private_pools": {
                pool: {kind: stat.as_dict() for kind, stat in zip(groups, stats, strict=True)}
                for pool, stats in self.by_pool.items()
            },
            "oversize_allocations": self.oversize_allocations.as_dict(),
            "oversize_segments": self.oversize_segments.as_dict(),
            **self.happened,
            "num_oom_rejections": 0,
            "max_split_size": limit,
        }

    def reset_peak(self) -> None:
        """Do what torch.cuda.reset_peak_memory_stats does."""
        for stat in self._stats():
            stat.peak = stat.current

    def _stats(self) -> Iterator[Stat]:
        for group in (self.all, self.small, self.large):
            yield from (getattr(group, name) for name in NAMES)
        yield from (stat for stats in self.by_pool.values() for stat in stats)
        yield from (self.oversize_allocations, self.oversize_segments)


def _split_by_freeing(block: Block) -> tuple[int, int]:
    """Return the growth of `inactive_split` (blocks, bytes) when `block` is freed (free_block).
    Free neighbours that it merges with were counted before; the merged block counts, unless it is a
    whole segment."""
    before, after = block.previous, block.next
    swallowed = nbytes = 0
    if before is not None and before.free:
        swallowed, nbytes, before = 1, before.size, before.previous
    if after is not None and after.free:
        swallowed, nbytes, after = swallowed + 1, nbytes + after.size, after.next
    if before is None and after is None:
        return -swallowed, -nbytes
    return 1 - swallowed, block.size
