"""Which stretch of a program starts now: `phase("load")`, `phase("step 1")`, `phase("infer")`.

A stretch lasts until the next one starts. Whoever measures or traces the program listens; nothing
happens where nobody does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str], None]] = []


def phase(name: str) -> None:
    """Begin the stretch `name` of the program."""
    for listener in _listeners:
        listener(name)


def steps(count: int = 2) -> Iterator[int]:
    """Yield training steps, each a phase. Two at least: the first has no optimizer state."""
    for number in range(1, count + 1):
        phase(f"step {number}")
        yield number


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Let `listener` hear of each start inside."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
