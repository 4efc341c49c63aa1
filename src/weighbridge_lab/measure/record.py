"""Records of what was measured, what was predicted, and how far apart they are.

    error = (predicted - measured) / measured      at each level of each phase

A record is `weighbridge.measure/1` (docs/measure.md): keys are only ever added.
"""

from dataclasses import asdict
from typing import Any

from weighbridge.base.records import NamedTuple, field, frozen_record

SCHEMA = "weighbridge.measure/1"
DONE, OOM = "done", "out of memory"
MIB = 1 << 20


class Levels(NamedTuple):
    """A peak in bytes at each of the three levels."""

    allocated: int
    reserved: int
    driver: int


@frozen_record
class FakeCard:
    """The card that a fake GPU stands for. None means the usual memory, and the installed torch."""

    name: str
    memory: str | None = None
    torch: str | None = None


@frozen_record
class MeasuredPhase:
    """Peaks of one phase of a program; a prediction also has their bounds."""

    name: str
    peak: Levels
    low: Levels | None = None
    high: Levels | None = None

    def to_dict(self) -> dict[str, Any]:
        between = {"low": self.low, "high": self.high}
        ends = {name: levels._asdict() for name, levels in between.items() if levels}
        return {"name": self.name, **self.peak._asdict(), **ends}

    def in_words(self, level: str) -> str:
        """Return a level in MiB: "100.00 MiB (99.00 to 102.50)"."""
        text = f"{getattr(self.peak, level) / MIB:,.2f} MiB"
        if self.low is None or self.high is None:
            return text
        low, high = (f"{getattr(end, level) / MIB:,.2f}" for end in (self.low, self.high))
        return f"{text} ({low} to {high})"


@frozen_record
class MeasuredRun:
    """One side of a measurement. `driver`: how its driver level was read."""

    outcome: str
    phases: tuple[MeasuredPhase, ...]
    driver: str
    seconds: float
    events: tuple[int, ...] | None = None  # history.py

    @property
    def peak(self) -> Levels:
        peaks = [phase.peak for phase in self.phases]
        return Levels(*map(max, zip(*peaks, strict=True))) if peaks else Levels(0, 0, 0)

    def to_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "driver_from": self.driver,
            "seconds": round(self.seconds, 3),
            "peak": self.peak._asdict(),
            "phases": [phase.to_dict() for phase in self.phases],
        }


@frozen_record
class MeasuredMachine:
    """The measuring machine; `card` is the GPU's id in the catalogue."""

    gpu: str
    card: str | None
    capability: str
    total_memory: int
    driver: str | None
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)  # environment variables


@frozen_record
class Measurement:
    """A program, measured and predicted. `note`: why there is no prediction."""

    target: str
    date: str
    version: str
    machine: MeasuredMachine
    measured: MeasuredRun
    predicted: MeasuredRun | None = None
    note: str = ""
    history: dict[str, Any] | None = None

    @property
    def error(self) -> dict[str, float | None] | None:
        """Return the relative errors of the predicted peaks; None without a prediction."""
        return errors(self.predicted.peak, self.measured.peak) if self.predicted else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": self.version,
            "target": self.target,
            "date": self.date,
            "machine": asdict(self.machine),
            "measured": self.measured.to_dict(),
            "predicted": self.predicted.to_dict() if self.predicted else None,
            "error": self.error,
            "history": self.history,
            "note": self.note,
        }


def errors(predicted: Levels, measured: Levels) -> dict[str, float | None]:
    """Return signed relative errors by level; None if nothing was measured."""
    pairs = zip(Levels._fields, predicted, measured, strict=True)
    return {level: round((p - m) / m, 6) if m else None for level, p, m in pairs}
