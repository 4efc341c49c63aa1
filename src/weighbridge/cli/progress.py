"""A line on the terminal's stderr when something takes longer than half a second."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import Any

from weighbridge.wording import printable, redacted

PATIENCE = 0.5  # seconds


class Progress:
    """The line of what is being read; written only once the user has waited."""

    def __init__(self, what: str, counted: str = "files") -> None:
        self._what, self._counted = what, counted
        self._done = self._total = 0
        self._status: Any = None
        self._lock = Lock()

    def __call__(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        with self._lock:
            if self._status is not None:
                self._status.update(self._text())

    def start(self) -> None:
        from rich.console import Console

        with self._lock:
            self._status = Console(stderr=True).status(self._text())
            self._status.start()

    def stop(self) -> None:
        with self._lock:
            if self._status is not None:
                self._status.stop()

    def _text(self) -> str:
        count = f" ({self._done} of {self._total} {self._counted})" if self._total else ""
        from rich.markup import escape

        return escape(f"reading {printable(redacted(self._what))}{count}")


@contextmanager
def progress(what: str, counted: str = "files") -> Iterator[Progress]:
    """A callback for sources; silent off a terminal."""
    shown = Progress(what, counted)
    timer = Timer(PATIENCE, shown.start)
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield shown
    finally:
        timer.cancel()
        shown.stop()
