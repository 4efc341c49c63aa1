"""A ladder of steps in the order in which people take them, climbed until the question fits.

A step is tried where it can lower the instant that is fullest, and keeps those before it; what
lowers nothing is left out. Where RAM alone is short, steps are those that lower what RAM holds.
Each is answered as the question that it makes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.memory import EXPECTED, HIGH
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.units import human
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Price, Remedy, Verdict
from weighbridge.workload.flags import flags

Ask = Callable[[Any], Report]
LEAST = 0.01  # of the peak: a step that lowers it by less is none
SAME = 1.001  # of the peak: what is left over between steps differs by less
MOST = 10  # steps of one ladder


class Step(NamedTuple):
    """One step: what it changes and costs, and the instants that it lowers. `weights`: all of them
    where every component is on the card. `counts` of the one setting that it changes: the smallest
    that fits is taken."""

    change: Mapping[str, Any]
    cost: str
    price: Price
    lowers: tuple[str, ...] = ()  # any
    weights: bool = False
    counts: tuple[int, ...] = ()

    def helps(self, instant: str, w: Any) -> bool:
        whole = self.weights and w.offload in (None, "none")
        return whole or not self.lowers or instant in self.lowers


Line = Callable[[Report, Mapping[str, Any]], str]  # to paste, of an answer and what was changed
Steps = Callable[[Report, Any], Iterable[Step]]  # of the answer and the question that stand


def launched(then: Report, _: Mapping[str, Any]) -> str:
    """Return the line that starts what was answered."""
    return str(then.derived.get("launch") or "")


def climb(
    report: Report,
    w: Any,
    ask: Ask,
    pinned: frozenset[str],
    steps: Iterable[Step],
    line: Line = launched,
) -> tuple[Remedy, ...]:
    """Take the steps that lower the peak, up to one that has room after the first that fits.
    Nothing that is pinned is touched."""
    left = tuple(step for step in steps if pinned.isdisjoint(step.change))
    return tuple(Climb(report, w, ask, line).up(lambda *_: left))


class Climb:
    """The way up: the answer and the question that stand, and the steps that were taken."""

    def __init__(self, report: Report, w: Any, ask: Ask, line: Line = launched) -> None:
        self.now, self.current, self.ask, self.line = report, w, ask, line
        self.done: dict[str, Any] = {}
        self.climbed: list[Remedy] = []
        self._tried: list[tuple[int, str, Mapping[str, Any]]] = []

    def up(
        self, steps: Steps, *, enough: Callable[[Report], bool] | None = None, asks: int = 0
    ) -> Iterator[Remedy]:
        """Climb until an answer is `enough`, at worst, or one more has room beside the first that
        fits; yield each step that was taken. No more questions are asked than `asks`, where that
        is not 0."""
        while len(self.climbed) < MOST and not (asks and len(self._tried) >= asks):
            if self._has_room() if enough is None else enough(self.now):
                break
            bound = self._bound(to_the_end=enough is not None)
            instant = self.now.fullest.binding(bound).name
            left = (
                one
                for one in steps(self.now, self.current)
                if (bound, instant, one.change) not in self._tried
            )
            by_ram = enough is None and short_of_ram(self.now)
            step = next((one for one in left if by_ram or one.helps(instant, self.current)), None)
            if step is None:
                break
            self._tried.append((bound, instant, step.change))
            step = _smallest_that_fits(step, self.current, self.ask)
            then = answered(self.ask, self.current.but(**step.change))
            lowers = _lowers_ram if by_ram else partial(_lowers, instant=instant, bound=bound)
            if then is not None and lowers(self.now, then):
                self.take(step, then)
                yield self.climbed[-1]

    def take(self, step: Step, then: Report) -> None:
        self.current = self.current.but(**step.change)
        self.now, self.done = then, {**self.done, **step.change}
        self.climbed.append(_remedy(then, self.done, step, self.line(then, self.done)))

    def _bound(self, *, to_the_end: bool) -> int:
        """Return which end is to be lowered: that of the peak as it is expected, and once that has
        room, where all of the range is to have it, the high end. A step that did nothing for the
        one, or for another instant, is tried again."""
        verdict, peak = self.now.verdict, self.now.peak.expected
        over = verdict is not None and peak > verdict.usable.expected
        return HIGH if to_the_end and not over else EXPECTED

    def _has_room(self) -> bool:
        """Tell whether one fits, and one more stands behind it."""
        return len(self.climbed) > 1 and self.climbed[-2].fits == "yes"


def answered(ask: Ask, w: Any) -> Report | None:
    """Ask a question; None where it is refused."""
    try:
        return ask(w)
    except WeighbridgeError:
        return None


def _smallest_that_fits(step: Step, w: Any, ask: Ask) -> Step:
    """Return a step with the smallest value of its range that surely fits; with the largest, where
    none does."""
    if not step.counts:
        return step
    [name] = step.change
    low, high = 0, len(step.counts) - 1
    while low < high:
        middle = (low + high) // 2
        then = answered(ask, w.but(**{name: step.counts[middle]}))
        if then is not None and then.verdict is not None and then.verdict.fits == "yes":
            high = middle
        else:
            low = middle + 1
    value = step.counts[low]
    return step._replace(change={name: value}, cost=sentence("step.swap", count=value), counts=())


def _lowers(now: Report, then: Report, instant: str, bound: int) -> bool:
    """Tell whether a step lowers the instant that was fullest, and raises no other above it; of
    what runs with weights in RAM, whether fewer are there and the card still has room."""
    if _in_part(now):
        fewer = _in_ram(then) <= _in_ram(now) * (1 - LEAST)
        old, v = now.verdict, then.verdict
        if v is None or old is None or v.host is None or old.host is None:
            return fewer and v is not None and is_roomy(v)
        short = old.host.fits in ("no", "unknown")
        more = short and v.host.needed.expected > old.host.needed.expected
        return fewer and is_roomy(v) and not more
    before, after = (_at(report, instant, bound) for report in (now, then))
    return then.peak[bound] <= now.peak[bound] * SAME and after <= before * (1 - LEAST)


def _in_part(report: Report) -> bool:
    """Tell whether weights that a card has room for none of are all that is wrong."""
    v = report.verdict
    return v is not None and v.fits == "unknown" and _in_ram(report) > 0 and is_roomy(v)


def is_roomy(verdict: Verdict) -> bool:
    return verdict.per_device.high <= verdict.usable.low


def _in_ram(report: Report) -> int:
    return int(report.derived.get("in_ram") or 0)


def short_of_ram(report: Report) -> bool:
    """Tell whether RAM alone decides against an answer, which the card has room for."""
    v = report.verdict
    if v is None or v.host is None or v.host.fits in (None, "yes"):
        return False
    return is_roomy(v) and not _in_part(report)


def _lowers_ram(now: Report, then: Report) -> bool:
    """Tell whether a step lowers what RAM must hold, with room on the card."""
    old, v = now.verdict, then.verdict
    if old is None or v is None or old.host is None or v.host is None:
        return False
    fewer = v.host.needed.expected <= old.host.needed.expected * (1 - LEAST)
    return fewer and v.per_device.low <= v.usable.high


def _at(report: Report, instant: str, bound: int) -> int:
    """Return what an instant takes on the card."""
    return sum(p.at("driver")[bound] for p in report.fullest.phases if p.name == instant)


def _remedy(then: Report, change: Mapping[str, Any], step: Step, line: str) -> Remedy:
    verdict = then.verdict
    assert verdict is not None
    cost = step.cost
    if waits := _in_ram(then):
        cost = sentence("step.in_ram", what=cost, size=human(waits))
    typed = {name: _typed(name, value) for name, value in change.items() if _is_told(value)}
    return Remedy(
        change=typed,
        peak_bytes=then.peak.expected,
        fits=verdict.fits,
        cost=cost,
        price=step.price,
        flags=flags(typed, ""),
        kind=str(then.fullest.peak_phase),
        paste=line,
        margin_bytes=verdict.margin_bytes,
        per_device=verdict.per_device,
        host=None if verdict.host is None else verdict.host.needed,
    )


def _is_told(value: Any) -> bool:
    """Tell whether a value is one: a switch that is off is left out, and a number 0 is not."""
    return value is not None and value is not False


def _typed(name: str, value: Any) -> Any:
    """Return a value as a command line has it: a size is (height, width), and typed the other
    way."""
    return f"{value[1]}x{value[0]}" if name == "size" and isinstance(value, tuple) else value
