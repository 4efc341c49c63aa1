"""A forward pass as the allocator sees it: tensors are taken and dropped, and the peak is kept.

    peak     the most that is allocated at one time, and what it was made of
    held     a tensor: a block of the caching allocator under the name of a component

An engine writes its layers as programs over a `Heap`: `take` where an operation makes a tensor,
`drop` where the last reference to it goes. What lives together is decided there, never here. The
allocator is the replayed one (`machines.allocator`), so rounding and fragmentation follow.

A course is a stretch of a program that runs again and again: tensors come and go as others did
before, under the same names. What components have at each of its moments is known beforehand.

    (slot, bytes, stream, component)    one is taken
    (slot, DROPPED, 0, "")              it is given back
    (slot, RENAMED, 0, component)       it counts as another component

Of tensors alike that come and go together the bytes are those of one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from weighbridge.base.records import NamedTuple, dataclass
from weighbridge.base.units import align_up
from weighbridge.machines.allocator import Allocator, Block
from weighbridge.machines.allocator.options import DEFAULT, MIN_BLOCK, AllocatorOptions
from weighbridge.machines.allocator.sequence import (
    AlikeBlocks,
    RequestOps,
    Slot,
    follow,
    give_back,
    ready,
    several,
)
from weighbridge.memory.components.card_bytes import nothing

# What a heap notes of what it is asked for; a number is a tensor that is given back, by its place
TAKE, PASS, MANY, ROW, NAME, RUN, PHASE, LIVE, EMPTY = range(9)


class LiveTensor(NamedTuple):
    """One tensor that is alive, or as many `alike` that come and go together: their blocks are the
    first and `others`, with `spare` bytes that are not theirs."""

    name: str
    nbytes: int
    block: Block | None
    alike: int = 1
    spare: int = 0
    others: tuple[Block | None, ...] = ()
    place: int = 0  # among all that were taken

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePeak:
    """The fullest moment: bytes of tensors by component, and what the allocator counted."""

    live: dict[str, int]
    allocated: int
    reserved: int  # the most up to here, which need not be at this moment

    @property
    def rounding(self) -> int:
        return self.allocated - sum(self.live.values())

    @property
    def fragmentation(self) -> int:
        return self.reserved - self.allocated


class TensorWatch(Protocol):
    """An observer of each tensor that comes and goes."""

    def taken(self, tensor: LiveTensor, stream: int) -> None: ...

    def dropped(self, tensor: LiveTensor) -> None: ...

    def renamed(self, tensor: LiveTensor, renamed: LiveTensor) -> None: ...


class TensorHeap(ABC):
    """Tensors of one device that come and go."""

    def __init__(self) -> None:
        self.watch: TensorWatch | None = None
        self.closed = False
        self.notes: list[Any] | None = None
        self._live: dict[str, int] = {}
        self._most = 0
        self._at_most: dict[str, int] = {}

    @abstractmethod
    def take(self, nbytes: int, name: str = "activations", stream: int = 0) -> LiveTensor:
        """Take one tensor."""

    @abstractmethod
    def many(self, count: int, nbytes: int, name: str = "activations") -> LiveTensor:
        """Take `count` tensors of `nbytes` each, that come and go together."""

    @abstractmethod
    def drop(self, *gone: LiveTensor) -> None:
        """Give tensors back."""

    @abstractmethod
    def run(self, course: "HeapCourse", slots: list[Any]) -> bool:
        """Run a course. Returns False, and does nothing, where it cannot be run as a whole."""

    @abstractmethod
    def phase(self) -> LivePeak:
        """Return the peak since the last call; the next phase starts with what is alive now."""

    @abstractmethod
    def nothing(self, nbytes: int, name: str) -> LiveTensor:
        """Return a tensor of no bytes on this card, of which nothing is counted."""

    @abstractmethod
    def emptied(self) -> None:
        """Give the driver what is cached, as torch.cuda.empty_cache does."""

    def again(self, nbytes: int, name: str, stream: int, alike: int = 1) -> LiveTensor:
        """Take once more, on a stream, what was taken before: one tensor, or several alike."""
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
        """Stop following: nobody asks what is given back from here on."""
        self.closed = True

    def into(self, nbytes: int, *inputs: LiveTensor, name: str = "activations") -> LiveTensor:
        """Take the result of an operation whose inputs nobody needs any more, and drop these."""
        tensor = self.take(nbytes, name)
        self.drop(*inputs)
        return tensor

    def passing(self, *sizes: int, name: str = "activations") -> None:
        """Take tensors that live together for one moment, and drop them."""
        self.drop(*[self.nothing(n, name) if nothing(n) else self.take(n, name) for n in sizes])

    def rename(self, tensor: LiveTensor, name: str) -> LiveTensor:
        """Let a tensor count as another component from now on."""
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
        """Take one tensor after the other, thousands of them."""
        return tuple(self.take(nbytes, name, 0) for nbytes in sizes)

    @property
    def most(self) -> int:
        """Return the bytes that were allocated at most in this phase."""
        return self._most

    def filled(self, most: int, by: dict[str, int]) -> None:
        """Set the fullest moment: `most` bytes were allocated when components had changed `by` as
        much from now."""
        self._most, self._at_most = most, _changed(self._live, by)

    def changed(self, by: dict[str, int]) -> None:
        """Change the bytes of components, where the allocator was asked by somebody else."""
        self._live = _changed(self._live, by)

    def live(self, name: str) -> int:
        """Return the bytes of one component now."""
        if self.notes is not None:
            self.notes.append((LIVE, name))
        return self._live.get(name, 0)


class Heap(TensorHeap):
    """The memory of one device with the replayed allocator. `capacity` is what that can have of it,
    None for no end. What is asked of it is put down in `notes`, if there are some (recorded.py)."""

    def __init__(
        self,
        capacity: int | None = None,
        options: AllocatorOptions = DEFAULT,
        notes: list[Any] | None = None,
    ) -> None:
        super().__init__()
        self.allocator = Allocator(options, capacity=capacity)
        self.notes = notes
        self._next = 0  # place of a tensor

    def take(self, nbytes: int, name: str = "activations", stream: int = 0) -> LiveTensor:
        allocator, live = self.allocator, self._live
        block = allocator.malloc(nbytes, stream)
        live[name] = live.get(name, 0) + nbytes
        if allocator.allocated > self._most:
            self._most, self._at_most = allocator.allocated, live.copy()
        tensor = LiveTensor(name, nbytes, block, 1, 0, (), self._next)
        self._next += 1
        if self.notes is not None:
            self.notes.append((TAKE, nbytes, name, stream))
        if self.watch is not None:
            self.watch.taken(tensor, stream)
        return tensor

    def row(self, sizes: Iterable[int], name: str) -> tuple[LiveTensor, ...]:
        """Take them in a row: the last moment is the fullest, so components are counted once."""
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

    def place(self) -> int:
        """Return the place of a tensor that is taken now."""
        self._next += 1
        return self._next - 1

    def nothing(self, nbytes: int, name: str) -> LiveTensor:
        if self.notes is not None:
            self.notes.append((TAKE, nbytes, name, 0))
        tensor = LiveTensor(name, nbytes, None, place=self.place())
        if self.watch is not None:
            self.watch.taken(tensor, 0)
        return tensor

    def passing(self, *sizes: int, name: str = "activations") -> None:
        notes, self.notes, before = self.notes, None, self._next
        super().passing(*sizes, name=name)
        self.notes, self._next = notes, before  # nothing is there of it
        if notes is not None:
            notes.append((PASS, sizes, name))

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

    def emptied(self) -> None:
        if self.notes is not None:
            self.notes.append((EMPTY,))
        self.allocator.empty_cache()

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


# ---- Courses

Move = tuple[int, int, int, str]
DROPPED, RENAMED = -1, -2
Live = dict[str, int]


class CourseSums(NamedTuple):
    """Rounded bytes of a course's tensors: the most beyond those at its beginning, those that it
    leaves beyond them, and by how much components have changed where it is fullest."""

    most: int
    net: int
    fullest: Live


class HeapCourse:
    """Moves of tensors by slots. `names` are those of what is there at the beginning, with their
    bytes; all of it is gone in the end. `alike`: of slots with several tensors, how many."""

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
        """Run the course. Returns False, and does nothing, where options of the allocator bend what
        serves a request, or where other tensors are there."""
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
        """Return the course where tensors have other sizes; itself where they have none."""
        moves = [(at, n if n < 0 else sized(n), stream, to) for at, n, stream, to in self._all]
        names = {slot: (name, sized(n)) for slot, (name, n) in self.names.items()}
        same = moves == self._all and names == self.names
        return self if same else HeapCourse(moves, names, self._alike)

    @property
    def ends(self) -> Iterable[int]:
        """Return the slots that it leaves something in."""
        return self._ends

    def begins(self, slots: list[Any]) -> bool:
        """Tell whether what is there is what this was made for."""
        return all(self._is(slots[slot], slot) for slot in self.names)

    def counted(self, heap: TensorHeap, slots: list[Any]) -> None:
        """Run the course where nobody asks for blocks."""
        self._over(heap, slots, [None] * len(slots), lambda: 0)

    def _over(
        self,
        heap: TensorHeap,
        slots: list[Any],
        blocks: Sequence[Slot],
        place: Callable[[], int],
    ) -> None:
        """Leave behind what is there in the end."""
        heap.changed(self._live)
        for gone in self.names:
            slots[gone] = None
        for slot, (name, nbytes) in self._ends.items():
            alike = self._alike.get(slot, 1)
            slots[slot] = _live(name, nbytes, alike, blocks[slot], place())

    @property
    def sums(self) -> "CourseSums":
        """How many bytes it takes at most and leaves, counted by tensors alone."""
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
        """Tell whether the tensor at the beginning is the one that this was made for."""
        named = tensor.name, tensor.nbytes
        return named == self.names[slot] and tensor.alike == self._alike.get(slot, 1)

    def _until(self, taken: int | None) -> tuple[dict[int, tuple[str, int]], Live]:
        """Return what is there when that slot is taken, or in the end; and by how much components
        have changed since the beginning."""
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
    return LiveTensor(name, nbytes, block, alike, 0, (), place)
