"""HTTP responses as their readers see them, whichever client fetched them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from weighbridge.base.errors import HubError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import clipped
from weighbridge.models.sources import surroundings

T = TypeVar("T")
CHUNK = 1 << 16


class UnreachableError(HubError):
    """The error if all tries ended without a usable response."""


class Silence:
    """A record of hosts that could not be reached in the last 30 seconds, so that reading many
    models waits once per host, not once per model."""

    SECONDS = 30

    def __init__(self) -> None:
        self._failures: dict[str, tuple[float, str]] = {}

    def of(self, host: str) -> str:
        """Return the recent failure of a host as text; "" if it may be tried."""
        since, failure = self._failures.get(host, (0.0, ""))
        return failure if failure and time.monotonic() - since < self.SECONDS else ""

    def begin(self, host: str, failure: str) -> None:
        """Record a host's failure after all tries."""
        self._failures[host] = (time.monotonic(), failure)


class ResponseHeaders(Protocol):
    """Headers of a response, found by name in any case."""

    def get(self, name: str, default: str = "", /) -> str: ...


class Response(Protocol):
    """A response whose body has not been read. `punctual`: whether each step of `chunks` ends
    within the read timeout. Chunks of the body are decoded."""

    punctual: bool

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> ResponseHeaders: ...

    @property
    def url(self) -> str: ...

    def chunks(self, size: int) -> Iterator[bytes]: ...

    def close(self) -> None: ...


def within(seconds: float, job: Callable[[], T]) -> T:
    """Return the result of `job`; raise an error after `seconds`, while `job` runs on to its end.

    A server that sends a byte per second never exceeds the timeout of one read. A browser has no
    threads, so there `job` has no limit here: its requests have one.
    """
    if surroundings.IN_BROWSER:
        return job()
    done: list[Any] = []
    late = threading.Event()

    def run() -> None:
        try:
            done.extend((True, job()))
        except BaseException as error:
            done.extend((False, error))
        if late.is_set() and done[0] and hasattr(done[1], "close"):
            with suppress(Exception):  # nobody waits for the result, so an error is dropped
                done[1].close()  # a response that nobody waits for any more

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if len(done) < 2:
        late.set()
        raise too_late(seconds)
    if done[0]:
        result: T = done[1]
        return result
    raise done[1]


def too_late(seconds: float) -> UnreachableError:
    return UnreachableError(sentence("http.late", seconds=seconds))


def unreadable(why: object) -> UnreachableError:
    return UnreachableError(sentence("http.unreadable", why=one_line(why)))


def one_line(error: object) -> str:
    """Return an exception, or a text about one, as one line of at most 120 characters."""
    return clipped(" ".join(str(error).split()) or type(error).__name__, 120)
