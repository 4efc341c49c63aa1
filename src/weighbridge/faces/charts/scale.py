"""Axes: round numbers at even distances, in a unit that suits."""

import math
from collections.abc import Iterable, Iterator

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import UNITS
from weighbridge.faces.charts.figure import Axis, Tick

STEPS = (1, 2, 5, 10)  # steps between ticks, times a power of ten
AIM = 6  # number of ticks to aim at


class ByteUnit(NamedTuple):
    """A unit of memory, and how sizes are written in it."""

    name: str

    @property
    def size(self) -> int:
        return UNITS[self.name.upper()]

    def number(self, nbytes: float) -> str:
        """Return bytes in this unit as text without the unit: one decimal, or two below one."""
        value = nbytes / self.size
        return f"{value:,.1f}" if value >= 1 or not value else f"{value:.2f}"

    def told(self, nbytes: float) -> str:
        return f"{self.number(nbytes)} {self.name}"

    def exact(self, nbytes: float) -> str:
        """Return bytes in this unit with two decimals, without the unit: for tables."""
        return f"{nbytes / self.size:,.2f}"


def unit(most: float, asked: str | None = None) -> ByteUnit:
    """Return the unit `asked`, or the binary one in which `most` bytes have few digits."""
    if asked is not None:
        return ByteUnit(asked)
    names = ("TiB", "GiB", "MiB", "KiB")
    # TiB only from 4 TiB on, as 4,096 GiB is still easy to read
    return ByteUnit(
        next((n for n in names if most >= (4 if n == "TiB" else 1) * ByteUnit(n).size), "B")
    )


def memory(label: str, most: float, unit: ByteUnit) -> Axis:
    """Return an axis from 0 to a little above `most` bytes, with ticks in `unit`."""
    high = max(most, 1) * 1.02
    step = _round_step(high / unit.size) * unit.size
    ticks = (Tick(i * step, _tick_text(i * step / unit.size)) for i in range(int(high / step) + 1))
    return Axis(label, 0, high, tuple(ticks))


def plain(label: str, low: float, high: float) -> Axis:
    """Return an axis of round numbers from `low` to `high`."""
    step = _round_step(high - low or 1)
    first = math.ceil(low / step - 1e-9)
    ticks = (
        Tick(i * step, _tick_text(i * step)) for i in range(first, int(high / step + 1e-9) + 1)
    )
    return Axis(label, low, high, tuple(ticks))


def ratios(label: str, low: float, high: float, size: int = 1) -> Axis:
    """Return a logarithmic axis: ticks at 1, 2, 3, 5, 7 times powers of ten, times `size`."""
    first, last = math.floor(math.log10(low / size)), math.ceil(math.log10(high / size))
    values = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 3, 5, 7)]
    inside = tuple(Tick(v * size, _tick_text(v)) for v in values if low <= v * size <= high)
    return Axis(label, low, high, inside, log=True)


def given(label: str, values: Iterable[float]) -> Axis:
    """Return an axis with a tick at each value; logarithmic if they grow eightfold or more."""
    known = sorted(set(values))
    ticks = tuple(Tick(v, _tick_text(v)) for v in known)
    low, high = known[0], known[-1]
    log = low > 0 and high >= 8 * low
    if low == high:
        low, high = low - 1, high + 1
    return Axis(label, low, high, ticks, log)


def place(axis: Axis, value: float) -> float:
    """Return the position of a value on its axis: 0 at the low end, 1 at the high end, values
    beyond moved to the end."""
    value = min(max(value, axis.low), axis.high)
    if axis.log:
        span = math.log(axis.high / axis.low)
        return math.log(value / axis.low) / span
    return (value - axis.low) / (axis.high - axis.low)


def apart(axis: Axis, room: float, widths: Iterable[float]) -> Iterator[Tick]:
    """Yield the ticks whose texts do not touch on `room` pixels; the first one always. `widths`:
    the pixels of the texts."""
    free = -math.inf
    for tick, width in zip(axis.ticks, widths, strict=True):
        position = place(axis, tick.value) * room
        if position - width / 2 >= free:
            yield tick
            free = position + width / 2 + 8


def _round_step(span: float) -> float:
    rough = span / AIM
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in STEPS if m * power >= rough * 0.999)


def _tick_text(value: float) -> str:
    return f"{value:,.10g}" if abs(value) < 1e15 else f"{value:.3g}"
