"""Expandable segments: one run of addresses for each stream and pool, mapped page by page.

A page is 2 MiB in the small pool, `large_segment_size` (20 MiB) in the large one. A request that
no cached block serves takes the lowest place where free blocks and holes together are long enough;
only holes are mapped, in whole pages. Memory goes back in whole pages that lie inside a free block.

Source: struct ExpandableSegment, find_expandable_block, map_block, try_allocate_expandable_block
and unmap_block of c10/cuda/CUDACachingAllocator.cpp.
"""

from weighbridge.allocator.blocks import AddressRange, Block, Pool, cut, join
from weighbridge.allocator.reserve import DeviceReserve
from weighbridge.units import align_up


def allocate(reserve: DeviceReserve, pool: Pool, size: int, stream: int, page: int) -> Block | None:
    """A block of at least `size`, or None when the driver runs out; what was mapped until then
    stays cached."""
    block = _room(pool, size, stream) or reserve.range(pool, page, stream)
    grown = block if block.mapped else map_pages(reserve, block, min(block.size, size))
    while grown is not None and grown.size < size:
        hole = grown.next
        assert hole is not None, "the range is longer than the card"
        grown = map_pages(reserve, hole, min(size - grown.size, hole.size))
    if grown is not None:
        pool.remove(grown)
    return grown


def _room(pool: Pool, size: int, stream: int) -> Block | None:
    """Return the lowest place where free blocks and holes in a row are long enough."""
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
    """Memory for the first `nbytes` of a hole and the rest of their last page; the free block that
    this becomes together with its free neighbours."""
    within, pool = _range(hole), hole.pool
    offset = hole.address - within.address
    mapped = align_up(offset + nbytes, within.page) - offset
    if not reserve.charge(mapped):
        return None
    pool.remove_hole(hole)
    hole.mapped = True
    if mapped < hole.size:
        rest = cut(hole, mapped)
        rest.mapped = False
        pool.insert_hole(rest)
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
    """The whole pages inside a free block go back; its range too, once it has no page left."""
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
    """A new hole and the holes beside it are one."""
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
