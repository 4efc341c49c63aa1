"""A course does at once what its moves do one by one on a heap."""

import pytest

from weighbridge.base.units import MIB
from weighbridge.memory.components.activations import Heap
from weighbridge.memory.components.courses import DROPPED, RENAMED, HeapCourse

NAMES = {0: ("weights", 5000)}
MOVES = [
    (1, 3000, 0, "activations"),
    (2, 9000, 0, "logits"),
    (0, DROPPED, 0, ""),
    (1, RENAMED, 0, "gradients"),
    (2, DROPPED, 0, ""),
    (3, 1000, 0, "activations"),
]


def beginning():
    heap = Heap()
    return heap, [heap.take(5000, "weights"), None, None, None]


def one_by_one(moves):
    heap, slots = beginning()
    for slot, nbytes, stream, name in moves:
        if nbytes == DROPPED:
            heap.drop(slots[slot])
            slots[slot] = None
        elif nbytes == RENAMED:
            slots[slot] = heap.rename(slots[slot], name)
        else:
            slots[slot] = heap.take(nbytes, name, stream)
    return heap, slots


def told(slots):
    return [None if s is None else (s.name, s.nbytes, s.block.size) for s in slots]


@pytest.mark.parametrize("moves", [MOVES, [*MOVES, (2, 9000, 0, "logits")], MOVES[:1]], ids=len)
def test_what_is_left_and_what_was_the_most(moves):
    heap, slots = beginning()
    names = NAMES if len(moves) > 1 else {}
    assert HeapCourse(moves, names).run(heap, slots)
    by_hand, left = one_by_one(moves)
    assert told(slots) == told(left)
    assert heap.phase() == by_hand.phase()
    for name in ("weights", "activations", "logits", "gradients"):
        assert heap.live(name) == by_hand.live(name)


def test_the_fullest_moment_by_hand():
    """5,000 + 3,000 + 9,000: before anything is dropped."""
    heap, slots = beginning()
    HeapCourse(MOVES, NAMES).run(heap, slots)
    peak = heap.phase()
    assert peak.live == {"weights": 5000, "activations": 3000, "logits": 9000}
    assert heap.phase().live == {"activations": 1000, "gradients": 3000}


@pytest.mark.parametrize("nbytes", [700 * 1024, 5 * MIB - 100], ids=["as they are", "at once"])
def test_tensors_alike_are_one_move(nbytes):
    """Thirteen that are made there, and eight that are there before: one of them counts as much as
    all do by hand."""
    course = HeapCourse(
        [(1, nbytes, 0, "logits"), (0, DROPPED, 0, ""), (1, RENAMED, 0, "gradients")],
        {0: ("weights", nbytes)},
        {0: 8, 1: 13},
    )
    at_once, by_hand = Heap(), Heap()
    slots = [at_once.many(8, nbytes, "weights"), None]
    assert course.run(at_once, slots)
    there = by_hand.many(8, nbytes, "weights")
    held = by_hand.many(13, nbytes, "logits")
    by_hand.drop(there)
    held = by_hand.rename(held, "gradients")
    assert at_once.phase() == by_hand.phase()
    assert (slots[0], slots[1][:2], slots[1].alike) == (None, held[:2], 13)
    assert slots[1].spare == held.spare
    for heap, left in ((at_once, slots[1]), (by_hand, held)):
        heap.drop(left)
        assert (heap.live("gradients"), heap.allocator.allocated) == (0, 0)
    assert at_once.allocator.reserved == by_hand.allocator.reserved
    assert not course.run(at_once, [at_once.many(7, nbytes, "weights"), None])


def test_it_runs_on_what_it_was_made_for_alone():
    course = HeapCourse(MOVES, NAMES)
    heap = Heap()
    assert not course.run(heap, [heap.take(4096, "weights"), None, None, None])
    heap = Heap()
    assert not course.run(heap, [heap.take(5000, "logits"), None, None, None])
