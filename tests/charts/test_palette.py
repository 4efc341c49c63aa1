"""Colours that can be told apart, by everybody, on light and on dark pages.

Contrast: WCAG 2.2, 1.4.3 and 1.4.11. Colour blindness: the matrices of Machado, Oliveira and
Fernandes 2009 at full severity. Distance: OKLab (bottosson.github.io/posts/oklab).
"""

import math
from itertools import combinations, product

import pytest

from tests.cases import all_of
from weighbridge.faces.charts.palette import CHANGED, COLOURS, FILLS, INKS, PAINTS, PATTERNS, SECOND

THEMES = (0, 1)
APART = 0.075  # of OKLab: black and white are 1 apart
EYES = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "no green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "no blue": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def linear(color):
    values = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in values)


def luminance(color):
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(color), strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def oklab(r, g, b):
    cones = (
        0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b,
        0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b,
        0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b,
    )
    x, y, z = (max(0.0, c) ** (1 / 3) for c in cones)
    return (
        0.2104542553 * x + 0.7936177850 * y - 0.0040720468 * z,
        1.9779984951 * x - 2.4285922050 * y + 0.4505937099 * z,
        0.0259040371 * x + 0.7827717662 * y - 0.8086757660 * z,
    )


def distance(one, other, eye):
    seen = []
    for color in (one, other):
        rgb = linear(color)
        seen.append(
            oklab(
                *(
                    min(1.0, max(0.0, sum(m * c for m, c in zip(row, rgb, strict=True))))
                    for row in EYES[eye]
                )
            )
        )
    return math.dist(*seen)


def page(theme):
    return PAINTS["page"][theme + 1]


@all_of(("theme", "name"), product(THEMES, ["ink", "faint", "warn"]))
def test_texts_are_read_on_the_page_and_on_its_shade(name, theme):
    assert contrast(PAINTS[name][theme + 1], page(theme)) >= 4.5
    assert contrast(PAINTS[name][theme + 1], PAINTS["shade"][theme + 1]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_areas_and_lines_stand_out_from_the_page(theme):
    for fill in FILLS:
        assert contrast(fill[theme], page(theme)) >= 3
    for name in ("rule", "limit", "leader"):
        assert contrast(PAINTS[name][theme + 1], page(theme)) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_texts_are_read_upon_areas(theme):
    for fill, ink in zip(FILLS, INKS, strict=True):
        assert contrast(fill[theme], ink[theme]) >= 4.5


@all_of(("eye", "theme"), product(EYES, THEMES))
def test_series_are_told_apart(theme, eye):
    for one, other in combinations(FILLS, 2):
        assert distance(one[theme], other[theme], eye) >= APART, (one, other)


def test_the_distance_test_can_fail():
    assert (
        distance("#d62728", "#2ca02c", "no green") < APART < distance("#d62728", "#2ca02c", "all")
    )


def test_series_differ_in_pattern_too():
    """All but the first, which is solid, and the others, which are grey. Of those with a colour that
    another has, too, the pattern tells them apart."""
    hatched = PATTERNS[1 : SECOND - 1]
    assert all(hatched)
    assert len(set(hatched)) == len(hatched) == len(FILLS) - 2
    assert len(PATTERNS) == len(COLOURS) == CHANGED + 1
    looks = [(colour, pattern) for colour, pattern in zip(COLOURS, PATTERNS, strict=True)]
    assert len(set(looks)) == len(looks)
