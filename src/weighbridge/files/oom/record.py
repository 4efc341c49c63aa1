"""The answer as one frozen record, what each part of it means, and the lines of a table."""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.base._version import __version__
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.memory.report import Shown

if TYPE_CHECKING:
    from weighbridge.memory.report import Report

SCHEMA = "weighbridge.oom/1"
SERVER = "another server"  # the engine's name for a server that weighbridge does not know
ALWAYS = (  # keys that are null if the message does not state them
    "capacity_bytes",
    "free_bytes",
    "allocated_bytes",
    "reserved_bytes",
    "unallocated_bytes",
    "requested_bytes",
    "process_bytes",
    "needed_kv_bytes",
    "available_kv_bytes",
    "max_tokens",
)
Sure = Literal["said", "computed", "likely", "unknown"]


def table(name: str) -> list[dict[str, Any]]:
    """Return the lines of `name`.jsonl in this folder, in order."""
    with open(os.path.join(os.path.dirname(__file__), f"{name}.jsonl"), encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@dataclass(frozen=True, slots=True)
class OomReading:
    """The parsed log: the message's wording, its program, and its figures."""

    wording: str
    tool: str
    parsed: Mapping[str, Any]
    engine: str = ""
    place: str = ""  # the run's phase, from the traceback
    windows: bool = False
    virtual: bool = False  # a WSL machine, which has a memory limit of its own
    hint: str = ""  # the variable that the message names for the allocator
    stated: Mapping[str, Any] = field(default_factory=dict)  # settings that the log states
    message: str = ""  # the text around the match, packed
    model: str = ""  # the model that the log loads
    means: str = ""  # a name of conclusions.jsonl, if the wording alone tells the cause

    def size(self, name: str) -> int | None:
        """Return the bytes of the figure `name`, None if the message lacks it."""
        value = self.parsed.get(f"{name}_bytes")
        return value if isinstance(value, int) else None


@dataclass(frozen=True, slots=True)
class Judged:
    """A cause. `why`: key of the sentence that explains it; `sure`: "said" by the message,
    "computed" from its figures, the "likely" one of several, or "unknown"."""

    cause: str | None
    why: str
    sure: Sure
    others: tuple[str, ...] = ()
    figures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of settings, its cost, and a line to paste, if there is one. `peak_bytes` is None if
    it was not estimated."""

    change: Mapping[str, Any]
    cost: str
    paste: str = ""
    peak_bytes: int | None = None
    fits: Literal["yes", "no", "unknown"] = "unknown"

    def to_dict(self) -> dict[str, Any]:
        return {
            "change": dict(self.change),
            "peak_bytes": self.peak_bytes,
            "fits": self.fits,
            "cost": self.cost,
            "flags": self.paste,
            "paste": self.paste,
        }


@dataclass(frozen=True, slots=True)
class Match:
    """A component of the estimate as large as the failed request, or one that fills the device."""

    component: str
    nbytes: int
    formula: str
    matches: Literal["request", "needed", "device"]

    def to_dict(self) -> dict[str, Any]:
        return {
            "component": self.component,
            "bytes": self.nbytes,
            "formula": self.formula,
            "matches": self.matches,
        }


@frozen_record
class Oom(Shown):
    """An explained out-of-memory message: its cause, and what to change. All sizes are bytes."""

    reading: OomReading
    judged: Judged
    remedies: tuple[Change, ...] = ()
    estimate: "Report | None" = None
    explained: tuple[Match, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def wording(self) -> str:
        return self.reading.wording

    @property
    def parsed(self) -> Mapping[str, Any]:
        """Return the figures of the message, by their names in the JSON form."""
        return self.reading.parsed

    @property
    def cause(self) -> str | None:
        return self.judged.cause

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (docs/oom.md)."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "wording": self.reading.wording,
            "tool": self.reading.tool,
            "engine": None if self.reading.engine in ("", SERVER) else self.reading.engine,
            "place": self.reading.place or None,
            "parsed": dict(self.reading.parsed),
            "stated": dict(self.reading.stated),
            "cause": self.judged.cause,
            "sure": self.judged.sure,
            "causes": list(self.judged.others),
            "explained": [match.to_dict() for match in self.explained],
            "estimate": None if self.estimate is None else self.estimate.to_dict(),
            "remedies": [change.to_dict() for change in self.remedies],
            "warnings": [*map(str, self.warnings)],
        }
