"""The vocabulary of an answer: components, the instants at which they are alive together, devices.

The peak of a device is the maximum over instants of the sum of that instant's components, never a
sum of maxima; low, expected and high have a maximum each. Levels nest: a component counts at its
own level and at every higher one.

Where several models, programs or devices meet, `compose` puts their instants together by a
schedule, and nothing else adds them up.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from math import ceil, floor, hypot
from typing import Literal

from weighbridge.base.records import NamedTuple, dataclass, frozen_record, replace

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
# What is there before an instant and after it; all else ends with it. Gradients grow in a backward
# and go with the step, and rounding goes with its blocks: each instant has its own.
_STAYS = """
weights buffers kv_cache recurrent_state adapters master_weights optimizer_states context
communication cuda_graphs other
"""
STAYS = frozenset(_STAYS.split())
LOW, EXPECTED, HIGH = BOUNDS = 0, 1, 2  # places of `Bytes`
ONCE = "process"  # role of components that a process has once


class Bytes(NamedTuple):
    """An expected number of bytes, and bounds that the real one should not leave."""

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


def within(nbytes: int, share: float) -> Bytes:
    """Return the interval `nbytes` plus or minus the fraction `share` of it."""
    return Bytes(int(nbytes * (1 - share)), nbytes, int(nbytes * (1 + share)))


def total(parts: Iterable[Bytes]) -> Bytes:
    low = expected = high = 0
    for part in parts:
        low, expected, high = low + part[0], expected + part[1], high + part[2]
    return Bytes(low, expected, high)


def total_apart(parts: Iterable[Bytes]) -> Bytes:
    """Return the sum of independent intervals. As not all reach their bounds at once, distances to
    the bounds add up as the root of their squares."""
    ranges = [*parts]
    expected = sum(part.expected for part in ranges)
    less = hypot(*(part.expected - part.low for part in ranges))
    more = hypot(*(part.high - part.expected for part in ranges))
    return Bytes(floor(expected - less), expected, ceil(expected + more))


Share = tuple[float, float]  # fraction of the expected bytes, below and above
SURE: Share = (0.0, 0.0)
# component -> field of Doubt
DOUBTED = {
    **dict.fromkeys(("weights", "gradients", "optimizer_states", "master_weights"), 0),
    **dict.fromkeys(("activations", "logits", "temporaries", "workspaces", "cuda_graphs"), 1),
    **dict.fromkeys(("kv_cache", "recurrent_state"), 2),
}


class Doubt(NamedTuple):
    """Additional uncertainty from unknown figures, besides that of the rules."""

    weights: Share = SURE
    activations: Share = SURE
    pool: Share = SURE

    def plus(self, other: "Doubt") -> "Doubt":
        return Doubt(*((a[0] + b[0], a[1] + b[1]) for a, b in zip(self, other, strict=True)))

    def around(self, name: str, size: Bytes) -> Bytes:
        """Return the interval of a component with that name."""
        place = DOUBTED.get(name)
        less, more = SURE if place is None else self[place]
        low, expected, high = size
        least = low - ceil(less * abs(expected))
        return Bytes(max(min(0, low), least), expected, high + ceil(more * abs(expected)))


NO_DOUBT = Doubt()


def most(sizes: Iterable[Bytes]) -> Bytes:
    """Return the largest of each bound; they may come from different sizes."""
    return Bytes(*map(max, zip(*sizes, strict=True)))


@frozen_record
class Component:
    """One reason for memory in use, and how it is known. `droppable`: file pages, which the kernel
    drops if memory is short. `role`: its owner, if not the model in question. `passing`: it ends
    with its instant, unlike others of its name. `growing`: 0 at first, and more with use; the given
    workload needs none."""

    name: str
    bytes: Bytes
    basis: Basis
    detail: str = ""
    formula: str = ""
    source: str = ""
    droppable: bool = False
    role: str = ""
    passing: bool = False
    growing: bool = False

    @property
    def level(self) -> Level:
        return LEVEL_OF[self.name]

    @property
    def stays(self) -> bool:
        """Return whether it exists before and after its instant."""
        return self.name in STAYS and not self.passing


NamedBytes = tuple[str, Bytes]  # a component's name and bytes alone


@dataclass(frozen=True)
class Instant:
    """A moment whose components are all live. Equal ranks share one object, which adds up its
    components once. `devices` names its group of devices, if there are several."""

    name: str
    components: tuple[Component, ...]
    devices: str = ""

    @property
    def residents(self) -> tuple[Component, ...]:
        return tuple(c for c in self.components if c.stays)

    @property
    def parts(self) -> list[NamedBytes]:
        return [(c.name, c.bytes) for c in self.components]

    def of(self, *names: str) -> Bytes:
        """Return the sum of all components of these names."""
        return total(c.bytes for c in self.components if c.name in names)

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
        """Return the sum of all components that the kernel cannot drop."""
        return total(c.bytes for c in self.components if not c.droppable)

    @property
    def droppable(self) -> Bytes:
        """Return the sum of file pages, which the kernel drops if memory is short."""
        return total(c.bytes for c in self.components if c.droppable)


class Exact(NamedTuple):
    """The instants of each phase: by closed form, and as traced with the real class."""

    phases: tuple[tuple[Instant, Instant], ...]
    source: str


def compared(one: Instant, other: Instant) -> Iterator[tuple[str, int, int]]:
    """Yield (component, expected bytes in `one`, in `other`), in the order of levels."""
    for name in LEVEL_OF:
        a, b = one.of(name).expected, other.of(name).expected
        if a or b:
            yield name, a, b


def peak(instants: Iterable[Instant], level: Level = "driver") -> Bytes:
    """Return the largest of each bound over all instants."""
    return most(one.at(level) for one in instants)


def binding(instants: Iterable[Instant], bound: int = EXPECTED) -> Instant:
    """Return the instant with the most bytes at `bound`."""
    return max(instants, key=lambda one: fullness(one, bound))


def fullness(one: Instant, bound: int = EXPECTED) -> tuple[int, int, int]:
    """Return the sort key of an instant: the driver's bytes; if an allocator kept another instant's
    reservation, the tensors' bytes; then the upper bound."""
    driver = one.at("driver")
    return driver[bound], one.at("allocated")[bound], driver.high


def around(
    always: Iterable[Component], others: Mapping[str, Iterable[Component]]
) -> tuple[Instant, ...]:
    """Return one instant for each name in `others`: its components, and the components `always`."""
    common = tuple(always)
    return tuple(Instant(name, (*common, *more)) for name, more in others.items())


# ---- several roles


class Role(NamedTuple):
    """An answer that is combined with others: its instants, and what it holds at rest. Roles of one
    `process` share a context; without a name it has its own process."""

    instants: Mapping[str, Instant]
    process: str = ""

    @classmethod
    def of(cls, instants: Iterable[Instant], process: str = "") -> "Role":
        return cls({one.name: one for one in instants}, process)


Schedule = Iterable[tuple[str, Mapping[str, str]]]  # (name, at which of its instants a role is)


def compose(schedule: Schedule, roles: Mapping[str, Role]) -> tuple[Instant, ...]:
    """Return the instants at which several roles are in memory. A role that the schedule omits is
    absent then."""
    return tuple(Instant(name, tuple(_meeting(places, roles))) for name, places in schedule)


def _meeting(places: Mapping[str, str], roles: Mapping[str, Role]) -> Iterator[Component]:
    begun: set[str] = set()
    for name, place in places.items():
        role = roles[name]
        process = role.process or name
        for c in role.instants[place].components:
            if c.role != ONCE or process not in begun:
                yield replace(c, role=c.role or name)
        begun.add(process)


def at_once(roles: Mapping[str, Role]) -> tuple[Instant, ...]:
    """Return the instants of roles that run at the same time. Which of their instants coincide is
    not known, so each role is at its peak, for each bound."""
    schedule = (
        (
            "at once",
            {
                name: max(r.instants, key=(lambda place: fullness(r.instants[place], bound)))
                for name, r in roles.items()
            },
        )
        for bound in BOUNDS
    )
    return compose(schedule, roles)


@frozen_record
class Device:
    """An accelerator, or the host."""

    index: int
    kind: DeviceKind
    phases: tuple[Instant, ...]
    taken: int | None = None  # what an engine reserves by policy, beyond what it needs
    taken_at_least: int | None = None  # lower bound, if it is a fraction of free memory
    exact: Exact | None = None  # of a device whose phases were traced

    def peak(self, level: Level) -> Bytes:
        return peak(self.phases, level)

    def binding(self, bound: int = EXPECTED) -> Instant:
        """Return the instant with the most bytes."""
        return binding(self.phases, bound)

    def reserving(self, one: Instant, *, alone: bool = False) -> Instant:
        """Return an instant with the memory that its engine reserves beyond its need. The more
        others take, the less is left, at each bound of a sum. `alone`: for one reader, without
        bounds of its own."""
        taken = self.taken if self.taken_at_least is None else self.taken_at_least
        if taken is None:
            return one
        others = exactly(one.needed.expected) if alone else one.needed
        unused = Component(
            name="kv_cache",
            bytes=Bytes(*(max(0, taken - nbytes) for nbytes in others)),
            basis="computed",
            detail="reserved at start",
        )
        return replace(one, components=(*one.components, unused))

    @property
    def peak_phase(self) -> str:
        return self.binding().name

    def binds(self, one: Instant) -> list[str]:
        """Return the names of the peak's bounds that this instant determines."""
        return [name for n, name in enumerate(Bytes._fields) if self.binding(n) is one]
