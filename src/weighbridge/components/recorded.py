"""What a program asks of memory, written down while it runs, and asked of another card.

    RecordedHeap     the memory of one device; what is asked of it is noted
    HeapTape         the notes: asked again of a heap of another capacity, or of another card

A walk of a training step never sees which blocks it is given. So what it asks for is the same in
every memory, and the walk, which costs more than the allocator does, is done once. Of a card it may
read more than how much there is: bytes that a rule of kernels says are `CardBytes`, for which the
rule is asked again. Whatever else it reads of a card decides what it asks for: who keeps a tape has
to know that it is the same (forward/machine.py, KernelFacts).
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from weighbridge.components.activations import Heap, HeapCourse, LivePeak, LiveTensor, TensorHeap
from weighbridge.watching import go_on

TAKE, MANY, ROW, NAME, RUN, PHASE, LIVE = range(7)
MOST = 200_000  # notes: of tens of bytes each; a walk of more is not kept


class CardBytes(int):
    """Bytes that a rule says of a card: `origin` is the rule, what it was asked, and which of the
    sizes it gave."""

    origin: Hashable

    @classmethod
    def of(cls, nbytes: int, origin: Hashable) -> "CardBytes":
        made = cls(nbytes)
        made.origin = origin
        return made


OnCard = Callable[[CardBytes], int]  # what a size is on another card


class HeapTape:
    """What was asked, in order. A number is a tensor that is given back: they are counted as they
    are taken."""

    __slots__ = ("notes", "whole")

    def __init__(self) -> None:
        self.notes: list[Any] = []
        self.whole = True

    def again(self, heap: TensorHeap, on_card: OnCard) -> Iterator[LivePeak | int]:
        """Ask the same of `heap`. Yield what the program was told: peaks of phases, and bytes of
        components."""
        there: list[Any] = []
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
                there.append(heap.take(sized(note[1]), note[2], note[3]))
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


class RecordedHeap(Heap):
    """The memory of one device; what is asked of it is on the tape. Hundreds of thousands of calls
    come here: each notes by itself."""

    def __init__(self, *of_heap: Any) -> None:
        super().__init__(*of_heap)
        self.tape = HeapTape()
        self._notes = self.tape.notes
        self._places: dict[int, int] = {}  # of tensors that are there, by identity
        self._next = 0  # place

    def _made(self, *made: LiveTensor) -> None:
        """Give tensors their places."""
        for tensor in made:
            self._places[id(tensor)] = self._next
            self._next += 1

    def take(self, nbytes: int, name: str = "activations", stream: int = 0) -> LiveTensor:
        tensor = super().take(nbytes, name, stream)
        self._notes.append((TAKE, nbytes, name, stream))
        self._places[id(tensor)] = self._next
        self._next += 1
        return tensor

    def many(self, count: int, nbytes: int, name: str = "activations") -> LiveTensor:
        tensor = super().many(count, nbytes, name)
        self._notes.append((MANY, count, nbytes, name))
        self._made(tensor)
        return tensor

    def row(self, sizes: Iterable[int], name: str) -> tuple[LiveTensor, ...]:
        sizes = tuple(sizes)
        tensors = super().row(sizes, name)
        if self.watch is None and sizes:  # else they were taken one by one
            self._notes.append((ROW, sizes, name))
            self._made(*tensors)
        return tensors

    def drop(self, *gone: LiveTensor) -> None:
        super().drop(*gone)
        for tensor in gone:
            self._notes.append(self._places.pop(id(tensor)))

    def rename(self, tensor: LiveTensor, name: str) -> LiveTensor:
        renamed = super().rename(tensor, name)
        place = self._places[id(renamed)] = self._places.pop(id(tensor))
        self._notes.append((NAME, place, name))
        return renamed

    def run(self, course: HeapCourse, slots: list[Any]) -> bool:
        begin = [id(slots[slot]) for slot in course.names]
        ran = super().run(course, slots)
        if ran:
            places = tuple([self._places.pop(one) for one in begin])
            self._notes.append((RUN, course, len(slots), places))
            self._made(*[slots[slot] for slot in course.ends])
        return ran

    def phase(self) -> LivePeak:
        self._notes.append((PHASE,))
        if len(self._notes) > MOST:
            self.tape.whole = False
        if not self.tape.whole:
            self._notes.clear()
        return super().phase()

    def live(self, name: str) -> int:
        self._notes.append((LIVE, name))
        return super().live(name)
