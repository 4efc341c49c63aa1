"""The memory calls of a program, recorded while it runs and repeated on another card.

    heap = Heap(notes=tape.notes)     records the calls of this heap
    tape.again(other, on_card, [])    repeats them on a heap of another capacity, or card

A walk of a training step never sees which blocks it gets. So its calls are the same in every
memory, and the walk, which costs more than the allocator, runs once. It may read more of a card
than its capacity: bytes that a kernel rule gives are `CardBytes`, for which the rule is called
again. Other facts that it reads of a card change its calls: the owner of a tape must know that they
are the same (forward/machine.py, KernelFacts).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from weighbridge.base.watching import go_on
from weighbridge.memory.components.activations import (
    EMPTY,
    LIVE,
    MANY,
    NAME,
    PASS,
    PHASE,
    RESERVE,
    ROW,
    RUN,
    TAKE,
    LivePeak,
    TensorHeap,
)
from weighbridge.memory.components.card_bytes import CardBytes
from weighbridge.memory.components.courses import HeapCourse

MOST = 200_000  # notes of tens of bytes each; longer walks are not kept


OnCard = Callable[[CardBytes], int]  # bytes on another card


class HeapTape:
    """The recorded calls of a heap, in order."""

    __slots__ = ("notes",)

    def __init__(self) -> None:
        self.notes: list[Any] = []

    @property
    def short(self) -> bool:
        """Return whether it is short enough to keep."""
        return len(self.notes) <= MOST

    def again(
        self, heap: TensorHeap, on_card: OnCard, there: list[Any]
    ) -> Iterator[LivePeak | int]:
        """Repeat the calls on `heap`. Yield what they return: peaks of phases, and bytes of
        components. `there`: tensors by place; at first those live before, it grows to all."""
        does = _Again(heap, on_card, there).does
        for note in self.notes:  # most are one tensor allocated or freed: no further calls
            if type(note) is int:
                heap.drop(there[note])
                there[note] = None
            elif note[0] == TAKE and type(note[1]) is int:
                there.append(heap.take(note[1], note[2], note[3]))
            else:
                told = does[note[0]](*note[1:])
                if told is not None:
                    yield told


class _Again:
    """The repetition of each kind of recorded call on another heap."""

    def __init__(self, heap: TensorHeap, on_card: OnCard, there: list[Any]) -> None:
        self.heap = heap
        self._on_card = on_card
        self.there = there
        self._courses: dict[int, HeapCourse] = {}
        self.does: dict[int, Callable[..., LivePeak | int | None]] = {
            TAKE: self._take,
            PASS: self._pass,
            MANY: self._many,
            ROW: self._row,
            NAME: self._name,
            RUN: self._run,
            PHASE: self._phase,
            LIVE: heap.live,
            EMPTY: lambda anew: heap.emptied(anew=anew),
            RESERVE: heap.reserve,
        }

    def _sized(self, nbytes: int) -> int:
        return self._on_card(nbytes) if type(nbytes) is CardBytes else nbytes

    def _take(self, nbytes: int, name: str, stream: int) -> None:
        self.there.append(self.heap.again(self._sized(nbytes), name, stream))

    def _pass(self, sizes: Sequence[int], name: str) -> None:
        self.heap.passing(*map(self._sized, sizes), name=name)

    def _many(self, count: int, nbytes: int, name: str) -> None:
        self.there.append(self.heap.many(count, self._sized(nbytes), name))

    def _row(self, sizes: Sequence[int], name: str) -> None:
        self.there += self.heap.row(map(self._sized, sizes), name)

    def _name(self, place: int, name: str) -> None:
        self.there[place] = self.heap.rename(self.there[place], name)

    def _run(self, course: HeapCourse, count: int, places: Sequence[int]) -> None:
        """Run a course with `count` slots; `places` are the tensors of the slots that it names."""
        if id(course) not in self._courses:
            self._courses[id(course)] = course.sized(self._sized)
        course = self._courses[id(course)]
        slots: list[Any] = [None] * count
        for slot, place in zip(course.names, places, strict=True):
            slots[slot], self.there[place] = self.there[place], None
        ran = self.heap.run(course, slots)
        assert ran, "a heap of the same options runs what was run before"
        self.there += [slots[slot] for slot in course.ends]

    def _phase(self) -> LivePeak:
        go_on()
        return self.heap.phase()
