"""A forward pass as the allocator sees it: tensors are taken and dropped, and the peak is kept.

    peak     the most that is allocated at one time, and what it was made of
    held     a tensor: a block of the caching allocator under the name of a component

An engine writes its layers as programs over a `Heap`: `take` where an operation makes a tensor,
`drop` where the last reference to it goes. What lives together is decided there, never here. The
allocator is the replayed one (`allocator.py`), so rounding and fragmentation follow.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from weighbridge.allocator import Allocator, Block
from weighbridge.allocator.sequence import AlikeBlocks, give_back, several


class LiveTensor(NamedTuple):
    """One tensor that is alive, or as many `alike` that come and go together: their blocks are the
    first and `others`, with `spare` bytes that are not theirs."""

    name: str
    nbytes: int
    block: Block | None
    alike: int = 1
    spare: int = 0
    others: tuple[Block | None, ...] = ()

    @property
    def total(self) -> int:
        return self.nbytes * self.alike

    @property
    def together(self) -> AlikeBlocks:
        """What is held for all of the tensors alike."""
        return AlikeBlocks(self.spare, (self.block, *self.others))

    @classmethod
    def of(cls, name: str, nbytes: int, alike: int, held: AlikeBlocks) -> "LiveTensor":
        block, *others = held.blocks
        return cls(name, nbytes, block, alike, held.spare, tuple(others))


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
    """What is told of each tensor that comes and goes."""

    def taken(self, held: LiveTensor, stream: int) -> None: ...

    def dropped(self, held: LiveTensor) -> None: ...

    def renamed(self, held: LiveTensor, made: LiveTensor) -> None: ...


class Heap:
    """What one device holds. `capacity` is what the allocator can have of it, None for no end."""

    def __init__(self, capacity: int | None = None) -> None:
        self.watch: TensorWatch | None = None
        self.closed = False
        self.allocator = Allocator(capacity=capacity)
        self._live: dict[str, int] = {}
        self._most = 0
        self._at_most: dict[str, int] = {}

    def take(self, nbytes: int, name: str = "activations", stream: int = 0) -> LiveTensor:
        block = self.allocator.malloc(nbytes, stream)
        self._count(name, nbytes)
        held = LiveTensor(name, nbytes, block)
        if self.watch is not None:
            self.watch.taken(held, stream)
        return held

    def _count(self, name: str, nbytes: int) -> None:
        self._live[name] = self._live.get(name, 0) + nbytes
        if self.allocator.allocated > self._most:
            self._most = self.allocator.allocated
            self._at_most = self._live.copy()

    def many(self, count: int, nbytes: int, name: str = "activations") -> LiveTensor:
        """`count` tensors of `nbytes` each, that come and go together."""
        made = several(self.allocator, count, nbytes)
        self._count(name, nbytes * count)
        held = LiveTensor.of(name, nbytes, count, made)
        if self.watch is not None:
            self.watch.taken(held, 0)
        return held

    def again(self, nbytes: int, name: str, stream: int, alike: int) -> LiveTensor:
        """What was taken before, once more."""
        return self.take(nbytes, name, stream) if alike == 1 else self.many(alike, nbytes, name)

    @contextmanager
    def watched(self, by: TensorWatch | None) -> Iterator[None]:
        before, self.watch = self.watch, by
        try:
            yield
        finally:
            self.watch = before

    def drop(self, *gone: LiveTensor) -> None:
        for held in gone:
            if self.watch is not None:
                self.watch.dropped(held)
            if held.others or held.spare:
                give_back(self.allocator, held.together)
            else:
                self.allocator.free(held.block)
            self._live[held.name] -= held.total

    def close(self) -> None:
        """Stop following: nobody asks what is given back from here on."""
        self.closed = True

    def into(self, nbytes: int, *inputs: LiveTensor, name: str = "activations") -> LiveTensor:
        """The result of an operation whose inputs nobody needs any more."""
        made = self.take(nbytes, name)
        self.drop(*inputs)
        return made

    def passing(self, *sizes: int, name: str = "activations") -> None:
        """Tensors that live together for one moment."""
        self.drop(*[self.take(nbytes, name) for nbytes in sizes])

    def rename(self, held: LiveTensor, name: str) -> LiveTensor:
        """The same tensor, which from now on counts as another component."""
        self._live[held.name] -= held.total
        self._live[name] = self._live.get(name, 0) + held.total
        made = held._replace(name=name)
        if self.watch is not None:
            self.watch.renamed(held, made)
        return made

    def all(self, sizes: Iterable[int], name: str) -> tuple[LiveTensor, ...]:
        return tuple(self.take(nbytes, name) for nbytes in sizes)

    @property
    def most(self) -> int:
        """Bytes that were allocated at most in this phase."""
        return self._most

    def filled(self, most: int, by: dict[str, int]) -> None:
        """Set the fullest moment: `most` bytes were allocated when components had changed `by` as
        much from now."""
        self._most, self._at_most = most, _changed(self._live, by)

    def changed(self, by: dict[str, int]) -> None:
        """What components have, where the allocator was asked by somebody else."""
        self._live = _changed(self._live, by)

    def live(self, name: str) -> int:
        """Bytes of one component now."""
        return self._live.get(name, 0)

    def phase(self) -> LivePeak:
        """The peak since the last call; the next phase starts with what is alive now."""
        found = LivePeak(
            live={name: nbytes for name, nbytes in self._at_most.items() if nbytes},
            allocated=self._most,
            reserved=self.allocator.peak_reserved,
        )
        self._most, self._at_most = self.allocator.allocated, self._live.copy()
        return found


def _changed(live: dict[str, int], by: dict[str, int]) -> dict[str, int]:
    found = live.copy()
    for name, nbytes in by.items():
        found[name] = found.get(name, 0) + nbytes
    return found
