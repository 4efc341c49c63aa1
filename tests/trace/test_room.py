"""Frames of a traced program: the system is not asked for room at each call; no torch."""

import resource

import pytest

from weighbridge_lab.trace.program import roomy

DEEP = 400  # calls: some depth of these is at the end of a chunk


def faults(depth):
    """Return how often pages were missing while a leaf was called many times at one depth."""
    if depth:
        return faults(depth - 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        leaf()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def leaf():
    return None


leaf.__code__ = leaf.__code__.replace(co_stacksize=200)  # a frame larger than that of its caller


def worst():
    return max(faults(depth) for depth in range(DEEP))


@pytest.mark.slow
def test_no_call_asks_the_system_for_room():
    assert worst() >= 200, "this Python keeps a chunk: nothing needs to be done"
    assert roomy(worst)() < 50


def test_it_is_the_function_that_it_was():
    def one(a, *, b=2):
        """Add."""
        return a + b

    assert roomy(one)(1, b=3) == 4 and roomy(one)(1) == 3
    assert roomy(one).__name__ == "one" and roomy(one).__doc__ == "Add."
