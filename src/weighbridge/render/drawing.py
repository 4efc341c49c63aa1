"""Text and tables for a terminal, in plain characters and ANSI codes.

The rules are those of rich's `Table` and `Text` (rich 15, table.py, text.py, _wrap.py), which a
test draws beside ours: rich takes longer to import than a load takes to answer.

    natural     a column is as wide as its widest cell, and blanks are between two
    narrower    the column that folds gives way, then all alike; what is cut ends in "…"
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

CODES = {  # ECMA-48, select graphic rendition
    "bold": "1",
    "dim": "2",
    "bold green": "1;32",
    "bold red": "1;31",
    "bold yellow": "1;33",
}
RULE = "─"
# Latin letters and signs, each in one column; the soft hyphen (U+00AD) has none
SIGNS = "█▓░│◀✓✗…─"  # ours
SINGLE = frozenset(
    (*(chr(c) for c in (*range(0x20, 0x7F), *range(0xA0, 0x300)) if c != 0xAD), *SIGNS)
)


class Styled(NamedTuple):
    """Text in one style of CODES; "" is none."""

    text: str
    style: str = ""

    def painted(self, *, color: bool) -> str:
        if not color or not self.style or not self.text:
            return self.text
        return f"\x1b[{CODES[self.style]}m{self.text}\x1b[0m"


class Column(NamedTuple):
    """How the cells of a column are set: at most one column of a table folds."""

    right: bool = False
    folds: bool = False


class Table(NamedTuple):
    """Rows of cells; with a `head` there is a rule below it, and three blanks between columns in
    the place of four."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Styled]]
    head: Sequence[str] = ()

    @property
    def padding(self) -> int:
        """Blanks on each side that another column is on."""
        return 1 if self.head else 2

    @property
    def between(self) -> int:
        """What stands between two columns beside their padding."""
        return len(self.columns) - 1 if self.head else 0

    def sides(self, index: int) -> tuple[int, int]:
        """Blanks left and right of the cells of a column."""
        last = len(self.columns) - 1
        return self.padding if index else 0, self.padding if index < last else 0

    def all(self) -> Iterator[Sequence[Styled]]:
        if self.head:
            yield [Styled(text, "bold") for text in self.head]
        yield from self.rows

    def widths(self) -> list[int]:
        """What the columns want, padding included."""
        wanted = [0] * len(self.columns)
        for row in self.all():
            wanted = [max(w, cells(cell.text)) for w, cell in zip(wanted, row, strict=True)]
        return [w + sum(self.sides(index)) for index, w in enumerate(wanted)]

    @property
    def width(self) -> int:
        return sum(self.widths()) + self.between


def drawn(table: Table, width: int, *, color: bool) -> Iterator[str]:
    """The lines of a table that has `width` columns of the terminal."""
    widths = _fitted(table, width - table.between)
    for index, row in enumerate(table.all()):
        yield from _row(table, widths, row, color=color)
        if table.head and not index:
            yield RULE * (sum(widths) + table.between)


def _fitted(table: Table, room: int) -> list[int]:
    widths = table.widths()
    over = sum(widths) - room
    if over <= 0:
        return widths
    for index, column in enumerate(table.columns):
        if column.folds:
            less = min(over, widths[index])
            widths[index], over = widths[index] - less, over - less
    left = sum(w > 0 for w in widths)
    for index, wanted in enumerate(widths):
        if over > 0 and wanted:
            less = min(wanted, round(over / left))
            widths[index], over, left = wanted - less, over - less, left - 1
    return widths


def _row(
    table: Table, widths: Sequence[int], row: Sequence[Styled], *, color: bool
) -> Iterator[str]:
    """Draw one row: as many lines as its highest cell has."""
    set_cells = []
    for index, cell in enumerate(row):
        room = widths[index] - sum(table.sides(index))
        pieces = wrapped(cell.text, room) if table.columns[index].folds else [_cut(cell.text, room)]
        set_cells.append((cell.style, room, pieces))
    for at in range(max(len(pieces) for _, _, pieces in set_cells)):
        line, blanks = "", 0
        for index, (style, room, pieces) in enumerate(set_cells):
            text = pieces[at].rstrip() if at < len(pieces) else ""
            before, after = table.sides(index)
            after += min(0, room)  # a column without room for its own blanks
            free = max(0, room - cells(text))
            right = table.columns[index].right
            if text:
                line += " " * (blanks + before + free * right)
                line += Styled(text, style).painted(color=color)
                blanks = free * (not right) + after
            else:
                blanks += before + free + after
            blanks += bool(table.head)
        yield line


def _cut(text: str, room: int) -> str:
    if cells(text) <= room:
        return text
    if room < 1:
        return ""
    if SINGLE.issuperset(text):
        return f"{text[: room - 1]}…"
    from rich.cells import set_cell_size

    return f"{set_cell_size(text, room - 1)}…"


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width`, broken before words, and within those that are longer."""
    width = max(1, width)
    if cells(text) <= width:
        return [text]
    at = [0, *_breaks(text, width), len(text)]
    return [text[a:b] for a, b in pairwise(at)]


def _breaks(text: str, width: int) -> Iterator[int]:
    taken = 0  # columns of the line so far
    for word in re.finditer(r"\s*\S+\s*", text):
        start, length = word.start(), cells(word[0].rstrip())
        if length <= width - taken:
            taken += cells(word[0])
            continue
        pieces = _chopped(word[0], width) if length > width else [word[0]]
        for piece in pieces:
            if start:
                yield start
            start += len(piece)
        taken = cells(pieces[-1])


def cells(text: str) -> int:
    """Columns of a terminal that `text` takes: some signs of other scripts take two, or none."""
    if SINGLE.issuperset(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _chopped(word: str, width: int) -> list[str]:
    if SINGLE.issuperset(word):
        return [word[at : at + width] for at in range(0, len(word), width)]
    from rich.cells import chop_cells

    return chop_cells(word, width)
