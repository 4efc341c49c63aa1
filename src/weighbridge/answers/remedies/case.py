"""The question as a search sees it: its answer, the settings that may be changed, and changes of
them."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

from weighbridge.base.memo import memo
from weighbridge.base.memory import LEVEL_OF, Instant
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.engines.table import record
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Price

if TYPE_CHECKING:
    from weighbridge.engines.engine import Engine
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.parts import Part
    from weighbridge.memory.report.verdict import Verdict

Made = TypeVar("Made")

FRAGMENTED = "fragmentation"
OF_TENSORS = frozenset(LEVEL_OF) - {FRAGMENTED, "rounding"}  # without what an allocator adds
# What the verdict is about: named always, so never pinned by being named
DEVICE = frozenset(("gpu", "gpu_memory", "headroom", "ram", "platform"))
INNER = frozenset(("engine_defaults", "unmodelled"))
UNMERGED = "4.57"  # the last release of transformers whose experts are linears each


# The report of one workload, without remedies of its own. Raises WeighbridgeError.
Estimator = Callable[[Any], Report]


def said(workload: Any) -> frozenset[str]:
    """Names of the settings that a workload says something about, but for the device."""
    named = {name for name, value in workload.said.items() if value is not False}
    return frozenset(named - DEVICE - INNER)


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class RemedyCase:
    """One question that does not fit, with the answer to it."""

    task: str
    workload: Any  # Load, Infer or Train
    report: Report
    ask: Estimator
    pinned: frozenset[str]
    loads: str = ""  # what a line of Python is told to load
    packed: tuple[str, str] = ("", "")  # the format of its files and the method of their config
    count_least: Estimator | None = None  # what a question takes at least, sooner; never told
    tensors: int = 0  # parameters that an answer follows one by one: what it takes grows with them
    apart: int = 0  # ... by UNMERGED, of which each expert has its own

    @property
    def verdict(self) -> "Verdict":
        assert self.report.verdict is not None
        return self.report.verdict

    @cached_property
    def effective(self) -> Mapping[str, Any]:
        """Every setting as it was used, defaults included."""
        return self.report.workload

    @cached_property
    def budget(self) -> "Budget | None":
        found: Budget | None = self.workload.budget()
        return found

    @property
    def count(self) -> int:
        return self.budget.choice.count if self.budget is not None else 1

    @property
    def room(self) -> int | None:
        """Bytes that there are at most for what a report tells of one device: loading tells of all
        that share the model as of one."""
        if self.budget is None:
            return None
        return self.budget.usable.high * (self.count if self.task == "load" else 1)

    @property
    def commanded(self) -> bool:
        """True where an engine's own launch command was given."""
        return bool(getattr(self.workload, "engine_defaults", False))

    @property
    def refused(self) -> bool:
        """True where a command has flags that its engine does not know."""
        return bool(self.report.derived.get("command", {}).get("unknown"))

    @property
    def engine(self) -> str:
        return str(self.effective.get("engine"))

    @property
    def kind(self) -> "Engine":
        """The engine's record; an empty one of a loader that is no engine."""
        return record(self.engine)

    @property
    def short_of_ram(self) -> bool:
        """Tell whether host memory is too little, or too close to call."""
        host = self.verdict.host
        return host is not None and host.fits in ("no", "unknown")

    @property
    def in_ram(self) -> int:
        """Bytes that one machine holds in host memory at most; 0 where the answer has no host."""
        return 0 if self.verdict.host is None else self.verdict.host.needed.high

    def free(self, *names: str) -> bool:
        """Tell whether the user left all of these settings open: a remedy may set them."""
        return self.pinned.isdisjoint(names)

    def changed(self, change: Mapping[str, Any]) -> Any:
        return self.workload.but(**change)

    def least(self, moves: "Sequence[Move]") -> float:
        """Return the bytes that the fullest phase surely holds after such changes."""
        return self._after(moves, LARGE, lambda move, name: move.least(name))

    def guessed(self, moves: "Sequence[Move]") -> float:
        """Bytes that a device may hold after such changes: a guess. What the allocator adds is left
        out, which goes with the tensors."""
        return self._after(moves, OF_TENSORS, lambda move, name: move.remains(name))

    def _after(
        self,
        moves: "Sequence[Move]",
        names: frozenset[str],
        part: "Callable[[Move, str], float]",
    ) -> float:
        """Return the most that is left in a phase of components of these names."""
        sums = (
            sum(
                prod((part(move, c.name) for move in moves), start=c.bytes.low)
                for c in phase.components
                if c.name in names
            )
            for phase in self._phases
        )
        return max(sums, default=0.0)

    def unfragmented(self, move: "Move") -> float:
        """Return the most that a change may take of what is fragmented: a guess."""
        free = (phase.of(FRAGMENTED).high for phase in self._phases)
        return max(free, default=0) * (1 - move.remains(FRAGMENTED))

    @cached_property
    def _phases(self) -> tuple[Instant, ...]:
        """Phases that differ: devices that are alike have the same ones."""
        gpus = {
            id(device.phases): device.phases
            for device in self.report.devices
            if device.kind == "gpu"
        }
        return tuple(phase for phases in gpus.values() for phase in phases)

    @property
    def held(self) -> Hashable:
        """What each device holds in each phase, by component."""
        return tuple(tuple((c.name, c.bytes) for c in phase.components) for phase in self._phases)

    @cached_property
    def part(self) -> "Part | None":
        return None if self.budget is None else self.budget.choice.part

    def memo(self, what: str, make: Callable[[], Made]) -> Made:
        """Return what was made of this case before, or make it now."""
        return memo(self, (what,), make)


# What no change takes away by the way: all else may follow from others
LARGE = frozenset(
    (
        *("weights", "kv_cache", "recurrent_state", "activations", "logits", "gradients"),
        *("optimizer_states", "master_weights", "adapters"),
    )
)


# ---- Changes that might help, before anybody has asked what they lead to

USUALLY = 0.3  # what remains of a component where nobody guessed better (assumed)


@frozen_record
class Cost:
    """Price of one change: in points, in plain words, and where that is written."""

    price: Price
    words: str
    source: str


@frozen_record
class Move:
    """A kind of change.

    touches   components that it can make smaller; "*" is all of them
    leaves    what of those is there afterwards at least, as a share: nothing where it is not said
    keeps     what usually remains, as a share: a guess that says which sets are worth asking
    beside    kinds of changes that take nothing more away after it
    frees     whether it takes host memory away, which the components of a device do not tell
    """

    kind: str
    change: Mapping[str, Any]
    cost: Cost
    touches: frozenset[str] = field(default_factory=frozenset)
    leaves: Mapping[str, float] = field(default_factory=dict)
    keeps: Mapping[str, float] = field(default_factory=dict)
    graded: bool = False  # a smaller step is enough where it fits
    beside: frozenset[str] = field(default_factory=frozenset)
    apart: bool = False  # after it other changes are to be had
    alone: bool = False  # not in sets
    frees: bool = False
    note: str = ""

    @property
    def points(self) -> float:
        return self.cost.price.points

    def least(self, component: str) -> float:
        """Return the share of a component that surely remains after the change."""
        return self.leaves.get(component, 0.0) if self._touches(component) else 1.0

    def remains(self, component: str) -> float:
        """Return the share of a component that usually remains after the change."""
        usual = USUALLY if self._touches(component) and not self.keeps else 1.0
        return self.keeps.get(component, usual)

    def _touches(self, component: str) -> bool:
        return "*" in self.touches or component in self.touches


# ---- By task

# Where the changes of each task are: training brings what few ask for
ROOMS: Mapping[str, str] = {"load": "formats", "infer": "serving", "train": "training"}


def moves(case: RemedyCase) -> Iterator[Move]:
    """Yield every single change that is known but for other devices, nothing pinned among them."""
    megatron = case.effective.get("framework") == "megatron"  # layers in parts: changes of its own
    room = "megatron" if megatron else ROOMS[case.task]
    moves_of: Callable[[RemedyCase], Iterator[Move]] = import_module(
        f"weighbridge.answers.remedies.{room}"
    ).moves
    return moves_of(case)


def devices(case: RemedyCase) -> Iterator[Move]:
    """Propose more of the same device, and larger ones, smallest first."""
    from weighbridge.answers.remedies.devices import moves as found

    return found(case)


def runnable(case: RemedyCase) -> Move | None:
    """Propose what a launch of training needs that its framework refuses as asked."""
    if not case.report.derived.get("runs_only"):
        return None
    from weighbridge.answers.remedies.training import runnable as found

    return found(case)
