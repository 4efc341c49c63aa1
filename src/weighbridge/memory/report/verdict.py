"""The verdict, and what to change where it does not fit: the part of a report that not all have.

A verdict is a function of its conditions alone, which are lines of the report (`judge`):

    no        a program refuses, whatever the memory; or what is needed is more than there is, and
              nothing is open with which it may be less
    unknown   no bound decides; or something is open with which it may be another answer
    yes       otherwise
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.base.errors import Ground
from weighbridge.base.memory import HIGH, LOW, Basis, Bytes
from weighbridge.base.records import NamedTuple, frozen_record, replace
from weighbridge.base.sentences import sentence

if TYPE_CHECKING:
    from weighbridge.memory.report import Report

Answer = Literal["yes", "no", "unknown"]
# The class of a "no": the least that it can take is more than there is, or that of a refusal
NoGround = Literal["physical", Ground]
A_POINT = 5  # percent slower that one point of a price stands for (assumed)
SURE: Mapping[Answer, float] = {"yes": 1.0, "no": 0.0}  # the share that fits
RANK: tuple[Answer, ...] = ("no", "unknown", "yes")  # the worst first


class Condition(NamedTuple):
    """One thing that has to hold: a number beside the one that there is; without them, what a
    program refuses; or, where it `opens` answers, what was not read, counted or modelled."""

    name: str
    needed: Bytes | None = None
    available: Bytes | None = None
    unit: str = "bytes"
    # The answers that are not sure by it; "all": a program's refusal is not, either
    opens: Literal["", "yes", "no", "either", "all"] = ""
    ground: NoGround = "physical"  # of a "no"
    source: str = ""  # a program's own words, and where they stand

    @property
    def holds(self) -> Answer:
        """Tell whether it holds, by its own numbers."""
        if self.stands(LOW):
            return "yes"
        return "unknown" if self.opens or self.stands(HIGH) else "no"

    def stands(self, by: int) -> bool:
        """Tell whether it holds by these bounds: by LOW of what there is, by HIGH of what is
        needed, and the other way round."""
        if self.needed is None or self.available is None:
            return False
        return self.needed[HIGH - by] <= self.available[by]


def several(count: int, name: str) -> str:
    """Return "2 x RTX 4090" of so many cards; the name alone of one, and of cards that differ,
    whose name tells all."""
    return name if count <= 1 or " + " in name else f"{count} x {name}"


def fits(needed: Bytes, available: Bytes) -> Answer:
    """Compare a peak with what there surely is, and with what there may be."""
    return Condition("", needed, available).holds


def judge(conditions: Iterable[Condition]) -> Answer:
    """Return the verdict: a function of its conditions, and of nothing else."""
    every = tuple(conditions)
    if any(c.opens == "all" for c in every):
        return "unknown"
    if any(c.holds == "no" and c.ground != "physical" for c in every):
        return "no"
    holds = {c.holds for c in every if not c.opens}
    answer: Answer = min(holds, key=RANK.index, default="yes")
    return "unknown" if any(c.opens in (answer, "either") for c in every if c.opens) else answer


@frozen_record
class HostVerdict:
    """The verdict whether the memory of one machine is enough (verdict/on_host.py). None: nobody
    said what it has."""

    needed: Bytes  # of the fullest phase; pages of files are no need
    phase: str
    room: Bytes | None  # what processes of the machine can have
    fits: Literal["yes", "no", "unknown"] | None
    reason: str
    container: int = 0  # bytes that a container is to be given: request and limit
    shared: bool = False  # what its devices hold is in `needed`: they share one memory
    share_that_fits: float | None = None  # these three as in `Verdict`
    tight: bool = False
    tipped_by: str | None = None
    swapped: int = 0  # bytes that may grow with use, are no need, and are swapped out where it is

    @property
    def available(self) -> int | None:
        """Return the bytes that the machine surely has for processes."""
        return None if self.room is None else self.room.low


@frozen_record
class Verdict:
    """The verdict whether it fits, on each of `count` devices: never on their sum
    (verdict/on_devices.py)."""

    accelerator: str
    accelerator_id: str
    count: int
    usable_bytes: int  # of one device, at least: visible memory less the headroom
    fits: Literal["yes", "no", "unknown"]
    margin_bytes: int  # usable_bytes less what is expected on one device
    reason: str
    marketed_gb: int | None  # None for a device of a given size
    total: Bytes  # what the driver shows
    visible: Bytes  # what a process can have
    usable: Bytes
    headroom_bytes: int
    per_device: Bytes  # what the fullest device holds, at driver level
    devices_used: int  # 1 where one device holds it all, or nothing splits the model
    basis: Basis  # of `visible`
    source: str
    published: Mapping[str, Any] | None = None  # runs like this: level, runs, median, sources
    host: HostVerdict | None = None  # None where the answer has no host
    # Share of the estimate's interval that fits (verdict/closeness.py): 1 of yes, 0 of no. None
    # where something else than the interval is what leaves it open
    share_that_fits: float | None = None
    tight: bool = False  # it fits with less than a tenth of `usable_bytes` to spare
    tipped_by: str | None = None  # the component that tips it over; None where it fits
    nodes: int = 1  # machines that `count` devices stand in, at least
    spilled: int = 0  # bytes that Windows moves to RAM, with which it runs, slowly
    # Of cards that differ, in order: what can be used of each. All else is of the worst off
    usable_each: tuple[int, ...] = ()
    ground: NoGround = ""  # why a "no" is one; "" of other answers
    seen: str = ""  # of a program that refuses: its own words, and where they stand
    conditions: tuple[Condition, ...] = ()  # all that `fits` rests on

    @property
    def cards(self) -> str:
        """The accelerator's name, with the count of several."""
        return several(self.count, self.accelerator)

    @property
    def runs_in_part(self) -> bool:
        """Tell whether a program keeps in RAM what the card has no room for, and runs, slowly."""
        host = self.host is None or self.host.fits in (None, "yes")
        roomy = self.per_device.high <= self.usable.low
        return bool(self.spilled) and self.fits == "unknown" and roomy and host

    def under(self, *conditions: Condition, reason: str, tipped_by: str | None = None) -> "Verdict":
        """The same under more conditions, for a reason that is not in its intervals."""
        every = (*self.conditions, *conditions)
        answer = judge(every)
        ground, seen = (self.ground, self.seen) if answer == "no" else ("", "")
        if answer == "no" != self.fits:
            ground, seen = next((c.ground, c.source) for c in conditions if c.holds == "no")
        open_ = self.share_that_fits if self.fits == answer == "unknown" else None
        return replace(
            self,
            conditions=every,
            fits=answer,
            reason=reason,
            ground=ground,
            seen=seen,
            share_that_fits=SURE.get(answer, open_),
            tight=answer == self.fits == "yes" and self.tight,
            tipped_by=None if answer == "yes" else tipped_by or self.tipped_by,
        )


def under_words(report: "Report", words: str) -> "Report":
    """Return a report whose verdict is open, since `words` of its question were not understood."""
    reason = sentence("not_understood", words=words)
    if report.verdict is None:
        return replace(report, warnings=(reason, *report.warnings))
    unread = Condition("understood", opens="all", source=words)
    return replace(report, verdict=report.verdict.under(unread, reason=reason))


@frozen_record
class Price:
    """The cost of a change, by kind. Each is in points that compare: about one for each percent
    that most people would mind as much (remedies/prices.py). 0 is nothing."""

    quality: float = 0  # answers, or what training learns, may be worse
    speed: float = 0  # slower
    scope: float = 0  # less than was asked: a shorter context, fewer requests, smaller adapters
    effort: float = 0  # another program, or a checkpoint that must be made first
    money: float = 0  # more hardware, or dearer

    @property
    def _each(self) -> tuple[float, ...]:
        return self.quality, self.speed, self.scope, self.effort, self.money

    @property
    def points(self) -> float:
        """Add up all costs: the cheapest change is named first."""
        return self.quality + self.speed + self.scope + self.effort + self.money

    @property
    def slower(self) -> float:
        """Return by how many percent a run is slower."""
        return self.speed * A_POINT

    def no_less(self, other: "Price") -> bool:
        """Tell whether it costs as much or more than `other`, in every kind."""
        return all(mine >= theirs for mine, theirs in zip(self._each, other._each, strict=True))


@frozen_record
class Remedy:
    """Settings to change, what the fullest device holds then, and what it costs."""

    change: Mapping[str, Any]
    peak_bytes: int
    fits: Literal["yes", "no", "unknown"]
    cost: str
    flags: str = ""  # the change as the engine's own flags, or as ours
    source: str = ""  # of what it costs: an address, or a file of a release
    paste: str = ""  # a whole line for a shell, or lines of Python
    note: str = ""  # why there is nothing to paste, or what is to be done first
    margin_bytes: int | None = None  # usable bytes less what is expected on one device
    per_device: Bytes | None = None  # what the fullest device holds, at driver level
    price: Price | None = None
    kind: str = ""  # quantization, sharding, devices ...: the kinds of remedies/prices.py
    host: Bytes | None = None  # what the memory of one machine must hold then, in its fullest phase
