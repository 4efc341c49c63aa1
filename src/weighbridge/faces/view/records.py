"""Screens before they are set in type: the one page of block types of all of them.

A screen is a title, sections of blocks, and a footer. Blocks hold finished strings, and integers
where a renderer draws to scale. A renderer (faces.render) sets them in type for a terminal,
Markdown or HTML; it looks at nothing else, and computes nothing but widths.

    Headline   the answer: a mark, a verdict in words, what is needed beside what there is
    Bar        segments to scale, a line of capacity, and the same in words
    Grid       rows and columns; a row or a cell may carry a mark
    Lines      sentences, one a line
    Paste      a line that does what was said: alone, and never wrapped
    Note       a sentence aside, dim
"""

from collections.abc import Mapping
from typing import Any, Literal

from weighbridge.base.records import NamedTuple

Mark = Literal["yes", "tight", "no", "unknown"]  # ✓ ✓ ✗ ?, and what colour
Language = Literal["sh", "python", "json", "yaml"]
Tone = Literal["", "strong", "dim"]
Action = Mapping[str, Any]  # settings, or a model, that a row stands for: a button sets them


class RenderOptions(NamedTuple):
    """The choices of who reads an answer: what is shown, and on what."""

    unit: str | None = None
    details: bool = False
    explain: bool = False
    lang: str = "en"
    width: int = 80
    color: bool = False
    plain: bool = False  # a terminal that has no signs but those of ASCII


class Cell(NamedTuple):
    """Text with a mark before it, or in a tone."""

    text: str
    mark: Mark | None = None
    tone: Tone = ""


class Column(NamedTuple):
    """The way in which the cells below a head are set. `rank`: columns of the highest go first
    where a terminal is narrow, those of 0 stay."""

    head: str = ""
    right: bool = False
    folds: bool = False  # onto further lines; at most one column of a grid
    rank: int = 0


class Headline(NamedTuple):
    """The answer. Without a device there is no mark, and the verdict is a size."""

    verdict: str  # "does not fit on RTX 3060 12GB"
    figures: str  # "needs about 15.3 GiB; the card has 11.7 for you"
    mark: Mark | None = None
    margin: str = ""  # "short by 3.6 GiB": a bar beside it has it too
    reason: str = ""  # a further sentence, where figures do not say it all
    needs: int | None = None  # bytes
    has: int | None = None


class ShownSegment(NamedTuple):
    """One part of a bar. `key` is the same for the same thing on every screen: it has a colour."""

    key: str
    name: str
    nbytes: int
    size: str  # the bytes in words, in the unit of the screen


class Bar(NamedTuple):
    """Segments add up to `total`; `capacity` is None where no device was named."""

    segments: tuple[ShownSegment, ...]
    total: int
    capacity: int | None = None
    low: int = 0  # the range of the total
    high: int = 0
    label: str = ""  # "peak in the loss"
    margin: str = ""  # "2.4 GiB to spare"
    legend: str = ""  # "weights 15.0 · KV cache 4.0 · other 2.1"
    words: str = ""  # the whole bar for one who does not see it


class Grid(NamedTuple):
    """Rows below heads. `wide`: its lines may be longer than the terminal (full tables).
    `actions`: one for each row, None where it only tells; () where none does more."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    heading: str = ""
    wide: bool = False
    actions: tuple[Action | None, ...] = ()


class Lines(NamedTuple):
    """Sentences, one a line."""

    lines: tuple[Cell, ...]
    heading: str = ""


class Paste(NamedTuple):
    """One line that is valid where it is pasted."""

    heading: str
    text: str
    language: Language = "sh"


class Note(NamedTuple):
    """A sentence aside."""

    text: str


Block = Headline | Bar | Grid | Lines | Paste | Note
Section = tuple[Block, ...]  # blocks that belong together; a blank line is between two sections


class Screen(NamedTuple):
    """All that is shown of one answer."""

    title: str
    sections: tuple[Section, ...]
    footer: tuple[str, ...] = ()  # what was assumed, and where there is more
    warnings: tuple[str, ...] = ()
    lang: str = "en"
    brief: tuple[Block, ...] = ()  # those for a ticket or a model card; () is all

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(block for section in self.sections for block in section)


def lines(*texts: str, heading: str = "") -> Lines:
    """Plain sentences."""
    return Lines(tuple(Cell(text) for text in texts if text), heading)


def row(*texts: str, mark: Mark | None = None, tone: Tone = "") -> tuple[Cell, ...]:
    """Cells of a row; its mark stands before the first."""
    first, *others = texts
    return (Cell(first, mark, tone), *(Cell(text, None, tone) for text in others))
