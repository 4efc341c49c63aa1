"""The largest number for which an answer still holds: a search, since estimates are monotone."""

from collections.abc import Callable


def largest(holds: Callable[[int], bool], most: int, near: int = 1) -> int:
    """Find an n of 1 to `most` that holds while n + 1 does not; 0 where not even one holds.

    The search begins at `near`, which is never above what is found where it holds itself.
    """
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
