"""A course does at once what its moves do one by one on a heap."""

import pytest

from weighbridge.components.activations import Heap
from weighbridge.components.course import DROPPED, RENAMED, HeapCourse

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


def test_it_runs_on_what_it_was_made_for_alone():
    course = HeapCourse(MOVES, NAMES)
    heap = Heap()
    assert not course.run(heap, [heap.take(4096, "weights"), None, None, None])
    heap = Heap()
    assert not course.run(heap, [heap.take(5000, "logits"), None, None, None])
