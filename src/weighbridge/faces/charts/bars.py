"""Horizontal bars: one row per phase, one group per device, the device's memory as a dashed
line."""

from collections.abc import Iterator

from weighbridge.faces.charts.canvas import Canvas, block, cut, number, width
from weighbridge.faces.charts.figure import BarGroup, Bars, FigureBar, Limit
from weighbridge.faces.charts.plots import DASHED, HAZE, MARGIN, SMALL, WIDE, named
from weighbridge.faces.charts.scale import apart, place

THICK, ROW = 22, 40
GUTTER = 280  # most pixels of labels
GROUP = 13  # pixels, font size of a group's name
GAP = 1.5  # pixels between segments
CUT_END = 28  # pixels at the end of an axis that stay without text, as a bar may be cut there
MARK = 16  # pixels that a verdict's sign takes
MARKS = {  # SVG paths of signs, as not every font has them, in a square of 9
    "yes": "m0 5l3.5 4l5.5-9",
    "no": "m0.5 0.5l8 8m0-8l-8 8",
    "unknown": "m1 2.5q0-2.5 3.5-2.5q3.5 0 3.5 2.5q0 2-3.5 3v1.2m0 2v.8",
}
PEN = ' fill="none" stroke-width="1.8"'


class RowPositions:
    """The pixels between which bars are drawn, and the pixel of each value."""

    def __init__(self, canvas: Canvas, plot: Bars) -> None:
        self.canvas, self.plot = canvas, plot
        every = [bar for group in plot.groups for bar in group.bars]
        labels = max(
            (width(b.label, SMALL, bold=True) + (MARK if b.mark else 0) for b in every), default=0
        )
        widest = max((width(b.told, SMALL, bold=True) for b in every), default=0)
        self.left = MARGIN + min(GUTTER, labels) + 10
        self.right = WIDE - MARGIN - min(GUTTER, widest) - 14

    def x(self, value: float) -> float:
        return self.left + place(self.plot.axis, value) * (self.right - self.left)


def bars(canvas: Canvas, plot: Bars, y: float) -> float:
    rows = RowPositions(canvas, plot)
    ends = [y]
    for group in plot.groups:
        ends.append(ends[-1] + _head_height(group) + ROW * len(group.bars) + 8)
    _draw_grid(rows, y + 6, ends[-1])
    for group, top in zip(plot.groups, ends, strict=False):
        _draw_group(rows, group, top)
    return _draw_foot(rows, ends[-1])


def _head_height(group: BarGroup) -> float:
    return (24 if group.label else 4) + (20 if group.limit else 0)


def _draw_grid(rows: RowPositions, top: float, bottom: float) -> None:
    for tick in rows.plot.axis.ticks:
        x = rows.x(tick.value)
        rows.canvas.line([(x, top), (x, bottom + 4)], "grid")


def _draw_group(rows: RowPositions, group: BarGroup, top: float) -> None:
    canvas = rows.canvas
    first = top + _head_height(group)
    if group.label:
        words = cut(group.label, GROUP, WIDE - 2 * MARGIN, bold=True)
        wide = width(words, GROUP, bold=True)
        canvas.rect(MARGIN, top + 3, (wide + 6, 18), "page")  # grid lines stop at text
        canvas.text(MARGIN, top + 17, words, size=GROUP, bold=True)
    if group.limit is not None:
        _shade_uncertain(rows, group.limit, first, first + ROW * len(group.bars) - 4)
    for i, bar in enumerate(group.bars):
        _draw_bar(rows, bar, first + ROW * i, group.limit)
    if group.limit is not None:
        _draw_limit(rows, group.limit, first, first + ROW * len(group.bars) - 4)


def _shade_uncertain(rows: RowPositions, limit: Limit, top: float, bottom: float) -> None:
    """Shade the memory between what a process surely has and what it may have at best."""
    low, high = rows.x(limit.low), rows.x(limit.high)
    rows.canvas.rect(low, top - 6, (high - low, bottom - top + 6), "warn", HAZE)


def _draw_limit(rows: RowPositions, limit: Limit, top: float, bottom: float) -> None:
    canvas, x = rows.canvas, rows.x(limit.low)
    canvas.line([(x, top - 6), (x, bottom)], "edge", ' stroke-width="5" stroke-opacity="0.75"')
    canvas.line([(x, top - 6), (x, bottom)], "limit", DASHED)
    words = cut(limit.label, SMALL, WIDE - 2 * MARGIN, bold=True)
    wide = width(words, SMALL, bold=True)
    start = min(max(x - wide / 2, MARGIN), WIDE - MARGIN - wide)
    canvas.rect(start - 2, top - 22, (wide + 4, 15), "page")
    canvas.text(start, top - 10, words, size=SMALL, paint="warn", bold=True)


def _draw_bar(rows: RowPositions, bar: FigureBar, y: float, limit: Limit | None) -> None:
    canvas = rows.canvas
    end = rows.left - 10
    if bar.mark:
        canvas.path(f"M{number(end - 9)} {number(y + 6)}{MARKS[bar.mark]}", "rule", PEN)
        end -= MARK
    label = cut(bar.label, SMALL, end - MARGIN, bold=bar.strong)
    canvas.text(end, y + 15, label, size=SMALL, bold=bar.strong, anchor="end")
    left = 0.0
    for segment in bar.segments:
        x, end = rows.x(left), rows.x(left + segment.value)
        left += segment.value
        style = rows.plot.series[segment.series].style
        wide = max(end - x - GAP, min(1.0, end - x))
        if wide > 0:
            canvas.filled(block(x, y, wide, THICK), style)
            seen = wide - CUT_END if end >= rows.right else wide
            for start, room in _text_room(x, seen, rows.x(limit.low) if limit else None):
                if _write_inside(canvas, (start, y, room), segment.told, style):
                    break
    if left > rows.plot.axis.high:
        _draw_cut(canvas, rows.x(left), y)
    if bar.low != bar.high and bar.low < rows.plot.axis.high:
        canvas.whisker(y + THICK + 6, rows.x(bar.low), rows.x(bar.high))
    value = cut(bar.told, SMALL, WIDE - MARGIN - rows.right, bold=bar.strong)
    canvas.text(WIDE - MARGIN, y + 15, value, size=SMALL, bold=bar.strong, anchor="end")


def _draw_cut(canvas: Canvas, x: float, y: float) -> None:
    """Draw two gaps near the end of a bar that is longer than the axis."""
    for back in (14, 22):
        ends = [(x - back + 4, y - 2), (x - back - 4, y + THICK + 2)]
        canvas.line(ends, "edge", ' stroke-width="3.5"')


def _text_room(x: float, wide: float, line: float | None) -> Iterator[tuple[float, float]]:
    """Yield (x, width) in pixels of the room for text in a segment, left and right of the memory
    line."""
    if line is None or not x < line < x + wide:
        yield x, wide
        return
    yield x, line - x - 2
    yield line + 2, x + wide - line - 2


def _write_inside(canvas: Canvas, place: tuple[float, float, float], text: str, style: int) -> bool:
    """Write text on a segment, on a plate without pattern; return whether there was room for it."""
    x, y, wide = place
    taken = width(text, SMALL)
    if not text or taken + 12 > wide:
        return False
    canvas.rect(x + 3, y + 3, (taken + 6, THICK - 6), f"s{style}")
    canvas.text(x + 6, y + 15, text, size=SMALL, paint=f"t{style}")
    return True


def _draw_foot(rows: RowPositions, y: float) -> float:
    canvas, axis = rows.canvas, rows.plot.axis
    widths = (width(t.text, SMALL) for t in axis.ticks)
    for tick in apart(axis, rows.right - rows.left, widths):
        canvas.text(
            rows.x(tick.value), y + 18, tick.text, size=SMALL, paint="faint", anchor="middle"
        )
    named(canvas, axis.label, y + 36)
    if rows.plot.more:
        words = cut(rows.plot.more, SMALL, WIDE - 2 * MARGIN)
        canvas.text(MARGIN, y + 54, words, size=SMALL, paint="faint")
        y += 18
    return y + 44
