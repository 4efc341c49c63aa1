"""The vocabulary of an answer: components, the phases in which they live, and devices.

The peak of a device is the maximum over phases of the sum of that phase's components, never a sum
of maxima. Levels nest: a component counts at its own level and at every higher one.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Literal

from weighbridge.base.records import NamedTuple, dataclass

Level = Literal["allocated", "reserved", "driver"]
LEVELS: tuple[Level, ...] = ("allocated", "reserved", "driver")
Basis = Literal["read", "computed", "traced", "measured", "assumed"]
DeviceKind = Literal["gpu", "host", "disk"]

# The level at which a component first counts: contract of the report.
LEVEL_OF: dict[str, Level] = {
    "weights": "allocated",
    "buffers": "allocated",
    "kv_cache": "allocated",
    "recurrent_state": "allocated",
    "activations": "allocated",
    "logits": "allocated",
    "gradients": "allocated",
    "optimizer_states": "allocated",
    "master_weights": "allocated",
    "adapters": "allocated",
    "temporaries": "allocated",
    "workspaces": "allocated",
    "rounding": "allocated",
    "fragmentation": "reserved",
    "context": "driver",
    "communication": "driver",
    "cuda_graphs": "driver",
    "other": "driver",
}


WHILE = {"load": "while loading", "save": "while saving", "step": "in a step", "sleep": "asleep"}


def when(phase: str) -> str:
    """Say in words when a phase is."""
    return WHILE.get(phase, f"in {phase}")


class Bytes(NamedTuple):
    """A number of bytes that we expect, and the bounds that we would be surprised to see it
    leave."""

    low: int
    expected: int
    high: int

    def plus(self, other: "Bytes") -> "Bytes":
        return Bytes(self.low + other.low, self.expected + other.expected, self.high + other.high)

    @property
    def exact(self) -> bool:
        return self.low == self.high


def exactly(nbytes: int) -> Bytes:
    return Bytes(nbytes, nbytes, nbytes)


def total(parts: Iterable[Bytes]) -> Bytes:
    low = expected = high = 0
    for part in parts:
        low, expected, high = low + part[0], expected + part[1], high + part[2]
    return Bytes(low, expected, high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One reason for memory to be in use, and how we know. `droppable`: pages of files, which the
    kernel keeps as long as nobody else asks for the room."""

    name: str
    bytes: Bytes
    basis: Basis
    detail: str = ""
    formula: str = ""
    source: str = ""
    droppable: bool = False

    @property
    def level(self) -> Level:
        return LEVEL_OF[self.name]


NamedBytes = tuple[str, Bytes]  # a component's name and bytes alone


@dataclass(frozen=True)
class Instant:
    """A moment whose components are alive together. Ranks that are alike have the same one, which
    adds up its components once."""

    name: str
    components: tuple[Component, ...]

    @property
    def parts(self) -> list[NamedBytes]:
        return [(c.name, c.bytes) for c in self.components]

    def at(self, level: Level) -> Bytes:
        """Return the sum of all components that count at `level`."""
        return self._sums[level]

    @cached_property
    def _sums(self) -> dict[Level, Bytes]:
        by_level: dict[Level, list[Bytes]] = {level: [] for level in LEVELS}
        for c in self.components:
            by_level[c.level].append(c.bytes)
        below, sums = exactly(0), {}
        for level in LEVELS:
            below = sums[level] = total((below, *by_level[level]))
        return sums

    @property
    def needed(self) -> Bytes:
        """Return the sum of all that the kernel cannot drop."""
        return total(c.bytes for c in self.components if not c.droppable)

    @property
    def droppable(self) -> Bytes:
        """Return the sum of pages of files, which the kernel drops where memory is short."""
        return total(c.bytes for c in self.components if c.droppable)


class Exact(NamedTuple):
    """Each phase by the closed form, and as the real class was traced."""

    phases: tuple[tuple[Instant, Instant], ...]
    source: str


def compared(one: Instant, other: Instant) -> Iterator[tuple[str, int, int]]:
    """(component, expected bytes in one phase and in the other), in the order of levels."""
    sums: list[dict[str, int]] = []
    for phase in (one, other):
        by_name: dict[str, int] = {}
        for c in phase.components:
            by_name[c.name] = by_name.get(c.name, 0) + c.bytes.expected
        sums.append(by_name)
    for name in LEVEL_OF:
        a, b = (by_name.get(name, 0) for by_name in sums)
        if a or b:
            yield name, a, b


def _fullness(phase: Instant) -> tuple[int, int, int]:
    """Order phases by the bytes that the driver is expected to show; where an allocator keeps what
    another phase had reserved, by what tensors take; then by what may be."""
    driver = phase.at("driver")
    return driver.expected, phase.at("allocated").expected, driver.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator, or the host."""

    index: int
    kind: DeviceKind
    phases: tuple[Instant, ...]
    taken: int | None = None  # what an engine reserves by policy, beyond what it needs
    taken_at_least: int | None = None  # where it is a share of what is free: of the least
    exact: Exact | None = None  # of a device whose phases were traced

    def peak(self, level: Level) -> Bytes:
        sums = [phase.at(level) for phase in self.phases]
        return Bytes(*(max(values) for values in zip(*sums, strict=True)))

    @property
    def peak_phase(self) -> str:
        """Name the phase whose bytes at driver level are the most; of phases that reserve alike,
        the one in which tensors take the most."""
        return max(self.phases, key=_fullness).name
