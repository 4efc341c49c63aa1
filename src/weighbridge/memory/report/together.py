"""The answer whether several models can be served at once on the same cards, each by its own
process.

>>> import weighbridge
>>> found = weighbridge.together(["qwen3-4b", "bge-m3"], gpu="3060", engine="llama.cpp")
>>> found.fits
'yes'
>>> [service.report.model.name for service in found.services]
['qwen3-4b', 'bge-m3']
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from weighbridge.base._version import __version__
from weighbridge.base.memory import Bytes, Instant, Role, at_once, peak
from weighbridge.base.records import frozen_record
from weighbridge.memory.report import Report, Shown

if TYPE_CHECKING:
    from weighbridge.memory.report.fit import Accelerator
    from weighbridge.memory.report.verdict import Answer, Verdict

SCHEMA = "weighbridge.together/1"
SERVER = re.compile(r"(\S.* & sleep \d+)[;\n] ?")  # a server that a line starts in the background


@frozen_record
class Service:
    """One of the models: its answer when it runs by itself, and its share of the card."""

    report: Report
    share: float | None = None  # of the card, set for its engine; None if it takes no share

    @property
    def verdict(self) -> "Verdict":
        assert self.report.verdict is not None
        return self.report.verdict

    @property
    def holds(self) -> Bytes:
        """Return its bytes per card: what it needs, or what its engine reserves by its share."""
        return peak(on_a_card(self.report).instants.values())


@frozen_record
class Services(Shown):
    """The answer whether several models fit the same cards at once."""

    services: tuple[Service, ...]
    accelerator: "Accelerator"
    usable: Bytes  # bytes per card, for all processes together

    @property
    def holds(self) -> Bytes:
        """Return the bytes per card of all services together."""
        return held_at_once(service.report for service in self.services)

    @property
    def fits(self) -> "Answer":
        """Return whether all fit at once: "no" also if one does not fit by itself, or is split
        between card and RAM."""
        alone = {s.verdict.fits for s in self.services}
        divided = any("layers_on_card" in s.report.derived for s in self.services)
        if "no" in alone or divided or self.holds.low > self.usable.high:
            return "no"
        surely = alone == {"yes"} and self.holds.high <= self.usable.low
        return "yes" if surely else "unknown"

    @property
    def margin_bytes(self) -> int:
        return self.usable.low - self.holds.expected

    @property
    def left(self) -> tuple[int, ...]:
        """Return the bytes per card left after each service, in order; negative if short."""
        expected = [service.holds.expected for service in self.services]
        return tuple(self.usable.low - sum(expected[: n + 1]) for n in range(len(expected)))

    @property
    def launches(self) -> tuple[str | None, ...]:
        """Return the line that starts each service. A server that serves all is started once, with
        the largest numbers that any of them asks for."""
        lines = [service.report.derived.get("launch") for service in self.services]
        started = [found for line in lines if (found := SERVER.match(line or ""))]
        if not started:
            return tuple(lines)
        largest = max(started, key=_numbers)
        alone = [line and SERVER.sub("", line, count=1) for line in lines]
        engines = [service.report.workload["engine"] for service in self.services]
        first = engines.index(engines[lines.index(largest.string)])
        alone[first] = f"{largest[0]}{alone[first]}"
        return tuple(alone)

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line for s in self.services for line in s.report.warnings))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON answer (docs/report.md)."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "accelerators": [self.accelerator.to_dict()],
            "fits": self.fits,
            "holds_bytes": self.holds._asdict(),
            "margin_bytes": self.margin_bytes,
            "services": [
                {
                    "share": s.share,
                    "holds_bytes": s.holds._asdict(),
                    "left_bytes": left,
                    "launch": launch,
                    "report": s.report.to_dict(),
                }
                for s, left, launch in zip(self.services, self.left, self.launches, strict=True)
            ],
        }


def on_a_card(report: Report) -> Role:
    """Return the instants of an answer on one card, with all that its engine reserves by its share.
    If cards differ, it is the card that decides the verdict."""
    alike = {id(d.phases): d for d in report.devices if d.kind == "gpu"}
    gpus, verdict = list(alike.values()), report.verdict
    if verdict is not None and verdict.usable_each:
        gpus = [d for d in gpus if d.peak("driver") == verdict.per_device]
    instants = {f"{d.index} {one.name}": d.reserving(one) for d in gpus for one in d.phases}
    return Role(instants or {"": Instant("nothing", ())})


def held_at_once(reports: Iterable[Report]) -> Bytes:
    """Return the bytes that several answers need of a shared card, each at its peak: which of their
    instants coincide is unknown."""
    return peak(at_once({str(n): on_a_card(report) for n, report in enumerate(reports)}))


def _numbers(started: re.Match[str]) -> list[int]:
    return [int(number) for number in re.findall(r"=(\d+)", started[1])]
