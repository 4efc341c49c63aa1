"""Blocks, and the pools that keep the free ones in order.

A segment is a chain of blocks without gaps. A free block waits in its pool, ordered by size and
then by address (BlockComparatorSize), apart for each stream. In an expandable segment a run of
addresses without memory is a hole, ordered by address (BlockComparatorAddress).
"""

from bisect import bisect_left, insort
from collections import defaultdict

PoolId = tuple[int, int]  # MempoolId_t
SHARED: PoolId = (0, 0)  # the pools that serve whoever captures nothing


class Range:
    """The addresses of an expandable segment, mapped page by page."""

    __slots__ = ("address", "nbytes", "page")

    def __init__(self, address: int, nbytes: int, page: int) -> None:
        self.address = address
        self.nbytes = nbytes
        self.page = page


class Block:
    """A run of bytes in a segment; neighbours are linked. `free`: it waits in its pool."""

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
        self, size: int, address: int, pool: "Pool", stream: int, within: Range | None = None
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
        """It is its whole segment."""
        return self.previous is None and self.next is None


Key = tuple[int, int, Block]  # no two blocks have one address, so blocks are never compared
Place = tuple[int, Block]


class Pool:
    """Free blocks and holes of one kind: small or large, shared or private."""

    __slots__ = ("ages", "free", "holes", "owner", "searches", "small")

    def __init__(self, *, small: bool, owner: PoolId = SHARED) -> None:
        self.small = small
        self.owner = owner
        self.free: defaultdict[int, list[Key]] = defaultdict(list)
        self.holes: defaultdict[int, list[Place]] = defaultdict(list)
        self.searches = 0  # get_free_blocks_call_count, while garbage is collected
        self.ages: dict[Block, int] = {}  # gc_count_base, likewise

    def insert(self, block: Block) -> None:
        block.free = True
        if self.searches:
            self.ages[block] = self.searches
        insort(self.free[block.stream], (block.size, block.address, block))

    def remove(self, block: Block) -> None:
        blocks = self.free[block.stream]
        del blocks[bisect_left(blocks, (block.size, block.address))]
        self.taken(block)

    def taken(self, block: Block) -> None:
        """After it left the list of free blocks."""
        block.free = False
        if self.searches:
            self.ages.pop(block, None)

    def age(self, block: Block) -> int:
        """How many searches it has sat through (gc_count)."""
        return self.searches - self.ages.get(block, 0)

    def blocks(self) -> list[Block]:
        """All free ones: by stream, size, address."""
        return [key[2] for stream in sorted(self.free) for key in self.free[stream]]

    def insert_hole(self, hole: Block) -> None:
        insort(self.holes[hole.stream], (hole.address, hole))

    def remove_hole(self, hole: Block) -> None:
        holes = self.holes[hole.stream]
        del holes[bisect_left(holes, (hole.address,))]

    @property
    def cached(self) -> int:
        return sum(key[0] for blocks in self.free.values() for key in blocks)


def cut(block: Block, size: int) -> Block:
    """Shortens `block` to `size`; the rest of it, of the same pool and in no list."""
    rest = Block(block.size - size, block.address + size, block.pool, block.stream, block.range)
    rest.previous, rest.next = block, block.next
    if block.next is not None:
        block.next.previous = rest
    block.next = rest
    block.size = size
    return rest


def join(first: Block, second: Block) -> Block:
    """`first` with its neighbour `second` in it."""
    first.size += second.size
    first.next = second.next
    if second.next is not None:
        second.next.previous = first
    return first
