"""Requests in one go are served as requests one by one."""

from random import Random

import pytest

from tests.cases import all_of
from weighbridge.base.errors import OutOfMemoryError
from weighbridge.base.units import MIB
from weighbridge.machines.allocator import Allocator
from weighbridge.machines.allocator.journal import Journal
from weighbridge.machines.allocator.options import AllocatorOptions
from weighbridge.machines.allocator.sequence import follow, ready

SIZES = (1, 512, 8192, 300_000, MIB, MIB + 1, 3 * MIB, 9 * MIB, 11 * MIB, 64 * MIB)


def random_ops(seed, before):
    """Requests of slots that are new, and releases of any that are there."""
    random, there, ops = Random(seed), list(range(before)), []
    for slot in range(before, before + 200):
        ops.append(
            (slot, random.choice(SIZES) + random.randrange(3) * 512, random.choice((0, 0, 7)))
        )
        there.append(slot)
        while there and random.random() < 0.45:
            ops.append((there.pop(random.randrange(len(there))), 0, 0))
    return ops


def one_by_one(allocator, ops, slots):
    """The most that was allocated, and the slot whose request made it."""
    most, fullest = allocator.allocated, None
    for slot, nbytes, stream in ops:
        if nbytes:
            slots[slot] = allocator.malloc(nbytes, stream)
        else:
            allocator.free(slots[slot])
        if allocator.allocated > most:
            most, fullest = allocator.allocated, slot
    return most, fullest


def told(allocator):
    free = [
        (block.stream, block.size, block.address)
        for pool in (allocator.small, allocator.large)
        for block in pool.blocks()
    ]
    counted = allocator.allocated, allocator.peak_allocated, allocator.requests
    return *counted, allocator.reserved, allocator.peak_reserved, free


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("grows", [False, True])
def test_in_one_go_is_one_by_one(seed, grows):
    """Who keeps a journal has each request served the long way. The cache goes back in between:
    segments that grow have holes from then on."""
    options, made = AllocatorOptions(expandable_segments=grows), []
    for at_once in (True, False):
        allocator = Allocator(options, journal=None if at_once else Journal())
        slots = [allocator.malloc(SIZES[i % len(SIZES)]) for i in range(12)] + [None] * 400
        found = []
        for times in (0, 1):
            ops = [(n + 200 * times if n >= 12 else n, *rest) for n, *rest in random_ops(seed, 12)]
            ops = [op for op in ops if op[0] >= 12 or not times]  # the first go once
            if at_once:
                assert allocator.plain
                prepared = ready(allocator, ops)
                found.append(follow(allocator, prepared, slots, allocator.allocated))
            else:
                found.append(one_by_one(allocator, ops, slots))
            found.append(told(allocator))
            allocator.empty_cache()
        made.append(found)
    assert made[0] == made[1]


@all_of("seed", range(8))
def test_a_request_is_served_alike_with_and_without_a_journal(seed):
    """Most requests of segments that grow go a short way, none of those of which somebody keeps
    a journal."""
    options, made = AllocatorOptions(expandable_segments=True), []
    for journal in (None, Journal()):
        allocator = Allocator(options, journal=journal)
        slots = [allocator.malloc(SIZES[i % len(SIZES)]) for i in range(12)] + [None] * 200
        made.append((one_by_one(allocator, random_ops(seed, 12), slots), told(allocator)))
    assert made[0] == made[1]


def test_what_the_card_has_no_room_for_is_refused_there_too():
    allocator = Allocator(capacity=64 * MIB)
    ops = ready(allocator, [(0, 40 * MIB, 0), (0, 0, 0), (1, 50 * MIB, 0), (2, 30 * MIB, 0)])
    with pytest.raises(OutOfMemoryError):
        follow(allocator, ops, [None] * 3, 0)
    assert allocator.reserved == 50 * MIB  # what was cached went back before
