"""A screen in HTML: the verdict, a bar to scale, tables. It has no script, and loads nothing.

A notebook shows only the part; `--format html` prints a complete page. Text has the page's colour;
the bar's colours are distinct on white and on black, and its legend is below it.
"""

from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING

from weighbridge.base.parsed import text_beside
from weighbridge.faces.view.records import (
    Bar,
    Block,
    Cell,
    Grid,
    Headline,
    Lines,
    Mark,
    Note,
    Paste,
    Screen,
)

if TYPE_CHECKING:
    from weighbridge.faces.view.records import RenderOptions

MARKS: dict[Mark, str] = {"yes": "✓", "tight": "✓", "no": "✗", "unknown": "?"}
TURN = (
    "#4c78a8",
    "#e0862c",
    "#3a9d8f",
    "#b07aa1",
    "#8a8a8a",
)  # colours of segments in turn, the last for "other"
OTHER = TURN[-1]
WIDE, HIGH = 640, 22  # width and height of the bar, in units of its SVG
STYLE = text_beside(__file__, "part.css")
PAGE = text_beside(__file__, "page.html")


def html(screen: Screen, look: "RenderOptions") -> str:
    """Return a screen as a complete HTML page that loads nothing."""
    title = escape(screen.title)
    return PAGE.format(lang=escape(screen.lang), title=title, part=part(screen))


def part(screen: Screen) -> str:
    """Return a screen as the part of an HTML page that a notebook or a page takes in."""
    inside = [f"<style>{STYLE}</style>", f"<p><strong>{escape(screen.title)}</strong></p>"]
    inside += ["".join(drawn(block)) for block in screen.blocks]
    inside += [f'<p class="dim">{escape(text)}</p>' for text in screen.footer]
    if screen.warnings:
        items = "".join(f"<li>warning: {escape(text)}</li>" for text in screen.warnings)
        inside.append(f"<ul>{items}</ul>")
    return f'<div class="weighbridge" lang="{escape(screen.lang)}">{"".join(inside)}</div>'


def drawn(block: Block) -> Iterator[str]:
    match block:
        case Headline():
            yield from _headline(block)
        case Bar():
            yield from _bar(block)
        case Grid():
            yield from _grid(block)
        case Lines():
            yield from _lines(block)
        case Paste():
            yield f"<p>{escape(block.heading)}</p><pre>{escape(block.text)}</pre>"
        case Note():
            yield f'<p class="dim">{escape(block.text)}</p>'


def _headline(block: Headline) -> Iterator[str]:
    sign = "" if block.mark is None else f"{MARKS[block.mark]} "
    style = f' class="{block.mark}"' if block.mark else ""
    yield f"<p><strong{style}>{sign}{escape(block.verdict)}</strong> {escape(block.figures)}"
    yield f"<br>{escape(block.reason)}</p>" if block.reason else "</p>"


def _bar(block: Bar) -> Iterator[str]:
    label = " · ".join(filter(None, (block.label, block.margin)))
    if label:
        yield f"<p>{escape(label)}</p>"
    yield f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" preserveAspectRatio="none">'
    yield f"<title>{escape(block.words)}</title>"
    yield from _rectangles(block)
    yield "</svg><p>"
    yield " · ".join(
        f'<span style="color:{color}">■</span> {escape(one.name)} {escape(one.size)}'
        for one, color in zip(block.segments, _colors(block), strict=True)
    )
    yield "</p>"


def _colors(block: Bar) -> Iterator[str]:
    last = len(TURN) - 1
    for index, one in enumerate(block.segments):
        yield OTHER if one.key == "other" else TURN[index % last]


def _rectangles(block: Bar) -> Iterator[str]:
    """Yield SVG for the segments to scale, the room that is left, and a line at the capacity."""
    scale = max(block.total, block.capacity or 0, 1)
    done = 0
    for segment, color in zip(block.segments, _colors(block), strict=True):
        left, right = (round(WIDE * n / scale, 1) for n in (done, done + segment.nbytes))
        title = f"<title>{escape(segment.name)} {escape(segment.size)}</title>"
        wide = round(right - left, 1)
        yield f'<rect x="{left}" y="0" width="{wide}" height="{HIGH}" fill="{color}">{title}</rect>'
        done += segment.nbytes
    if block.capacity is None:
        return
    if block.capacity > done:
        left = round(WIDE * done / scale, 1)
        yield f'<rect x="{left}" y="0" width="{round(WIDE - left, 1)}" height="{HIGH}" '
        yield 'fill="currentColor" fill-opacity="0.15"/>'
    place = round(WIDE * block.capacity / scale - 1, 1)
    yield f'<rect x="{place}" y="0" width="2" height="{HIGH}" fill="currentColor"/>'


def _lines(block: Lines) -> Iterator[str]:
    if block.heading:
        yield f"<p>{escape(block.heading)}</p>"
    yield "<ul>"
    yield from (f"<li{_class(line)}>{_text(line)}</li>" for line in block.lines)
    yield "</ul>"


def _grid(block: Grid) -> Iterator[str]:
    shown = [i for i, c in enumerate(block.columns) if c.head or any(r[i].text for r in block.rows)]
    yield '<table tabindex="0">'  # lets the keyboard reach a table that scrolls
    if block.heading:
        yield f"<caption>{escape(block.heading)}</caption>"
    if any(block.columns[i].head for i in shown):
        yield f"<thead><tr>{''.join(_heads(block, shown))}</tr></thead>"
    yield "<tbody>"
    for row in block.rows:
        yield f"<tr>{''.join(_cells(block, row, shown))}</tr>"
    yield "</tbody></table>"


def _heads(block: Grid, shown: Iterable[int]) -> Iterator[str]:
    """Yield the heads of a table; a column without a name gets a plain cell, which a screen reader
    does not announce."""
    for i in shown:
        name = "th" if block.columns[i].head else "td"
        yield f"<{name}{_right(block, i)}>{escape(block.columns[i].head)}</{name}>"


def _cells(block: Grid, row: tuple[Cell, ...], shown: Iterable[int]) -> Iterator[str]:
    for i in shown:
        yield f"<td{_right(block, i)}><span{_class(row[i])}>{_text(row[i])}</span></td>"


def _right(block: Grid, index: int) -> str:
    return ' class="right"' if block.columns[index].right else ""


def _class(cell: Cell) -> str:
    name = cell.mark or ("dim" if cell.tone == "dim" else "")
    return f' class="{name}"' if name else ""


def _text(cell: Cell) -> str:
    text = escape(cell.text) if cell.mark is None else f"{MARKS[cell.mark]} {escape(cell.text)}"
    return f"<strong>{text}</strong>" if cell.tone == "strong" else text
