"""Items that a loop still had to go through when it was left. Their sizes are looked at on the
host, and the largest is given to one more round. Torch-free.

The items are taken from the loop's own iterator, as its later rounds would have taken them, while
there is time. An iterator that trains, or that puts anything on a card, is left alone. Numbers that
do not count up or down (lengths of batches, indices) have their largest, too; but what a number
stands for is not known, so they never count as all looked at.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

SECONDS = 3.0  # for the items of one loop; assumed: as long as a trace of a few rounds takes
DEEP = 4  # containers within containers


class ItemsAhead:
    """The sizes of a loop's remaining items. `over`: the largest has been given out; `whole`: all
    of them were looked at."""

    def __init__(self) -> None:
        self.over = self.whole = False
        self._most, self._on_card = 0, False
        self._last: int | None = None  # of numbers, with the steps between them
        self._steps: set[int] = set()

    def saw(self, item: Any) -> None:
        self._on_card |= any(_is_on_card(part) for part in parts(item))
        self._most = max(self._most, _order(item))
        if type(item) is int:
            self._steps |= {item - self._last} if self._last is not None else set()
            self._last = item

    @property
    def _counts(self) -> bool:
        """Return whether the items count up or down."""
        return self._last is not None and len(self._steps) < 2 and 0 not in self._steps

    def look(self, items: Iterator[Any], course: Callable[[], Any]) -> Any:
        """Return the largest remaining item if it is larger than all seen so far; else None.
        `course` returns how far the program has come, which must not change meanwhile."""
        if not self._most or self._counts or self._on_card:
            return None
        before, until, largest = course(), time.monotonic() + SECONDS, None
        for item in items:
            if course() != before:
                return None
            if _order(item) > self._most:
                self._most, largest, self.over = _order(item), item, True
            if time.monotonic() > until:
                return largest
        self.whole = course() == before and self._last is None
        return largest


def _order(item: Any) -> int:
    """Return the size by which items are compared: a number itself, or the size of anything
    else."""
    return item if type(item) is int else size(item)


def size(item: Any) -> int:
    """Return the bytes of an item's tensors and arrays, plus the characters of its texts."""
    return sum(map(_bytes, parts(item)))


def _bytes(part: Any) -> int:
    if isinstance(part, str):
        return len(part)
    numel = getattr(part, "numel", None)
    count = numel() if callable(numel) else getattr(part, "nbytes", 0)
    each = getattr(part, "itemsize", 1) if callable(numel) else 1
    return int(count) * int(each)


def _is_on_card(part: Any) -> bool:
    return getattr(getattr(part, "device", None), "type", "cpu") != "cpu"


def parts(item: Any, deep: int = DEEP) -> Iterator[Any]:
    """Yield the tensors, arrays and texts of an item, inside containers and records too."""
    if isinstance(item, str) or hasattr(item, "dtype"):
        yield item
    elif deep and isinstance(item, Mapping):
        for part in item.values():
            yield from parts(part, deep - 1)
    elif deep and isinstance(item, list | tuple):
        for part in item:
            yield from parts(part, deep - 1)
    elif deep and not isinstance(item, type):
        for part in getattr(item, "__dict__", {}).values():
            yield from parts(part, deep - 1)
