"""Progress line on the terminal's stderr, shown after half a second: the files being read, then the
attempts of a search. Ctrl-C ends a search and keeps its results."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import Any

from weighbridge.base.watching import Watch, watched
from weighbridge.base.wording import printable, redacted

PATIENCE = 0.5  # seconds before the line appears
STOPPED = 130  # exit code after Ctrl-C, as in shells


class Progress:
    """A progress line on stderr that appears only after `PATIENCE` seconds."""

    def __init__(self, what: str, counted: str, *, keeps: bool) -> None:
        self._what, self._counted = what, counted
        self._done = self._total = 0
        self._attempt = ""
        self.watch = Watch(trying=self._show_attempt, keeps=keeps)
        self._status: Any = None
        self._lock = Lock()

    def __call__(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._update()

    def _show_attempt(self, what: str, number: int, known: int) -> None:
        self._attempt = f"trying {number} of {known}: {what}"
        self._update()

    def _update(self) -> None:
        with self._lock:
            if self._status is not None:
                self._status.update(self._text())

    def code(self, code: int) -> int:
        """Return the exit code `code`; if Ctrl-C stopped the search, print that on stderr and
        return 130."""
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

        if self._attempt:
            return escape(f"{printable(redacted(self._what))}: {printable(self._attempt)}")
        count = f" ({self._done} of {self._total} {self._counted})" if self._total else ""
        return escape(f"reading {printable(redacted(self._what))}{count}")


@contextmanager
def progress(what: str, counted: str = "files", *, keeps: bool = True) -> Iterator[Progress]:
    """Yield a `Progress`, to be called with (done, total); while the block runs it also shows the
    attempts of searches. It prints nothing if stderr is no terminal. `what` names the thing read,
    `counted` the unit counted; with `keeps`, Ctrl-C keeps the results of a search."""
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
