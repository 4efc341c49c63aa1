"""What lies where: the segments of an allocator with their blocks, as a snapshot of torch has them.

Source: snapshot() of c10/cuda/CUDACachingAllocator.cpp: one entry for each segment, and for each
run of mapped pages of an expandable one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from weighbridge.allocator.blocks import SHARED, Block, PoolId
from weighbridge.allocator.core import Allocator

State = Literal["active_allocated", "active_pending_free", "inactive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBlock:
    """One block. Of an inactive one nothing is requested."""

    address: int
    size: int
    requested: int
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    address: int
    size: int
    stream: int
    small: bool
    expandable: bool
    blocks: tuple[HeldBlock, ...]
    pool: PoolId = SHARED
    device: int = 0


def segments(allocator: Allocator) -> tuple[Segment, ...]:
    """Return the allocator's segments, sorted by address."""
    runs = (run for head in allocator.reserve.heads.values() for run in _runs(head))
    found = (
        Segment(
            address=run[0].address,
            size=sum(block.size for block in run),
            stream=run[0].stream,
            small=run[0].pool.small,
            expandable=run[0].range is not None,
            blocks=tuple(_held(block, allocator) for block in run),
            pool=run[0].pool.owner,
            device=allocator.device,
        )
        for run in runs
    )
    return tuple(sorted(found, key=lambda segment: segment.address))


def _runs(head: Block) -> Iterator[list[Block]]:
    """Blocks in a row that have memory."""
    run: list[Block] = []
    block: Block | None = head
    while block is not None:
        if block.mapped:
            run.append(block)
        elif run:
            yield run
            run = []
        block = block.next
    if run:
        yield run


def _held(block: Block, allocator: Allocator) -> HeldBlock:
    requested, state = block.requested, _state(block, allocator)
    if state == "inactive":
        requested = 0
    return HeldBlock(address=block.address, size=block.size, requested=requested, state=state)


def _state(block: Block, allocator: Allocator) -> State:
    if block.free:
        return "inactive"
    return "active_pending_free" if allocator.uses.waits(block) else "active_allocated"


def differences(ours: tuple[Segment, ...], theirs: tuple[Segment, ...]) -> list[str]:
    """One line for each segment that only one side has, or that is cut otherwise."""
    found = []
    mine, other = ({s.address: s for s in side} for side in (ours, theirs))
    for address in sorted(mine.keys() | other.keys()):
        if address not in mine or address not in other:
            side, segment = ("replay", mine) if address in mine else ("snapshot", other)
            found.append(f"segment {address:#x} of {segment[address].size:,} B: only in the {side}")
        elif mine[address] != other[address]:
            found.append(f"segment {address:#x}: {_difference(mine[address], other[address])}")
    return found


def _difference(ours: Segment, theirs: Segment) -> str:
    for block, other in zip(ours.blocks, theirs.blocks, strict=False):
        if block != other:
            return f"{block} in the replay, {other} in the snapshot"
    about = [
        (s.size, s.stream, s.small, s.expandable, s.pool, len(s.blocks)) for s in (ours, theirs)
    ]
    return f"size, stream, small, expandable, pool and blocks are {about[0]}, not {about[1]}"
