"""A screen on a terminal: widths, ANSI codes, and only characters that its encoding has."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from weighbridge.base.records import NamedTuple
from weighbridge.faces.view.records import (
    Bar,
    Block,
    Cell,
    Column,
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

WIDE = 80  # most columns of a headline and a bar
BAR = 40  # most columns of a bar; LEAST are the fewest
LEAST = 10
NARROW = 60  # columns below which a grid drops no more columns: numbers are not cut
INDENT = "  "
COLORS = {"yes": "bold green", "tight": "bold yellow", "no": "bold red", "unknown": "bold yellow"}
TONES = {"": "", "strong": "bold", "dim": "dim"}
CODES = {  # ECMA-48, select graphic rendition
    "bold": "1",
    "dim": "2",
    "bold green": "1;32",
    "bold red": "1;31",
    "bold yellow": "1;33",
}


class Signs(NamedTuple):
    """The signs that screens are drawn with: those of a UTF-8 terminal, or of an ASCII one."""

    marks: dict[Mark, str]
    full: tuple[str, str]  # signs of segments in turn
    free: str
    end: str  # sign at the capacity


UNICODE = Signs({"yes": "✓", "tight": "✓", "no": "✗", "unknown": "?"}, ("█", "▓"), "░", "│")
SIGNS = "✓✗█▓░│◀·…"
# Latin letters and signs, each in one column; the soft hyphen (U+00AD) has none
SINGLE = frozenset(
    (*(chr(c) for c in (*range(0x20, 0x7F), *range(0xA0, 0x300)) if c != 0xAD), *SIGNS, "─")
)
PLAIN = str.maketrans({"·": "-", "◀": "<", "…": "..."})  # signs within sentences
ASCII = Signs({"yes": "OK", "tight": "OK", "no": "NO", "unknown": "??"}, ("#", "="), ".", "|")


class TerminalPage(NamedTuple):
    """Width in columns, colour and signs of the terminal that is drawn on."""

    width: int
    color: bool
    signs: Signs

    def paint(self, text: str, style: str) -> str:
        return Styled(text, style).painted(color=self.color)

    def fold(self, text: str, style: str = "", indent: str = "") -> Iterator[str]:
        """Yield a text in lines that are no wider than the terminal, painted and indented."""
        for piece in wrapped(text, self.width - len(indent)):
            yield indent + self.paint(piece.rstrip(), style)


def human(screen: Screen, look: "RenderOptions") -> str:
    return terminal(screen, width=look.width, color=look.color, plain=look.plain)


def terminal(screen: Screen, *, width: int = WIDE, color: bool = False, plain: bool = False) -> str:
    page = TerminalPage(max(width, 2 * LEAST), color, ASCII if plain else UNICODE)
    lines = [*page.fold(screen.title, "bold"), ""]
    for section in screen.sections:
        for block in section:
            lines += drawn(block, page)
        lines.append("")
    for text in screen.footer:
        lines += page.fold(text, "dim")
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    return text.translate(PLAIN) if plain else text


def drawn(block: Block, page: TerminalPage) -> Iterator[str]:
    match block:
        case Headline():
            yield from _headline(block, page)
        case Bar():
            yield from _bar(block, page)
        case Grid():
            yield from _grid(block, page)
        case Lines():
            yield from _lines(block, page)
        case Paste():
            yield from page.fold(block.heading, "bold")
            indent = INDENT if block.language == "sh" else ""
            yield from (f"{indent}{line}" for line in block.text.splitlines())
        case Note():
            yield from page.fold(block.text, "dim")


def _headline(block: Headline, page: TerminalPage) -> Iterator[str]:
    """Yield the verdict on the left and the figures on the right, or below if there is no room."""
    sign = "" if block.mark is None else f"{page.signs.marks[block.mark]} "
    style = "bold" if block.mark is None else COLORS[block.mark]
    left, wide = f"{sign}{block.verdict}", min(page.width, WIDE)
    gap = wide - cells(left) - cells(block.figures)
    if gap >= len(INDENT):
        yield f"{page.paint(left, style)}{' ' * gap}{block.figures}"
    else:
        yield from page.fold(left, style)
        yield from page.fold(block.figures, indent=INDENT)
    if block.reason:
        yield from page.fold(block.reason, indent=INDENT)


def _bar(block: Bar, page: TerminalPage) -> Iterator[str]:
    label = f"{block.label}  " if block.label else ""
    margin = f"  {block.margin}" if block.margin else ""
    room = min(page.width, WIDE) - len(INDENT) - cells(margin)
    if label and room - cells(label) < LEAST:
        yield from page.fold(block.label, indent=INDENT)
        label = ""
    size = max(LEAST, min(BAR, room - cells(label)))
    yield f"{INDENT}{label}{_filled(block, size, page)}{margin}"
    yield from page.fold(block.legend, indent=INDENT)


def _filled(block: Bar, size: int, page: TerminalPage) -> str:
    """Return the bar in `size` columns, with a sign where the capacity ends."""
    signs = page.signs
    scale = max(block.total, block.capacity or 0, 1)
    room = size - (block.capacity is not None)
    line, done = "", 0
    for index, part in enumerate(block.segments):
        done += part.nbytes
        line += signs.full[index % 2] * (_column_of(done, scale, room) - len(line))
    line += signs.free * (room - len(line))
    if block.capacity is None:
        return line
    mark = _column_of(block.capacity, scale, room)
    return f"{line[:mark]}{signs.end}{line[mark:]}"


def _column_of(nbytes: int, scale: int, room: int) -> int:
    return (nbytes * room + scale // 2) // scale


def _lines(block: Lines, page: TerminalPage) -> Iterator[str]:
    if block.heading:
        yield from page.fold(block.heading, "bold")
    for line in block.lines:
        text, style = _cell(line, page)
        yield from page.fold(text, style)


def _cell(cell: Cell, page: TerminalPage) -> tuple[str, str]:
    if cell.mark is None:
        return cell.text, TONES[cell.tone]
    return f"{page.signs.marks[cell.mark]} {cell.text}", COLORS[cell.mark]


def _grid(block: Grid, page: TerminalPage) -> Iterator[str]:
    if block.heading:
        yield from page.fold(block.heading, "bold")
    rows = [_row_texts(row, block, page) for row in block.rows]
    if any(c.head for c in block.columns):
        rows.insert(0, [(c.head, "dim") for c in block.columns])
    if not rows:
        return
    shown = _shown_columns(block, rows, page)
    columns = [block.columns[i] for i in shown]
    rows = [[row[i] for i in shown] for row in rows]
    widths = _widths(columns, rows, page.width, wide=block.wide)
    for row in rows:
        yield from _row(columns, widths, row, page)


def _row_texts(row: Sequence[Cell], block: Grid, page: TerminalPage) -> list[tuple[str, str]]:
    """Return (text, style) for the cells of a row, with room for a mark in columns that have
    marks."""
    texts = []
    for index, cell in enumerate(row):
        column = [other[index] for other in block.rows]
        if any(other.mark for other in column):
            cell = cell._replace(text=_justified(cell.text, column, block.columns[index]))
        text, style = _cell(cell, page)
        if cell.mark is None and any(other.mark for other in column):
            text = " " * (len(page.signs.marks["yes"]) + 1) + text
        texts.append((text, style))
    return texts


def _justified(text: str, column: Sequence[Cell], how: Column) -> str:
    """Return a number padded on the left to its column's width, so that numbers are aligned at the
    right; other text unchanged."""
    wide = max(cells(other.text) for other in column)
    return " " * (wide - cells(text)) + text if how.right and text else text


def _shown_columns(
    block: Grid, rows: Sequence[Sequence[tuple[str, str]]], page: TerminalPage
) -> list[int]:
    """Return the indices of the columns that hold text and for which there is room."""
    shown = [i for i in range(len(block.columns)) if any(row[i][0].strip() for row in rows)]
    while True:
        last = max(shown, key=lambda i: (block.columns[i].rank, i))
        needed = sum(_needed_width(block.columns[i], [r[i][0] for r in rows]) for i in shown)
        if not block.columns[last].rank or block.wide:
            return shown
        if needed + len(INDENT) * (len(shown) + 1) <= max(page.width, NARROW):
            return shown
        shown.remove(last)


def _needed_width(column: Column, texts: Sequence[str]) -> int:
    return LEAST if column.folds else max(map(cells, texts))


def _widths(
    columns: Sequence[Column],
    rows: Sequence[Sequence[tuple[str, str]]],
    width: int,
    *,
    wide: bool,
) -> list[int]:
    """Return the width of each table column in terminal columns; the column that folds gets the
    rest."""
    widths = [max(cells(row[i][0]) for row in rows) for i in range(len(columns))]
    over = sum(widths) + len(INDENT) * len(columns) - width
    for index, column in enumerate(columns):
        if column.folds and over > 0:
            least = 3 * LEAST if wide else LEAST
            widths[index] = max(min(least, widths[index]), widths[index] - over)
    return widths


def _row(
    columns: Sequence[Column],
    widths: Sequence[int],
    row: Sequence[tuple[str, str]],
    page: TerminalPage,
) -> Iterator[str]:
    pieces = [
        wrapped(text, widths[i]) if columns[i].folds else [text] for i, (text, _) in enumerate(row)
    ]
    for number in range(max(map(len, pieces))):
        line = ""
        for index, column in enumerate(columns):
            text = pieces[index][number].rstrip() if number < len(pieces[index]) else ""
            blank = " " * max(0, widths[index] - cells(text))
            painted = page.paint(text, row[index][1])
            line += INDENT + (blank + painted if column.right else painted + blank)
        yield line.rstrip()


# Widths and line breaks. The rules are those of rich's `Text` (rich 15, text.py, _wrap.py), and a
# test compares the two: rich takes longer to import than a load takes to answer


class Styled(NamedTuple):
    """Text in one style of CODES; "" is no style."""

    text: str
    style: str = ""

    def painted(self, *, color: bool) -> str:
        if not color or not self.style or not self.text:
            return self.text
        return f"\x1b[{CODES[self.style]}m{self.text}\x1b[0m"


def wrapped(text: str, width: int) -> list[str]:
    """Return lines of at most `width` columns, broken before words; longer words are broken after a
    comma if they have one, else within."""
    width = max(1, width)
    if cells(text) <= width:
        return [text]
    breaks = [0, *_breaks(text, width), len(text)]
    return [text[a:b] for a, b in pairwise(breaks)]


def _breaks(text: str, width: int) -> Iterator[int]:
    taken = 0  # columns of the line so far
    for word in re.finditer(r"\s*\S+\s*", text):
        start, length = word.start(), cells(word[0].rstrip())
        if length <= width - taken:
            taken += cells(word[0])
            continue
        pieces = list(_pieces(word[0], width)) if length > width else [word[0]]
        for piece in pieces:
            if start:
                yield start
            start += len(piece)
        taken = cells(pieces[-1])


def _pieces(word: str, width: int) -> Iterator[str]:
    """Yield parts of a long word (such as a list of flags) that end at commas if they fit a
    line."""
    piece = ""
    for part in re.findall(r"[^,]*,+|[^,]+", word):
        if cells((piece + part).rstrip()) <= width:
            piece += part
            continue
        *whole, last = _chop(part, width)
        yield from filter(None, (piece, *whole))
        piece = last
    yield piece


def cells(text: str) -> int:
    """Return the columns that `text` takes on a terminal: some characters of other scripts take
    two, or none."""
    if SINGLE.issuperset(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _chop(word: str, width: int) -> list[str]:
    if SINGLE.issuperset(word):
        return [word[start : start + width] for start in range(0, len(word), width)]
    from rich.cells import chop_cells

    return chop_cells(word, width)
