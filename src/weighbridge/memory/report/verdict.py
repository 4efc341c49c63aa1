"""The verdict, and remedies if it does not fit: the part of a report that only some have.

A verdict depends on its conditions only, which are lines of the report (`judge`):

    no        a program refuses, whatever the memory; or the need is more than there is, and nothing
              left open may make it less
    unknown   the bounds do not decide; or something left open may change the answer
    yes       otherwise
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.base.errors import Ground
from weighbridge.base.memory import HIGH, LOW, Basis, Bytes
from weighbridge.base.records import NamedTuple, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import several

if TYPE_CHECKING:
    from weighbridge.memory.report import Report

Answer = Literal["yes", "no", "unknown"]
# The ground of a "no": "physical", not enough memory even at the least; or that of a refusal
NoGround = Literal["physical", Ground]
A_POINT = 5  # percent of slowdown that one point of a price stands for (assumed)
SURE: Mapping[Answer, float] = {"yes": 1.0, "no": 0.0}  # share of the estimate's interval that fits
RANK: tuple[Answer, ...] = ("no", "unknown", "yes")  # the worst first


class Condition(NamedTuple):
    """One condition that must hold: `needed` at most `available`; without them, a program's
    refusal; or, with `opens`, something not read, counted or modelled."""

    name: str
    needed: Bytes | None = None
    available: Bytes | None = None
    unit: str = "bytes"
    # The answers that it makes uncertain; "all" includes a program's refusal
    opens: Literal["", "yes", "no", "either", "all"] = ""
    ground: NoGround = "physical"  # why a "no" is one
    source: str = ""  # the program's message, and where it is in its source

    @property
    def holds(self) -> Answer:
        """Return whether it holds: "yes" if it does at the worst bounds, "no" if not at the best,
        else "unknown"."""
        if self.stands(LOW):
            return "yes"
        return "unknown" if self.opens or self.stands(HIGH) else "no"

    def stands(self, by: int) -> bool:
        """Return whether `needed` is at most `available`. `by` LOW: low supply and high need; HIGH:
        high supply and low need."""
        if self.needed is None or self.available is None:
            return False
        return self.needed[HIGH - by] <= self.available[by]


def fits(needed: Bytes, available: Bytes) -> Answer:
    """Return whether a peak fits, by its bounds and those of the memory."""
    return Condition("", needed, available).holds


def judge(conditions: Iterable[Condition]) -> Answer:
    """Return the verdict, which depends on `conditions` only."""
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
    """The verdict on one machine's memory (verdict/on_host.py). `fits` is None if the memory is not
    known."""

    needed: Bytes  # of the fullest phase; without pages of files
    phase: str
    room: Bytes | None  # what processes of the machine can use
    fits: Literal["yes", "no", "unknown"] | None
    reason: str
    container: int = 0  # bytes to give a container: its request and limit
    shared: bool = False  # `needed` includes what devices hold: one memory for both
    share_that_fits: float | None = None  # these three as in `Verdict`
    tight: bool = False
    tipped_by: str | None = None
    swapped: int = 0  # bytes not in `needed` that may grow with use, if the system swaps them out

    @property
    def available(self) -> int | None:
        """Return the bytes that processes can surely use; None if not known."""
        return None if self.room is None else self.room.low


@frozen_record
class Verdict:
    """The verdict on each of `count` devices, never on their sum (verdict/on_devices.py)."""

    accelerator: str
    accelerator_id: str
    count: int
    usable_bytes: int  # of one device, at least: visible memory minus headroom
    fits: Literal["yes", "no", "unknown"]
    margin_bytes: int  # usable_bytes minus the bytes expected on one device
    reason: str
    marketed_gb: int | None  # None if the user gave the size of the device
    total: Bytes  # what the driver reports
    visible: Bytes  # what a process can use
    usable: Bytes
    headroom_bytes: int
    per_device: Bytes  # of the fullest device, at driver level
    devices_used: int  # 1 if one device holds it all, or nothing splits the model
    basis: Basis  # of `visible`
    source: str
    published: Mapping[str, Any] | None = None  # similar runs: level, runs, median, sources
    host: HostVerdict | None = None  # None if the answer has no host
    # Share of the estimate's interval that fits (verdict/closeness.py): 1 for yes, 0 for no. None
    # if something other than the interval makes the verdict unknown
    share_that_fits: float | None = None
    tight: bool = False  # it fits with less than a tenth of `usable_bytes` to spare
    tipped_by: str | None = None  # the component with which it exceeds the device; None if it fits
    nodes: int = 1  # machines with `count` devices, at least
    spilled: int = 0  # bytes that Windows moves to RAM: it runs, slowly
    # If cards differ: usable bytes of each, in order. The other fields are about the one worst off
    usable_each: tuple[int, ...] = ()
    ground: NoGround = ""  # why a "no" is one; "" for other answers
    seen: str = ""  # the message of a program that refuses, and where it is in its source
    conditions: tuple[Condition, ...] = ()  # all that `fits` depends on

    @property
    def cards(self) -> str:
        """Return the accelerator's name, with the count if there are several."""
        return several(self.count, self.accelerator)

    @property
    def runs_in_part(self) -> bool:
        """Return whether it runs slowly, with what exceeds the card kept in RAM."""
        host = self.host is None or self.host.fits in (None, "yes")
        roomy = self.per_device.high <= self.usable.low
        return bool(self.spilled) and self.fits == "unknown" and roomy and host

    def under(self, *conditions: Condition, reason: str, tipped_by: str | None = None) -> "Verdict":
        """Return the verdict with more conditions, for a `reason` other than its intervals."""
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
    """Return a report with the verdict "unknown", because `words` were not understood."""
    reason = sentence("not_understood", words=words)
    if report.verdict is None:
        return replace(report, warnings=(reason, *report.warnings))
    unread = Condition("understood", opens="all", source=words)
    return replace(report, verdict=report.verdict.under(unread, reason=reason))


@frozen_record
class Price:
    """The cost of a change by kind, in points that most people mind equally (remedies/prices.py).
    One point of `speed` is 5 % slower; 0 is no cost."""

    quality: float = 0  # worse answers or less learned
    speed: float = 0  # slower
    scope: float = 0  # less than asked for: a shorter context, fewer requests, smaller adapters
    effort: float = 0  # another program, or a checkpoint to make first
    money: float = 0  # more or dearer hardware

    @property
    def _each(self) -> tuple[float, ...]:
        return self.quality, self.speed, self.scope, self.effort, self.money

    @property
    def points(self) -> float:
        """Return the sum of all costs, by which changes are ordered, the cheapest first."""
        return self.quality + self.speed + self.scope + self.effort + self.money

    @property
    def slower(self) -> float:
        """Return the slowdown in percent."""
        return self.speed * A_POINT

    def no_less(self, other: "Price") -> bool:
        """Return whether it costs at least as much as `other` in every kind."""
        return all(mine >= theirs for mine, theirs in zip(self._each, other._each, strict=True))


@frozen_record
class Remedy:
    """Settings to change, what the fullest device then holds, and what the change costs."""

    change: Mapping[str, Any]
    peak_bytes: int
    fits: Literal["yes", "no", "unknown"]
    cost: str
    flags: str = ""  # the change in the engine's own flags, or in ours
    source: str = ""  # of `cost`: an address, or a file of a release
    paste: str = ""  # a whole shell command, or lines of Python
    note: str = ""  # why there is nothing to paste, or what to do first
    margin_bytes: int | None = None  # usable bytes minus the bytes expected on one device
    per_device: Bytes | None = None  # of the fullest device, at driver level
    price: Price | None = None
    kind: str = ""  # quantization, sharding, devices ...: the kinds of remedies/prices.py
    host: Bytes | None = None  # what one machine's memory must then hold, in its fullest phase
