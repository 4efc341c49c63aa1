"""Screens as records before they are drawn: all block types that a screen can have.

A screen is a title, sections of blocks, and a footer. Blocks hold finished strings, and integers if
a renderer draws them to scale. A renderer (faces.render) draws them for a terminal, Markdown or
HTML; it reads nothing else, and computes only widths.

    Headline   the answer: a mark, a verdict in words, what is needed and what there is
    Bar        segments to scale, a line of capacity, and the same in words
    Grid       rows and columns; a row or a cell may carry a mark
    Lines      sentences, one per line
    Paste      a line that does what the screen says: by itself, and never wrapped
    Note       an additional sentence, dim
"""

from collections.abc import Mapping
from typing import Any, Literal

from weighbridge.base.records import NamedTuple

Mark = Literal["yes", "tight", "no", "unknown"]  # drawn as ✓ ✓ ✗ ?, each in its colour
Language = Literal["sh", "python", "json", "yaml"]
Tone = Literal["", "strong", "dim"]
Action = Mapping[str, Any]  # settings, or a model, of a row: a button sets them


class RenderOptions(NamedTuple):
    """The user's choices for a screen: unit, details and language, and the width and colour of the
    terminal."""

    unit: str | None = None
    details: bool = False
    explain: bool = False
    lang: str = "en"
    width: int = 80
    color: bool = False
    plain: bool = False  # a terminal with ASCII characters only


class Cell(NamedTuple):
    """Text of a cell or a line, with a mark before it, or in a tone."""

    text: str
    mark: Mark | None = None
    tone: Tone = ""


class Column(NamedTuple):
    """A column's head, and how its cells are set. On a narrow terminal, columns of the highest
    `rank` are left out first, rank 0 never."""

    head: str = ""
    right: bool = False
    folds: bool = False  # text wraps onto further lines; at most one column of a grid
    rank: int = 0


class Headline(NamedTuple):
    """The answer in one block: verdict, figures, margin and reason. Without a device there is no
    mark, and the verdict is a size."""

    verdict: str  # "does not fit on RTX 3060 12GB"
    figures: str  # "needs about 15.3 GiB; the card has 11.7 for you"
    mark: Mark | None = None
    margin: str = ""  # "short by 3.6 GiB": a bar next to it repeats it
    reason: str = ""  # one more sentence, if the figures do not say it all
    needs: int | None = None  # bytes
    has: int | None = None


class ShownSegment(NamedTuple):
    """One part of a bar: its name, and its bytes. `key` sets its colour, equal on every screen."""

    key: str
    name: str
    nbytes: int
    size: str  # the bytes as text, in the unit of the screen


class Bar(NamedTuple):
    """A bar of segments that add up to `total` bytes; `capacity` is the usable bytes, None without
    a device."""

    segments: tuple[ShownSegment, ...]
    total: int
    capacity: int | None = None
    low: int = 0  # bounds of the total
    high: int = 0
    label: str = ""  # "peak in the loss"
    margin: str = ""  # "2.4 GiB to spare"
    legend: str = ""  # "weights 15.0 · KV cache 4.0 · other 2.1"
    words: str = ""  # the whole bar, for readers who cannot see it


class Grid(NamedTuple):
    """A table: rows of cells below the heads of columns. `wide`: lines may exceed the terminal
    (full tables). `actions`: settings that a click on each row sets, None if it sets nothing; () if
    no row has one."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    heading: str = ""
    wide: bool = False
    actions: tuple[Action | None, ...] = ()


class Lines(NamedTuple):
    """A block of sentences, one per line."""

    lines: tuple[Cell, ...]
    heading: str = ""


class Paste(NamedTuple):
    """A block of text that is valid where the user pastes it: a command, a script, a file."""

    heading: str
    text: str
    language: Language = "sh"


class Note(NamedTuple):
    """A block of one additional sentence, drawn dim."""

    text: str


Block = Headline | Bar | Grid | Lines | Paste | Note
Section = tuple[Block, ...]  # blocks that belong together; a blank line separates sections


class Screen(NamedTuple):
    """Everything shown about one answer: title, sections of blocks, footer and warnings."""

    title: str
    sections: tuple[Section, ...]
    footer: tuple[str, ...] = ()  # assumptions, and which option shows more
    warnings: tuple[str, ...] = ()
    lang: str = "en"
    brief: tuple[Block, ...] = ()  # blocks for a ticket or a model card; () for all

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(block for section in self.sections for block in section)


def lines(*texts: str, heading: str = "") -> Lines:
    """Return a block of plain sentences, one per line; empty texts are left out."""
    return Lines(tuple(Cell(text) for text in texts if text), heading)


def row(*texts: str, mark: Mark | None = None, tone: Tone = "") -> tuple[Cell, ...]:
    """Return the cells of a table row from their texts; `mark` goes before the first."""
    first, *others = texts
    return (Cell(first, mark, tone), *(Cell(text, None, tone) for text in others))
