"""What tensors take at least: bytes are counted, and no block is looked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.components.test_course import MOVES, NAMES
from weighbridge.base.units import MIB
from weighbridge.memory.components.activations import Heap
from weighbridge.memory.components.counted import CountedHeap
from weighbridge.memory.components.courses import DROPPED, RENAMED, HeapCourse

SIZES = st.one_of(st.integers(1, 3000), st.integers(1, 3 * MIB), st.integers(1, 40 * MIB))
STEPS = st.lists(st.tuples(SIZES, st.integers(0, 9), st.integers(1, 3)), min_size=1, max_size=40)


def test_bytes_are_rounded_to_512_by_hand():
    """1 takes 512; 513 take 1,024; seven of 600 take 7 x 1,024. At most 8,704 are there at once."""
    heap = CountedHeap()
    one, two = heap.take(1, "weights"), heap.take(513, "logits")
    heap.drop(one)
    seven = heap.many(7, 600, "gradients")
    heap.take(0, "weights")
    peak = heap.phase()
    assert (peak.allocated, peak.reserved) == (1024 + 7 * 1024, 1024 + 7 * 1024)
    assert peak.live == {"logits": 513, "gradients": 4200}
    heap.drop(two, seven)
    heap.take(600)
    assert heap.phase().allocated == 8192, "a phase begins with what is there"
    last = heap.phase()
    assert (last.allocated, last.live) == (1024, {"activations": 600})
    assert last.reserved == 8192, "as an allocator keeps what it has"


@pytest.mark.slow
@settings(max_examples=20)
@given(STEPS)
def test_a_count_is_never_above_what_the_allocator_counts(steps):
    """Tensors come, alone or several alike; some go before."""
    whole, least = Heap(), CountedHeap()
    there = []
    for nbytes, gone, alike in steps:
        if gone < len(there):
            for heap, tensor in zip((whole, least), there.pop(gone), strict=True):
                heap.drop(tensor)
        there.append(tuple(heap.again(nbytes, "logits", 0, alike) for heap in (whole, least)))
    assert least.live("logits") == whole.live("logits")
    counted, peak = least.phase(), whole.phase()
    assert counted.allocated <= peak.allocated <= peak.reserved
    assert counted.reserved == counted.allocated
    assert counted.allocated >= sum(peak.live.values()) - peak.rounding


def begun():
    heap = CountedHeap()
    return heap, [heap.take(5000, "weights"), None, None, None]


@pytest.mark.parametrize("moves", [MOVES, [*MOVES, (2, 9000, 0, "logits")], MOVES[:1]], ids=len)
def test_a_course_is_counted_as_its_moves_are(moves):
    heap, slots = begun()
    course = HeapCourse(moves, NAMES if len(moves) > 1 else {})
    assert heap.run(course, slots)
    by_hand, left = begun()
    for slot, nbytes, stream, name in moves:
        if nbytes == DROPPED:
            by_hand.drop(left[slot])
            left[slot] = None
        elif nbytes == RENAMED:
            left[slot] = by_hand.rename(left[slot], name)
        else:
            left[slot] = by_hand.take(nbytes, name, stream)
    assert [t and t[:-1] for t in slots] == [t and t[:-1] for t in left]  # but for their places
    assert heap.phase() == by_hand.phase()
    assert heap.phase() == by_hand.phase()


def test_a_course_of_tensors_alike_counts_each_of_them():
    """Eight of 700 bytes are there; thirteen come, and the eight go."""
    course = HeapCourse(
        [(1, 700, 0, "logits"), (0, DROPPED, 0, "")], {0: ("weights", 700)}, {0: 8, 1: 13}
    )
    heap = CountedHeap()
    slots = [heap.many(8, 700, "weights"), None]
    assert heap.run(course, slots)
    assert heap.phase().allocated == 21 * 1024
    assert heap.phase().allocated == 13 * 1024
    assert (slots[0], slots[1].total) == (None, 13 * 700)
    assert not heap.run(course, [heap.many(7, 700, "weights"), None])


def test_a_course_below_what_was_there_before_leaves_the_fullest_moment():
    heap, slots = begun()
    passing = heap.take(1 << 20)
    heap.drop(passing)
    assert heap.run(HeapCourse(MOVES, NAMES), slots)
    assert heap.phase().live == {"weights": 5000, "activations": 1 << 20}
