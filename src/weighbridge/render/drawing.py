"""Text on a terminal: widths, line breaks and ANSI codes.

The rules are those of rich's `Text` (rich 15, text.py, _wrap.py), which a test breaks lines beside
ours with: rich takes longer to import than a load takes to answer.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

CODES = {  # ECMA-48, select graphic rendition
    "bold": "1",
    "dim": "2",
    "bold green": "1;32",
    "bold red": "1;31",
    "bold yellow": "1;33",
}
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
