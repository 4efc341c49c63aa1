"""Tensors that come and go as others did before, under the same names: a stretch of a program that
runs again and again. What components have at each of its moments is known beforehand.

    (slot, bytes, stream, component)    one is taken
    (slot, DROPPED, 0, "")              it is given back
    (slot, RENAMED, 0, component)       it counts as another component

Of tensors alike that come and go together the bytes are those of one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from weighbridge.allocator.sequence import AlikeBlocks, RequestOps, Slot, follow, ready
from weighbridge.components.activations import Heap, LiveTensor

Move = tuple[int, int, int, str]
DROPPED, RENAMED = -1, -2
Live = dict[str, int]


class HeapCourse:
    """`names` are those of what is there at the beginning, with their bytes, by slots. All of it is
    gone in the end. `alike`: of slots with several tensors, how many."""

    def __init__(
        self,
        moves: Sequence[Move],
        names: dict[int, tuple[str, int]],
        alike: Mapping[int, int] | None = None,
    ) -> None:
        self.names = names
        self._alike = alike or {}
        self._moves = moves
        self._asked: RequestOps | None = None
        self._ends, self._live = self._until(None)
        self._fullest: dict[int, Live] = {}

    def run(self, heap: Heap, slots: list[Any]) -> bool:
        """Whether it ran; it does not where options of the allocator bend what serves a request,
        or where what is there is something else."""
        a = heap.allocator
        if not a.plain or not all(self._is(slots[slot], slot) for slot in self.names):
            return False
        if self._asked is None:
            moves = (move for move in self._moves if move[1] != RENAMED)
            self._asked = ready(
                a, [(slot, max(0, n), stream) for slot, n, stream, _ in moves], self._alike
            )
        blocks = [_blocks(held) for held in slots]
        most, slot = follow(a, self._asked, blocks, heap.most)
        if slot is not None:
            if slot not in self._fullest:
                self._fullest[slot] = self._until(slot)[1]
            heap.filled(most, self._fullest[slot])
        heap.changed(self._live)
        for gone in self.names:
            slots[gone] = None
        for slot, (name, nbytes) in self._ends.items():
            slots[slot] = _live(name, nbytes, self._alike.get(slot, 1), blocks[slot])
        return True

    def _is(self, held: LiveTensor, slot: int) -> bool:
        """Whether what is there at the beginning is what this was made for."""
        named = held.name, held.nbytes
        return named == self.names[slot] and held.alike == self._alike.get(slot, 1)

    def _until(self, taken: int | None) -> tuple[dict[int, tuple[str, int]], Live]:
        """What is there when that slot is taken, or in the end; and by how much components have
        changed since the beginning."""
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


def _blocks(held: Any) -> Slot:
    if type(held) is not LiveTensor:
        return None
    return held.block if held.alike == 1 else held.together


def _live(name: str, nbytes: int, alike: int, held: Slot) -> LiveTensor:
    if isinstance(held, AlikeBlocks):
        return LiveTensor.of(name, nbytes, alike, held)
    return LiveTensor(name, nbytes, held)
