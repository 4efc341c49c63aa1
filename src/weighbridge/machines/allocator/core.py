"""The allocator itself: malloc, free, and other calls of a program.

Source of what `record_stream` holds back: recordStream, insert_events,
insert_events_deferred_until_no_capture, process_events and synchronize_and_free_events of
c10/cuda/CUDACachingAllocator.cpp.
"""

from collections import defaultdict
from typing import Any

from weighbridge.base.errors import OutOfMemoryError
from weighbridge.machines.allocator.blocks import Block, Captures, Pool, PoolId, cut
from weighbridge.machines.allocator.journal import Journal, OutOfMemory
from weighbridge.machines.allocator.options import (
    DEFAULT,
    MIN_BLOCK,
    SMALL_SEGMENT,
    SMALL_SIZE,
    UNLIMITED,
    AllocatorOptions,
)
from weighbridge.machines.allocator.reserve import (
    UNKNOWN_CARD,
    DeviceReserve,
    allocate,
    collect_garbage,
    release_all,
    release_oversize,
)


class Allocator:
    """A replay of malloc and free that counts as `torch.cuda.memory_allocated` and its siblings do.

    `capacity`: bytes that the process can have for this allocator, the card less context and other
    processes; None for no limit. `card`: bytes of the whole device (`capacity` if not given).
    """

    def __init__(
        self,
        options: AllocatorOptions = DEFAULT,
        *,
        capacity: int | None = None,
        card: int | None = None,
        journal: Journal | None = None,
        device: int = 0,
    ) -> None:
        self.allocated = 0
        self.peak_allocated = 0
        self.requests = 0
        self.device = device
        self.journal = journal
        self.reserve = DeviceReserve(capacity, card, journal)
        self.small, self.large = Pool(small=True), Pool(small=False)
        self.captures = Captures()
        self.uses = Uses()
        self.configure(options)
        self.set_fraction(options.per_process_memory_fraction)

    @property
    def reserved(self) -> int:
        return self.reserve.nbytes

    @property
    def peak_reserved(self) -> int:
        return self.reserve.peak

    @property
    def plain(self) -> bool:
        """Return whether requests are served in the plain way: no option but expandable segments,
        no capture, no journal, no other stream that still uses a block."""
        bent = self.uses.any or self.captures.underway or self.journal is not None
        return self._plain and not bent

    @property
    def state(self) -> tuple[Any, ...]:
        """Return the free blocks by size, which decide where stream 0's next tensors are."""
        lists = (pool.free[0] for pool in (self.small, self.large))
        free = [
            (size, *[address for address, _ in each.places[size]])
            for each in lists
            for size in each.sizes
        ]
        return self.allocated, self.reserved, *free

    def rounded(self, nbytes: int) -> int:
        """Return the bytes that a request of `nbytes` takes in a block that is split."""
        return self._round(nbytes)

    def configure(self, options: AllocatorOptions) -> None:
        """Change the options, also at run time; the memory fraction has its own call."""
        self.options = options
        divided = any(options.roundup_power2_divisions)
        self._round = options.round_size if divided else _to_blocks
        self._limit = options.max_split_size
        self.grows = options.expandable_segments
        self._plain = self._limit == UNLIMITED and not options.garbage_collection_threshold
        grown = any(b.range for b in self.reserve.heads.values())
        self._plain = self._plain and (self.grows or not grown)
        if self.journal is not None:
            self.journal.max_split_size = self._limit

    def set_fraction(self, fraction: float) -> None:
        """Limit the reserved bytes, as torch.cuda.set_per_process_memory_fraction does."""
        self.allowed = int(fraction * self.reserve.card) if fraction < 1 else None

    def unbounded(self) -> None:
        """Remove all limits of the driver from now on."""
        self.reserve.capacity, self.reserve.card, self.allowed = None, UNKNOWN_CARD, None

    def malloc(self, nbytes: int, stream: int = 0) -> Block | None:
        """Return a block for `nbytes`; None for zero bytes, which take no memory."""
        if nbytes == 0:
            return None
        if self.uses.any:
            self._complete_events()
        self.requests += 1
        size = self._round(nbytes)
        home = self.small if size <= SMALL_SIZE else self.large
        if not self._plain or self.captures.underway or self.journal is not None or home.searches:
            return self._served(home, size, stream, nbytes)
        free = home.free[stream]
        if self.grows:
            block = free.take_mapped(size, MIN_BLOCK)
        else:
            block = free.take(size, MIN_BLOCK if home.small else SMALL_SIZE + 1)
        if block is None:
            return self._served(home, size, stream, nbytes)
        block.requested = nbytes
        self.allocated += block.size
        if self.allocated > self.peak_allocated:
            self.peak_allocated = self.allocated
        return block

    def _served(self, home: Pool, size: int, stream: int, nbytes: int) -> Block:
        """Return a block from the cache under all options, or from the driver."""
        if self.captures.underway:
            home = self.captures.home(home, stream)
        block = self._cached(home, size, stream)
        if block is None:
            block = self._grow(home, size, stream, nbytes)
        remainder = None
        if block.size > size and self._splits(home, size, block.size - size):
            remainder = cut(block, size)
            home.insert(remainder)
        block.requested = nbytes
        self.allocated += block.size
        if self.allocated > self.peak_allocated:
            self.peak_allocated = self.allocated
        if self.journal is not None:
            self.journal.taken(block, remainder)
        return block

    def free(self, block: Block | None) -> None:
        if block is None:
            return
        assert not block.free, "freed twice"
        self.allocated -= block.size
        pool = block.pool
        if self.journal is None and not self.uses.any and not pool.searches:
            pool.free[block.stream].settle(block)  # the usual case: nothing else needs to know
            return
        if self.journal is not None:
            self.journal.given_back(block)
        if not (self.uses.any and self.uses.wait(block, capturing=bool(self.captures.capturing))):
            self._settle(block)

    def empty_cache(self) -> None:
        """Wait for other streams, then release what is wholly free, as torch.cuda.empty_cache does;
        during the capture of a graph only abandoned private pools (release_cached_blocks)."""
        if not self.captures.capturing:
            if self.journal is not None:
                self.journal.count("num_sync_all_streams")
            for block in self.uses.synchronized():
                self._settle(block)
            release_all(self.reserve, self.large)
            release_all(self.reserve, self.small)
        for private in self.captures.abandoned():
            release_all(self.reserve, private.small)
            release_all(self.reserve, private.large)
        self.captures.forget(self.reserve.heads.values())

    def record_stream(self, block: Block, stream: int) -> None:
        """Let the block, once freed, wait for `stream` to reach this point (Tensor.record_stream).

        Here it has at the next `synchronize`, or when the allocator itself waits (empty_cache, a
        retry); on a GPU it may be earlier, so the waiting bytes are an upper bound."""
        if stream != block.stream:
            self.uses.add(block, stream, capturing=bool(self.captures.capturing))

    def synchronize(self, stream: int | None = None) -> None:
        """Wait for `stream`, or for all. Blocks that waited for it are free from the next request
        on (process_events)."""
        self.uses.complete(stream)

    def begin_pool(
        self, pool: PoolId, streams: frozenset[int] | None = None, *, capture: bool = True
    ) -> None:
        """Serve requests (of `streams`) from a private pool from now on.

        With `capture` a graph is captured, and meanwhile nothing can be waited for or released. For
        `torch.cuda.use_mem_pool` it is False since torch 2.13 (markCaptureBegin)."""
        self.captures.begin(pool, streams, capture=capture)

    def end_pool(self, pool: PoolId) -> None:
        self.captures.end(pool)

    def release_pool(self, pool: PoolId) -> None:
        """Remove one graph that uses the pool; without any, empty_cache and retries free it."""
        self.captures.release(pool)

    def reset_peak(self) -> None:
        """Reset peaks, as torch.cuda.reset_peak_memory_stats does."""
        self.peak_allocated, self.reserve.peak = self.allocated, self.reserved
        if self.journal is not None:
            self.journal.reset_peak()

    def _cached(self, home: Pool, size: int, stream: int) -> Block | None:
        if self.grows or not self._plain:
            if self._collects:
                home.searches += 1
            return home.fit(size, stream, self.options)
        least = MIN_BLOCK if home.small else SMALL_SIZE + 1
        if self.journal is not None or home.searches:
            least = UNLIMITED  # never split here: both need to know of the remainder
        return home.free[stream].take(size, least)

    def _splits(self, home: Pool, size: int, remainder: int) -> bool:
        """Return whether a block is split for a request (should_split)."""
        if home.small or self.options.expandable_segments:
            return remainder >= MIN_BLOCK
        return remainder > SMALL_SIZE and size < self._limit

    def _settle(self, block: Block) -> None:
        if self.journal is not None:
            self.journal.completed(block)
        block.pool.settle(block)

    def _complete_events(self) -> None:
        if not self.captures.capturing:
            for block in self.uses.collect():
                self._settle(block)

    @property
    def _collects(self) -> bool:
        return self.allowed is not None and self.options.garbage_collection_threshold > 0

    def _grow(self, home: Pool, size: int, stream: int, nbytes: int) -> Block:
        """Return a block from the driver; if it refuses, release cached memory step by step and
        retry."""
        options, reserve = self.options, self.reserve
        if self.allowed is not None and self._collects:
            limit = int(options.garbage_collection_threshold * self.allowed)
            if reserve.nbytes > limit:
                collect_garbage(reserve, self.large, reserve.nbytes - limit)
        block = self._open(home, size, stream)
        if block is None and release_oversize(reserve, home, size, stream, options):
            block = self._open(home, size, stream)
        if block is None and not self.captures.capturing:
            self.empty_cache()
            if self.journal is not None:
                self.journal.count("num_alloc_retries")
            block = self._open(home, size, stream)
        if block is None:
            raise OutOfMemoryError(self._refused(home, size, stream, nbytes))
        return block

    def _open(self, home: Pool, size: int, stream: int) -> Block | None:
        """Return a new segment or pages (alloc_block); None if there is no more memory."""
        segment_bytes = self.options.segment_size(size)
        if self.allowed is not None and self.reserve.nbytes + segment_bytes > self.allowed:
            return None
        if self.options.expandable_segments:
            page = SMALL_SEGMENT if home.small else self.options.large_segment
            return allocate(self.reserve, home, size, stream, page)
        return self.reserve.segment(home, segment_bytes, stream)

    def _refused(self, home: Pool, size: int, stream: int, nbytes: int) -> OutOfMemory:
        if self.journal is not None:
            self.journal.out_of_memory(size, self.reserve.free, stream, home.owner)
        return OutOfMemory(
            request=self.requests - 1,
            requested=nbytes,
            asked=self.options.segment_size(size),
            allocated=self.allocated,
            reserved=self.reserved,
            in_private_pools=self.captures.cached,
            free=self.reserve.free,
            card=self.reserve.card,
            allowed=self.allowed,
            stream=stream,
            device=self.device,
        )


def _to_blocks(nbytes: int) -> int:
    """Return bytes rounded up to whole blocks: round_size without divisions."""
    return (nbytes + MIN_BLOCK - 1) // MIN_BLOCK * MIN_BLOCK


class Uses:
    """Blocks that other streams still use: a freed one is held back (`record_stream`). `any` is
    False while nothing is recorded, so callers skip it."""

    __slots__ = ("_captured", "_deferred", "_done", "_events", "_streams", "_waiting", "any")

    def __init__(self) -> None:
        self.any = False
        self._streams: dict[Block, set[int]] = {}
        self._captured: dict[Block, set[int]] = {}  # recorded while a graph was captured
        self._deferred: list[Block] = []  # freed while a graph was captured
        self._events: defaultdict[int, list[Block]] = defaultdict(list)
        self._done: list[Block] = []  # one entry per completed event
        self._waiting: dict[Block, int] = {}  # number of events

    def add(self, block: Block, stream: int, *, capturing: bool) -> None:
        self.any = True
        self._streams.setdefault(block, set()).add(stream)
        if capturing:
            self._captured.setdefault(block, set()).add(stream)

    def wait(self, block: Block, *, capturing: bool) -> bool:
        """Let a freed block wait for the streams that use it; return False if none does."""
        if block not in self._streams:
            return False
        if capturing:
            self._deferred.append(block)
        else:
            self._captured.pop(block, None)
            self._record(block)
        return True

    def waits(self, block: Block) -> bool:
        return block in self._waiting or block in self._deferred

    def complete(self, stream: int | None) -> None:
        """Record that `stream`, or every stream for None, has finished."""
        for finished in list(self._events) if stream is None else [stream]:
            self._done += self._events.pop(finished, [])

    def synchronized(self) -> list[Block]:
        """Return all blocks that waited, after a wait for every stream."""
        free = self._undefer()
        self.complete(None)
        return free + self.collect()

    def collect(self) -> list[Block]:
        """Return the blocks whose events have completed; they are free now."""
        free = self._undefer()
        for block in self._done:
            self._waiting[block] -= 1
            if not self._waiting[block]:
                del self._waiting[block]
                free.append(block)
        self._done = []
        self.any = bool(self._streams or self._waiting)
        return free

    def _undefer(self) -> list[Block]:
        """Return the blocks that waited for a capture to end and are free now: uses inside it are
        over, earlier ones get events."""
        free = []
        for block in self._deferred:
            self._streams[block] -= self._captured.pop(block, set())
            if not self._record(block):
                free.append(block)
        self._deferred = []
        return free

    def _record(self, block: Block) -> int:
        """Record an event on each stream that uses the block. Return the number of streams."""
        streams = self._streams.pop(block)
        for stream in sorted(streams):
            self._events[stream].append(block)
        if streams:
            self._waiting[block] = len(streams)
        return len(streams)
