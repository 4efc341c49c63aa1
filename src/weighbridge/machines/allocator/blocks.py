"""Blocks, and the pools that keep the free ones in order.

A segment is a chain of blocks without gaps. A free block waits in its pool, ordered by size and
then by address (BlockComparatorSize), separately for each stream. In an expandable segment a run of
addresses without memory is a hole, ordered by address (BlockComparatorAddress).

A private pool holds what a CUDA graph captured, or `torch.cuda.use_mem_pool` served. Source: struct
PrivatePool, beginAllocateToPool, endAllocateToPool, releasePool and get_pool of
c10/cuda/CUDACachingAllocator.cpp.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.machines.allocator.options import AllocatorOptions

PoolId = tuple[int, int]  # MempoolId_t
SHARED: PoolId = (0, 0)  # the pools used without a capture


class AddressRange:
    """The addresses of an expandable segment, mapped page by page."""

    __slots__ = ("address", "nbytes", "page")

    def __init__(self, address: int, nbytes: int, page: int) -> None:
        self.address = address
        self.nbytes = nbytes
        self.page = page


class Block:
    """A run of bytes in a segment, linked with its neighbours. A `free` one is in its pool."""

    __slots__ = (
        "address",
        "free",
        "mapped",
        "next",
        "pool",
        "previous",
        "range",
        "requested",
        "size",
        "stream",
    )

    def __init__(
        self, size: int, address: int, pool: "Pool", stream: int, within: AddressRange | None = None
    ) -> None:
        self.size = size
        self.address = address
        self.pool = pool
        self.stream = stream
        self.range = within
        self.requested = 0
        self.free = False
        self.mapped = True
        self.previous: Block | None = None
        self.next: Block | None = None

    @property
    def alone(self) -> bool:
        """Return whether the block is its whole segment."""
        return self.previous is None and self.next is None


Place = tuple[int, Block]  # no two blocks share an address, so blocks are never compared


def cut(block: Block, size: int) -> Block:
    """Shorten `block` to `size` bytes. Return the rest as a block of the same pool, in no list
    yet."""
    remainder = Block(
        block.size - size, block.address + size, block.pool, block.stream, block.range
    )
    remainder.previous, remainder.next = block, block.next
    if block.next is not None:
        block.next.previous = remainder
    block.next = remainder
    block.size = size
    return remainder


def join(first: Block, second: Block) -> Block:
    """Merge `second` into `first`, its left neighbour, and return `first`."""
    first.size += second.size
    first.next = second.next
    if second.next is not None:
        second.next.previous = first
    return first


class Free:
    """Free blocks of one stream, by size: thousands of blocks have a few dozen sizes, so an
    insertion moves only blocks of its size. `sizes` ascend; the `places` of a size ascend by
    address, and are empty if the size is not among `sizes`."""

    __slots__ = ("places", "sizes")

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.places: defaultdict[int, list[Place]] = defaultdict(list)

    def insert(self, block: Block) -> None:
        places = self.places[block.size]
        if places:
            insort(places, (block.address, block))
        else:
            insort(self.sizes, block.size)
            places.append((block.address, block))

    def remove(self, block: Block) -> None:
        size = block.size
        places = self.places[size]
        if len(places) > 1:
            del places[bisect_left(places, (block.address,))]
        else:
            places.clear()
            del self.sizes[bisect_left(self.sizes, size)]

    def take(self, size: int, least: int) -> Block | None:
        """Return the first block with room for `size` bytes, cut to them if that leaves `least` or
        more; None without one. A training step spends most of its time here and in `settle`: hence
        no calls of `cut`, `insert`, `remove` and `join`, whose code is repeated."""
        sizes = self.sizes
        index = bisect_left(sizes, size)
        if index == len(sizes):
            return None
        room = sizes[index]
        places = self.places[room]
        block = places.pop(0)[1]
        if not places:
            del sizes[index]
        block.free = False
        if room - size >= least:
            following = block.next
            remainder = Block(
                room - size, block.address + size, block.pool, block.stream, block.range
            )
            remainder.previous, remainder.next, remainder.free = block, following, True
            if following is not None:
                following.previous = remainder
            block.next = remainder
            block.size = size
            places = self.places[remainder.size]
            if places:
                insort(places, (remainder.address, remainder))
            else:
                insort(sizes, remainder.size)
                places.append((remainder.address, remainder))
        return block

    def take_mapped(self, size: int, least: int) -> Block | None:
        """Return the first block of an expandable segment with room, as `take` does. None without
        one, or if a hole follows it: then a larger one may serve better."""
        sizes = self.sizes
        index = bisect_left(sizes, size)
        if index == len(sizes):
            return None
        following = self.places[sizes[index]][0][1].next
        if following is not None and not following.mapped:
            return None
        return self.take(size, least)

    def settle(self, block: Block) -> Block:
        """Free an unused block and merge it with its free neighbours (free_block). Return the
        merged block."""
        previous, following = block.previous, block.next
        if following is not None and following.free:
            size = following.size
            places = self.places[size]
            if len(places) > 1:
                del places[bisect_left(places, (following.address,))]
            else:
                places.clear()
                del self.sizes[bisect_left(self.sizes, size)]
            following.free = False
            block.size += following.size
            block.next = following = following.next
            if following is not None:
                following.previous = block
        if previous is not None and previous.free:
            self.remove(previous)
            previous.size += block.size
            previous.next = following
            if following is not None:
                following.previous = previous
            block = previous
        block.free = True
        places = self.places[block.size]
        if places:
            insort(places, (block.address, block))
        else:
            insort(self.sizes, block.size)
            places.append((block.address, block))
        return block

    def blocks(self, size: int = 0) -> Iterator[Block]:
        """Yield free blocks of at least `size` bytes, sorted by size, then by address."""
        for index in range(bisect_left(self.sizes, size), len(self.sizes)):
            for _, block in self.places[self.sizes[index]]:
                yield block


class Pool:
    """Free blocks and holes of one kind: small or large, shared or private."""

    __slots__ = ("ages", "free", "holes", "owner", "searches", "small")

    def __init__(self, *, small: bool, owner: PoolId = SHARED) -> None:
        self.small = small
        self.owner = owner
        self.free: defaultdict[int, Free] = defaultdict(Free)
        self.holes: defaultdict[int, list[Place]] = defaultdict(list)
        self.searches = 0  # get_free_blocks_call_count, counted if garbage is collected
        self.ages: dict[Block, int] = {}  # gc_count_base, likewise

    def insert(self, block: Block) -> None:
        block.free = True
        if self.searches:
            self.ages[block] = self.searches
        self.free[block.stream].insert(block)

    def remove(self, block: Block) -> None:
        self.free[block.stream].remove(block)
        block.free = False
        if self.searches:
            self.ages.pop(block, None)

    def settle(self, block: Block) -> None:
        """Free an unused block and merge it with its free neighbours."""
        following = block.next
        block = self.free[block.stream].settle(block)
        if self.searches:
            self.ages[block] = self.searches
            if following is not None:
                self.ages.pop(following, None)

    def fit(self, size: int, stream: int, options: AllocatorOptions) -> Block | None:
        """Return the best fit for `size` bytes under options that change it; None if a new segment
        serves the request better (get_free_block)."""
        blocks, limit = self.free[stream].blocks(size), options.max_split_size
        if options.expandable_segments:
            block = _expanding(blocks)
        else:
            block = next((block for block in blocks if block.range is None), None)
        if block is None:
            return None
        if block.size >= (limit if size < limit else size + options.max_non_split_rounding):
            return None
        self.remove(block)
        return block

    def age(self, block: Block) -> int:
        """Return the number of searches since a block was freed (gc_count)."""
        return self.searches - self.ages.get(block, 0)

    def blocks(self) -> list[Block]:
        """Return all free blocks, sorted by stream, size and address."""
        return [block for stream in sorted(self.free) for block in self.free[stream].blocks()]

    def insert_hole(self, hole: Block) -> None:
        insort(self.holes[hole.stream], (hole.address, hole))

    def remove_hole(self, hole: Block) -> None:
        holes = self.holes[hole.stream]
        del holes[bisect_left(holes, (hole.address,))]

    @property
    def cached(self) -> int:
        """Return the bytes of all free blocks."""
        return sum(block.size for free in self.free.values() for block in free.blocks())


def _expanding(blocks: Iterator[Block]) -> Block | None:
    """Return the best of blocks in ascending size. A block before a hole counts with the size that
    it can grow to, so a larger one may fit better."""
    best = next(blocks, None)
    for block in blocks:
        if best is None or best.range is None or _can_grow_to(block) >= _can_grow_to(best):
            break
        best = block
    return best


def _can_grow_to(block: Block) -> int:
    following = block.next
    return block.size + (following.size if following is not None and not following.mapped else 0)


# ---- private pools

Streams = frozenset[int] | None  # None for every stream


class PrivatePool:
    __slots__ = ("large", "small", "users")

    def __init__(self, owner: PoolId) -> None:
        self.small, self.large = Pool(small=True, owner=owner), Pool(small=False, owner=owner)
        self.users = 0


class Captures:
    """All private pools, and those that serve requests now; the last begun comes first."""

    __slots__ = ("capturing", "pools", "underway")

    def __init__(self) -> None:
        self.pools: dict[PoolId, PrivatePool] = {}
        self.underway: list[tuple[PoolId, Streams]] = []
        self.capturing: set[PoolId] = set()  # by a graph: the allocator may not wait meanwhile

    def begin(self, pool: PoolId, streams: Streams, *, capture: bool) -> None:
        if any(pool == begun for begun, _ in self.underway):
            raise UsageError(sentence("pool.serves", pool=pool))
        if pool == SHARED:
            raise UsageError(sentence("pool.shared", pool=SHARED))
        self._pool(pool).users += 1
        self.underway.append((pool, streams))
        if capture:
            self.capturing.add(pool)

    def end(self, pool: PoolId) -> None:
        left = [entry for entry in self.underway if entry[0] != pool]
        if len(left) == len(self.underway):
            raise UsageError(sentence("pool.idle", pool=pool))
        self.underway = left
        self.capturing.discard(pool)

    def release(self, pool: PoolId) -> None:
        if pool not in self.pools or not self.pools[pool].users:
            raise UsageError(sentence("pool.unused", pool=pool))
        self.pools[pool].users -= 1

    def home(self, shared: Pool, stream: int) -> Pool:
        """Return the private counterpart of a shared pool, or the shared one itself if no capture
        uses `stream`."""
        for pool, streams in reversed(self.underway):
            if streams is None or stream in streams:
                private = self._pool(pool)
                return private.small if shared.small else private.large
        return shared

    def abandoned(self) -> Iterator[PrivatePool]:
        """Yield the private pools that no graph uses any more."""
        return (pool for pool in self.pools.values() if not pool.users)

    def forget(self, heads: Iterable[Block]) -> None:
        """Drop abandoned pools without a segment; `heads` are the first blocks of all segments."""
        gone = {owner for owner, pool in self.pools.items() if not pool.users}
        for owner in gone - {head.pool.owner for head in heads}:
            del self.pools[owner]

    @property
    def cached(self) -> int:
        return sum(pool.small.cached + pool.large.cached for pool in self.pools.values())

    def _pool(self, owner: PoolId) -> PrivatePool:
        if owner not in self.pools:
            self.pools[owner] = PrivatePool(owner)
        return self.pools[owner]
