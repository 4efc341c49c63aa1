"""Named points; a name stands at the first place around its point that is free."""

from collections.abc import Iterator
from typing import NamedTuple

from weighbridge.charts.canvas import Canvas
from weighbridge.charts.figure import Dots
from weighbridge.charts.frame import SMALL, Box
from weighbridge.charts.lines import SHAPES
from weighbridge.charts.text import cut, width

TALL = 400  # pixels of the plot
LINE = 16  # further off than so many pixels, a line leads from the dot to its name
LONGEST = 180  # pixels of a name


class Area(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Area") -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def dots(canvas: Canvas, plot: Dots, y: float) -> float:
    box = Box(canvas, plot.x, plot.y, y + 26, TALL)
    box.left += 10
    box.head(y + 16)
    box.grid()
    taken = [Area(x - 5, y - 5, x + 5, y + 5) for x, y in (box.at(d.x, d.y) for d in plot.dots)]
    for dot in plot.dots:
        x, y = box.at(dot.x, dot.y)
        style = plot.series[dot.series].style
        canvas.path(f"M{x:.1f} {y:.1f}{SHAPES[style]}", f"s{style}")
        _name(box, (x, y), cut(dot.label, SMALL, LONGEST), taken)
    return box.foot()


def _name(box: Box, at: tuple[float, float], words: str, taken: list[Area]) -> None:
    """Write a name beside its point. If no place is free nothing is written: the table has it."""
    wide = width(words, SMALL)
    for x, y in _around(*at, wide):
        spot = Area(x, y - SMALL + 1, x + wide, y + 3)
        inside = spot.left >= box.left and spot.right <= box.right
        inside = inside and spot.top >= box.top and spot.bottom <= box.bottom
        if inside and not any(spot.meets(other) for other in taken):
            taken.append(spot)
            _lead(box, at, spot)
            box.canvas.text(x, y, words, size=SMALL)
            return


def _lead(box: Box, at: tuple[float, float], spot: Area) -> None:
    x = min(max(at[0], spot.left), spot.right)
    y = min(max(at[1], spot.top), spot.bottom)
    if abs(x - at[0]) + abs(y - at[1]) > LINE:
        box.canvas.line([at, (x, y)], "leader")


def _around(x: float, y: float, wide: float) -> Iterator[tuple[float, float]]:
    """Baselines right, left, above and below a point, then further off."""
    for far in (8, 14, 20, 28, 38, 50, 64, 80, 96):
        yield x + far, y + 4
        yield x - far - wide, y + 4
        yield x - wide / 2, y - far
        yield x - wide / 2, y + far + 9
        yield x + far * 0.8, y - far * 0.8
        yield x + far * 0.8, y + far * 0.8 + 7
        yield x - far * 0.8 - wide, y - far * 0.8
        yield x - far * 0.8 - wide, y + far * 0.8 + 7
