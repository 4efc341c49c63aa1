"""The drawing of figures: a figure in; an SVG, a page or a PNG out.

The SVG is self-contained, for light and dark pages, with equal bytes every time.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.faces.charts.bars import bars
from weighbridge.faces.charts.canvas import Canvas, block, clean, folded, number, whole, width
from weighbridge.faces.charts.figure import (
    Areas,
    Bars,
    Dots,
    Figure,
    FigureTable,
    LinePlot,
    Plot,
    Series,
)
from weighbridge.faces.charts.palette import PAINTS
from weighbridge.faces.charts.plots import MARGIN, SHAPES, WIDE, areas, dots, lines

TITLE, NOTE, KEY = 17, 12.5, 12  # pixels, sizes of text
SHEET = text_beside(__file__, "page.css")
SHARP = 2.0  # pixels of a PNG per pixel of the picture
LETTER = '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24">{}</svg>'


def svg(figure: Figure) -> str:
    canvas = Canvas(WIDE)
    y = _draw_heading(canvas, figure)
    explained: tuple[Series, ...] = ()
    for plot in figure.plots:
        series = _series_of(plot)
        y = y if series == explained else _draw_legend(canvas, plot, y)
        explained = series
        y = _draw_plot(canvas, plot, y)
    return whole(canvas, y + MARGIN / 2, figure.title, _in_words(figure), figure.lang)


def _draw_plot(canvas: Canvas, plot: Plot, y: float) -> float:
    if isinstance(plot, Bars):
        return bars(canvas, plot, y)
    if isinstance(plot, Areas):
        return areas(canvas, plot, y)
    if isinstance(plot, LinePlot):
        return lines(canvas, plot, y)
    return dots(canvas, plot, y)


def _draw_heading(canvas: Canvas, figure: Figure) -> float:
    """Draw the title, the answer and the notes; return the y below them, in pixels."""
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


def _draw_legend(canvas: Canvas, plot: Plot, y: float) -> float:
    """Draw the legend of colours and patterns, in drawing order; return the y below it, in
    pixels."""
    entries = _series_of(plot)
    if len(entries) < 2 and not isinstance(plot, Areas):
        return y
    row = y + KEY
    for x, top, series in _legend_places(entries, row):
        row = top
        if isinstance(plot, LinePlot | Dots):
            canvas.path(
                f"M{number(x + 6)} {number(row - 4)}{SHAPES[series.style]}", f"s{series.style}"
            )
        else:
            canvas.filled(block(x, row - 10, 12, 12), series.style)
        canvas.text(x + 17, row, _cut_name(series.name), size=KEY)
    return row + 14


def _series_of(plot: Plot) -> tuple[Series, ...]:
    return plot.series if not isinstance(plot, LinePlot) else tuple(c.series for c in plot.curves)


def _cut_name(name: str) -> str:
    return folded(name, KEY, 300, most=1)[0]


def _legend_places(entries: Sequence[Series], y: float) -> Iterator[tuple[float, float, Series]]:
    x = MARGIN
    for series in entries:
        wide = 17 + width(_cut_name(series.name), KEY) + 18
        if x + wide > WIDE - MARGIN and x > MARGIN:
            x, y = MARGIN, y + 20
        yield x, y, series
        x += wide


def _in_words(figure: Figure) -> str:
    """Return the picture in words: its description, and each row of its table on a line."""
    rows = (" | ".join(row) for row in (figure.table.head, *figure.table.rows))
    return "\n".join(filter(None, [figure.description, figure.table.caption, *rows]))


# PNG by resvg (pypi.org/project/resvg-py), a wheel that needs only a font of the system


def ready() -> None:
    """Check that the library that draws PNG and a font are installed; raise UsageError if not."""
    if find_spec("resvg_py") is None:
        raise UsageError(sentence("draw.resvg"))
    if _rasterized(LETTER.format('<text x="2" y="20" font-size="20">M</text>')) == _rasterized(
        LETTER.format("")
    ):
        raise UsageError(sentence("draw.font"))


def png(figure: Figure) -> bytes:
    """Return the light picture as a PNG, for programs that show no SVG."""
    ready()
    return _rasterized(svg(figure), zoom=SHARP)


def _rasterized(picture: str, zoom: float = 1.0) -> bytes:
    image = import_module("resvg_py").svg_to_bytes(svg_string=picture, zoom=zoom)
    return bytes(image)


# HTML page that loads nothing: the picture, and its data as a table


def html(figure: Figure) -> str:
    return (
        f'<!doctype html>\n<html lang="{figure.lang}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{clean(figure.title)}</title>\n<style>{SHEET.format(**PAINTS)}</style>\n</head>\n"
        f'<body>\n<figure style="margin:0">\n{svg(figure)}</figure>\n'
        f'<div tabindex="0">{table(figure.table, _caption(figure))}</div>\n</body>\n</html>\n'
    )


def part(figure: Figure) -> str:
    """Return HTML with the picture and its table, folded up, which a notebook shows below a
    screen."""
    return (
        f"<details><summary>{clean(figure.title)}</summary>\n{svg(figure)}"
        f"{table(figure.table, _caption(figure))}</details>"
    )


def _caption(figure: Figure) -> str:
    return ". ".join(filter(None, (figure.title, figure.table.caption)))


def table(data: FigureTable, caption: str) -> str:
    head = "".join(_cell("th", i, c, data.words, ' scope="col"') for i, c in enumerate(data.head))
    body = "\n".join(
        "<tr>" + "".join(_cell("td", i, c, data.words) for i, c in enumerate(row)) + "</tr>"
        for row in data.rows
    )
    return (
        f"<table>\n<caption>{clean(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>"
    )


def _cell(name: str, index: int, words: str, leading: int, more: str = "") -> str:
    side = ' class="w"' if index < leading else ""
    return f"<{name}{side}{more}>{clean(words)}</{name}>"
