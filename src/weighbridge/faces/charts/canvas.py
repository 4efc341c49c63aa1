"""Elements of a picture as SVG text; names come from strangers, so every text is escaped here.

Each element has its light colour as an attribute, which every reader of SVG obeys, and a class, by
which a style sheet sets the dark one. Ids carry a digest of the picture, so that several pictures
on one page keep separate styles.
"""

import unicodedata
from collections.abc import Iterable
from hashlib import sha256
from html import escape

from weighbridge.base.records import dataclass, field
from weighbridge.base.wording import printable
from weighbridge.faces.charts.palette import PAINTS, PATTERNS

ID = "@picture@"  # placeholder of the id until the picture is complete
CAP = 4  # pixels, half the height of a whisker's ends
FONTS = (  # Chinese fonts come last, as they have Latin letters too
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'PingFang SC', "
    "'Microsoft YaHei', 'Noto Sans CJK SC', 'WenQuanYi Micro Hei', sans-serif"
)
# Widths in thousandths of the font size, of the characters from " " to "~"
_WIDTHS = """
318 401 460 838 636 950 780 275 390 390 500 838 318 361 318 337
636 636 636 636 636 636 636 636 636 636 337 337 838 838 838 531
1000 684 686 698 770 632 575 775 752 295 295 656 557 863 748 787
603 787 695 635 611 732 684 989 685 611 685 390 337 390 838 500
500 613 635 550 635 615 352 635 634 278 278 579 278 974 634 612
635 635 411 521 392 634 592 818 592 592 525 636 337 636 838
"""
WIDTHS = tuple(map(int, _WIDTHS.split()))
BOLD = 1.12  # width of DejaVu Sans Bold: the median ratio of the same characters
HAIR = 0.001  # pixels, the rounding error of sums of fractions
SQUARE = 1000  # most width of other characters, in thousandths of the font size


def number(value: float) -> str:
    """Return a number as text with at most two decimals: "12", "12.5", "0.07"."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def clean(words: str) -> str:
    return escape(printable(words))


@dataclass
class Canvas:
    """A picture being drawn, as a list of SVG elements; y grows downwards."""

    wide: float
    parts: list[str] = field(default_factory=list)

    def rect(
        self, x: float, y: float, size: tuple[float, float], paint: str, more: str = ""
    ) -> None:
        w, h = size
        if w > 0 and h > 0:
            place = f'x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}"'
            self.parts.append(f"<rect {place} {_paint(paint)}{more}/>")

    def line(self, points: Iterable[tuple[float, float]], paint: str, more: str = "") -> None:
        self.path(_path_data(points), paint, f' fill="none"{more}')

    def shape(self, points: Iterable[tuple[float, float]], paint: str, more: str = "") -> None:
        self.path(f"{_path_data(points)}Z", paint, more)

    def path(self, d: str, paint: str, more: str = "") -> None:
        self.parts.append(f'<path d="{d}" {_paint(paint)}{more}/>')

    def text(self, x: float, y: float, words: str, **style: object) -> None:
        """Write text at a baseline. `style`: `size` in pixels, `paint`, `anchor` (start, middle,
        end), `bold`."""
        if not words:
            return
        size, paint = style.get("size", 12), str(style.get("paint", "ink"))
        anchor = style.get("anchor", "start")
        more = "" if anchor == "start" else f' text-anchor="{anchor}"'
        more += ' font-weight="600"' if style.get("bold") else ""
        place = f'x="{number(x)}" y="{number(y)}" font-size="{size}"'
        self.parts.append(f"<text {place} {_paint(paint)}{more}>{clean(words)}</text>")

    def filled(self, d: str, style: int) -> None:
        """Draw a surface in the colour of a series, with the pattern of the series over it."""
        if PATTERNS[style]:
            self.parts.append(f'<path d="{d}" fill="url(#{ID}-p{style})"/>')
        else:
            self.path(d, f"s{style}")

    def whisker(self, y: float, low: float, high: float) -> None:
        """Draw an interval along x, with a stroke at each end."""
        d = f"M{number(low)} {number(y)}H{number(high)}"
        ends = "".join(f"M{number(x)} {number(y - CAP)}v{2 * CAP}" for x in (low, high))
        self.path(d + ends, "rule", ' fill="none" stroke-width="1.6"')


def block(x: float, y: float, w: float, h: float) -> str:
    return f"M{number(x)} {number(y)}h{number(w)}v{number(h)}h{number(-w)}Z"


def _path_data(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def _paint(paint: str) -> str:
    return f'class="{paint}" {PAINTS[paint].css}="{PAINTS[paint].light}"'


def whole(canvas: Canvas, high: float, title: str, description: str, lang: str) -> str:
    """Return the complete SVG, self-contained: no script, no font, no address but SVG's
    namespace."""
    w, h = number(canvas.wide), number(high)
    body = "\n".join([_definitions(canvas.parts), *canvas.parts])
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{ID}" role="img" lang="{lang}" '
        f'width="{w}" height="{h}" viewBox="0 0 {w} {h}" '
        f'aria-labelledby="{ID}-t {ID}-d" font-family="{FONTS}" '
        'style="max-width:100%;height:auto">\n'
        f'<title id="{ID}-t">{clean(title)}</title>\n'
        f'<desc id="{ID}-d">{_clean_lines(description)}</desc>\n'
        f"{_dark_sheet(body)}\n"
        f'<rect width="{w}" height="{h}" {_paint("page")}/>\n'
        f"{body}\n</svg>\n"
    )
    return picture.replace(ID, f"wb{sha256(picture.encode()).hexdigest()[:8]}")


def _clean_lines(words: str) -> str:
    return "\n".join(clean(line) for line in words.split("\n"))


def _definitions(parts: list[str]) -> str:
    used = "\n".join(parts)
    patterns = "".join(
        f'<pattern id="{ID}-p{i}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8" {_paint(f"s{i}")}/>'
        f'<path d="{d}" {_paint(f"h{i}")} stroke-width="1.2" stroke-opacity="0.45"/></pattern>'
        for i, d in enumerate(PATTERNS)
        if f"#{ID}-p{i})" in used
    )
    return f"<defs>{patterns}</defs>" if patterns else ""


def _dark_sheet(body: str) -> str:
    """Return the style sheet for dark pages, with only those classes that the picture uses."""
    rules = "".join(
        f"#{ID} .{name}{{{paint.css}:{paint.dark}}}"
        for name, paint in PAINTS.items()
        if f'class="{name}"' in body or name == "page"
    )
    return f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"


# Widths of texts, estimated without a font


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the most pixels that `text` may take, without its control characters."""
    units = sum(_character_width(c) for c in printable(text))
    return units * size / 1000 * (BOLD if bold else 1)


def _character_width(c: str) -> int:
    if " " <= c <= "~":
        return WIDTHS[ord(c) - 32]
    return 0 if unicodedata.combining(c) else SQUARE


def cut(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """Return `text`, or its beginning and an ellipsis if it is wider than `room` pixels."""
    text = printable(text)
    if width(text, size, bold=bold) <= room + HAIR:
        return text
    while text and width(f"{text}…", size, bold=bold) > room:
        text = text[:-1]
    return f"{text.rstrip()}…" if text else ""


def folded(text: str, size: float, room: float, *, bold: bool = False, most: int = 2) -> list[str]:
    """Return `text` broken between words into at most `most` lines of `room` pixels; the last one
    is cut."""
    lines: list[str] = []
    words = text.split(" ")
    while words and len(lines) < most - 1:
        count = len(words)
        while count > 1 and width(" ".join(words[:count]), size, bold=bold) > room:
            count -= 1
        lines.append(cut(" ".join(words[:count]), size, room, bold=bold))
        words = words[count:]
    return [*lines, cut(" ".join(words), size, room, bold=bold)] if words else lines
