"""Many requests and releases in one go: what `Allocator.malloc` and `free` do one by one if the
allocator is `plain`, without a check of that at each of them.

A training step spends most of its time here, hence one loop: a request takes the first free block
that is large enough and cuts it; a release joins it with free neighbours. Tensors alike that come
and go together are served as one move.
"""

from collections.abc import Iterable, Mapping

from weighbridge.base.records import NamedTuple, dataclass
from weighbridge.base.units import MIB, align_up, ceil_div
from weighbridge.machines.allocator.blocks import Block, Free
from weighbridge.machines.allocator.core import Allocator
from weighbridge.machines.allocator.options import MIN_BLOCK, SMALL_SIZE

FEW = 64 * MIB  # above so many bytes, tensors alike are requested as one block

Op = tuple[int, int, int]  # a request (slot, bytes, stream), or a release (slot, 0, 0)
# (slot, rounded bytes, bytes, stream, least bytes to split off). For several alike: 0 rounded
# bytes, their count in the last place, and to free them 0 bytes
Ready = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class RequestOps:
    """Operations that `follow` carries out, and the number of requests among them."""

    ops: tuple[Ready, ...]
    requests: int


class AlikeBlocks(NamedTuple):
    """Blocks that hold tensors alike; `spare` bytes of them are not used by these."""

    spare: int
    blocks: tuple[Block | None, ...]


Slot = Block | AlikeBlocks | None


def several(allocator: Allocator, count: int, nbytes: int) -> AlikeBlocks:
    """Return blocks for `count` tensors of `nbytes` each; spare bytes are not counted as allocated.
    Since thousands of requests take long, many tensors are requested as one block, as large as
    their segments, whose unused rest is only reserved."""
    each = align_up(nbytes, MIN_BLOCK)
    segment = allocator.options.segment_size(each)
    sizes = [ceil_div(count, segment // each) * segment]
    if each * count <= FEW:
        most = max(1, SMALL_SIZE // each)
        sizes = [each * min(most, count - n) for n in range(0, count, most)]
    before = allocator.allocated
    blocks = tuple([allocator.malloc(size) for size in sizes])
    spare = allocator.allocated - before - each * count
    allocator.allocated -= spare
    return AlikeBlocks(spare, blocks)


def give_back(allocator: Allocator, blocks: AlikeBlocks) -> None:
    allocator.allocated += blocks.spare
    for block in blocks.blocks:
        allocator.free(block)


def ready(
    allocator: Allocator, ops: Iterable[Op], alike: Mapping[int, int] | None = None
) -> RequestOps:
    """Return `ops` prepared for `follow`; `alike`: slot -> number of tensors, if several."""
    prepared: list[Ready] = []
    for slot, nbytes, stream in ops:
        if alike is not None and slot in alike:
            prepared.append((slot, 0, nbytes, stream, alike[slot]))
            continue
        size = allocator.rounded(nbytes) if nbytes else 0
        small = size <= SMALL_SIZE or allocator.grows
        least = MIN_BLOCK if small else SMALL_SIZE + 1
        prepared.append((slot, size, nbytes, stream, least))
    return RequestOps(tuple(prepared), sum(op[1] > 0 for op in prepared))


def follow(
    allocator: Allocator, sequence: RequestOps, slots: list[Slot], most: int
) -> tuple[int, int | None]:
    """Carry out a sequence on a `plain` allocator. Return the peak in allocated bytes, and the slot
    of the request that made it; `most` and None if it stayed below `most`."""
    small, large = allocator.small.free, allocator.large.free
    allocated, fullest = allocator.allocated, None
    take = Free.take_mapped if allocator.grows else Free.take
    for slot, size, nbytes, stream, least in sequence.ops:
        if not size:
            gone = slots[slot]
            if type(gone) is Block:
                allocated -= gone.size
                gone.pool.free[gone.stream].settle(gone)
                continue
            allocator.allocated = allocated
            slots[slot] = _equal_blocks(allocator, gone, nbytes, least)
            allocated = allocator.allocated
            if allocated > most:
                most, fullest = allocated, slot
            continue
        free = (small if size <= SMALL_SIZE else large)[stream]
        block = take(free, size, least)
        if block is not None:
            allocated += block.size
            slots[slot] = block
        else:
            allocator.allocated = allocated
            slots[slot] = allocator.malloc(nbytes, stream)
            allocator.requests -= 1
            allocated = allocator.allocated
        if allocated > most:
            most, fullest = allocated, slot
    allocator.allocated = allocated
    allocator.peak_allocated = max(allocator.peak_allocated, most)
    allocator.requests += sequence.requests
    return most, fullest


def _equal_blocks(
    allocator: Allocator, blocks: Slot, nbytes: int, count: int
) -> AlikeBlocks | None:
    """Return blocks for `count` equal tensors of `nbytes` each; for zero bytes, free `blocks` and
    return None."""
    if nbytes:
        return several(allocator, count, nbytes)
    assert isinstance(blocks, AlikeBlocks)
    give_back(allocator, blocks)
    return None
