"""Pictures read back: texts with the room that they take, and what every picture must keep to."""

import re
from typing import NamedTuple
from xml.etree import ElementTree

from weighbridge.faces.charts.canvas import width

SVG = "{http://www.w3.org/2000/svg}"


class Box(NamedTuple):
    text: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other):
        across = self.left < other.right - 0.5 and other.left < self.right - 0.5
        return across and self.top < other.bottom - 1 and other.top < self.bottom - 1


def parsed(picture):
    return ElementTree.fromstring(picture)


def boxes(picture):
    for t in parsed(picture).iter(f"{SVG}text"):
        size, x, y = (float(t.get(k)) for k in ("font-size", "x", "y"))
        wide = width(t.text, size, bold=t.get("font-weight") is not None)
        left = x - wide * {"middle": 0.5, "end": 1}.get(t.get("text-anchor"), 0)
        yield Box(t.text, left, y - 0.78 * size, left + wide, y + 0.22 * size)


def texts(picture):
    return [box.text for box in boxes(picture)]


def flaws(picture):
    """Texts that leave the picture or touch another; and everything that is not self-contained."""
    root = parsed(picture)
    wide, high = float(root.get("width")), float(root.get("height"))
    found = list(boxes(picture))
    for i, box in enumerate(found):
        if box.left < 0 or box.top < 0 or box.right > wide + 0.5 or box.bottom > high:
            yield f"outside: {box}"
        yield from (f"over each other: {box} {other}" for other in found[:i] if box.meets(other))
    if re.search(r"<script|<image|<foreignObject|@import|@font-face|\son\w+=|href=", picture):
        yield "not self-contained"
    if set(re.findall(r"https?://[^\s\"<]+", picture)) - {"http://www.w3.org/2000/svg"}:
        yield "an address"
    if (
        root.get("role") != "img"
        or not root.find(f"{SVG}title").text
        or not root.find(f"{SVG}desc").text
    ):
        yield "not accessible"
    if "prefers-color-scheme:dark" not in picture:
        yield "not for dark pages"
