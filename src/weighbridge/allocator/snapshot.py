"""torch's memory snapshots: `torch.cuda.memory._dump_snapshot()` writes them, and
pytorch.org/memory_viz shows them.

A snapshot is a pickle of dicts, lists, tuples, text and numbers, so it is read by an unpickler that
knows no class and no function. Its history is what the process asked of the allocator, and what
the allocator did: `history` replays it.

Source: _memory_snapshot_pickled of torch/csrc/cuda/memory_snapshot.cpp, and the TypedDicts in the
docstring of torch.cuda.memory._snapshot, PyTorch 2.15. What older ones lack: pool ids of events
(before 2.13), addresses of blocks (before 2.1), is_expandable, and all but the list of segments.
"""

import io
import pickle
from dataclasses import dataclass
from typing import Any, NoReturn, get_args

from weighbridge.allocator.blocks import SHARED, PoolId
from weighbridge.allocator.journal import Action, JournalEvent
from weighbridge.allocator.layout import HeldBlock, Segment, State
from weighbridge.allocator.options import AllocatorOptions
from weighbridge.allocator.settings import parse
from weighbridge.errors import BadFileError

ACTIONS = frozenset(get_args(Action))
STATES = frozenset(get_args(State))
AWAITING = {"active_awaiting_free": "active_pending_free"}  # as the docstring calls it


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """`histories` by device; `options` of the process, where the snapshot has them."""

    segments: tuple[Segment, ...]
    histories: tuple[tuple[JournalEvent, ...], ...]
    options: AllocatorOptions

    def of(self, device: int) -> tuple[Segment, ...]:
        """Return the segments of one device, sorted by address."""
        own = (segment for segment in self.segments if segment.device == device)
        return tuple(sorted(own, key=lambda segment: segment.address))


class _Plain(pickle.Unpickler):
    """Knows containers, text and numbers: what would import anything is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise BadFileError(
            f"is no memory snapshot: the pickle wants to import {module}.{name}, "
            "a snapshot imports nothing"
        )

    def persistent_load(self, found: Any) -> NoReturn:
        raise BadFileError("is no memory snapshot: the pickle refers to data outside of itself")


def read(data: bytes) -> Snapshot:
    """The snapshot in a file's bytes; nothing in it is executed."""
    try:
        found = _Plain(io.BytesIO(data)).load()
    except BadFileError:
        raise
    except Exception as broken:  # a damaged pickle makes the machine fail in any way it can
        raise BadFileError(f"is no memory snapshot: a broken pickle ({broken})") from None
    if isinstance(found, list):  # before 2.0: memory_snapshot(), segments alone
        found = {"segments": found}
    if not isinstance(found, dict) or "segments" not in found:
        raise BadFileError("is no memory snapshot: it has no list of segments")
    settings = found.get("allocator_settings") or {}
    text = _get(settings, "PYTORCH_CUDA_ALLOC_CONF", str, "allocator_settings", "")
    return Snapshot(
        segments=tuple(
            _segment(entry, f"segments[{n}]")
            for n, entry in enumerate(_get(found, "segments", list, "the snapshot"))
        ),
        histories=tuple(
            tuple(_event(entry, f"device_traces[{d}][{n}]") for n, entry in enumerate(_list(trace)))
            for d, trace in enumerate(_get(found, "device_traces", list, "the snapshot", []))
        ),
        options=parse(text, name="allocator_settings"),
    )


def _segment(entry: Any, where: str) -> Segment:
    address = _get(entry, "address", int, where)
    kind = _get(entry, "segment_type", str, where)
    return Segment(
        address=address,
        size=_get(entry, "total_size", int, where),
        stream=_get(entry, "stream", int, where),
        small=kind == "small",
        expandable=_get(entry, "is_expandable", bool, where, False),
        blocks=_blocks(_get(entry, "blocks", list, where), address, where),
        pool=_pool(entry, "segment_pool_id", where),
        device=_get(entry, "device", int, where, 0),
    )


def _blocks(entries: list[Any], address: int, where: str) -> tuple[HeldBlock, ...]:
    found = []
    for n, entry in enumerate(entries):
        place = f"{where}.blocks[{n}]"
        size = _get(entry, "size", int, place)
        state = _get(entry, "state", str, place)
        state = AWAITING.get(state, state)
        if state not in STATES:
            raise BadFileError(f"{place}.state is {state!r}; known: {', '.join(sorted(STATES))}")
        requested = 0 if state == "inactive" else _get(entry, "requested_size", int, place, size)
        found.append(HeldBlock(address=address, size=size, requested=requested, state=state))
        address += size
    return tuple(found)


def _event(entry: Any, where: str) -> JournalEvent:
    action = _get(entry, "action", str, where)
    if action not in ACTIONS:
        known = ", ".join(sorted(ACTIONS))
        raise BadFileError(f"{where}.action is {action!r}; known: {known}")
    return JournalEvent(
        action,
        _get(entry, "device_free" if action == "oom" else "addr", int, where),
        _get(entry, "size", int, where),
        _get(entry, "stream", int, where),
        _pool(entry, "pool_id", where),
    )


def _pool(entry: Any, key: str, where: str) -> PoolId:
    found = tuple(_get(entry, key, tuple | list, where, SHARED))
    if len(found) != 2 or not all(isinstance(part, int) for part in found):
        raise BadFileError(f"{where}.{key} is not a pair of numbers")
    return found


def _list(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise BadFileError(
            f"device_traces holds a {type(found).__name__}, a list of lists expected"
        )
    return found


def _get(entry: Any, key: str, kind: Any, where: str, default: Any = None) -> Any:
    """`entry[key]`, where it is a dict and that is a `kind`."""
    if not isinstance(entry, dict):
        raise BadFileError(f"{where} is a {type(entry).__name__}, a dict expected")
    value = entry.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadFileError(f"{where}.{key} is missing or a {type(value).__name__}")
    return value
