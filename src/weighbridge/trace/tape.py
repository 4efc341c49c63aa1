"""What happened to memory, in order: every storage with who made it, when, and why.

    tape.malloc(nbytes, ...) -> id        tape.free(id)        tape.grow(id, ...) -> id

A tape replays the allocator as it goes, so the counters are those of the moment: a script that asks
`torch.cuda.memory_allocated()` in the middle is answered from here. Torch-free.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from weighbridge.allocator import Allocator, Block

Role = Literal[
    "weight",
    "buffer",
    "gradient",
    "optimizer state",
    "saved activation",
    "temporary",
    "input",
    "workspace",
]
SAVED_FOR: Role = "saved activation"


@dataclass(slots=True)
class Storage:
    """One allocation. Indexes count events; `died` is None while it lives."""

    nbytes: int
    op: str
    module: str
    phase: str
    born: int
    role: Role = "temporary"
    died: int | None = None
    freed_in: str = ""  # the phase


class Peak(NamedTuple):
    """The moment of the most, and how much."""

    event: int
    nbytes: int


@dataclass(slots=True)
class Tape:
    """`events` are ids of storages: n + 1 where n is made, -(n + 1) where it is released."""

    allocator: Allocator = field(default_factory=Allocator)
    storages: list[Storage] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    phase: str = "load"
    allocated: Peak = Peak(0, 0)
    reserved: Peak = Peak(0, 0)
    _blocks: dict[int, Block | None] = field(default_factory=dict)
    _grown: tuple[int, int] | None = None  # (new, old): made by an addition that may be in place

    def malloc(
        self, nbytes: int, *, op: str, module: str = "", role: Role = "temporary"
    ) -> int:
        self._settle()
        return self._malloc(self._storage(nbytes, op, module, role))

    def free(self, number: int) -> None:
        if self._grown is not None and self._grown[1] == number:
            self._moved(*self._grown)
            return
        self._settle()
        self._free(number)

    def grow(self, old: int, nbytes: int, *, op: str, module: str = "") -> int:
        """A sum of gradients. The real engine adds into `old` where nobody else holds it: then
        `old` is released right after, and the sum is `old` under another name."""
        self._settle()
        new = self._storage(nbytes, op, module, "temporary")
        self._grown = (new, old)
        return new

    def _settle(self) -> None:
        if self._grown is not None:
            new, self._grown = self._grown[0], None
            self._malloc(new)

    def _moved(self, new: int, old: int) -> None:
        """The block of `old` goes on as `new`: nothing is asked of the allocator."""
        self._grown = None
        self._blocks[new] = self._blocks.pop(old)
        before, after = self.storages[old], self.storages[new]
        after.born, after.op = before.born, before.op
        before.died, before.freed_in = before.born, self.phase
        self.events[before.born] = new + 1

    def _storage(self, nbytes: int, op: str, module: str, role: Role) -> int:
        self.storages.append(Storage(nbytes, op, module, self.phase, len(self.events), role))
        return len(self.storages) - 1

    def _malloc(self, number: int) -> int:
        storage = self.storages[number]
        storage.born = len(self.events)
        self.events.append(number + 1)
        self._blocks[number] = self.allocator.malloc(storage.nbytes)
        if self.allocator.allocated > self.allocated.nbytes:
            self.allocated = Peak(storage.born, self.allocator.allocated)
        if self.allocator.reserved > self.reserved.nbytes:
            self.reserved = Peak(storage.born, self.allocator.reserved)
        return number

    def _free(self, number: int) -> None:
        storage = self.storages[number]
        storage.died, storage.freed_in = len(self.events), self.phase
        self.events.append(-(number + 1))
        self.allocator.free(self._blocks.pop(number))

    def empty_cache(self) -> None:
        self._settle()
        self.allocator.empty_cache()

    def clear(self, role: Role) -> None:
        """Releases all that is in use for `role`."""
        for number in [n for n in self._blocks if self.storages[n].role == role]:
            self.free(number)

    def reset_peaks(self) -> None:
        """Of the counters that a program reads; the tape's own peaks are of the whole run."""
        self._settle()
        a = self.allocator
        a.peak_allocated, a.peak_reserved = a.allocated, a.reserved

    def alive(self, event: int) -> Iterator[Storage]:
        """What is in use right after `event`, oldest first."""
        for s in self.storages:
            if s.born <= event and (s.died is None or s.died > event):
                yield s
