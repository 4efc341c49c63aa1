"""Which cached block serves a request, and which go back to the driver when none does.

Source: get_free_block, garbage_collect_cached_blocks, release_available_cached_blocks and
release_blocks of c10/cuda/CUDACachingAllocator.cpp.
"""

from collections.abc import Iterator

from weighbridge.allocator.blocks import Block, Pool
from weighbridge.allocator.expandable import unmap
from weighbridge.allocator.options import UNLIMITED, AllocatorOptions
from weighbridge.allocator.reserve import DeviceReserve


def fit(pool: Pool, size: int, stream: int, options: AllocatorOptions) -> Block | None:
    """The best fit under options that bend it, taken from the pool."""
    blocks, limit = pool.free[stream].blocks(size), options.max_split_size
    block = (_expanding if options.expandable_segments else _not_expandable)(blocks)
    if block is None:
        return None
    if block.size >= (limit if size < limit else size + options.max_non_split_rounding):
        return None
    pool.remove(block)
    return block


def _expanding(blocks: Iterator[Block]) -> Block | None:
    """The size of a block before a hole is the one it can grow to: larger ones may fit better."""
    found = next(blocks, None)
    for block in blocks:
        if found is None or found.range is None or _can_grow_to(block) >= _can_grow_to(found):
            break
        found = block
    return found


def _can_grow_to(block: Block) -> int:
    following = block.next
    return block.size + (following.size if following is not None and not following.mapped else 0)


def _not_expandable(blocks: Iterator[Block]) -> Block | None:
    return next((block for block in blocks if block.range is None), None)


def collect_garbage(reserve: DeviceReserve, large: Pool, target: int) -> None:
    """Frees cached large segments older than their average age, until `target` bytes are back."""
    old = [b for b in large.blocks() if b.alone]
    total, reclaimed, freed = sum(large.age(b) for b in old), 0, True
    while reclaimed < target and freed and old:
        threshold, freed, kept = total / len(old), False, []
        for block in old:
            age = large.age(block)
            if block.range is None and age >= threshold:
                freed, reclaimed, total = True, reclaimed + block.size, total - age
                reserve.release(block)
            else:
                kept.append(block)
        old = kept


def release_oversize(
    reserve: DeviceReserve, pool: Pool, size: int, stream: int, options: AllocatorOptions
) -> bool:
    """Whether enough of the blocks that may not be split went back: one, or the largest."""
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
    """Every segment and every page that is wholly free."""
    for block in pool.blocks():
        if block.range is not None:
            unmap(reserve, block)
        elif block.alone:
            reserve.release(block)
