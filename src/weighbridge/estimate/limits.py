"""The largest number for which an answer still holds: a search, since estimates are monotone."""

from collections.abc import Callable

Holds = Callable[[int], bool]


def largest(holds: Holds, most: int, near: int = 1, *, quick: Holds | None = None) -> int:
    """Find an n of 1 to `most` that holds while n + 1 does not; 0 where not even one holds.

    The search begins at `near`, which is never above what is found where it holds itself. Where
    there is a `quick` way to say the same, it is searched instead, and `holds` judges what it
    found and the number above it; where they do not agree, `holds` is searched from the start.
    """
    if quick is not None:
        found = _searched(quick, most, near)
        if (not found or holds(found)) and (found == most or not holds(found + 1)):
            return found
    return _searched(holds, most, near)


def _searched(holds: Holds, most: int, near: int) -> int:
    if holds(most):
        return most
    low, high = 0, most  # low holds (nothing is asked of 0), high does not
    if near < most and holds(near):
        low = near
    else:
        high = min(near, most)
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
