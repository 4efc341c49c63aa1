"""Deadlines of connections, so that a client that sends a byte now and then blocks nobody else."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

PATIENCE = 30.0  # seconds that a client may be silent
BEGINNING = 10.0  # seconds in all for the first line and the headers
WHOLE = 60.0  # seconds in all for the body of an ask


class Awaited:
    """Connections from which data is awaited, each with one deadline for all of it. If there are
    too many, those that have not shown the secret are closed first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._until: dict[socket.socket, float] = {}
        self._known: set[socket.socket] = set()

    def within(self, connection: socket.socket, seconds: float) -> None:
        """Set the deadline for the next data of a connection, `seconds` from now."""
        with self._lock:
            self._until[connection] = self._clock() + seconds

    def next_of(self, connection: socket.socket) -> None:
        """Set the deadline for the next request of a connection that has shown the secret, idle
        time included."""
        if connection in self._known:
            self.within(connection, PATIENCE + BEGINNING)

    def known(self, connection: socket.socket) -> None:
        """Note that a connection has shown the secret, and that no data is awaited from it."""
        with self._lock:
            self._known.add(connection)
            self._until.pop(connection, None)

    def gone(self, connection: socket.socket) -> None:
        with self._lock:
            self._known.discard(connection)
            self._until.pop(connection, None)

    def end_late(self) -> None:
        """Shut down connections past their deadline."""
        now = self._clock()
        with self._lock:
            late = [each for each, until in self._until.items() if until <= now]
        for each in late:
            _shut_down(each)

    def end_oldest_stranger(self) -> bool:
        """Shut down the connection without the secret that was registered first; return whether
        there was one."""
        with self._lock:
            strangers = [each for each in self._until if each not in self._known]
        if strangers:
            _shut_down(strangers[0])
        return bool(strangers)


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
