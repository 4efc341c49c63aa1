"""The bytes of tensors without an allocator: a lower bound of what a device holds.

Each tensor counts its rounded size. A block of the replayed allocator is as large, or larger if the
rest of a free block was too small to split off, and the reserved bytes include all blocks. So at
each moment a count is a lower bound of `allocated` and of `reserved`, and most often it is
`allocated` itself. No free block is searched, and a course is a sum that is computed once.
"""

from collections.abc import Iterable
from typing import Any

from weighbridge.machines.allocator.options import MIN_BLOCK
from weighbridge.memory.components.activations import (
    EMPTY,
    MANY,
    PHASE,
    ROW,
    RUN,
    TAKE,
    LivePeak,
    LiveTensor,
    TensorHeap,
    made,
)
from weighbridge.memory.components.courses import HeapCourse


class CountedHeap(TensorHeap):
    """The memory of one device as a sum of tensors, without blocks."""

    def __init__(self, notes: list[Any] | None = None) -> None:
        super().__init__(notes)
        self._held = 0
        self._reserved = 0  # the most held so far, over all phases

    def take(self, nbytes: int, name: str = "activations", stream: int = 0) -> LiveTensor:
        if self.notes is not None:
            self.notes.append((TAKE, nbytes, name, stream))
        tensor = made(LiveTensor, (name, nbytes, None, 1, 0, (), self._next))
        self._next += 1
        self._more(name, nbytes, -(-nbytes // MIN_BLOCK) * MIN_BLOCK)
        if self.watch is not None:
            self.watch.taken(tensor, stream)
        return tensor

    def row(self, sizes: Iterable[int], name: str) -> tuple[LiveTensor, ...]:
        """Allocate tensors one after another, as one sum."""
        sizes = tuple(sizes)
        if self.watch is not None or not sizes:
            return super().row(sizes, name)
        if self.notes is not None:
            self.notes.append((ROW, sizes, name))
        tensors = tuple(LiveTensor(name, nbytes, None, place=self.place()) for nbytes in sizes)
        self._more(name, sum(t.nbytes for t in tensors), sum(map(_rounded, tensors)))
        return tensors

    def many(self, count: int, nbytes: int, name: str = "activations") -> LiveTensor:
        if self.notes is not None:
            self.notes.append((MANY, count, nbytes, name))
        tensors = LiveTensor(name, nbytes, None, count, place=self.place())
        self._more(name, tensors.total, _rounded(tensors))
        if self.watch is not None:
            self.watch.taken(tensors, 0)
        return tensors

    def _more(self, name: str, nbytes: int, rounded: int) -> None:
        self._held += rounded
        self._live[name] = self._live.get(name, 0) + nbytes
        if self._held > self._most:
            self._most, self._at_most = self._held, self._live.copy()

    def drop(self, *gone: LiveTensor) -> None:
        watch, notes, live = self.watch, self.notes, self._live
        for tensor in gone:
            if watch is not None:
                watch.dropped(tensor)
            name, nbytes, _, alike, _, _, place = tensor
            if notes is not None:
                notes.append(place)
            if nbytes:
                self._held -= -(-nbytes // MIN_BLOCK) * MIN_BLOCK * alike
                live[name] -= nbytes * alike

    def run(self, course: HeapCourse, slots: list[Any]) -> bool:
        if not course.begins(slots):
            return False
        sums = course.sums
        if self._held + sums.most > self._most:
            self.filled(self._held + sums.most, sums.fullest)
        self._held += sums.net
        if self.notes is not None:
            begin = [slots[slot].place for slot in course.names]
            self.notes.append((RUN, course, len(slots), begin))
        course.counted(self, slots)
        return True

    def emptied(self, *, anew: bool = False) -> None:
        """Reset the peak of reserved bytes if `anew`; there is no cache to release."""
        if self.notes is not None:
            self.notes.append((EMPTY, anew))
        if anew:
            self._reserved = self._held

    def phase(self) -> LivePeak:
        if self.notes is not None:
            self.notes.append((PHASE,))
        self._reserved = max(self._reserved, self._most)
        live = {name: nbytes for name, nbytes in self._at_most.items() if nbytes}
        peak = LivePeak(live=live, allocated=self._most, reserved=self._reserved)
        self._most, self._at_most = self._held, self._live.copy()
        return peak


def _rounded(tensor: LiveTensor) -> int:
    return -(-tensor.nbytes // MIN_BLOCK) * MIN_BLOCK * tensor.alike
