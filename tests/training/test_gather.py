"""The stream on which ZeRO-3 gathers parameters, worked out by hand. What whole runs reserved is in
test_h100_ranks.py."""

import pytest

from weighbridge.base.units import MIB
from weighbridge.machines.allocator.options import DEFAULT
from weighbridge.training.sharding.gather import REUSE, GatherLimits, follow

MEBI = 1 << 20  # numbers, of two bytes each


def followed(numels, calls, *, ranks=2, hosted=False, live=1_000_000_000, prefetch=0):
    """MiB that the stream reserves, and MiB of whole parameters at once."""
    limits = GatherLimits(live, prefetch, ranks, hosted, DEFAULT)
    sizes = tuple(2 * n for n in numels)
    most, reserved = follow(tuple(numels), sizes, tuple(map(tuple, calls)), limits)
    return reserved / MIB, most / MIB


def test_one_at_a_time_takes_the_largest():
    """No module is called twice within reach, and none is fetched ahead: the 60 MiB come first, and
    the others lie in what they left."""
    numels = [30 * MEBI, 10 * MEBI, 20 * MEBI]
    assert followed(numels, [[0], [1], [2]]) == (60, 60)


def test_a_block_that_was_split_does_not_hold_the_largest_again():
    """The 20 MiB lie in the block of 60 MiB and stay there until they are called again, so the
    other 60 MiB need a segment of their own."""
    numels = [30 * MEBI, 10 * MEBI, 30 * MEBI]
    calls = [[0], [1], [2], [1]]
    assert followed(numels, calls) == (120, 80)


def test_what_is_called_again_too_late_is_given_back():
    far = REUSE - 10 * MEBI  # numbers of the module between
    stays = followed([10 * MEBI, far - 1], [[0], [1], [0]])[1]
    goes = followed([10 * MEBI, far + 20 * MEBI], [[0], [1], [0]])[1]
    assert stays == pytest.approx(20 + 2 * (far - 1) / MEBI)
    assert goes == pytest.approx(2 * (far + 20 * MEBI) / MEBI)


def test_modules_ahead_are_fetched_until_the_limit_is_reached():
    """Of 20 MiB each. 10 of at most 25 million numbers are there: one more leaves 5 to go, so that
    a second is taken. A small bucket takes one at a time, and a limit that is reached none."""
    numels = [10 * MEBI] * 5
    calls = [[0], [1], [2], [3], [4]]
    assert followed(numels, calls, live=25 * MEBI, prefetch=100 * MEBI)[1] == 60
    assert followed(numels, calls, live=25 * MEBI, prefetch=1)[1] == 40
    assert followed(numels, calls, live=10 * MEBI, prefetch=1)[1] == 20


def test_several_at_once_are_gathered_into_a_buffer_and_copied():
    assert followed([10 * MEBI, 5 * MEBI], [[0, 1]]) == (60, 30)


def test_parts_of_the_host_come_to_the_card_before():
    """A quarter of 40 MiB beside the whole."""
    calls = [[0]]
    assert followed([20 * MEBI], calls, ranks=4) == (40, 40)
    assert followed([20 * MEBI], calls, ranks=4, hosted=True) == (50, 40)


def test_the_stream_reserves_at_least_what_is_there():
    numels = [(7 * i % 11 + 1) * 3 * MEBI for i in range(40)]
    calls = [[i] for i in range(40)] + [[i] for i in reversed(range(40))]
    for live in (1, 50 * MEBI, 200 * MEBI, 2000 * MEBI):
        reserved, most = followed(numels, calls, live=live, prefetch=9 * MEBI)
        assert reserved >= most
