"""A ladder of steps in the order in which people take them, climbed until the question fits.

A step is tried if it can lower the fullest phase, on top of those before it; steps that lower
nothing are left out. If only RAM is short, steps are those that lower host memory. Each is
estimated as a question of its own.
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
LEAST = 0.01  # share of the peak: a step that lowers it by less is dropped
SAME = 1.001  # times the peak: rounding between steps stays below this
MOST = 10  # steps per ladder


class Step(NamedTuple):
    """One step: its settings and cost, and the phases that it lowers. `weights`: all phases, if
    every component is on the card. `counts`: values of its one setting, of which the smallest that
    fits is taken."""

    change: Mapping[str, Any]
    cost: str
    price: Price
    lowers: tuple[str, ...] = ()  # any
    weights: bool = False
    counts: tuple[int, ...] = ()

    def helps(self, instant: str, w: Any) -> bool:
        whole = self.weights and w.offload in (None, "none")
        return whole or not self.lowers or instant in self.lowers


Line = Callable[[Report, Mapping[str, Any]], str]  # line to paste, from an answer and its change
Steps = Callable[[Report, Any], Iterable[Step]]  # from the current answer and question


def launched(then: Report, _: Mapping[str, Any]) -> str:
    """Return the launch line of an answer."""
    return str(then.derived.get("launch") or "")


def climb(
    report: Report,
    w: Any,
    ask: Ask,
    pinned: frozenset[str],
    steps: Iterable[Step],
    line: Line = launched,
) -> tuple[Remedy, ...]:
    """Return the steps that lower the peak, up to one with spare room after the first that fits.
    Pinned settings do not change."""
    left = tuple(step for step in steps if pinned.isdisjoint(step.change))
    return tuple(Climb(report, w, ask, line).up(lambda *_: left))


class Climb:
    """The climb: the current answer and question, and the steps taken."""

    def __init__(self, report: Report, w: Any, ask: Ask, line: Line = launched) -> None:
        self.now, self.current, self.ask, self.line = report, w, ask, line
        self.done: dict[str, Any] = {}
        self.climbed: list[Remedy] = []
        self._tried: list[tuple[int, str, Mapping[str, Any]]] = []

    def up(
        self, steps: Steps, *, enough: Callable[[Report], bool] | None = None, asks: int = 0
    ) -> Iterator[Remedy]:
        """Yield each step taken, until an answer is `enough`, by default one that fits after
        another that fits. At most `asks` questions are estimated, unless that is 0."""
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
        """Return which end of the peak to lower: the expected one, and if that fits but the whole
        range must, the high one. A step without effect on one end, or on another phase, is tried
        again."""
        verdict, peak = self.now.verdict, self.now.peak.expected
        over = verdict is not None and peak > verdict.usable.expected
        return HIGH if to_the_end and not over else EXPECTED

    def _has_room(self) -> bool:
        """Return whether a step fits, and there is one more after it."""
        return len(self.climbed) > 1 and self.climbed[-2].fits == "yes"


def answered(ask: Ask, w: Any) -> Report | None:
    """Return the report of a question; None if it is refused."""
    try:
        return ask(w)
    except WeighbridgeError:
        return None


def _smallest_that_fits(step: Step, w: Any, ask: Ask) -> Step:
    """Return a step with the smallest of its `counts` that surely fits; the largest if none
    does."""
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
    """Return whether a step lowers the fullest phase and raises no other above it; with weights in
    RAM, whether fewer are there and the card still has room."""
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
    """Return whether the only problem is weights that are in RAM for lack of room."""
    v = report.verdict
    return v is not None and v.fits == "unknown" and _in_ram(report) > 0 and is_roomy(v)


def is_roomy(verdict: Verdict) -> bool:
    return verdict.per_device.high <= verdict.usable.low


def _in_ram(report: Report) -> int:
    return int(report.derived.get("in_ram") or 0)


def short_of_ram(report: Report) -> bool:
    """Return whether only RAM decides against an answer that fits the card."""
    v = report.verdict
    if v is None or v.host is None or v.host.fits in (None, "yes"):
        return False
    return is_roomy(v) and not _in_part(report)


def _lowers_ram(now: Report, then: Report) -> bool:
    """Return whether a step lowers host memory, with room on the card."""
    old, v = now.verdict, then.verdict
    if old is None or v is None or old.host is None or v.host is None:
        return False
    fewer = v.host.needed.expected <= old.host.needed.expected * (1 - LEAST)
    return fewer and v.per_device.low <= v.usable.high


def _at(report: Report, instant: str, bound: int) -> int:
    """Return the driver-level bytes of a phase on the card."""
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
    """Return whether a value is shown: a switch that is off is not, a number 0 is."""
    return value is not None and value is not False


def _typed(name: str, value: Any) -> Any:
    """Return a value as in a command line: a `size` is (height, width), and typed the other way
    round."""
    return f"{value[1]}x{value[0]}" if name == "size" and isinstance(value, tuple) else value
