"""A replay as one of torch's memory snapshots, which pytorch.org/memory_viz and
torch.cuda._memory_viz open.

It may contain only what the viewer's own unpickler knows (MemoryViz.js: protocols 2 to 4,
containers, text, numbers). Frames are the names that the caller gives for each request.

Source: snapshot() of c10/cuda/CUDACachingAllocator.cpp, one entry for each segment, and for each
run of mapped pages of an expandable one; the TypedDicts in the docstring of
torch.cuda.memory._snapshot, PyTorch 2.15.
"""

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.machines.allocator.blocks import SHARED, Block, PoolId
from weighbridge.machines.allocator.core import Allocator
from weighbridge.machines.allocator.journal import JournalEvent
from weighbridge.machines.allocator.options import UNLIMITED
from weighbridge.machines.allocator.settings import text

PROTOCOL = 4
State = Literal["active_allocated", "active_pending_free", "inactive"]


@frozen_record
class HeldBlock:
    """A block of a segment, in bytes; `requested` is 0 for an inactive one."""

    address: int
    size: int
    requested: int
    state: State


@frozen_record
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
    unsorted = (
        Segment(
            address=run[0].address,
            size=sum(block.size for block in run),
            stream=run[0].stream,
            small=run[0].pool.small,
            expandable=run[0].range is not None,
            blocks=tuple(_held_block(block, allocator) for block in run),
            pool=run[0].pool.owner,
            device=allocator.device,
        )
        for run in runs
    )
    return tuple(sorted(unsorted, key=lambda segment: segment.address))


def _runs(head: Block) -> Iterator[list[Block]]:
    """Yield each run of mapped blocks in a segment."""
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


def _held_block(block: Block, allocator: Allocator) -> HeldBlock:
    requested, state = block.requested, _state(block, allocator)
    if state == "inactive":
        requested = 0
    return HeldBlock(address=block.address, size=block.size, requested=requested, state=state)


def _state(block: Block, allocator: Allocator) -> State:
    if block.free:
        return "inactive"
    return "active_pending_free" if allocator.uses.waits(block) else "active_allocated"


# As torch writes it


class RequestOrigin(NamedTuple):
    """Where a request came from: frames, innermost first. `category` sets its colour; `line` is
    (file, line number)."""

    frames: Sequence[str] = ()
    category: str = ""
    line: tuple[str, int] | None = None


NOWHERE = RequestOrigin()
Frames = list[dict[str, Any]]


def pickled(allocator: Allocator, origins: Mapping[int, RequestOrigin] | None = None) -> bytes:
    """Return the bytes of a `snapshot.pickle`; `origins`: number of a request -> its origin."""
    return pickle.dumps(snapshot(allocator, origins), protocol=PROTOCOL)


def snapshot(
    allocator: Allocator, origins: Mapping[int, RequestOrigin] | None = None
) -> dict[str, Any]:
    """Return what `torch.cuda.memory._snapshot()` would; `origins`: number of a request -> its
    origin. The allocator needs a Journal(history=True)."""
    journal = allocator.journal
    if journal is None or journal.events is None:
        raise UsageError(sentence("snapshot"))
    frames = _frames(origins or {})
    last = {event.address: event.request for event in journal.events if event.action == "alloc"}
    by_address = {address: frames.get(request, []) for address, request in last.items()}
    traces: list[list[dict[str, Any]]] = [[] for _ in range(allocator.device + 1)]
    traces[allocator.device] = [
        _event(event, time, frames, origins or {}) for time, event in enumerate(journal.events)
    ]
    return {
        "segments": [_segment(segment, by_address) for segment in segments(allocator)],
        "device_traces": traces,
        "allocator_settings": _settings(allocator),
        "external_annotations": [],
    }


def _frames(origins: Mapping[int, RequestOrigin]) -> dict[int, Frames]:
    return {request: list(_framed(origin)) for request, origin in origins.items()}


def _framed(origin: RequestOrigin) -> Iterator[dict[str, Any]]:
    for name in origin.frames:
        yield {"filename": "", "line": 0, "name": name}
    if origin.line is not None:
        path, line = origin.line
        yield {"filename": path, "line": line, "name": os.path.basename(path)}


def _event(
    event: JournalEvent,
    time: int,
    frames: Mapping[int, Frames],
    origins: Mapping[int, RequestOrigin],
) -> dict[str, Any]:
    category = origins.get(event.request, NOWHERE).category
    return {
        "action": event.action,
        "device_free" if event.action == "oom" else "addr": event.address,
        "size": event.size,
        "stream": event.stream,
        "time_us": time,
        "compile_context": "N/A",
        "user_metadata": "",
        "pool_id": event.pool,
        "frames": frames.get(event.request, []),
        **({"category": category} if category else {}),
    }


def _segment(segment: Segment, frames: Mapping[int, Frames]) -> dict[str, Any]:
    def total(*states: str) -> int:
        return sum(block.size for block in segment.blocks if block.state in states)

    return {
        "device": segment.device,
        "address": segment.address,
        "total_size": segment.size,
        "allocated_size": total("active_allocated"),
        "active_size": total("active_allocated", "active_pending_free"),
        "requested_size": sum(block.requested for block in segment.blocks),
        "stream": segment.stream,
        "segment_type": "small" if segment.small else "large",
        "segment_pool_id": segment.pool,
        "is_expandable": segment.expandable,
        "frames": [],
        "blocks": [_block(block, frames) for block in segment.blocks],
    }


def _block(block: HeldBlock, frames: Mapping[int, Frames]) -> dict[str, Any]:
    active = block.state != "inactive"
    return {
        "address": block.address,
        "size": block.size,
        "requested_size": block.requested,
        "state": block.state,
        "frames": frames.get(block.address, []) if active else [],
    }


def _settings(allocator: Allocator) -> dict[str, Any]:
    options = allocator.options
    limit = options.max_split_size
    return {
        "PYTORCH_CUDA_ALLOC_CONF": text(options),
        "max_split_size": -1 if limit == UNLIMITED else limit,
        "garbage_collection_threshold": options.garbage_collection_threshold,
        "expandable_segments": options.expandable_segments,
        "roundup_power2_divisions": {
            str(1 << n): value for n, value in enumerate(options.roundup_power2_divisions)
        },
    }
