"""A line on the terminal's stderr when something takes longer than half a second: what is read, and
then what a search tries. Ctrl-C ends a search, and what it found is told."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import Any

from weighbridge.base.watching import Watch, watched
from weighbridge.base.wording import printable, redacted

PATIENCE = 0.5  # seconds
STOPPED = 130  # the exit code of what was stopped by Ctrl-C, as shells have it


class Progress:
    """The line of what is being read; written only once the user has waited."""

    def __init__(self, what: str, counted: str, *, keeps: bool) -> None:
        self._what, self._counted = what, counted
        self._done = self._total = 0
        self._tried = ""
        self.watch = Watch(trying=self._trying, keeps=keeps)
        self._status: Any = None
        self._lock = Lock()

    def __call__(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._update()

    def _trying(self, what: str, number: int, known: int) -> None:
        self._tried = f"trying {number} of {known}: {what}"
        self._update()

    def _update(self) -> None:
        with self._lock:
            if self._status is not None:
                self._status.update(self._text())

    def code(self, code: int) -> int:
        """Return the exit code; of what was stopped that of Ctrl-C, said in a line on stderr."""
        if not self.watch.stopped:
            return code
        sys.stderr.write("stopped: this is what was found until then\n")
        return STOPPED

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
        from rich.markup import escape

        if self._tried:
            return escape(f"{printable(redacted(self._what))}: {printable(self._tried)}")
        count = f" ({self._done} of {self._total} {self._counted})" if self._total else ""
        return escape(f"reading {printable(redacted(self._what))}{count}")


@contextmanager
def progress(what: str, counted: str = "files", *, keeps: bool = True) -> Iterator[Progress]:
    """A callback for sources, and a watch for searches; silent off a terminal. `keeps`: what was
    found is told where a search is stopped."""
    shown = Progress(what, counted, keeps=keeps)
    timer = Timer(PATIENCE, shown.start)
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        with watched(shown.watch):
            yield shown
    finally:
        timer.cancel()
        shown.stop()
