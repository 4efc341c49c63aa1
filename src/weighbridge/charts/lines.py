"""Lines with the band of their interval; a marker of its own shape for each."""

from weighbridge.charts.canvas import Canvas
from weighbridge.charts.figure import Curve, LinePlot
from weighbridge.charts.frame import SMALL, Box
from weighbridge.charts.text import width

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
    above = max(0, len(plot.limits) - 1) * (SMALL + 4)  # words of close limits stand higher
    box = Box(canvas, plot.x, plot.y, y + 26 + above)
    box.left += 14
    box.head(y + 16)
    box.grid()
    for curve in plot.curves:
        _band(box, curve)
    free = float("inf")  # limits from the lowest up: words of close ones stand higher
    for limit in sorted(plot.limits):
        words = box.up(limit.high) - 6
        drop = max(0.0, words - free)
        box.limit(limit, right=False, drop=drop)
        free = words - drop - SMALL - 4
    for curve in plot.curves:
        _curve(box, curve)
    if len(plot.curves) == 1:
        _values(box, plot.curves[0])
    return box.foot()


def _band(box: Box, curve: Curve) -> None:
    there = [box.at(p.x, p.high) for p in curve.points]
    back = [box.at(p.x, p.low) for p in reversed(curve.points)]
    box.canvas.shape([*there, *back], f"s{curve.series.style}", ' fill-opacity="0.18"')


def _curve(box: Box, curve: Curve) -> None:
    style = curve.series.style
    spots = [box.at(p.x, p.y) for p in curve.points]
    box.canvas.line(spots, f"l{style}", ' stroke-width="2.4" stroke-linejoin="round"')
    for x, y in spots:
        box.canvas.path(f"M{x:.1f} {y:.1f}{SHAPES[style]}", f"s{style}")


def _values(box: Box, curve: Curve) -> None:
    """The numbers of a line that is alone, below its points, where they do not touch."""
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
