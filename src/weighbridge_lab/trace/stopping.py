"""Ctrl-C, a limit of time and one of the host's memory, for a program that runs in this process.

A signal comes at any moment, also where an object ends or within torch's C++, where nothing may be
raised. So it is noted, and raised at the next operation; where none comes, after PATIENCE.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import human
from weighbridge_lab.trace import places
from weighbridge_lab.trace.keeping.audit import heard
from weighbridge_lab.trace.recorder import Recorder

LEAST = 512 << 20  # bytes beyond what the process has: room for libraries that a script imports
AT_ONCE = 0.3  # seconds; a user does not ask twice so quickly
PATIENCE = 2.0  # seconds without an operation


class TimeUpError(KeyboardInterrupt):
    """Raised when the time limit is over."""


def _ring(recorder: Recorder, error: BaseException) -> None:
    """Record an end from outside, which holds even if the program catches it."""
    recorder.leaves = error
    recorder.rang = recorder.rang or (error, str(places.line() or ""))


@contextlib.contextmanager
def stoppable(recorder: Recorder, seconds: float | None = None) -> Iterator[None]:
    """Make Ctrl-C and a limit of `seconds` end what runs inside the block, by KeyboardInterrupt.
    Without signals (another thread, another system), Python's own behaviour stays."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    asked = -AT_ONCE

    def interrupted(_: int, __: FrameType | None) -> None:
        nonlocal asked
        now = time.monotonic()
        if now < asked + AT_ONCE:  # sent to a group, and to a member of it
            return
        asked = now
        if recorder.leaves is not None:  # asked twice
            raise KeyboardInterrupt
        _ring(recorder, KeyboardInterrupt())
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def rang(_: int, __: FrameType | None) -> None:
        if recorder.leaves is not None:
            error, recorder.leaves = recorder.leaves, None
            raise error
        _ring(recorder, TimeUpError())
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    before: dict[int, Any] = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGINT, interrupted),
            (signal.SIGTERM, interrupted),  # a batch system's, timeout(1)'s
            (signal.SIGALRM, rang),
        )
    }
    if seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        recorder.leaves = None


def _process_bytes() -> int:
    """Return the process's own bytes; 0 if the system does not report them."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            lines = dict(line.split(":", 1) for line in file)
        return sum(int(lines[name].split()[0]) for name in ("VmData", "RssShmem")) * 1024
    except (OSError, KeyError, ValueError):
        return 0


@contextlib.contextmanager
def bounded(nbytes: int | None) -> Iterator[None]:
    """Limit the process to `nbytes` inside the block (RLIMIT_DATA of Linux, and shared memory):
    more is a MemoryError, and does not bring down the machine."""
    try:
        import resource
    except ImportError:  # another system
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    if nbytes is not None:
        taken = _process_bytes()
        if nbytes < taken + LEAST:
            least = human(taken + LEAST)
            raise UsageError(
                sentence("trace.host_memory", taken=human(taken), least=least),
                where="--host-memory",
            )
        resource.setrlimit(resource.RLIMIT_DATA, (nbytes, before[1]))

    def mapped(file: int, length: int, *_: int) -> None:
        """Refuse shared memory beyond the limit, which no limit of Linux covers."""
        if nbytes is not None and file == -1 and _process_bytes() + length > nbytes:
            raise MemoryError

    try:
        with heard({"mmap.__new__": mapped}):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
