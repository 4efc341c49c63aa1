"""What the allocator holds when blocks are taken one after another and none is given back.

Then only the sizes of free blocks matter, and of equal requests as many as fit are cut from one
block at once: a free one is the smallest that is large enough, and so is what is left of it.

    a block of B, n requests of S: min(n, B // S) of them, and a rest that the last may keep

The same rules as core.py with default options, which a test compares with it.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from itertools import groupby

from weighbridge.allocator.options import DEFAULT, MIN_BLOCK, SMALL_SIZE
from weighbridge.units import align_up


class Filling:
    """`freed` bytes were taken first, in one block, and given back."""

    def __init__(self, freed: int = 0) -> None:
        self.allocated = 0
        self.reserved = 0
        self._free: dict[bool, list[int]] = {True: [], False: []}  # sizes; of small ones, of large
        if freed:
            size = align_up(freed, MIN_BLOCK)
            self.reserved = DEFAULT.segment_size(size)
            self._free[size <= SMALL_SIZE].append(self.reserved)

    def place(self, sizes: Sequence[int], times: int = 1) -> None:
        """All of `sizes` in their order, again and again."""
        if times == 1:
            for nbytes in sizes:
                self._take(align_up(nbytes, MIN_BLOCK), 1)
            return
        rounded = [align_up(nbytes, MIN_BLOCK) for nbytes in sizes]
        for small in (True, False):  # neither pool sees what the other does
            own = [size for size in rounded if (size <= SMALL_SIZE) is small]
            if len(set(own)) == 1:
                self._take(own[0], len(own) * times)
                continue
            for _ in range(times):
                for size in own:
                    self._take(size, 1)

    def _take(self, size: int, count: int) -> None:
        """`count` blocks of `size`; nothing takes no memory."""
        if size < 0:
            raise ValueError(f"a block of {size:,} bytes")
        if not size:
            return
        small = size <= SMALL_SIZE
        free = self._free[small]
        while count:
            at = bisect_left(free, size)
            if at < len(free):
                block, blocks = free.pop(at), 1
            else:
                block = DEFAULT.segment_size(size)
                blocks = max(1, count // (block // size))
                self.reserved += block * blocks
            cut = min(count, block // size)
            rest = block - cut * size
            splits = rest >= MIN_BLOCK if small else rest > SMALL_SIZE
            if splits:
                for _ in range(blocks):
                    insort(free, rest)
            self.allocated += blocks * (cut * size if splits else block)
            count -= blocks * cut


def filled(sizes: Iterable[int]) -> Filling:
    """One after another."""
    found = Filling()
    for nbytes, group in groupby(sizes):
        found.place((nbytes,), sum(1 for _ in group))
    return found
