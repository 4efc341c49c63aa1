"""A course: a stretch of a program that repeats with tensors of the same names and sizes, so that
the bytes of components at each of its moments are known in advance.

    (slot, bytes, stream, component)    allocate a tensor
    (slot, DROPPED, 0, "")              free it
    (slot, RENAMED, 0, component)       count it as another component
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import align_up
from weighbridge.machines.allocator.options import MIN_BLOCK
from weighbridge.machines.allocator.sequence import (
    AlikeBlocks,
    RequestOps,
    Slot,
    follow,
    ready,
)
from weighbridge.memory.components.activations import Heap, LiveTensor, TensorHeap, made
from weighbridge.memory.components.card_bytes import nothing

Move = tuple[int, int, int, str]
DROPPED, RENAMED = -1, -2
Live = dict[str, int]


class CourseSums(NamedTuple):
    """Rounded bytes of a course's tensors, relative to its beginning. `most`: at the peak; `net`:
    at the end; `fullest`: each component's change at the peak."""

    most: int
    net: int
    fullest: Live


class HeapCourse:
    """The allocations and frees of a course, by slot. `names`: slot -> (component, bytes) of
    tensors live at the beginning, all freed by the end; `alike`: slot -> number of tensors, if
    several."""

    def __init__(
        self,
        moves: Sequence[Move],
        names: dict[int, tuple[str, int]],
        alike: Mapping[int, int] | None = None,
    ) -> None:
        self.names = names
        self._alike = dict(alike or {})
        self._all = moves
        empty = {slot for slot, n, *_ in moves if nothing(n)}
        self._moves = [move for move in moves if move[0] not in empty] if empty else moves
        self._asked: RequestOps | None = None
        self._ends, self._live = self._until(None)
        self._fullest: dict[int, Live] = {}
        self._sums: CourseSums | None = None

    def run(self, heap: Heap, slots: list[Any]) -> bool:
        """Run the course. Return False, without any effect, if options of the allocator change
        which block serves a request, or other tensors are in the slots."""
        a = heap.allocator
        if not a.plain or not self.begins(slots):
            return False
        if self._asked is None:
            moves = (move for move in self._moves if move[1] != RENAMED)
            self._asked = ready(
                a, [(slot, max(0, n), stream) for slot, n, stream, _ in moves], self._alike
            )
        blocks: list[Slot] = [None] * len(slots)
        for there in self.names:
            blocks[there] = _blocks(slots[there])
        most, slot = follow(a, self._asked, blocks, heap.most)
        if slot is not None:
            if slot not in self._fullest:
                self._fullest[slot] = self._until(slot)[1]
            heap.filled(most, self._fullest[slot])
        self._over(heap, slots, blocks, heap.place)
        return True

    def sized(self, sized: Callable[[int], int]) -> "HeapCourse":
        """Return the course with each size replaced by `sized(size)`; itself if none changes."""
        moves = [(at, n if n < 0 else sized(n), stream, to) for at, n, stream, to in self._all]
        names = {slot: (name, sized(n)) for slot, (name, n) in self.names.items()}
        same = moves == self._all and names == self.names
        return self if same else HeapCourse(moves, names, self._alike)

    @property
    def ends(self) -> Iterable[int]:
        """Return the slots whose tensors are still live when the course ends."""
        return self._ends

    def begins(self, slots: list[Any]) -> bool:
        """Return whether `slots` hold the tensors that the course expects at its beginning."""
        return all(self._is(slots[slot], slot) for slot in self.names)

    def counted(self, heap: TensorHeap, slots: list[Any]) -> None:
        """Run the course in a heap without blocks."""
        self._over(heap, slots, [None] * len(slots), heap.place)

    def _over(
        self,
        heap: TensorHeap,
        slots: list[Any],
        blocks: Sequence[Slot],
        place: Callable[[], int],
    ) -> None:
        """Put the tensors live at the end into the slots, and change the bytes of components."""
        heap.changed(self._live)
        for gone in self.names:
            slots[gone] = None
        for slot, (name, nbytes) in self._ends.items():
            alike = self._alike.get(slot, 1)
            slots[slot] = _live(name, nbytes, alike, blocks[slot], place())

    @property
    def sums(self) -> "CourseSums":
        """Return the sums of the course, computed without an allocator."""
        if self._sums is None:
            self._sums = self._summed()
        return self._sums

    def _summed(self) -> "CourseSums":
        there = {slot: self._rounded(slot, nbytes) for slot, (_, nbytes) in self.names.items()}
        now = most = 0
        fullest: int | None = None
        for slot, nbytes, _, _ in self._moves:
            if nbytes == DROPPED:
                now -= there.pop(slot)
            elif nbytes != RENAMED:
                there[slot] = self._rounded(slot, nbytes)
                now += there[slot]
                if now > most:
                    most, fullest = now, slot
        return CourseSums(most, now, {} if fullest is None else self._until(fullest)[1])

    def _rounded(self, slot: int, nbytes: int) -> int:
        return align_up(nbytes, MIN_BLOCK) * self._alike.get(slot, 1)

    def _is(self, tensor: LiveTensor, slot: int) -> bool:
        """Return whether `tensor` is the one that the course expects in `slot` at its beginning."""
        named = tensor.name, tensor.nbytes
        return named == self.names[slot] and tensor.alike == self._alike.get(slot, 1)

    def _until(self, taken: int | None) -> tuple[dict[int, tuple[str, int]], Live]:
        """Return (tensors by slot, change of each component's bytes) once slot `taken` is
        allocated; for None, at the end."""
        there = dict(self.names)
        live: Live = {}
        for slot, nbytes, _, name in self._moves:
            alike = self._alike.get(slot, 1)
            if nbytes < 0:
                before, size = there.pop(slot)
                live[before] = live.get(before, 0) - size * alike
            if nbytes != DROPPED:
                size = size if nbytes == RENAMED else nbytes
                there[slot] = name, size
                live[name] = live.get(name, 0) + size * alike
            if slot == taken:
                break
        return there, live


def _blocks(block: Any) -> Slot:
    if type(block) is not LiveTensor:
        return None
    return block.block if block.alike == 1 else block.together


def _live(name: str, nbytes: int, alike: int, block: Slot, place: int) -> LiveTensor:
    if isinstance(block, AlikeBlocks):
        return LiveTensor.of(name, nbytes, alike, block, place)
    return made(LiveTensor, (name, nbytes, block, alike, 0, (), place))
