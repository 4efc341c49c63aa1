"""Processes that answer the page: a slow ask blocks no other, and an abandoned one is ended.

An ask goes to the process that answered last, whose caches are warmest. While that one searches for
remedies, the next prepares for the same question, for a user who moves a slider meanwhile.
"""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol

from weighbridge.answers.questions.requests import failed, parsed
from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import KIB

if TYPE_CHECKING:
    from weighbridge.faces.web.protocol import Tell

FEWEST, MOST = 2, 4  # processes
TICK = 0.02  # seconds between checks whether the client has left
BUSY = 120.0  # seconds that an ask waits for a process
SHORT = 64 * KIB  # bytes; for a longer ask no other process prepares
SEARCHED = (
    "fit",
    "load",
    "infer",
    "train",
    "image",
    "train_image",
)  # tasks that search for remedies
PRELOADED = [
    "weighbridge.faces.web.protocol",
    "weighbridge.faces.web.form",
    "weighbridge.answers.questions.requests",
]
ASKED, READIED = b"?", b"-"  # first byte of a line to a process: answer it, or prepare for it
PART, WHOLE = b"+", b"="  # first byte of its reply: a part of the answer, or all of it


class Desk(Protocol):
    """An object that answers a line, and calls `tell` with parts of the answer first."""

    def answer(self, line: bytes, tell: "Tell | None" = None) -> dict[str, Any]: ...


class DeskProcess(NamedTuple):
    """An answering process, and the connection to it."""

    process: Any
    line: Connection

    def stop(self) -> None:
        self.process.kill()
        self.line.close()
        self.process.join()


class Desks:
    """A pool of answering processes; `answer` works from many threads. `make` creates the desk of
    each process."""

    def __init__(
        self,
        make: Callable[[], Desk],
        count: int | None = None,
        start: "Callable[[Callable[[], Desk]], DeskProcess] | None" = None,
    ) -> None:
        count = max(FEWEST, min(MOST, os.cpu_count() or 1)) if count is None else count
        start = partial(started, make) if start is None else partial(start, make)
        self._free = deque(
            _Seat(start) for _ in range(count)
        )  # the last one has the warmest caches
        self._all = tuple(self._free)
        self._change = threading.Condition()

    def answer(
        self, line: bytes, gone: Callable[[], bool], tell: Callable[[bytes], None]
    ) -> bytes | None:
        """Return the answer to `line` as JSON; None if the client has left meanwhile. `tell` is
        called first with the JSON of each part."""
        seat = self._take_seat(gone)
        if seat is None:
            return (
                None if gone() else _failure("the answers before this one take too long: ask again")
            )
        stayed = False
        try:
            reply = seat.ask(line, gone, tell, self._prepare_next)
            stayed = reply is not None
            return reply
        finally:
            self._give_back(seat, warm=stayed)

    def _take_seat(self, gone: Callable[[], bool]) -> "_Seat | None":
        """Return the warmest seat once one is free; None after `BUSY` seconds, or if the client has
        left."""
        until = time.monotonic() + BUSY
        while not gone() and time.monotonic() < until:
            with self._change:
                if (self._free or self._change.wait(TICK)) and self._free:
                    return self._free.pop()
        return None

    def _give_back(self, seat: "_Seat", *, warm: bool) -> None:
        with self._change:
            (self._free.append if warm else self._free.appendleft)(seat)
            self._change.notify()

    def _prepare_next(self, line: bytes) -> None:
        """Let the next free process prepare for the question of `line`."""
        with self._change:
            seat = self._free.pop() if self._free else None
        if seat is not None:
            seat.ready(line)
            self._give_back(seat, warm=True)

    def begin(self) -> None:
        """Start one process before the first ask."""
        threading.Thread(target=self._prepare_next, args=(b"",), daemon=True).start()

    def close(self) -> None:
        """End all processes; a thread that waits for an answer sees its process end, and closes the
        connection."""
        with self._change:
            free = [*self._free]
        for seat in self._all:
            if seat in free:
                seat.stop()
            else:
                seat.kill()


class _Seat:
    """A process of the pool, started when it is first needed and again after it ended."""

    def __init__(self, start: Callable[[], DeskProcess]) -> None:
        self._start = start
        self._running: DeskProcess | None = None

    def ask(
        self,
        line: bytes,
        gone: Callable[[], bool],
        tell: Callable[[bytes], None],
        meanwhile: Callable[[bytes], None],
    ) -> bytes | None:
        """Return the process's answer to `line`; if the client leaves, the process is ended and the
        answer is None."""
        try:
            to = self._send(ASKED + line)
            if not to.poll(TICK) and len(line) <= SHORT:
                meanwhile(line)
            while to.poll(TICK) or not gone():
                if to.poll():
                    reply = to.recv_bytes()
                    if reply[:1] == WHOLE:
                        return reply[1:]
                    tell(reply[1:])
            self.stop()
            return None
        except (EOFError, OSError):
            self.stop()
            return _failure("the process that answered ended: it may have run out of memory")

    def ready(self, line: bytes) -> None:
        """Let the process compute the answer to `line` in advance; the answer is dropped."""
        with suppress(OSError):
            self._send(READIED + line)

    def _send(self, line: bytes) -> Connection:
        if self._running is None:
            self._running = self._start()
        self._running.line.send_bytes(line)
        return self._running.line

    def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def kill(self) -> None:
        running = self._running
        if running is not None:
            running.process.kill()


def _failure(why: str) -> bytes:
    return json.dumps(failed(why)).encode()


# In the process


def own(cache_dir: str | None, offline: bool) -> Desk:
    """Return the desk that answers the page for this machine's user."""
    from weighbridge.faces.web.protocol import AskDesk

    return AskDesk(cache_dir=cache_dir, offline=offline)


def started(make: Callable[[], Desk]) -> DeskProcess:
    """Start a process and return it, if possible forked from one that has imported the package."""
    kinds = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload(PRELOADED)
    ours, its = context.Pipe()
    process = context.Process(target=_work, args=(its, make), daemon=True)
    process.start()
    its.close()
    return DeskProcess(process, ours)


def _work(line: Connection, make: Callable[[], Desk]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the server ends us
    serve(line, make())


def serve(line: Connection, desk: Desk) -> None:
    """Answer every line of a connection until it closes."""

    def tell(part: dict[str, Any]) -> None:
        line.send_bytes(PART + json.dumps(part).encode())

    with line, suppress(EOFError, OSError):
        while True:
            request = line.recv_bytes()
            todo, asked = request[:1], request[1:]
            if todo == ASKED:
                line.send_bytes(WHOLE + json.dumps(desk.answer(asked, tell)).encode())
            elif (first := unsearched(asked)) is not None:
                desk.answer(first)


def unsearched(line: bytes) -> bytes | None:
    """Return an ask without its search for remedies, as JSON; None if it has no search or cannot be
    read."""
    try:
        ask = parsed(line, SHORT)
    except WeighbridgeError:
        return None
    if ask.get("task") not in SEARCHED or ask.get("remedies") is False:
        return None
    return json.dumps({**ask, "remedies": False}).encode()
