"""Many requests and releases in one go: what `Allocator.malloc` and `free` do one by one, where
nothing bends what serves a request, without asking at each of them whether something does.

Most of the time of a training step is spent here, hence one loop: a request takes the first free
block that is large enough and cuts it; a release joins it with free neighbours.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from weighbridge.allocator.blocks import Block
from weighbridge.allocator.core import Allocator
from weighbridge.allocator.options import MIN_BLOCK, SMALL_SIZE

Op = tuple[int, int, int]  # a request (slot, bytes, stream), or a release (slot, 0, 0)
# (slot, rounded bytes, bytes, stream, what is split off at least)
Ready = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class RequestOps:
    """What `follow` takes, and how many of it are requests."""

    ops: tuple[Ready, ...]
    requests: int


def ready(a: Allocator, ops: Iterable[Op]) -> RequestOps:
    made: list[Ready] = []
    for slot, nbytes, stream in ops:
        size = a.rounded(nbytes) if nbytes else 0
        least = MIN_BLOCK if size <= SMALL_SIZE else SMALL_SIZE + 1
        made.append((slot, size, nbytes, stream, least))
    return RequestOps(tuple(made), sum(op[2] > 0 for op in made))


def follow(
    a: Allocator, sequence: RequestOps, slots: list[Block | None], most: int
) -> tuple[int, int | None]:
    """(the most that was allocated, the slot whose request made it); `most` and None where it was
    never more. The allocator has to be `plain`."""
    small, large = a.small.free, a.large.free
    allocated, fullest = a.allocated, None
    for slot, size, nbytes, stream, least in sequence.ops:
        if not size:
            gone = slots[slot]
            assert gone is not None
            allocated -= gone.size
            gone.pool.free[gone.stream].settle(gone)
            continue
        free = (small if size <= SMALL_SIZE else large)[stream]
        block = free.take(size, least)
        if block is not None:
            allocated += block.size
            slots[slot] = block
        else:
            a.allocated = allocated
            slots[slot] = a.malloc(nbytes, stream)
            a.requests -= 1
            allocated = a.allocated
        if allocated > most:
            most, fullest = allocated, slot
    a.allocated = allocated
    a.peak_allocated = max(a.peak_allocated, most)
    a.requests += sequence.requests
    return most, fullest
