"""A forward pass as the allocator sees it: tensors are taken and dropped, and the peak is kept.

    peak     the most that is allocated at one time, and what it was made of
    held     a tensor: a block of the caching allocator under the name of a component

An engine writes its layers as programs over a `Heap`: `take` where an operation makes a tensor,
`drop` where the last reference to it goes. What lives together is decided there, never here. The
allocator is the replayed one (`allocator.py`), so rounding and fragmentation follow.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from weighbridge.allocator import Allocator, Block


class Held(NamedTuple):
    """One tensor that is alive."""

    name: str
    nbytes: int
    block: Block | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
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


class Heap:
    """What one device holds. `capacity` is what the allocator can have of it, None for no end."""

    def __init__(self, capacity: int | None = None) -> None:
        self._allocator = Allocator(capacity=capacity)
        self._live: dict[str, int] = {}
        self._most = 0
        self._at_most: dict[str, int] = {}

    def take(self, nbytes: int, name: str = "activations", stream: int = 0) -> Held:
        block = self._allocator.malloc(nbytes, stream)
        self._live[name] = self._live.get(name, 0) + nbytes
        if self._allocator.allocated > self._most:
            self._most = self._allocator.allocated
            self._at_most = self._live.copy()
        return Held(name, nbytes, block)

    def drop(self, *gone: Held) -> None:
        for held in gone:
            self._allocator.free(held.block)
            self._live[held.name] -= held.nbytes

    def into(self, nbytes: int, *inputs: Held, name: str = "activations") -> Held:
        """The result of an operation whose inputs nobody needs any more."""
        made = self.take(nbytes, name)
        self.drop(*inputs)
        return made

    def passing(self, *sizes: int, name: str = "activations") -> None:
        """Tensors that live together for one moment."""
        self.drop(*[self.take(nbytes, name) for nbytes in sizes])

    def rename(self, held: Held, name: str) -> Held:
        """The same tensor, which from now on counts as another component."""
        self._live[held.name] -= held.nbytes
        self._live[name] = self._live.get(name, 0) + held.nbytes
        return held._replace(name=name)

    def all(self, sizes: Iterable[int], name: str) -> tuple[Held, ...]:
        return tuple(self.take(nbytes, name) for nbytes in sizes)

    def live(self, name: str) -> int:
        """Bytes of one component now."""
        return self._live.get(name, 0)

    def phase(self) -> Peak:
        """The peak since the last call; the next phase starts with what is alive now."""
        found = Peak(
            live={name: nbytes for name, nbytes in self._at_most.items() if nbytes},
            allocated=self._most,
            reserved=self._allocator.peak_reserved,
        )
        self._most, self._at_most = self._allocator.allocated, self._live.copy()
        return found
