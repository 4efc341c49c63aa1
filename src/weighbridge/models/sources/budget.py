"""The requests that a Hub still answers within its rate-limit window, shared by many threads.

Its headers state them (huggingface.co/docs/hub/rate-limits): RateLimit: "resolvers";r=17;t=42 are
17 requests in the next 42 seconds; a 429 may have Retry-After instead.
"""

import re
import time
from collections.abc import Callable
from threading import Lock

from weighbridge.models.sources.answers import ResponseHeaders

LEFT = re.compile(r"r=(\d{1,9})\b.*?t=(\d{1,6})\b")
REFUSED = 60.0  # seconds to wait after a 429 that states none
ROUNDED = 1.0  # the Hub rounds windows to seconds: one that ends later is the next
LONGEST = 600.0  # seconds, the longest window that is believed


class RequestBudget:
    """The requests left in the Hub's rate-limit window, for all threads. Before the first response
    no thread waits."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._sleep, self._turn = clock, sleep, Lock()
        self._left: int | None = None
        self._until = 0.0
        self.waited = 0.0  # seconds, of all threads together

    def take(self) -> None:
        """Take one request; wait for the next window if none is left."""
        while (pause := self._seconds_to_wait()) > 0:
            self._sleep(pause)

    def _seconds_to_wait(self) -> float:
        """Take a request and return 0.0, or return the seconds until the next window."""
        with self._turn:
            now = self._clock()
            if now >= self._until:
                self._left = None  # new window; no response has stated its remaining requests yet
            if self._left is None or self._left > 0:
                self._left = None if self._left is None else self._left - 1
                return 0.0
            self.waited += self._until - now
            return self._until - now

    def told(self, headers: ResponseHeaders, *, refused: bool) -> None:
        """Store the number of requests that a response states as left; with `refused` (a 429), none
        are."""
        found = LEFT.search(headers.get("RateLimit", ""))
        if found is None and not refused:
            return
        left, seconds = (int(found[1]), float(found[2])) if found else (0, REFUSED)
        again = headers.get("Retry-After", "")
        if refused and again.isascii() and again.isdigit():
            seconds = float(again)
        with self._turn:
            now = self._clock()
            until = now + min(LONGEST, max(seconds, 0.01))
            before, ends = self._left, self._until
            if before is not None and now < ends and until < ends + ROUNDED:
                left = min(left, before)  # of overtaking responses the lower count
            self._left, self._until = 0 if refused else left, until
