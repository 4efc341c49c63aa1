"""A forward pass as the allocator sees it: tensors are allocated and freed, and the peak is kept.

    peak     the most that is allocated at one time, by component
    tensor   a block of the caching allocator, under the name of a component

An engine writes its layers as programs over a `Heap`: `take` if an operation makes a tensor, `drop`
if its last reference goes. The program decides what lives together, this module never does. The
allocator is replayed (`machines.allocator`), so rounding and fragmentation follow.

`nbytes` of several tensors alike, which come and go together, is that of one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from weighbridge.base.errors import OutOfMemoryError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.machines.allocator import Allocator, Block
from weighbridge.machines.allocator.options import DEFAULT, AllocatorOptions
from weighbridge.machines.allocator.sequence import (
    AlikeBlocks,
    give_back,
    several,
)
from weighbridge.memory.components.card_bytes import nothing

if TYPE_CHECKING:
    from weighbridge.memory.components.courses import HeapCourse

# Kinds of a heap's notes (recorded.py); a bare number is a tensor that is freed, by its place
TAKE, PASS, MANY, ROW, NAME, RUN, PHASE, LIVE, EMPTY, RESERVE = range(10)


class LiveTensor(NamedTuple):
    """A live tensor, or `alike` equal ones that are allocated and freed together. Their blocks are
    `block` and `others`, with `spare` unused bytes."""

    name: str
    nbytes: int
    block: Block | None
    alike: int = 1
    spare: int = 0
    others: tuple[Block | None, ...] = ()
    place: int = 0  # its number in the order of allocation

    @property
    def total(self) -> int:
        return self.nbytes * self.alike if self.alike > 1 else self.nbytes

    @property
    def together(self) -> AlikeBlocks:
        """Return the blocks of all the tensors alike."""
        return AlikeBlocks(self.spare, (self.block, *self.others))

    @classmethod
    def of(
        cls, name: str, nbytes: int, alike: int, blocks: AlikeBlocks, place: int
    ) -> "LiveTensor":
        block, *others = blocks.blocks
        return cls(name, nbytes, block, alike, blocks.spare, tuple(others), place)


made = tuple.__new__  # creates a LiveTensor from all its fields, in less than half the time


@frozen_record
class LivePeak:
    """The peak of a phase: tensor bytes by component, and the allocator's counts in bytes."""

    live: dict[str, int]
    allocated: int
    reserved: int  # the most so far, perhaps not at this moment

    @property
    def rounding(self) -> int:
        return self.allocated - sum(self.live.values())

    @property
    def fragmentation(self) -> int:
        return self.reserved - self.allocated


def keep_fullest(moments: dict[str, LivePeak], phase: str, peak: LivePeak) -> None:
    """Store `peak` under its phase in `moments`, if it allocates more than the stored one."""
    before = moments.get(phase)
    if before is None or peak.allocated > before.allocated:
        moments[phase] = peak


class TensorWatch(Protocol):
    """An observer of each tensor that is allocated, freed or renamed."""

    def taken(self, tensor: LiveTensor, stream: int) -> None: ...

    def dropped(self, tensor: LiveTensor) -> None: ...

    def renamed(self, tensor: LiveTensor, renamed: LiveTensor) -> None: ...


class TensorHeap(ABC):
    """The tensors of one device, allocated and freed. `notes`, unless None, records each call
    (recorded.py)."""

    def __init__(self, notes: list[Any] | None = None) -> None:
        self.watch: TensorWatch | None = None
        self.closed = False
        self.notes = notes
        self._next = 0  # place of the next tensor
        self._live: dict[str, int] = {}
        self._most = 0
        self._at_most: dict[str, int] = {}

    @property
    def state(self) -> tuple[Any, ...]:
        """Return a key of all that decides where the next tensors are; without an allocator it
        equals no other."""
        return (object(),)

    @abstractmethod
    def take(self, nbytes: int, name: str = "activations", stream: int = 0) -> LiveTensor:
        """Allocate one tensor of `nbytes` and return it."""

    @abstractmethod
    def many(self, count: int, nbytes: int, name: str = "activations") -> LiveTensor:
        """Allocate `count` equal tensors of `nbytes` each, which are freed together."""

    @abstractmethod
    def drop(self, *gone: LiveTensor) -> None:
        """Free tensors."""

    @abstractmethod
    def run(self, course: "HeapCourse", slots: list[Any]) -> bool:
        """Run a course. Return False, without any effect, if it cannot be run as a whole."""

    @abstractmethod
    def phase(self) -> LivePeak:
        """Return the peak since the last call; the next phase begins with the tensors live now."""

    @abstractmethod
    def emptied(self, *, anew: bool = False) -> None:
        """Release cached segments to the driver, as torch.cuda.empty_cache does; `anew`: also reset
        the peak of reserved bytes, as reset_peak_memory_stats does."""

    def reserve(self, sizes: Sequence[int], stream: int) -> None:
        """Leave free blocks of `sizes` on a stream, as tensors outside the program would. Without
        blocks it has no effect."""
        if self.notes is not None:
            self.notes.append((RESERVE, sizes, stream))

    def again(self, nbytes: int, name: str, stream: int, alike: int = 1) -> LiveTensor:
        """Allocate a tensor on a stream, or `alike` equal ones, as a recorded program did."""
        if nothing(nbytes):
            return self.nothing(nbytes, name)
        return self.take(nbytes, name, stream) if alike == 1 else self.many(alike, nbytes, name)

    @contextmanager
    def watched(self, by: TensorWatch | None) -> Iterator[None]:
        before, self.watch = self.watch, by
        try:
            yield
        finally:
            self.watch = before

    def close(self) -> None:
        """Close the heap: tensors freed from now on are not freed in it."""
        self.closed = True

    def into(self, nbytes: int, *inputs: LiveTensor, name: str = "activations") -> LiveTensor:
        """Allocate the result of an operation, then free its `inputs`, which nothing uses any
        more."""
        tensor = self.take(nbytes, name)
        self.drop(*inputs)
        return tensor

    def place(self) -> int:
        """Return the place of a tensor that is allocated now."""
        self._next += 1
        return self._next - 1

    def nothing(self, nbytes: int, name: str) -> LiveTensor:
        """Return a tensor that is not counted, as its size is 0 on this card."""
        if self.notes is not None:
            self.notes.append((TAKE, nbytes, name, 0))
        tensor = LiveTensor(name, nbytes, None, place=self.place())
        if self.watch is not None:
            self.watch.taken(tensor, 0)
        return tensor

    def passing(self, *sizes: int, name: str = "activations") -> None:
        """Allocate tensors that live together for one moment, and free them."""
        notes, self.notes, before = self.notes, None, self._next
        self.drop(*[self.nothing(n, name) if nothing(n) else self.take(n, name) for n in sizes])
        self.notes, self._next = notes, before  # its tensors have no places
        if notes is not None:
            notes.append((PASS, sizes, name))

    def rename(self, tensor: LiveTensor, name: str) -> LiveTensor:
        """Count a tensor as another component from now on."""
        self._live[tensor.name] -= tensor.total
        self._live[name] = self._live.get(name, 0) + tensor.total
        renamed = tensor._replace(name=name)
        if self.notes is not None:
            self.notes.append((NAME, tensor.place, name))
        if self.watch is not None:
            self.watch.renamed(tensor, renamed)
        return renamed

    def all(self, sizes: Iterable[int], name: str) -> tuple[LiveTensor, ...]:
        return tuple(self.take(nbytes, name) for nbytes in sizes)

    def row(self, sizes: Iterable[int], name: str) -> tuple[LiveTensor, ...]:
        """Allocate tensors one after another; there may be thousands."""
        return tuple(self.take(nbytes, name, 0) for nbytes in sizes)

    @property
    def most(self) -> int:
        """Return the most bytes allocated in this phase so far."""
        return self._most

    def filled(self, most: int, by: dict[str, int]) -> None:
        """Set the peak of this phase: `most` bytes, with components changed `by` these bytes from
        now."""
        self._most, self._at_most = most, _changed(self._live, by)

    def changed(self, by: dict[str, int]) -> None:
        """Change the bytes of components after other code has used the allocator directly."""
        self._live = _changed(self._live, by)

    def live(self, name: str) -> int:
        """Return the bytes of one component now."""
        if self.notes is not None:
            self.notes.append((LIVE, name))
        return self._live.get(name, 0)


class Heap(TensorHeap):
    """The memory of one device with the replayed allocator. `capacity`: bytes that it can have of
    the device, None for no limit."""

    def __init__(
        self,
        capacity: int | None = None,
        options: AllocatorOptions = DEFAULT,
        notes: list[Any] | None = None,
    ) -> None:
        super().__init__(notes)
        self.allocator = Allocator(options, capacity=capacity)

    def take(self, nbytes: int, name: str = "activations", stream: int = 0) -> LiveTensor:
        allocator, live = self.allocator, self._live
        block = allocator.malloc(nbytes, stream)
        live[name] = live.get(name, 0) + nbytes
        if allocator.allocated > self._most:
            self._most, self._at_most = allocator.allocated, live.copy()
        tensor = made(LiveTensor, (name, nbytes, block, 1, 0, (), self._next))
        self._next += 1
        if self.notes is not None:
            self.notes.append((TAKE, nbytes, name, stream))
        if self.watch is not None:
            self.watch.taken(tensor, stream)
        return tensor

    def row(self, sizes: Iterable[int], name: str) -> tuple[LiveTensor, ...]:
        """Allocate tensors one after another; components are counted once, since the peak is at the
        end."""
        sizes = tuple(sizes)
        if self.watch is not None or not sizes:
            return super().row(sizes, name)
        blocks = tuple(map(self.allocator.malloc, sizes))
        self._count(name, sum(sizes))
        if self.notes is not None:
            self.notes.append((ROW, sizes, name))
        return tuple(
            LiveTensor(name, n, block, place=self.place())
            for n, block in zip(sizes, blocks, strict=True)
        )

    @property
    def state(self) -> tuple[Any, ...]:
        """Return the allocator's free blocks, which decide where the next tensors lie."""
        return self.allocator.state

    def _count(self, name: str, nbytes: int) -> None:
        self._live[name] = self._live.get(name, 0) + nbytes
        if self.allocator.allocated > self._most:
            self._most = self.allocator.allocated
            self._at_most = self._live.copy()

    def many(self, count: int, nbytes: int, name: str = "activations") -> LiveTensor:
        blocks = several(self.allocator, count, nbytes)
        self._count(name, nbytes * count)
        tensors = LiveTensor.of(name, nbytes, count, blocks, self.place())
        if self.notes is not None:
            self.notes.append((MANY, count, nbytes, name))
        if self.watch is not None:
            self.watch.taken(tensors, 0)
        return tensors

    def drop(self, *gone: LiveTensor) -> None:
        for tensor in gone:
            if self.watch is not None:
                self.watch.dropped(tensor)
            name, nbytes, block, alike, spare, others, place = tensor
            if self.notes is not None:
                self.notes.append(place)
            if others or spare:
                give_back(self.allocator, tensor.together)
            else:
                self.allocator.free(block)
            if nbytes:
                self._live[name] -= nbytes * alike

    def run(self, course: "HeapCourse", slots: list[Any]) -> bool:
        begin = [slots[slot].place for slot in course.names] if self.notes is not None else ()
        ran = course.run(self, slots)
        if ran and self.notes is not None:
            self.notes.append((RUN, course, len(slots), begin))
        return ran

    def reserve(self, sizes: Sequence[int], stream: int) -> None:
        super().reserve(sizes, stream)
        blocks: list[Block | None] = []
        with suppress(OutOfMemoryError):  # a full card reclaims what is cached
            for nbytes in sizes:
                blocks.append(self.allocator.malloc(nbytes, stream))  # noqa: PERF401  # as far as it goes
        for block in blocks:
            self.allocator.free(block)

    def emptied(self, *, anew: bool = False) -> None:
        if self.notes is not None:
            self.notes.append((EMPTY, anew))
        self.allocator.empty_cache()
        if anew:
            self.allocator.reset_peak()

    def phase(self) -> LivePeak:
        if self.notes is not None:
            self.notes.append((PHASE,))
        peak = LivePeak(
            live={name: nbytes for name, nbytes in self._at_most.items() if nbytes},
            allocated=self._most,
            reserved=self.allocator.peak_reserved,
        )
        self._most, self._at_most = self.allocator.allocated, self._live.copy()
        return peak


def _changed(live: dict[str, int], by: dict[str, int]) -> dict[str, int]:
    changed = live.copy()
    for name, nbytes in by.items():
        changed[name] = changed.get(name, 0) + nbytes
    return changed
