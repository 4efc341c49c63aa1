"""What plots share: the size of the picture, grids and the memory that can be had."""

from collections.abc import Iterator

from weighbridge.charts.canvas import Canvas
from weighbridge.charts.figure import Axis, Limit, Tick
from weighbridge.charts.scale import apart, place
from weighbridge.charts.text import cut, width

WIDE, MARGIN = 800.0, 20.0
HIGH = 280  # of a plot with a y axis
SMALL = 11.5  # size of text in a plot
DASHED = ' stroke-width="1.8" stroke-dasharray="6 4"'


class Box:
    """Pixels of a plot with two axes."""

    def __init__(self, canvas: Canvas, x: Axis, y: Axis, top: float, high: float = HIGH) -> None:
        self.canvas, self.x, self.y, self.top = canvas, x, y, top
        self.left = MARGIN + max(width(t.text, SMALL) for t in y.ticks) + 8
        half = width(x.ticks[-1].text, SMALL) / 2 if x.ticks else 0.0
        self.right, self.bottom = WIDE - MARGIN - max(4.0, half), top + high

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = self.left + place(self.x, x) * (self.right - self.left)
        return across, self.bottom - place(self.y, y) * (self.bottom - self.top)

    def up(self, y: float) -> float:
        return self.at(self.x.low, y)[1]

    def grid(self) -> None:
        for tick in self._rows():
            y = self.up(tick.value)
            self.canvas.line([(self.left, y), (self.right, y)], "grid")
            self.canvas.text(
                self.left - 8, y + 4, tick.text, size=SMALL, paint="faint", anchor="end"
            )

    def _rows(self) -> Iterator[Tick]:
        free = float("inf")
        for tick in self.y.ticks:
            y = self.up(tick.value)
            if y <= free:
                yield tick
                free = y - SMALL - 6

    def foot(self) -> float:
        """Ticks and the name of the x axis; the y below them."""
        for tick in apart(self.x, self.right - self.left, self._widths()):
            x = self.at(tick.value, self.y.low)[0]
            self.canvas.line([(x, self.bottom), (x, self.bottom + 4)], "grid")
            half = width(tick.text, SMALL) / 2
            middle = min(x, WIDE - MARGIN - half + 4)
            self.canvas.text(
                middle, self.bottom + 18, tick.text, size=SMALL, paint="faint", anchor="middle"
            )
        named(self.canvas, self.x.label, self.bottom + 36)
        return self.bottom + 44

    def _widths(self) -> Iterator[float]:
        return (width(t.text, SMALL) for t in self.x.ticks)

    def head(self, y: float) -> None:
        """The name of the y axis, above it."""
        words = cut(self.y.label, SMALL, WIDE - 2 * MARGIN)
        self.canvas.text(MARGIN, y, words, size=SMALL, paint="faint")

    def limit(self, limit: Limit, *, right: bool = True, drop: float = 0) -> None:
        """A line across, the interval as a band, and its words above the line."""
        low, high = self.up(limit.low), self.up(limit.high)
        self.canvas.rect(self.left, high, (self.right - self.left, low - high), "warn", HAZE)
        self.canvas.line([(self.left, low), (self.right, low)], "limit", DASHED)
        words = cut(limit.label, SMALL, (self.right - self.left) * 0.6, bold=True)
        x, anchor = (self.right - 4, "end") if right else (self.left + 6, "start")
        y = min(high - 6, low - 6) - drop
        self.canvas.text(x, y, words, size=SMALL, paint="warn", bold=True, anchor=anchor)


HAZE = ' fill-opacity="0.16"'


def named(canvas: Canvas, label: str, y: float) -> None:
    """The name of an x axis, at its right end."""
    words = cut(label, SMALL, WIDE - 2 * MARGIN)
    canvas.text(WIDE - MARGIN, y, words, size=SMALL, paint="faint", anchor="end")
