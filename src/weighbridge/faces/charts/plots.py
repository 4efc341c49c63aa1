"""Plots with two axes: layers of memory over time, lines with their intervals, and named points."""

from collections.abc import Iterator, Sequence

from weighbridge.base.records import NamedTuple
from weighbridge.faces.charts.canvas import Canvas, cut, width
from weighbridge.faces.charts.figure import Areas, Axis, Curve, Dots, Limit, LinePlot, Mark, Tick
from weighbridge.faces.charts.scale import apart, place

WIDE, MARGIN = 800.0, 20.0
HIGH = 280  # pixels of a plot with a y axis
SMALL = 11.5  # pixels, font size of text in a plot
DASHED = ' stroke-width="1.8" stroke-dasharray="6 4"'


class Box:
    """The area of a plot with two axes, in pixels."""

    def __init__(self, canvas: Canvas, axis: Axis, y: Axis, top: float, high: float = HIGH) -> None:
        self.canvas, self.x, self.y, self.top = canvas, axis, y, top
        self.left = MARGIN + max(width(t.text, SMALL) for t in y.ticks) + 8
        half = width(axis.ticks[-1].text, SMALL) / 2 if axis.ticks else 0.0
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
        """Draw the ticks and the name of the x axis. Returns the y below them, in pixels."""
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
        """Write the name of the y axis, above the axis."""
        words = cut(self.y.label, SMALL, WIDE - 2 * MARGIN)
        self.canvas.text(MARGIN, y, words, size=SMALL, paint="faint")

    def limit(self, limit: Limit, *, right: bool = True, drop: float = 0) -> None:
        """Draw a limit as a line across the plot, its interval as a band, and its label above the
        line."""
        low, high = self.up(limit.low), self.up(limit.high)
        self.canvas.rect(self.left, high, (self.right - self.left, low - high), "warn", HAZE)
        self.canvas.line([(self.left, low), (self.right, low)], "limit", DASHED)
        words = cut(limit.label, SMALL, (self.right - self.left) * 0.6, bold=True)
        x, anchor = (self.right - 4, "end") if right else (self.left + 6, "start")
        y = min(high - 6, low - 6) - drop
        self.canvas.text(x, y, words, size=SMALL, paint="warn", bold=True, anchor=anchor)


HAZE = ' fill-opacity="0.16"'


def named(canvas: Canvas, label: str, y: float) -> None:
    """Write the name of an x axis below its right end."""
    words = cut(label, SMALL, WIDE - 2 * MARGIN)
    canvas.text(WIDE - MARGIN, y, words, size=SMALL, paint="faint", anchor="end")


# Memory over time: stacked layers, phases named above, the peak marked

HEAD = 62  # pixels above the plot: its name, the name of the y axis, the phases


def areas(canvas: Canvas, plot: Areas, y: float) -> float:
    top = y + HEAD if plot.label else y + HEAD - 20
    box = Box(canvas, plot.x, plot.y, top)
    if plot.label:
        words = cut(plot.label, 13, box.right - MARGIN, bold=True)
        canvas.text(MARGIN, y + 16, words, size=13, bold=True)
    _draw_phases(box, plot)
    box.grid()
    canvas.text(MARGIN, top - 26, cut(plot.y.label, SMALL, 740), size=SMALL, paint="faint")
    base = [0.0] * len(plot.xs)
    for layer, series in zip(plot.layers, plot.series, strict=True):
        over = [a + max(0.0, b) for a, b in zip(base, layer, strict=True)]
        _draw_layer(box, plot.xs, (base, over), series.style)
        base = over
    outline = list(_steps(box, plot.xs, plot.line))
    walked = _step_path(outline)
    canvas.path(walked, "edge", ' fill="none" stroke-width="3.6"')
    canvas.path(walked, "rule", ' fill="none" stroke-width="1.6"')
    middle = (plot.x.low + plot.x.high) / 2
    if plot.limit is not None:
        box.limit(plot.limit, right=plot.peak.x < middle)
    if plot.refused is not None:
        _draw_refused(box, plot.refused)
    _draw_peak(box, plot)
    return _draw_line_name(canvas, plot, box.foot())


def _draw_layer(
    box: Box, xs: Sequence[float], between: tuple[Sequence[float], Sequence[float]], style: int
) -> None:
    low, high = between
    if high == low:
        return
    there, back = list(_steps(box, xs, high)), list(_steps(box, xs, low))
    box.canvas.filled(f"{_step_path([*there, *reversed(back)])}Z", style)


def _step_path(points: Sequence[tuple[float, float]]) -> str:
    """Return an SVG path of level and upright lines, without the points within a level line."""
    x, y = (f"{v:.1f}" for v in points[0])
    d = [f"M{x} {y}"]
    level = ""  # x that a level stretch has reached
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


def _draw_phases(box: Box, plot: Areas) -> None:
    """Draw the phases: every second one shaded, with names if there is room for them."""
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


def _draw_peak(box: Box, plot: Areas) -> None:
    """Draw a dot at the peak, and its label above, towards the middle."""
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


def _draw_refused(box: Box, mark: Mark) -> None:
    """Draw an upright line where the card was full, and its label at the foot of the plot."""
    x, y = box.at(mark.x, mark.y)
    words = cut(mark.label, SMALL, (box.right - box.left) * 0.8, bold=True)
    wide = width(words, SMALL, bold=True)
    start = min(max(x - wide / 2, box.left + 4), box.right - wide - 4)
    box.canvas.line([(x, box.top), (x, box.bottom)], "rule", ' stroke-width="1"')
    box.canvas.rect(start - 4, box.bottom - 22, (wide + 8, 17), "page", ' fill-opacity="0.85"')
    box.canvas.text(start, box.bottom - 9, words, size=SMALL, bold=True)
    cross = f"M{x - 4:.1f} {y - 4:.1f}l8 8m-8 0l8 -8"
    box.canvas.path(cross, "rule", ' fill="none" stroke-width="2"')


def _draw_line_name(canvas: Canvas, plot: Areas, y: float) -> float:
    """Name the plot's line below the plot on the left; return the y below the name, in pixels."""
    words = cut(plot.line_name, SMALL, 380)
    canvas.line([(MARGIN, y - 12), (MARGIN + 22, y - 12)], "rule", ' stroke-width="1.6"')
    canvas.text(MARGIN + 28, y - 8, words, size=SMALL)
    return y + 14


# Lines with the band of their interval, each with another marker.

SHAPES = (  # around (0, 0): circle, square, diamond, triangles, cross
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z",
    "m-4-4h8v8h-8Z",
    "m0-5l5 5l-5 5l-5-5Z",
    "m0-5l5 9h-10Z",
    "m0 5l5-9h-10Z",
    "m-5-2h3v-3h4v3h3v4h-3v3h-4v-3h-3Z",
    "m-4-3h8v6h-8Z",
)


def lines(canvas: Canvas, plot: LinePlot, y: float) -> float:
    above = max(0, len(plot.limits) - 1) * (SMALL + 4)  # labels of close limits move up
    box = Box(canvas, plot.x, plot.y, y + 26 + above)
    box.left += 14
    box.head(y + 16)
    box.grid()
    for curve in plot.curves:
        _draw_interval(box, curve)
    free = float("inf")  # limits from the lowest up: labels of close ones move up
    for limit in sorted(plot.limits):
        words = box.up(limit.high) - 6
        drop = max(0.0, words - free)
        box.limit(limit, right=False, drop=drop)
        free = words - drop - SMALL - 4
    for curve in plot.curves:
        _draw_curve(box, curve)
    if len(plot.curves) == 1:
        _write_values(box, plot.curves[0])
    return box.foot()


def _draw_interval(box: Box, curve: Curve) -> None:
    there = [box.at(p.x, p.high) for p in curve.points]
    back = [box.at(p.x, p.low) for p in reversed(curve.points)]
    box.canvas.shape([*there, *back], f"s{curve.series.style}", ' fill-opacity="0.18"')


def _draw_curve(box: Box, curve: Curve) -> None:
    style = curve.series.style
    spots = [box.at(p.x, p.y) for p in curve.points]
    box.canvas.line(spots, f"l{style}", ' stroke-width="2.4" stroke-linejoin="round"')
    for x, y in spots:
        box.canvas.path(f"M{x:.1f} {y:.1f}{SHAPES[style]}", f"s{style}")


def _write_values(box: Box, curve: Curve) -> None:
    """Write the values of a single line below its points, if they do not touch."""
    free = box.left
    for point in curve.points:
        x, y = box.at(point.x, point.low)
        half = width(point.told, SMALL) / 2
        middle = min(max(x, box.left + half + 2), box.right - half)
        if middle - half >= free and y + 18 <= box.bottom:
            words = (middle - half - 2, y + 5)
            box.canvas.rect(*words, (2 * half + 4, 15), "page", ' fill-opacity="0.8"')
            box.canvas.text(middle, y + 17, point.told, size=SMALL, anchor="middle")
            free = middle + half + 8


# Named points; a name goes to the first free place around its point.

TALL = 400  # pixels of the plot
LINE = 16  # pixels: a name further off gets a line to its dot
LONGEST = 180  # most pixels of a name


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
        if dot.label:
            _write_name(box, (x, y), cut(dot.label, SMALL, LONGEST), taken)
    return box.foot()


def _write_name(box: Box, point: tuple[float, float], words: str, taken: list[Area]) -> None:
    """Write a name beside its point. If no place is free it is left out: the table has it."""
    wide = width(words, SMALL)
    for x, y in _name_places(*point, wide):
        spot = Area(x, y - SMALL + 1, x + wide, y + 3)
        inside = spot.left >= box.left and spot.right <= box.right
        inside = inside and spot.top >= box.top and spot.bottom <= box.bottom
        if inside and not any(spot.meets(other) for other in taken):
            taken.append(spot)
            _draw_leader(box, point, spot)
            box.canvas.text(x, y, words, size=SMALL)
            return


def _draw_leader(box: Box, point: tuple[float, float], spot: Area) -> None:
    x = min(max(point[0], spot.left), spot.right)
    y = min(max(point[1], spot.top), spot.bottom)
    if abs(x - point[0]) + abs(y - point[1]) > LINE:
        box.canvas.line([point, (x, y)], "leader")


def _name_places(x: float, y: float, wide: float) -> Iterator[tuple[float, float]]:
    """Yield (x, y) of possible baselines of a name: right, left, above and below a point, then
    further off."""
    for far in (8, 14, 20, 28, 38, 50, 64, 80, 96):
        yield x + far, y + 4
        yield x - far - wide, y + 4
        yield x - wide / 2, y - far
        yield x - wide / 2, y + far + 9
        yield x + far * 0.8, y - far * 0.8
        yield x + far * 0.8, y + far * 0.8 + 7
        yield x - far * 0.8 - wide, y - far * 0.8
        yield x - far * 0.8 - wide, y + far * 0.8 + 7
