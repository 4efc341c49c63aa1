"""The CUDA caching allocator of PyTorch, replayed: requests in; allocated and reserved bytes out.

    round    every request to a multiple of 512 bytes
    pool     small for rounded sizes up to 1 MiB, else large
    segment  2 MiB (small), 20 MiB (large, below 10 MiB), else the size rounded up to 2 MiB
    fit      the smallest free block that is large enough; among equals the lowest address
    split    a small block when 512 bytes remain, a large one when more than 1 MiB remains;
             else the caller keeps the whole block, and it counts as allocated
    free     merges with free neighbours of the same segment; the segment stays reserved

Source: c10/cuda/CUDACachingAllocator.cpp (round_size, get_allocation_size, get_free_block,
should_split, malloc, free_block) and c10/core/AllocatorConfig.h, PyTorch 2.15; the constants have
not changed since 1.x. Default settings, one stream.
"""

from bisect import bisect_left, insort

from weighbridge.units import MIB, align_up

MIN_BLOCK = 512  # kMinBlockSize
SMALL_SIZE = MIB  # kSmallSize: rounded sizes up to and including this are small
SMALL_SEGMENT = 2 * MIB  # kSmallBuffer
LARGE_SEGMENT = 20 * MIB  # kLargeBuffer, large_segment_size_
MIN_LARGE = 10 * MIB  # kMinLargeAlloc: from here a request has a segment of its own
ROUND_LARGE = 2 * MIB  # kRoundLarge
GAP = 1 << 40  # between the addresses of segments, so that they never look adjacent


class Block:
    """A run of bytes in a segment; neighbours are linked."""

    __slots__ = ("address", "free", "next", "previous", "size", "small")

    def __init__(self, size: int, address: int, *, small: bool) -> None:
        self.size = size
        self.address = address
        self.small = small
        self.free = True
        self.previous: Block | None = None
        self.next: Block | None = None

    @property
    def key(self) -> "Key":
        return (self.size, self.address, self)


Key = tuple[int, int, Block]  # no two blocks have one address, so blocks are never compared


class Allocator:
    """Replays malloc and free; counts as `torch.cuda.memory_allocated` and its siblings do."""

    def __init__(self) -> None:
        self.allocated = 0
        self.reserved = 0
        self.peak_allocated = 0
        self.peak_reserved = 0
        self._free: dict[bool, list[Key]] = {True: [], False: []}
        self._segments = 0

    def malloc(self, nbytes: int) -> Block | None:
        """A block for `nbytes`; None for zero bytes, which take no memory."""
        if nbytes == 0:
            return None
        size = align_up(nbytes, MIN_BLOCK)
        block = self._take(size) or self._segment(size)
        if block.size > size:
            self._split(block, size)
        block.free = False
        self.allocated += block.size
        if self.allocated > self.peak_allocated:
            self.peak_allocated = self.allocated
        return block

    def free(self, block: Block | None) -> None:
        if block is None:
            return
        assert not block.free, "freed twice"
        self.allocated -= block.size
        block.free = True
        for neighbour in (block.previous, block.next):
            if neighbour is not None and neighbour.free:
                self._forget(neighbour)
                block = _merge(block, neighbour)
        insort(self._free[block.small], block.key)

    def _take(self, size: int) -> Block | None:
        blocks = self._free[size <= SMALL_SIZE]
        found = bisect_left(blocks, (size,))
        return blocks.pop(found)[2] if found < len(blocks) else None

    def _segment(self, size: int) -> Block:
        small = size <= SMALL_SIZE
        if small:
            nbytes = SMALL_SEGMENT
        else:
            nbytes = LARGE_SEGMENT if size < MIN_LARGE else align_up(size, ROUND_LARGE)
        self._segments += 1
        self.reserved += nbytes
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return Block(nbytes, self._segments * GAP, small=small)

    def _split(self, block: Block, size: int) -> None:
        remaining = block.size - size
        if remaining < MIN_BLOCK if block.small else remaining <= SMALL_SIZE:
            return
        rest = Block(remaining, block.address + size, small=block.small)
        rest.previous, rest.next = block, block.next
        if block.next is not None:
            block.next.previous = rest
        block.next = rest
        block.size = size
        insort(self._free[block.small], rest.key)

    def _forget(self, block: Block) -> None:
        blocks = self._free[block.small]
        blocks.pop(bisect_left(blocks, block.key))


def _merge(block: Block, neighbour: Block) -> Block:
    """One block out of two adjacent ones."""
    first, second = sorted((block, neighbour), key=lambda b: b.address)
    first.size += second.size
    first.next = second.next
    if second.next is not None:
        second.next.previous = first
    first.free = True
    return first
