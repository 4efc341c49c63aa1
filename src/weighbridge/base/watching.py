"""Who waits for an answer: is told what a search tries, and may call it off.

    with watched(Watch(wanted=lambda: mine is newest, trying=show)):
        model.fit(gpu="4090")

A search tells what it tries before it does, and asks whether its answer is still wanted; so does
each layer of a step or a graph, and each number that is tried: every few milliseconds. Where nobody
wants it, NotWantedError ends it. A watch that `keeps` what was found has it returned instead, after
Ctrl-C too, and says so: `stopped`. A watch is of one thread: another one that it starts is not
watched.

    with heard(show):
        model.train(gpu="4090")

Who hears is told the parts of an answer that are known before it, each as a whole answer so far.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol


class NotWantedError(Exception):
    """Raised if nobody waits for the answer any more. It is no refusal: searches that go on after a
    refused question end here."""


class Watch:
    """A caller that waits. `wanted` returns whether it still does; `trying` is called with what is
    tried, its number, and the number of tries known so far."""

    def __init__(
        self,
        wanted: Callable[[], bool] | None = None,
        trying: Callable[[str, int, int], None] | None = None,
        *,
        keeps: bool = False,
    ) -> None:
        self.wanted, self.trying, self.keeps = wanted, trying, keeps
        self.stopped = False


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[Watch]:
    """Make `watch` the watcher of all answers computed inside the block."""
    before = _WATCH.set(watch)
    try:
        yield watch
    finally:
        _WATCH.reset(before)


def go_on() -> None:
    """Raise NotWantedError if the answer is no longer wanted."""
    watch = _WATCH.get()
    if watch is not None and watch.wanted is not None and not watch.wanted():
        raise NotWantedError


def trying(what: Callable[[], str], number: int, known: int) -> None:
    """Report to the watcher what is tried next, and of how many; without a watcher, `what` is not
    called."""
    go_on()
    watch = _WATCH.get()
    if watch is not None and watch.trying is not None:
        watch.trying(what(), number, max(number, known))


@contextmanager
def kept_so_far() -> Iterator[None]:
    """Leave the block if the watcher stops it, and go on with what was found, if it keeps that."""
    try:
        yield
    except (KeyboardInterrupt, NotWantedError):
        watch = _WATCH.get()
        if watch is None or not watch.keeps:
            raise
        watch.stopped = True


class Hears(Protocol):
    """A receiver of partial answers; `least`: the part is only a lower bound."""

    def __call__(self, answer: Any, /, *, least: bool = False) -> None: ...


_HEARS: ContextVar[Hears | None] = ContextVar("hears", default=None)


@contextmanager
def heard(hears: Hears | None) -> Iterator[None]:
    """Pass parts of all answers computed inside the block to `hears`; None passes nothing."""
    before = _HEARS.set(hears)
    try:
        yield
    finally:
        _HEARS.reset(before)


def hearing() -> Hears | None:
    """Return the receiver of partial answers, None without one."""
    return _HEARS.get()


def stopped() -> bool:
    """Return whether the watcher stopped a search but keeps its results."""
    watch = _WATCH.get()
    return watch is not None and watch.stopped
