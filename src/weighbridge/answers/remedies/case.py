"""The question as the search sees it: its answer, the settings that may change, and the changes."""

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
OF_TENSORS = frozenset(LEVEL_OF) - {FRAGMENTED, "rounding"}  # components without allocator overhead
# Device settings: always given, so that does not pin them
DEVICE = frozenset(("gpu", "gpu_memory", "headroom", "ram", "platform"))
INNER = frozenset(("engine_defaults", "unmodelled"))
UNMERGED = "4.57"  # the last transformers release with one linear per expert


# Returns the report of a workload, without remedies. Raises WeighbridgeError.
Estimator = Callable[[Any], Report]


def said(workload: Any) -> frozenset[str]:
    """Return the names of the settings that a workload sets, except device settings."""
    named = {name for name, value in workload.said.items() if value is not False}
    return frozenset(named - DEVICE - INNER)


@dataclass(frozen=True, kw_only=True)  # not slotted, for cached properties
class RemedyCase:
    """A question that does not fit, with its answer."""

    task: str
    workload: Any  # Load, Infer or Train
    report: Report
    ask: Estimator
    pinned: frozenset[str]
    loads: str = ""  # the model that a line of Python loads
    packed: tuple[str, str] = ("", "")  # its files' format, and the quant_method of their config
    count_least: Estimator | None = None  # a lower bound, sooner; never shown
    tensors: int = 0  # parameter tensors that are estimated one by one: time grows with them
    apart: int = 0  # ... with UNMERGED, where each expert has its own

    @property
    def verdict(self) -> "Verdict":
        assert self.report.verdict is not None
        return self.report.verdict

    @cached_property
    def effective(self) -> Mapping[str, Any]:
        """Return every setting as it was used, defaults included."""
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
        """Return the bytes available to what a report states per device; for loading, the sum over
        all devices that share the model. None without a device."""
        if self.budget is None:
            return None
        return self.budget.usable.high * (self.count if self.task == "load" else 1)

    @property
    def commanded(self) -> bool:
        """Return whether the user gave an engine's launch command."""
        return bool(getattr(self.workload, "engine_defaults", False))

    @property
    def refused(self) -> bool:
        """Return whether a command has flags that its engine does not know."""
        return bool(self.report.derived.get("command", {}).get("unknown"))

    @property
    def engine(self) -> str:
        return str(self.effective.get("engine"))

    @property
    def kind(self) -> "Engine":
        """Return the engine's record; an empty one for a loader that is no engine."""
        return record(self.engine)

    @property
    def short_of_ram(self) -> bool:
        """Return whether host memory is too small, or too close to call."""
        host = self.verdict.host
        return host is not None and host.fits in ("no", "unknown")

    @property
    def in_ram(self) -> int:
        """Return the host memory per machine at most, in bytes; 0 if the answer has no host."""
        return 0 if self.verdict.host is None else self.verdict.host.needed.high

    def free(self, *names: str) -> bool:
        """Return whether the user set none of these settings, so a remedy may."""
        return self.pinned.isdisjoint(names)

    def changed(self, change: Mapping[str, Any]) -> Any:
        return self.workload.but(**change)

    def least(self, moves: "Sequence[Move]") -> float:
        """Return a lower bound in bytes of the fullest phase after these changes."""
        return self._after(moves, LARGE, lambda move, name: move.least(name))

    def guessed(self, moves: "Sequence[Move]") -> float:
        """Return a guess of the bytes per device after these changes, without allocator overhead,
        which grows with the tensors."""
        return self._after(moves, OF_TENSORS, lambda move, name: move.remains(name))

    def _after(
        self,
        moves: "Sequence[Move]",
        names: frozenset[str],
        part: "Callable[[Move, str], float]",
    ) -> float:
        """Return the largest sum over phases of what remains of components in `names`, in bytes."""
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
        """Return a guess of the fragmented bytes that a change frees, at most."""
        free = (phase.of(FRAGMENTED).high for phase in self._phases)
        return max(free, default=0) * (1 - move.remains(FRAGMENTED))

    @cached_property
    def _phases(self) -> tuple[Instant, ...]:
        """Return the distinct phases: identical devices share theirs."""
        gpus = {
            id(device.phases): device.phases
            for device in self.report.devices
            if device.kind == "gpu"
        }
        return tuple(phase for phases in gpus.values() for phase in phases)

    @property
    def held(self) -> Hashable:
        """Return the bytes per component of each distinct phase, as a key."""
        return tuple(tuple((c.name, c.bytes) for c in phase.components) for phase in self._phases)

    @cached_property
    def part(self) -> "Part | None":
        return None if self.budget is None else self.budget.choice.part

    def memo(self, what: str, make: Callable[[], Made]) -> Made:
        """Return a value cached for this case, made by `make` on the first call."""
        return memo(self, (what,), make)


# Components that shrink only by a change made for them: others may follow from any change
LARGE = frozenset(
    (
        *("weights", "kv_cache", "recurrent_state", "activations", "logits", "gradients"),
        *("optimizer_states", "master_weights", "adapters"),
    )
)


# ---- Changes that might help, before they are estimated

USUALLY = 0.3  # share of a component that usually remains, without a better guess (assumed)


@frozen_record
class Cost:
    """The price of a change: in points, in plain words, and their source."""

    price: Price
    words: str
    source: str


@frozen_record
class Move:
    """A change of settings that may help.

    touches   components that it can make smaller; "*" is all of them
    leaves    share of each that surely remains; 0 if not given
    keeps     share that usually remains: a guess that says which sets are worth estimating
    beside    kinds of changes that save nothing more after it
    frees     whether it frees host memory, which device components do not show
    """

    kind: str
    change: Mapping[str, Any]
    cost: Cost
    touches: frozenset[str] = field(default_factory=frozenset)
    leaves: Mapping[str, float] = field(default_factory=dict)
    keeps: Mapping[str, float] = field(default_factory=dict)
    graded: bool = False  # if it fits, a smaller step may be enough
    beside: frozenset[str] = field(default_factory=frozenset)
    apart: bool = False  # other changes become available after it
    alone: bool = False  # never in sets
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

# Module of each task's changes: training's imports are rarely needed
ROOMS: Mapping[str, str] = {"load": "formats", "infer": "serving", "train": "training"}


def moves(case: RemedyCase) -> Iterator[Move]:
    """Yield every single change except other devices, and except those of the user's settings."""
    megatron = case.effective.get("framework") == "megatron"  # Megatron has its own changes
    room = "megatron" if megatron else ROOMS[case.task]
    moves_of: Callable[[RemedyCase], Iterator[Move]] = import_module(
        f"weighbridge.answers.remedies.{room}"
    ).moves
    return moves_of(case)


def devices(case: RemedyCase) -> Iterator[Move]:
    """Yield more of the same device, and larger ones, smallest first."""
    from weighbridge.answers.remedies.devices import moves as found

    return found(case)


def runnable(case: RemedyCase) -> Move | None:
    """Return the change without which a training framework refuses to launch, if any."""
    if not case.report.derived.get("runs_only"):
        return None
    from weighbridge.answers.remedies.training import runnable as found

    return found(case)
