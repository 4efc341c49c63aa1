"""What is computed once for a model, however often it is asked about.

A search for the largest context asks dozens of times about the same 90,000 tensors. The key is the
identity of what the answer was computed from, and plain values beside it.
"""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 8  # models in formats; each entry holds its model alive


class _Key:
    """Two keys are equal where they are about one object, with equal `rest`."""

    def __init__(self, about: object, rest: Hashable, compute: Callable[[], Any]) -> None:
        self.about, self.rest, self.compute = about, rest, compute

    def __hash__(self) -> int:
        return hash((id(self.about), self.rest))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.about is self.about and other.rest == self.rest


def once(about: object, rest: Hashable, compute: Callable[[], T]) -> T:
    """`compute()`, or what it gave before for the same object and `rest`."""
    found: T = _kept(_Key(about, rest, compute))
    return found


@lru_cache(maxsize=MOST * 3)
def _kept(key: _Key) -> Any:
    return key.compute()
