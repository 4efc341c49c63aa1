"""What a program asks of memory, written down while it runs, and asked of another card.

    heap = Heap(notes=tape.notes)     what is asked of this heap is noted
    tape.again(other, on_card)        and asked of another one: of another capacity, or card

A walk of a training step never sees which blocks it is given. So what it asks for is the same in
every memory, and the walk, which costs more than the allocator does, is done once. Of a card it may
read more than how much there is: bytes that a rule of kernels says are `CardBytes`, for which the
rule is asked again. Whatever else it reads of a card decides what it asks for: who keeps a tape has
to know that it is the same (forward/machine.py, KernelFacts).
"""

from collections.abc import Callable, Iterator
from typing import Any

from weighbridge.components.activations import (
    MANY,
    NAME,
    PASS,
    PHASE,
    ROW,
    RUN,
    TAKE,
    HeapCourse,
    LivePeak,
    LiveTensor,
    TensorHeap,
)
from weighbridge.components.card_bytes import CardBytes
from weighbridge.watching import go_on

MOST = 200_000  # notes, of tens of bytes each: a walk of more is not kept


OnCard = Callable[[CardBytes], int]  # what a size is on another card


class HeapTape:
    """What was asked, in order."""

    __slots__ = ("notes",)

    def __init__(self) -> None:
        self.notes: list[Any] = []

    @property
    def short(self) -> bool:
        """Tell whether it is worth its memory."""
        return len(self.notes) <= MOST

    def again(self, heap: TensorHeap, on_card: OnCard) -> Iterator[LivePeak | int]:
        """Ask the same of `heap`. Yield what the program was told: peaks of phases, and bytes of
        components."""
        there: list[Any] = []  # by place
        courses: dict[int, HeapCourse] = {}

        def sized(nbytes: int) -> int:
            return on_card(nbytes) if type(nbytes) is CardBytes else nbytes

        for note in self.notes:
            if type(note) is int:
                heap.drop(there[note])
                there[note] = None
                continue
            what = note[0]
            if what == TAKE:
                there.append(heap.again(sized(note[1]), note[2], note[3]))
            elif what == PASS:
                heap.passing(*map(sized, note[1]), name=note[2])
            elif what == RUN:
                _, course, count, begin = note
                if id(course) not in courses:
                    courses[id(course)] = course.sized(sized)
                there += _run(heap, courses[id(course)], count, [there[place] for place in begin])
                for place in begin:
                    there[place] = None
            elif what == NAME:
                there[note[1]] = heap.rename(there[note[1]], note[2])
            elif what == MANY:
                there.append(heap.many(note[1], sized(note[2]), note[3]))
            elif what == ROW:
                there += heap.row(map(sized, note[1]), note[2])
            elif what == PHASE:
                go_on()
                yield heap.phase()
            else:
                yield heap.live(note[1])


def _run(
    heap: TensorHeap, course: HeapCourse, count: int, begin: list[LiveTensor]
) -> list[LiveTensor]:
    """Run a course with `count` slots. Return what it leaves."""
    slots: list[Any] = [None] * count
    for slot, tensor in zip(course.names, begin, strict=True):
        slots[slot] = tensor
    ran = heap.run(course, slots)
    assert ran, "a heap of the same options runs what was run before"
    return [slots[slot] for slot in course.ends]
