"""Memory that the process gets from the driver and releases to it: whole segments (cudaMalloc), and
pages of expandable ones (cuMemMap).

Addresses descend and segments never touch. A real driver may reuse the address of a freed segment;
that only decides between cached blocks of one size.

An expandable segment is one run of addresses for each stream and pool, mapped page by page. A page
is 2 MiB in the small pool, `large_segment_size` (20 MiB) in the large one. A request that no cached
block serves takes the lowest place where free blocks and holes together are long enough; only holes
are mapped, in whole pages. Memory is released in whole pages that lie inside a free block.

Source: struct ExpandableSegment, find_expandable_block, map_block, try_allocate_expandable_block,
unmap_block, garbage_collect_cached_blocks, release_available_cached_blocks and release_blocks of
c10/cuda/CUDACachingAllocator.cpp.
"""

from weighbridge.base.units import align_up
from weighbridge.machines.allocator.blocks import AddressRange, Block, Pool, cut, join
from weighbridge.machines.allocator.journal import Journal
from weighbridge.machines.allocator.options import ROUND_LARGE, UNLIMITED, AllocatorOptions

FIRST_ADDRESS = 1 << 44
UNKNOWN_CARD = 1 << 43  # bytes, if the size of the card is unknown


class DeviceReserve:
    """Memory that the driver has given; `heads` are the first blocks of all segments, by address.

    A driver gives each new segment a lower address than the one before. This decides which of two
    equal blocks is taken, and so what is merged and reserved: of 51 real histories of an H100
    (driver 580, CUDA 13; our own runs) 47 match to the byte, and 33 with ascending addresses.
    """

    __slots__ = ("_next", "capacity", "card", "heads", "journal", "nbytes", "peak", "upwards")

    def __init__(self, capacity: int | None, card: int | None, journal: Journal | None) -> None:
        self.capacity = capacity
        self.card = card or capacity or UNKNOWN_CARD
        self.journal = journal
        self.nbytes = 0
        self.peak = 0
        self.heads: dict[int, Block] = {}
        self.upwards = False
        self._next = FIRST_ADDRESS

    @property
    def free(self) -> int:
        """Return the free bytes of the device, as cudaMemGetInfo reports them."""
        return max(0, (self.card if self.capacity is None else self.capacity) - self.nbytes)

    def charge(self, nbytes: int) -> bool:
        """Take `nbytes` from the driver; return False if it does not have them."""
        if self.capacity is not None and self.nbytes + nbytes > self.capacity:
            return False
        self.nbytes += nbytes
        if self.nbytes > self.peak:
            self.peak = self.nbytes
        return True

    def segment(self, pool: Pool, nbytes: int, stream: int) -> Block | None:
        """Return a new segment as one block; None if the driver does not have the memory."""
        if not self.charge(nbytes):
            return None
        block = Block(nbytes, self._address(nbytes), pool, stream)
        self.heads[block.address] = block
        if self.journal is not None:
            self.journal.opened(block)
        return block

    def release(self, block: Block) -> None:
        """Release a free block that is a whole segment (release_block)."""
        if self.journal is not None:
            self.journal.closed(block)
        block.pool.remove(block)
        del self.heads[block.address]
        self.nbytes -= block.size

    def range(self, pool: Pool, page: int, stream: int, size: int = 0) -> Block:
        """Return addresses without memory for 9/8 of the card, as one hole (the constructor of
        ExpandableSegment). A replay may exceed the card: for a larger `size`, that many."""
        nbytes = align_up(max(self.card + self.card // 8, size), page)
        address = self._address(nbytes)
        hole = Block(nbytes, address, pool, stream, AddressRange(address, nbytes, page))
        hole.mapped = False
        self.heads[address] = hole
        pool.insert_hole(hole)
        return hole

    def _address(self, nbytes: int) -> int:
        """Return the address of a new segment of `nbytes`."""
        taken = align_up(nbytes, ROUND_LARGE) + ROUND_LARGE
        if self.upwards:
            address = self._next
            self._next += taken
            return address
        self._next -= taken
        return self._next


# Pages of expandable segments


def allocate(reserve: DeviceReserve, pool: Pool, size: int, stream: int, page: int) -> Block | None:
    """Return a block of at least `size` bytes, or None if the driver runs out; pages mapped until
    then stay cached."""
    block = _room(pool, size, stream) or reserve.range(pool, page, stream, size)
    grown = block if block.mapped else map_pages(reserve, block, min(block.size, size))
    while grown is not None and grown.size < size:
        hole = grown.next
        assert hole is not None, "the range is longer than the card"
        grown = map_pages(reserve, hole, min(size - grown.size, hole.size))
    if grown is not None:
        pool.remove(grown)
    return grown


def _room(pool: Pool, size: int, stream: int) -> Block | None:
    """Return the first block of the lowest place where free blocks and holes together have `size`
    bytes; None without one."""
    for _, hole in pool.holes[stream]:
        before = hole.previous
        start = before if before is not None and before.free else hole
        if _spans(start, size):
            return start
    return None


def _spans(start: Block, size: int) -> bool:
    nbytes, block = 0, start
    while nbytes < size:
        nbytes += block.size
        following = block.next
        if following is None or (following.mapped and not following.free):
            break
        block = following
    return nbytes >= size


def map_pages(reserve: DeviceReserve, hole: Block, nbytes: int) -> Block | None:
    """Map the first `nbytes` of a hole and the rest of their last page. Return the free block that
    this becomes with its free neighbours; None if the driver does not have the memory."""
    within, pool = _range(hole), hole.pool
    offset = hole.address - within.address
    mapped = align_up(offset + nbytes, within.page) - offset
    if not reserve.charge(mapped):
        return None
    pool.remove_hole(hole)
    hole.mapped = True
    if mapped < hole.size:
        remainder = cut(hole, mapped)
        remainder.mapped = False
        pool.insert_hole(remainder)
    address, block = hole.address, hole
    if block.previous is not None and block.previous.free:
        pool.remove(block.previous)
        block = join(block.previous, block)
    if block.next is not None and block.next.free:
        pool.remove(block.next)
        join(block, block.next)
    pool.insert(block)
    if reserve.journal is not None:
        reserve.journal.mapped(block, address, mapped)
    return block


def unmap(reserve: DeviceReserve, block: Block) -> None:
    """Release the whole pages inside a free block; its range too, once that has no page left."""
    within, pool = _range(block), block.pool
    begin = align_up(block.address - within.address, within.page)
    end = (block.address - within.address + block.size) // within.page * within.page
    if begin >= end:
        return
    pool.remove(block)
    hole, before = block, within.address + begin - block.address
    if before:
        hole = cut(block, before)
        pool.insert(block)
    if hole.size > end - begin:
        pool.insert(cut(hole, end - begin))
    hole.mapped = False
    if reserve.journal is not None:
        reserve.journal.unmapped(hole, hole.address, hole.size)
    reserve.nbytes -= hole.size
    _settle(reserve, hole)


def _settle(reserve: DeviceReserve, hole: Block) -> None:
    """Merge a new hole with neighbouring holes."""
    pool = hole.pool
    if hole.previous is not None and not hole.previous.mapped:
        pool.remove_hole(hole.previous)
        hole = join(hole.previous, hole)
    if hole.next is not None and not hole.next.mapped:
        pool.remove_hole(hole.next)
        join(hole, hole.next)
    if hole.alone:
        del reserve.heads[hole.address]
    else:
        pool.insert_hole(hole)


def _range(block: Block) -> AddressRange:
    assert block.range is not None
    return block.range


# What is released


def collect_garbage(reserve: DeviceReserve, large: Pool, target: int) -> None:
    """Free cached large segments older than their average age, until `target` bytes are freed."""
    old = [block for block in large.blocks() if block.alone]
    total, reclaimed, freed = sum(large.age(block) for block in old), 0, True
    while reclaimed < target and freed and old:
        threshold, freed, younger = total / len(old), False, []
        for block in old:
            age = large.age(block)
            if block.range is None and age >= threshold:
                freed, reclaimed, total = True, reclaimed + block.size, total - age
                reserve.release(block)
            else:
                younger.append(block)
        old = younger


def release_oversize(
    reserve: DeviceReserve, pool: Pool, size: int, stream: int, options: AllocatorOptions
) -> bool:
    """Release blocks that may not be split: one that is large enough, or the largest ones. Return
    whether that was enough for `size`."""
    limit = options.max_split_size
    if limit == UNLIMITED:
        return False
    wanted = max(size, limit)
    free = pool.free[stream]
    first = next(free.blocks(wanted), None)
    if first is not None and first.range is None:
        reserve.release(first)
        return True
    released = 0
    for block in reversed([block for block in free.blocks(limit) if block.size < wanted]):
        if released >= wanted:
            break
        if block.range is None:
            released += block.size
            reserve.release(block)
    return released >= wanted


def release_all(reserve: DeviceReserve, pool: Pool) -> None:
    """Release every segment and every page that is wholly free."""
    for block in pool.blocks():
        if block.range is not None:
            unmap(reserve, block)
        elif block.alone:
            reserve.release(block)
