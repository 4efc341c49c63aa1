"""Memory over time: layers upon each other, phases named above, the peak pointed at."""

from collections.abc import Iterator, Sequence

from weighbridge.charts.canvas import Canvas
from weighbridge.charts.figure import Areas, Mark
from weighbridge.charts.frame import HIGH, MARGIN, SMALL, Box
from weighbridge.charts.text import cut, width

HEAD = 62  # above the plot: its name, the name of the y axis, the phases


def areas(canvas: Canvas, plot: Areas, y: float) -> float:
    top = y + HEAD if plot.label else y + HEAD - 20
    box = Box(canvas, plot.x, plot.y, top)
    if plot.label:
        words = cut(plot.label, 13, box.right - MARGIN, bold=True)
        canvas.text(MARGIN, y + 16, words, size=13, bold=True)
    _bands(box, plot)
    box.grid()
    canvas.text(MARGIN, top - 26, cut(plot.y.label, SMALL, 740), size=SMALL, paint="faint")
    base = [0.0] * len(plot.xs)
    for layer, series in zip(plot.layers, plot.series, strict=True):
        over = [a + max(0.0, b) for a, b in zip(base, layer, strict=True)]
        _layer(box, plot.xs, (base, over), series.style)
        base = over
    held = list(_steps(box, plot.xs, plot.line))
    walked = _walked(held)
    canvas.path(walked, "edge", ' fill="none" stroke-width="3.6"')
    canvas.path(walked, "rule", ' fill="none" stroke-width="1.6"')
    middle = (plot.x.low + plot.x.high) / 2
    if plot.limit is not None:
        box.limit(plot.limit, right=plot.peak.x < middle)
    if plot.refused is not None:
        _refused(box, plot.refused)
    _peak(box, plot)
    return _named_line(canvas, plot, box.foot())


def _layer(
    box: Box, xs: Sequence[float], between: tuple[Sequence[float], Sequence[float]], style: int
) -> None:
    low, high = between
    if high == low:
        return
    there, back = list(_steps(box, xs, high)), list(_steps(box, xs, low))
    box.canvas.filled(f"{_walked([*there, *reversed(back)])}Z", style)


def _walked(points: Sequence[tuple[float, float]]) -> str:
    """A path that goes level or upright from point to point; those on the way are left out."""
    x, y = (f"{v:.1f}" for v in points[0])
    d = [f"M{x} {y}"]
    level = ""  # where a level stretch has come to
    for point in points[1:]:
        nx, ny = (f"{v:.1f}" for v in point)
        if ny == y:
            level, x = nx, nx
            continue
        d.append(f"H{level}V{ny}" if level else f"V{ny}")
        level, y = ("" if nx == x else nx), ny
        x = nx
    return "".join(d) + (f"H{level}" if level else "")


def _steps(box: Box, xs: Sequence[float], values: Sequence[float]) -> Iterator[tuple[float, float]]:
    before: float | None = None
    for x, value in zip(xs, values, strict=True):
        across, y = box.at(x, value)
        if before is not None:
            yield across, before
        yield across, y
        before = y


def _bands(box: Box, plot: Areas) -> None:
    """Phases: every second one shaded, with names where there is room for them."""
    free = box.left
    for i, band in enumerate(plot.bands):
        low, high = box.at(band.low, 0)[0], box.at(band.high, 0)[0]
        if i % 2:
            box.canvas.rect(low, box.top - 18, (high - low, HIGH + 18), "shade")
        box.canvas.line([(low, box.top - 18), (low, box.bottom)], "grid")
        wide = width(band.label, SMALL)
        if low + 4 >= free and low + 4 + wide <= max(
            high, box.right if high > box.right - 2 else 0
        ):
            box.canvas.text(low + 4, box.top - 5, band.label, size=SMALL)
            free = low + 4 + wide + 6


def _peak(box: Box, plot: Areas) -> None:
    """A dot at the peak, and its words above, towards the middle."""
    x, y = box.at(plot.peak.x, plot.peak.y)
    words = cut(plot.peak.label, SMALL, (box.right - box.left) * 0.8, bold=True)
    wide = width(words, SMALL, bold=True)
    start = min(max(x - wide / 2, box.left + 4), box.right - wide - 4)
    ceiling = min(box.at(0, level)[1] for level in plot.line)
    above = min(y, ceiling) - 24
    box.canvas.line([(x, y), (x, above + 14)], "rule", ' stroke-width="1"')
    box.canvas.rect(start - 4, above - 3, (wide + 8, 17), "page", ' fill-opacity="0.85"')
    box.canvas.text(start, above + 10, words, size=SMALL, bold=True)
    circle = f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z"
    box.canvas.path(circle, "ink")


def _refused(box: Box, mark: Mark) -> None:
    """An upright line where the card was full, and its words at the foot of the plot."""
    x, y = box.at(mark.x, mark.y)
    words = cut(mark.label, SMALL, (box.right - box.left) * 0.8, bold=True)
    wide = width(words, SMALL, bold=True)
    start = min(max(x - wide / 2, box.left + 4), box.right - wide - 4)
    box.canvas.line([(x, box.top), (x, box.bottom)], "rule", ' stroke-width="1"')
    box.canvas.rect(start - 4, box.bottom - 22, (wide + 8, 17), "page", ' fill-opacity="0.85"')
    box.canvas.text(start, box.bottom - 9, words, size=SMALL, bold=True)
    cross = f"M{x - 4:.1f} {y - 4:.1f}l8 8m-8 0l8 -8"
    box.canvas.path(cross, "rule", ' fill="none" stroke-width="2"')


def _named_line(canvas: Canvas, plot: Areas, y: float) -> float:
    """What the line is, below the plot at its left, beside the name of the x axis."""
    words = cut(plot.line_name, SMALL, 380)
    canvas.line([(MARGIN, y - 12), (MARGIN + 22, y - 12)], "rule", ' stroke-width="1.6"')
    canvas.text(MARGIN + 28, y - 8, words, size=SMALL)
    return y + 14
