"""How wide a text is, without a font at hand; cut and folded so that it stays in its place.

The widths are those of DejaVu Sans 2.37, which is wider than the other fonts of FONTS: what fits by
them fits in each.
"""

import unicodedata

from weighbridge.wording import printable

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# Thousandths of the size, of the signs from " " to "~"
WIDTHS = (
    *(318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337),
    *(636, 636, 636, 636, 636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531),
    *(1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863, 748, 787),
    *(603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500),
    *(500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612),
    *(635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838),
)
BOLD = 1.12  # of DejaVu Sans Bold: the median of the same signs
SQUARE = 1000  # every other sign, at most


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Pixels that `text` takes at most, as it is written: without control characters."""
    units = sum(_units(c) for c in printable(text))
    return units * size / 1000 * (BOLD if bold else 1)


def _units(c: str) -> int:
    if " " <= c <= "~":
        return WIDTHS[ord(c) - 32]
    return 0 if unicodedata.combining(c) else SQUARE


def cut(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """`text`, or its beginning and an ellipsis where it is wider than `room`."""
    text = printable(text)
    if width(text, size, bold=bold) <= room:
        return text
    while text and width(f"{text}…", size, bold=bold) > room:
        text = text[:-1]
    return f"{text.rstrip()}…" if text else ""


def folded(text: str, size: float, room: float, *, bold: bool = False, most: int = 2) -> list[str]:
    """Break `text` between words into at most `most` lines; the last one is cut."""
    lines: list[str] = []
    rest = text.split(" ")
    while rest and len(lines) < most - 1:
        count = len(rest)
        while count > 1 and width(" ".join(rest[:count]), size, bold=bold) > room:
            count -= 1
        lines.append(cut(" ".join(rest[:count]), size, room, bold=bold))
        rest = rest[count:]
    return [*lines, cut(" ".join(rest), size, room, bold=bold)] if rest else lines
