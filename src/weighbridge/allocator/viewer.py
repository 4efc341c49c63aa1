"""A replay as one of torch's memory snapshots: pytorch.org/memory_viz and torch.cuda._memory_viz
open it.

Only what the viewer's own unpickler knows may be in it (MemoryViz.js: protocols 2 to 4, containers,
text, numbers). Frames are the names that the caller gives for each request.
"""

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from weighbridge.allocator.core import Allocator
from weighbridge.allocator.journal import JournalEvent
from weighbridge.allocator.layout import HeldBlock, Segment, segments
from weighbridge.allocator.options import UNLIMITED
from weighbridge.allocator.settings import text
from weighbridge.errors import UsageError

PROTOCOL = 4


class RequestOrigin(NamedTuple):
    """Whence a request: innermost first. `category` colours it; `line` is a file's, and its number,
    that made it."""

    frames: Sequence[str] = ()
    category: str = ""
    line: tuple[str, int] | None = None


NOWHERE = RequestOrigin()
Frames = list[dict[str, Any]]


def pickled(allocator: Allocator, origins: Mapping[int, RequestOrigin] | None = None) -> bytes:
    """The bytes of a `snapshot.pickle`."""
    return pickle.dumps(snapshot(allocator, origins), protocol=PROTOCOL)


def snapshot(
    allocator: Allocator, origins: Mapping[int, RequestOrigin] | None = None
) -> dict[str, Any]:
    """What `torch.cuda.memory._snapshot()` would return. `origins` by number of the request.

    The allocator needs a Journal(history=True)."""
    journal = allocator.journal
    if journal is None or journal.events is None:
        raise UsageError("a snapshot needs Allocator(journal=Journal(history=True))")
    frames = _frames(origins or {})
    last = {event.address: event.request for event in journal.events if event.action == "alloc"}
    at = {address: frames.get(request, []) for address, request in last.items()}
    traces: list[list[dict[str, Any]]] = [[] for _ in range(allocator.device + 1)]
    traces[allocator.device] = [
        _event(event, time, frames, origins or {}) for time, event in enumerate(journal.events)
    ]
    return {
        "segments": [_segment(segment, at) for segment in segments(allocator)],
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
