"""Colours, for a light and a dark page. Every rule about them is in tests/charts/test_palette.py:
contrast by WCAG 2.2 (4.5 for text, 3 for areas and lines), and distance for people with red, green
or blue colour blindness."""

from weighbridge.base.records import NamedTuple


class Paint(NamedTuple):
    """The light and the dark colour of one CSS property, for a class of elements."""

    css: str
    light: str
    dark: str


DARK_INK, LIGHT_INK = "#111418", "#ffffff"
# The series, `other` last. Found by a search that keeps them apart; see the tests.
FILLS = (
    ("#1f5fa8", "#5c9ce6"),
    ("#e46e3e", "#f7af8e"),
    ("#6b296e", "#5f60db"),
    ("#b461d1", "#c08057"),
    ("#1a5d1e", "#63dccb"),
    ("#ba2351", "#ae5557"),
    ("#7a828c", "#8d96a0"),
)
INKS = (  # light and dark colour of the text on each fill
    (LIGHT_INK, DARK_INK),
    (DARK_INK, DARK_INK),
    (LIGHT_INK, LIGHT_INK),
    (DARK_INK, DARK_INK),
    (LIGHT_INK, DARK_INK),
    (LIGHT_INK, LIGHT_INK),
    (DARK_INK, DARK_INK),
)
SECOND = len(FILLS)  # from this number on, styles repeat the first colours, with dots
CHANGED = 2 * SECOND  # style of the memory needed after a change
COLOURS = (*range(SECOND), *range(SECOND), SECOND - 1)  # the colour of each style
_PAINTS = """
page fill #ffffff #14171a
ink fill #1c2126 #e4e7ea
faint fill #59636e #a3adb8
shade fill #f2f4f6 #1d2126
grid stroke #d5dae0 #353c44
leader stroke #8a94a0 #77828e
rule stroke #1c2126 #e4e7ea
edge stroke #ffffff #14171a
limit stroke #b3261e #ff8a80
warn fill #b3261e #ff8a80
"""
PAINTS: dict[str, Paint] = {
    **{name: Paint(*paint) for name, *paint in map(str.split, _PAINTS.strip().splitlines())},
    **{f"s{i}": Paint("fill", *FILLS[at]) for i, at in enumerate(COLOURS)},
    **{f"l{i}": Paint("stroke", *FILLS[at]) for i, at in enumerate(COLOURS)},
    **{f"t{i}": Paint("fill", *INKS[at]) for i, at in enumerate(COLOURS)},
    **{f"h{i}": Paint("stroke", *INKS[at]) for i, at in enumerate(COLOURS)},
}
# Patterns over a colour, in a square of 8 by 8: a second way to tell series apart
DOTS = "M1 2h2M5 6h2"
PATTERNS = (
    "",
    "M-2 2l4-4M0 8l8-8M6 10l4-4",
    "M0 2h8M0 6h8",
    "M-2 6l4 4M0 0l8 8M6-2l4 4",
    "M2 0v8M6 0v8",
    "M0 8l8-8M0 0l8 8",
    "",
    *(DOTS for _ in FILLS),
    "M0 4h8M4 0v8",
)
