"""Blocks that other streams still use: `record_stream` holds a freed block back.

Source: recordStream, insert_events, insert_events_deferred_until_no_capture, process_events and
synchronize_and_free_events of c10/cuda/CUDACachingAllocator.cpp.
"""

from collections import defaultdict

from weighbridge.allocator.blocks import Block


class Uses:
    """`any` is False while nothing is recorded, and then nobody need ask further."""

    __slots__ = ("_captured", "_deferred", "_done", "_events", "_streams", "_waiting", "any")

    def __init__(self) -> None:
        self.any = False
        self._streams: dict[Block, set[int]] = {}
        self._captured: dict[Block, set[int]] = {}  # recorded while a graph was captured
        self._deferred: list[Block] = []  # freed while a graph was captured
        self._events: defaultdict[int, list[Block]] = defaultdict(list)
        self._done: list[Block] = []  # one for each event that came to pass
        self._waiting: dict[Block, int] = {}  # for how many events

    def add(self, block: Block, stream: int, *, capturing: bool) -> None:
        self.any = True
        self._streams.setdefault(block, set()).add(stream)
        if capturing:
            self._captured.setdefault(block, set()).add(stream)

    def wait(self, block: Block, *, capturing: bool) -> bool:
        """Whether a freed block has to wait."""
        if block not in self._streams:
            return False
        if capturing:
            self._deferred.append(block)
        else:
            self._captured.pop(block, None)
            self._record(block)
        return True

    def waits(self, block: Block) -> bool:
        return block in self._waiting or block in self._deferred

    def complete(self, stream: int | None) -> None:
        """What runs on `stream` (on all) has finished."""
        for over in list(self._events) if stream is None else [stream]:
            self._done += self._events.pop(over, [])

    def release(self, block: Block) -> list[Block]:
        """`block`, where it waits for events, and they are over."""
        if self._waiting.pop(block, 0) == 0:
            return []
        for events in self._events.values():
            events[:] = (waiting for waiting in events if waiting is not block)
        self._done = [waiting for waiting in self._done if waiting is not block]
        self.any = bool(self._streams or self._waiting)
        return [block]

    def synchronized(self) -> list[Block]:
        """All that waited, once the allocator has waited for every stream."""
        free = self._undefer()
        self.complete(None)
        return free + self.collect()

    def collect(self) -> list[Block]:
        """The blocks that are free now."""
        free = self._undefer()
        for block in self._done:
            self._waiting[block] -= 1
            if not self._waiting[block]:
                del self._waiting[block]
                free.append(block)
        self._done = []
        self.any = bool(self._streams or self._waiting)
        return free

    def _undefer(self) -> list[Block]:
        """Return the blocks that waited for a capture to end: uses in it are over, those from
        before it have events now."""
        free = []
        for block in self._deferred:
            self._streams[block] -= self._captured.pop(block, set())
            if not self._record(block):
                free.append(block)
        self._deferred = []
        return free

    def _record(self, block: Block) -> int:
        """An event on each stream that uses it; how many."""
        streams = self._streams.pop(block)
        for stream in sorted(streams):
            self._events[stream].append(block)
        if streams:
            self._waiting[block] = len(streams)
        return len(streams)
