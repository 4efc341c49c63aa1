"""The question as a search sees it: what was asked, what came, and what may be changed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from weighbridge.report import Report

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget
    from weighbridge.judged import Verdict

# What the verdict is about: named always, so never pinned by being named
DEVICE = frozenset(("gpu", "gpu_memory", "headroom", "ram"))
INNER = frozenset(("engine_defaults",))


# The report of one workload, without remedies of its own. Raises WeighbridgeError.
Estimator = Callable[[Any], Report]


def said(workload: Any) -> frozenset[str]:
    """Names of the settings that a workload says something about, but for the device."""
    own = (f.name for f in fields(workload))
    named = {
        n for n in own if getattr(workload, n) is not None and getattr(workload, n) is not False
    }
    return frozenset(named - DEVICE - INNER)


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Case:
    """One question that does not fit, with the answer to it."""

    task: str
    workload: Any  # Load, Infer or Train
    report: Report
    pinned: frozenset[str]
    ask: Estimator

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
    def engine(self) -> str:
        return str(self.effective.get("engine"))

    def free(self, *names: str) -> bool:
        """Whether the user left all of these open."""
        return self.pinned.isdisjoint(names)

    def changed(self, change: Mapping[str, Any]) -> Any:
        return replace(self.workload, **change)

    def held(self, names: Iterable[str]) -> int:
        """The least that components of these names take, in the phase that has most of them."""
        wanted = frozenset(names)
        return max((sum(self._low(p, wanted)) for p in self._phases()), default=0)

    def _phases(self) -> Iterator[Any]:
        return (p for d in self.report.devices if d.kind == "gpu" for p in d.phases)

    @staticmethod
    def _low(phase: Any, names: frozenset[str]) -> Iterator[int]:
        return (c.bytes.low for c in phase.components if c.name in names)
