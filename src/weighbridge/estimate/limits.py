"""The largest number for which an answer still holds: a search, since estimates are monotone."""

from collections.abc import Callable

STEPS = 24  # more than any count that is searched has binary digits


def largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest n of 1 to `most` with `holds(n)`; 0 where not even one holds."""
    if holds(most):
        return most
    low, high = 0, most  # low holds (nothing is asked of 0), high does not
    for _ in range(STEPS):
        if high - low <= max(1, low >> 8):
            break
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
