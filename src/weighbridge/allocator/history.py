"""Does the replay do what torch did? A recorded history, replayed event by event.

Followed is what the program decides or the machine: requests and releases, when another stream is
done, at which address the driver puts a segment, and what goes back to it (a retry, garbage
collection and empty_cache look alike in a history). All else must come out as recorded: which block
serves a request, what is split and merged, when a new segment or page is taken, and how large.

`rerun` follows the program alone: the same requests under other options, or on another card.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weighbridge.allocator.blocks import Block, Pool
from weighbridge.allocator.core import Allocator
from weighbridge.allocator.expandable import map_pages, unmap
from weighbridge.allocator.journal import Journal, JournalEvent
from weighbridge.allocator.layout import differences, segments
from weighbridge.allocator.options import AllocatorOptions
from weighbridge.allocator.snapshot import Snapshot
from weighbridge.errors import UnsupportedError

ELSEWHERE = -1  # the stream that a block waits for; a history does not say which


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """`differences` is empty where all came out as recorded: one line for the first event that did
    not, or for each segment that ends otherwise."""

    allocator: Allocator
    followed: int  # events
    differences: tuple[str, ...]


def replay(
    snapshot: Snapshot,
    *,
    device: int = 0,
    options: AllocatorOptions | None = None,
    card: int | None = None,
) -> Replay:
    """The history of one device, from the beginning of the process to the snapshot.

    `card`: bytes of the device; the length of expandable ranges, and so the fit, depends on it."""
    follower = _Follower(options or snapshot.options, device, card)
    history = snapshot.histories[device] if device < len(snapshot.histories) else ()
    for number, event in enumerate(history):
        problem = follower.follow(event)
        if problem:
            line = f"event {number}, {event.action} of {event.size:,} B: {problem}"
            return Replay(allocator=follower.allocator, followed=number, differences=(line,))
    found = differences(segments(follower.allocator), snapshot.of(device))
    return Replay(allocator=follower.allocator, followed=len(history), differences=tuple(found))


def rerun(history: Iterable[JournalEvent], allocator: Allocator) -> None:
    """The program's requests on another allocator. Raises its OutOfMemoryError where it would die;
    requests that died in the history are made too."""
    live: dict[int, Block] = {}
    waiting: dict[int, Block] = {}
    for event in history:
        if event.action == "alloc":
            block = allocator.malloc(event.size, event.stream, event.pool)
            assert block is not None
            live[event.address] = block
        elif event.action == "oom":
            allocator.malloc(event.size, event.stream, event.pool)
        elif event.action == "free_requested":
            block = _of(live, event)
            allocator.record_stream(block, ELSEWHERE)
            allocator.free(block)
            waiting[event.address] = block
        elif event.action == "free_completed" and event.address in waiting:
            allocator.complete(waiting.pop(event.address))


def _of(live: dict[int, Block], event: JournalEvent) -> Block:
    if event.address not in live:
        raise UnsupportedError(
            f"the history releases {event.address:#x}, which it never allocated: record from the "
            "start of the process (_record_memory_history), with max_entries large enough"
        )
    return live.pop(event.address)


class _Follower:
    """`_taken`: segments and pages that torch took for the request to come."""

    def __init__(self, options: AllocatorOptions, device: int, card: int | None) -> None:
        journal = Journal(history=True)
        self.allocator = Allocator(options, card=card, journal=journal, device=device)
        self.allocator.set_fraction(1)
        self._live: dict[int, Block] = {}
        self._waiting: dict[int, Block] = {}
        self._taken: deque[JournalEvent] = deque()
        self._asked = -1  # the address that was just released: it is free at once
        self._waited = False  # a block became free later than it was released
        self._ascending = self.allocator.reserve.placing
        self.allocator.reserve.placing = self._place

    def follow(self, event: JournalEvent) -> str:
        """What came out otherwise, if anything did."""
        if event.action in ("segment_alloc", "segment_map"):
            self._taken.append(event)
            return ""
        if self._taken and event.action != "alloc":
            problem = self._map_in_vain()
            if problem:
                return problem
        return _FOLLOW[event.action](self, event)

    def _map_in_vain(self) -> str:
        """Pages that torch mapped before the driver ran out; the request was not served by them."""
        for event in self._taken:
            holes = (hole for pool in self._pools(event) for _, hole in pool.holes[event.stream])
            hole = next((h for h in holes if h.address == event.address), None)
            if hole is None or event.action != "segment_map":
                return f"torch took {_list([event])} and did not use it"
            map_pages(self.allocator.reserve, hole, event.size)
        self._taken = deque()
        return ""

    def _place(self, nbytes: int) -> int:
        return self._taken[0].address if self._taken else self._ascending(nbytes)

    def alloc(self, event: JournalEvent) -> str:
        events = self._events
        before = len(events)
        # After a retry has waited for other streams, torch does not search the cache again.
        fresh = self._waited and bool(self._taken)
        block = self.allocator.malloc(event.size, event.stream, event.pool, fresh=fresh)
        self._waited = False
        assert block is not None
        taken, self._taken = list(self._taken), deque()
        if [_plain(e) for e in events[before:-1]] != [_plain(e) for e in taken]:
            return f"we take {_list(events[before:-1])} for it, torch took {_list(taken)}"
        if block.address != event.address:
            return f"we place it at {block.address:#x}, torch placed it at {event.address:#x}"
        self._live[event.address] = block
        return ""

    def free_requested(self, event: JournalEvent) -> str:
        block = _of(self._live, event)
        self.allocator.record_stream(block, ELSEWHERE)
        self.allocator.free(block)
        self._waiting[event.address] = block
        self._asked = event.address
        return ""

    def free_completed(self, event: JournalEvent) -> str:
        self._waited = self._waited or event.address != self._asked
        self._asked = -1
        self.allocator.complete(self._waiting.pop(event.address))
        return ""

    def segment_free(self, event: JournalEvent) -> str:
        block = self.allocator.reserve.heads.get(event.address)
        if block is None or not block.free or not block.alone or block.size != event.size:
            return "torch gives the segment back, here it is in use or not there"
        self.allocator.reserve.release(block)
        return ""

    def segment_unmap(self, event: JournalEvent) -> str:
        free = (b for pool in self._pools(event) for b in pool.free[event.stream].blocks())
        block = next((b for b in free if _holds(b, event)), None)
        if block is None:
            return "torch gives the pages back, here they are in use or not there"
        before = len(self._events)
        unmap(self.allocator.reserve, block)
        ours = self._events[before:]
        if [_plain(e) for e in ours] != [_plain(event)]:
            return f"we give back {_list(ours)}, torch gave back {_list([event])}"
        return ""

    def nothing(self, event: JournalEvent) -> str:
        """A snapshot was taken; or a request failed, and what was freed for it is recorded."""
        return ""

    def _pools(self, event: JournalEvent) -> tuple[Pool, Pool]:
        own = self.allocator.captures.pools.get(event.pool, self.allocator)
        return own.small, own.large

    @property
    def _events(self) -> list[JournalEvent]:
        journal = self.allocator.journal
        assert journal is not None
        assert journal.events is not None
        return journal.events


_FOLLOW = {
    "alloc": _Follower.alloc,
    "free_requested": _Follower.free_requested,
    "free_completed": _Follower.free_completed,
    "segment_free": _Follower.segment_free,
    "segment_unmap": _Follower.segment_unmap,
    "snapshot": _Follower.nothing,
    "oom": _Follower.nothing,
}


def _holds(block: Block, event: JournalEvent) -> bool:
    end = block.address + block.size
    return block.range is not None and block.address <= event.address < end


def _plain(event: JournalEvent) -> JournalEvent:
    return event._replace(request=-1)


def _list(events: Sequence[JournalEvent]) -> str:
    return ", ".join(f"{e.action} {e.size:,} B at {e.address:#x}" for e in events) or "nothing"
