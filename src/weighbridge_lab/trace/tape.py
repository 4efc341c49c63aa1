"""The course of memory, in order: every storage with who made it, when, and why.

    tape.malloc(nbytes, ...) -> number    tape.free(number)    tape.grow(number, ...) -> number

A tape replays the allocator as it goes, so the counters are current: a script that calls
`torch.cuda.memory_allocated()` in the middle is answered from here. Torch-free.

`phase`, `stream` and the roles are set from outside. A request that the card cannot serve raises
the allocator's OutOfMemoryError, is kept in `refused`, and leaves the tape as it was. If `goes_on`
says so, it is served as if the card were larger, and so is all that follows.

A program may catch the error and try less: `recovered` says whether what was refused went through
later (tries.py).
"""

from array import array
from collections.abc import Callable, Iterator
from typing import Literal

from weighbridge.base.records import NamedTuple, dataclass, field
from weighbridge.base.units import MIB
from weighbridge.machines.allocator import Allocator, Block, OutOfMemory, OutOfMemoryError
from weighbridge_lab.trace.places import ScriptLine, line

Role = Literal[
    "weight",
    "buffer",
    "gradient",
    "optimizer state",
    "saved activation",
    "kv cache",
    "temporary",
    "input",
    "workspace",
]


@dataclass(slots=True)
class TracedStorage:
    """An allocation. `born` and `died` are event indexes; `died` is None while it is live, and
    `born` is after `died` if it never existed (Tape.grow)."""

    nbytes: int
    op: str
    module: str
    phase: str
    born: int
    role: Role = "temporary"
    died: int | None = None
    freed_in: str = ""  # the phase
    line: ScriptLine | None = None  # of the program, for large ones

    @property
    def lived(self) -> bool:
        """Return whether it ever existed: it was neither refused nor made in place of another."""
        return self.died is None or self.died >= self.born


class TapePeak(NamedTuple):
    """The event with the most bytes, and these bytes."""

    event: int
    nbytes: int


NOTHING = TapePeak(0, 0)
FORWARD = "forward", "eval", "backward"
TRAINING = "forward", "loss", "backward", "step"
LARGE = MIB  # bytes of a tensor whose line is recorded: finding it takes microseconds


class Refused(NamedTuple):
    """A request that did not fit, and the allocator's report of it."""

    event: int  # that it would have been
    storage: TracedStorage
    report: OutOfMemory


class StoragePart(NamedTuple):
    """The bytes of a storage that a tensor covers, from `offset` on."""

    number: int
    offset: int
    nbytes: int


class OperationUse(NamedTuple):
    """An operation by its storages: those it read and those it returned."""

    event: int  # the first that it made, or the next one
    op: str
    backward: bool
    reads: tuple[StoragePart, ...]
    writes: tuple[StoragePart, ...]


def _mark_saved(storage: TracedStorage) -> None:
    """Mark a storage that forward made and backward still finds as saved for backward."""
    if storage.role == "temporary" and storage.phase in ("forward", "loss"):
        storage.role = "saved activation"


def _bytes() -> "array[int]":
    return array("q")


@dataclass(slots=True)
class Tape:
    """The events of one device. They are storage numbers: n + 1 if n is allocated, -(n + 1) if it
    is released. `levels` and `reserves`: the allocated and the reserved bytes after each."""

    allocator: Allocator = field(default_factory=Allocator)
    begin: Callable[[], None] = lambda: None  # called before the first request
    goes_on: Callable[[OutOfMemory], bool] = lambda _: False  # on a larger card, after a refusal
    storages: list[TracedStorage] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    levels: "array[int]" = field(default_factory=_bytes)
    reserves: "array[int]" = field(default_factory=_bytes)
    phase: str = "load"
    stream: int = 0
    allocated: TapePeak = NOTHING
    reserved: TapePeak = NOTHING
    refused: list[Refused] = field(default_factory=list)
    uses: list[OperationUse] = field(default_factory=list)  # recorded once something is compiled
    outgrown: bool = False  # the card's limit was lifted: nothing is refused any more
    _blocks: dict[int, Block | None] = field(default_factory=dict)
    _grown: tuple[int, int] | None = None  # (new, old): made by an addition that may be in place

    def malloc(self, nbytes: int, *, op: str, module: str = "", role: Role = "temporary") -> int:
        self.settle()
        return self._malloc(self._storage(nbytes, op, module, role))

    def free(self, number: int) -> None:
        """Release a storage. For a refused request nothing happens."""
        if self._grown is not None and self._grown[1] == number:
            self._moved(*self._grown)
            return
        self.settle()
        self._free(number)

    def grow(self, old: int, nbytes: int, *, op: str, module: str = "") -> int:
        """Record a sum of gradients. The real engine adds into `old` if nothing else holds it: then
        `old` is released right after, and the sum is `old` under another name."""
        self.settle()
        new = self._storage(nbytes, op, module, "temporary")
        self._grown = (new, old)
        return new

    def settle(self) -> None:
        """Carry out a waiting sum. Only the release of `old` may come between a sum and its being
        made in place."""
        if self._grown is not None:
            new, self._grown = self._grown[0], None
            self._malloc(new)

    def record_stream(self, number: int, stream: int) -> None:
        """Record that a stream uses a storage, as torch.Tensor.record_stream does.

        The device keeps up with its program here: what has been given back need not wait for the
        stream, but while a graph is captured. An H100 reserved 0.5 to 1.1 % more than this says for
        ZeRO-3, and 1.4 to 4.5 % for FSDP1; if all waited, we would say up to 2.4 times as much as
        it took (tests/golden/h100_ranks.jsonl).
        """
        self.settle()
        block = self._blocks.get(number)
        if block is not None and self.allocator.captures.capturing:
            self.allocator.record_stream(block, stream)

    def empty_cache(self) -> None:
        self.settle()
        self.allocator.empty_cache()

    def release(self, role: Role) -> None:
        """Release all storages of `role`."""
        for number in [n for n in self._blocks if self.storages[n].role == role]:
            self.free(number)

    @property
    def recovered(self) -> bool:
        """Return whether the program recovered: work of the kind whose request was refused last
        began again later, without a refused request."""
        if not self.refused or self.outgrown:
            return False
        event, request, _ = self.refused[-1]
        trains = any(storage.phase == "backward" for storage in self.storages)
        after = ("backward",) if trains and request.phase in TRAINING else FORWARD
        return any(one.born >= event and one.phase in after and one.lived for one in self.storages)

    def reset_peak(self) -> None:
        """Reset the peaks that a program can read; `allocated` and `reserved` stay those of the
        whole run."""
        self.settle()
        self.allocator.reset_peak()
        if self.allocator.journal is not None:
            self.allocator.journal.reset_peak()

    def alive(self, event: int) -> Iterator[TracedStorage]:
        """Yield the storages in use right after `event`, oldest first."""
        for storage in self.storages:
            if storage.born <= event and (storage.died is None or storage.died > event):
                yield storage

    def _moved(self, new: int, old: int) -> None:
        """Let `new` take over the block of `old`, without a request to the allocator."""
        self._grown = None
        if old not in self._blocks:  # refused
            self._malloc(new)
            return
        self._blocks[new] = self._blocks.pop(old)
        before, after = self.storages[old], self.storages[new]
        after.born, after.op, after.nbytes = before.born, before.op, before.nbytes
        after.module, after.phase, after.line = before.module, before.phase, before.line
        before.died = before.born - 1
        self.events[before.born] = new + 1

    def _storage(self, nbytes: int, op: str, module: str, role: Role) -> int:
        storage = TracedStorage(nbytes, op, module, self.phase, len(self.events), role)
        if nbytes >= LARGE:
            storage.line = line()
        self.storages.append(storage)
        return len(self.storages) - 1

    def _malloc(self, number: int) -> int:
        storage, allocator = self.storages[number], self.allocator
        if not self.events:
            self.begin()
        storage.born = len(self.events)
        try:
            self._blocks[number] = allocator.malloc(storage.nbytes, self.stream)
        except OutOfMemoryError as error:
            if not self._outgrows(number, error.report):
                raise
        self._event(number + 1)
        if allocator.allocated > self.allocated.nbytes:
            self.allocated = TapePeak(storage.born, allocator.allocated)
        if allocator.reserved > self.reserved.nbytes:
            self.reserved = TapePeak(storage.born, allocator.reserved)
        return number

    def _outgrows(self, number: int, report: OutOfMemory) -> bool:
        """Record a request that did not fit; if `goes_on` says so, serve it as on a larger card.

        `report` comes without its error: one that a frame of its own traceback holds, and all that
        those frames hold, would wait for the collector of cycles.
        """
        storage = self.storages[number]
        storage.line = line()
        self.refused.append(Refused(storage.born, storage, report))
        if self.goes_on(report):
            self.outgrown = True
            self.allocator.unbounded()
            self._blocks[number] = self.allocator.malloc(storage.nbytes, self.stream)
            return True
        storage.died = storage.born - 1
        for alive in self._blocks:
            _mark_saved(self.storages[alive])
        return False

    def _free(self, number: int) -> None:
        if number not in self._blocks:
            return
        storage = self.storages[number]
        storage.died, storage.freed_in = len(self.events), self.phase
        if self.phase == "backward":
            _mark_saved(storage)
        self.allocator.free(self._blocks.pop(number))
        self._event(-(number + 1))

    def _event(self, signed: int) -> None:
        self.events.append(signed)
        self.levels.append(self.allocator.allocated)
        self.reserves.append(self.allocator.reserved)
