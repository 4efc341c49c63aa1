"""Bytes that the allocator holds when blocks are allocated one after another and none is freed.

Then only the sizes of free blocks matter, and as many equal requests as fit are cut from one block
at once: a free one is the smallest that is large enough, and so is what is left of it.

    a block of B, n requests of S: min(n, B // S) of them, and a rest that the last may keep
    max_split_size: a request of that many bytes or more gets its own segment, and keeps its rest

The same rules as core.py, with no other option; a test compares both.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from weighbridge.base.units import align_up
from weighbridge.machines.allocator.options import DEFAULT, MIN_BLOCK, SMALL_SIZE, AllocatorOptions


class _Pool:
    """Free blocks of one kind, counted by size."""

    __slots__ = ("counts", "sizes")

    def __init__(self) -> None:
        self.sizes: list[int] = []  # sizes with a free block, ascending
        self.counts: dict[int, int] = {}

    def put(self, size: int, count: int) -> None:
        if size in self.counts:
            self.counts[size] += count
            return
        insort(self.sizes, size)
        self.counts[size] = count

    def pop(self, index: int, count: int) -> None:
        """Remove `count` blocks of the size at `index`."""
        size = self.sizes[index]
        self.counts[size] -= count
        if not self.counts[size]:
            del self.counts[size], self.sizes[index]


class Filling:
    """An allocator that only allocates. `freed`: bytes of one block that was allocated and freed
    before; not together with `options`."""

    def __init__(self, freed: int = 0, options: AllocatorOptions = DEFAULT) -> None:
        self._unsplit = options.max_split_size
        self.allocated = 0
        self.reserved = 0
        self.segments: Counter[int] = Counter()  # size -> number of segments
        self._small, self._large = _Pool(), _Pool()
        if freed:
            size = align_up(freed, MIN_BLOCK)
            self.reserved = DEFAULT.segment_size(size)
            self.segments[self.reserved] += 1
            (self._small if size <= SMALL_SIZE else self._large).put(self.reserved, 1)

    def place(self, sizes: Sequence[int], times: int = 1) -> None:
        """Allocate blocks of `sizes` bytes in order, `times` over."""
        rounded = [align_up(nbytes, MIN_BLOCK) for nbytes in sizes]
        for small in (True, False):  # the pools are independent
            groups = groupby(size for size in rounded if (size <= SMALL_SIZE) is small)
            runs = [(size, sum(1 for _ in equal)) for size, equal in groups]
            if len(runs) == 1:
                self._take(runs[0][0], runs[0][1] * times)
                continue
            self._place(runs, times, self._small if small else self._large)

    def _place(self, runs: Sequence[tuple[int, int]], times: int, pool: _Pool) -> None:
        """Allocate `runs` of (size, count), `times` over: at once if one free block has room."""
        nbytes = sum(size * count for size, count in runs)
        even = bool(runs) and all(0 < size < self._unsplit for size, _ in runs)
        while times:
            at_once = min(times, self._room(pool) // nbytes) if even else 0
            if at_once:
                block = pool.sizes[0]
                pool.pop(0, 1)
                pool.put(block - at_once * nbytes, 1)
                self.allocated += at_once * nbytes
                times -= at_once
                continue
            times -= 1
            for size, count in runs:
                self._take(size, count)

    def _room(self, pool: _Pool) -> int:
        """Return the bytes that can be cut from the only free block, one block after another; 0 if
        there are several free blocks."""
        if len(pool.sizes) != 1 or pool.counts[pool.sizes[0]] != 1:
            return 0
        rest = MIN_BLOCK if pool is self._small else SMALL_SIZE + 1
        return max(0, pool.sizes[0] - rest)

    def _take(self, size: int, count: int) -> None:
        """Allocate `count` blocks of `size` bytes; zero bytes take no memory."""
        if size < 0:
            raise ValueError(f"a block of {size:,} bytes")
        if not size:
            return
        small = size <= SMALL_SIZE
        pool = self._small if small else self._large
        while count:
            index = bisect_left(pool.sizes, size)
            cached = index < len(pool.sizes)
            block = pool.sizes[index] if cached else DEFAULT.segment_size(size)
            each = block // size if size < self._unsplit else 1  # blocks cut from one free block
            blocks = max(1, count // each)
            if cached:
                blocks = min(blocks, pool.counts[block])
                pool.pop(index, blocks)
            else:
                self.reserved += block * blocks
                self.segments[block] += blocks
            cut = min(count, each)
            remainder = block - cut * size
            splits = remainder >= MIN_BLOCK if small else remainder > SMALL_SIZE
            if splits and size < self._unsplit:
                pool.put(remainder, blocks)
                self.allocated += blocks * cut * size
            else:
                self.allocated += blocks * block
            count -= blocks * cut


def filled(sizes: Sequence[int], options: AllocatorOptions = DEFAULT) -> Filling:
    """Return an allocator with blocks of `sizes` bytes, allocated one after another."""
    filling = Filling(options=options)
    filling.place(sizes)
    return filling
