"""Items that a loop which is left has still to go through: their sizes are looked at on the host,
and the largest is given to one more round. Torch-free.

The items are taken from the loop's own iterator, as its later rounds would have taken them, while
there is time. An iterator that trains, or that puts anything on a card, is left alone.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

SECONDS = 3.0  # for the items of one loop; assumed: as long as a trace of a few rounds takes
DEEP = 4  # containers within containers


class ItemsAhead:
    """The sizes of a loop's items. `over`: the largest has been given out; `whole`: all that were
    to come were looked at."""

    def __init__(self) -> None:
        self.over = self.whole = False
        self._most, self._on_card = 0, False

    def saw(self, item: Any) -> None:
        self._on_card |= any(_is_on_card(part) for part in parts(item))
        self._most = max(self._most, size(item))

    def look(self, items: Iterator[Any], course: Callable[[], Any]) -> Any:
        """Return the largest item to come, if it is larger than all that were seen; else None.
        `course` is how far the program has come: it must not move meanwhile."""
        if not self._most or self._on_card:  # counters, or what is already on the card
            return None
        before, until, largest = course(), time.monotonic() + SECONDS, None
        for item in items:
            if course() != before:
                return None
            if size(item) > self._most:
                self._most, largest, self.over = size(item), item, True
            if time.monotonic() > until:
                return largest
        self.whole = course() == before
        return largest


def size(item: Any) -> int:
    """Return the bytes of the tensors and arrays of an item, and the letters of its texts."""
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
    """Yield the tensors, arrays and texts of an item, within containers and records."""
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
