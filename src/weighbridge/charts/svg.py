"""A figure in, an SVG out: self-contained, for light and dark pages, the same bytes every time."""

from collections.abc import Iterator, Sequence

from weighbridge.charts.areas import areas
from weighbridge.charts.bars import bars
from weighbridge.charts.canvas import Canvas, block, number, whole
from weighbridge.charts.dots import dots
from weighbridge.charts.figure import Areas, Bars, Dots, Figure, LinePlot, Plot, Series
from weighbridge.charts.frame import MARGIN, WIDE
from weighbridge.charts.lines import SHAPES, lines
from weighbridge.charts.text import folded, width

TITLE, NOTE, KEY = 17, 12.5, 12  # sizes of text


def svg(figure: Figure) -> str:
    canvas = Canvas(WIDE)
    y = _heading(canvas, figure)
    told: tuple[Series, ...] = ()
    for plot in figure.plots:
        found = _series(plot)
        y = y if found == told else _key(canvas, plot, y)
        told = found
        y = _drawn(canvas, plot, y)
    return whole(canvas, y + MARGIN / 2, figure.title, _described(figure), figure.lang)


def _drawn(canvas: Canvas, plot: Plot, y: float) -> float:
    if isinstance(plot, Bars):
        return bars(canvas, plot, y)
    if isinstance(plot, Areas):
        return areas(canvas, plot, y)
    if isinstance(plot, LinePlot):
        return lines(canvas, plot, y)
    return dots(canvas, plot, y)


def _heading(canvas: Canvas, figure: Figure) -> float:
    """The y below it."""
    y, room = MARGIN + TITLE, WIDE - 2 * MARGIN
    for line in folded(figure.title, TITLE, room, bold=True):
        canvas.text(MARGIN, y, line, size=TITLE, bold=True)
        y += TITLE * 1.35
    for line in folded(figure.answer, NOTE, room, bold=True) if figure.answer else ():
        canvas.text(MARGIN, y, line, size=NOTE, bold=True)
        y += NOTE * 1.5
    for note in figure.notes:
        for line in folded(note, NOTE, room):
            canvas.text(MARGIN, y, line, size=NOTE, paint="faint")
            y += NOTE * 1.5
    return y + 4


def _key(canvas: Canvas, plot: Plot, y: float) -> float:
    """What the colours and patterns mean, in the order in which they are drawn."""
    found = _series(plot)
    if len(found) < 2 and not isinstance(plot, Areas):
        return y
    row = y + KEY
    for x, at, series in _placed(found, row):
        row = at
        if isinstance(plot, LinePlot | Dots):
            canvas.path(
                f"M{number(x + 6)} {number(row - 4)}{SHAPES[series.style]}", f"s{series.style}"
            )
        else:
            canvas.filled(block(x, row - 10, 12, 12), series.style)
        canvas.text(x + 17, row, _cut(series.name), size=KEY)
    return row + 14


def _series(plot: Plot) -> tuple[Series, ...]:
    return plot.series if not isinstance(plot, LinePlot) else tuple(c.series for c in plot.curves)


def _cut(name: str) -> str:
    return folded(name, KEY, 300, most=1)[0]


def _placed(found: Sequence[Series], y: float) -> Iterator[tuple[float, float, Series]]:
    x = MARGIN
    for series in found:
        wide = 17 + width(_cut(series.name), KEY) + 18
        if x + wide > WIDE - MARGIN and x > MARGIN:
            x, y = MARGIN, y + 20
        yield x, y, series
        x += wide


def _described(figure: Figure) -> str:
    """The description, and the data as lines."""
    rows = (" | ".join(row) for row in (figure.table.head, *figure.table.rows))
    return "\n".join(filter(None, [figure.description, figure.table.caption, *rows]))
