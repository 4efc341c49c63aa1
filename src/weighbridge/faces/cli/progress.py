"""A progress line on the terminal's stderr after half a second: what is read, and then what a
search tries. Ctrl-C ends a search, and its results so far are printed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import Any

from weighbridge.base.watching import Watch, watched
from weighbridge.base.wording import printable, redacted

PATIENCE = 0.5  # seconds
STOPPED = 130  # exit code after Ctrl-C, as in shells


class Progress:
    """The progress line, written only if the user has to wait."""

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
        """Return `code`; if Ctrl-C stopped the search, print that on stderr and return 130."""
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
    """Yield a callback for sources that also watches searches; silent off a terminal. `keeps`:
    Ctrl-C keeps the results of a search."""
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
