"""Every sentence that people read, in each language: catalogues, and the one way to say them.

    screens.json   answers, in a terminal and in a browser
    oom.json       an out-of-memory message, explained
    charts.json    pictures; parts and phases are called there what screens call them
    page.json      the page around an answer
    space.json     the page of a Space on the Hub
    errors.json    what is wrong with a question, on a terminal

A key has its sentence in all languages, so that they are changed together. Words in braces are
filled in (str.format). Where a page says it otherwise, since nobody types options there, that
stands under "page":

    "gpus.footer": {"en": "blank: not known", "zh": "空白", "page": {"en": ..., "zh": ...}}

Names of settings, formats and models stay as they are. Keys that begin with "why." and "known."
are reasons and warnings that an answer has in English, here as there.
"""

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from weighbridge.records import NamedTuple
from weighbridge.units import human
from weighbridge.wording import printable

LANGUAGES = ("en", "zh")
BELOW: Mapping[str, str] = {"charts": "screens"}  # catalogue -> the one that has what it has not


class Words(NamedTuple):
    """The sentences of one catalogue in one language, and the unit in which sizes are told."""

    lang: str
    catalogue: str
    sentences: Mapping[str, str]
    page: bool = False  # where nobody types options
    unit: str | None = None  # None: what suits each size

    def __call__(self, key: str, **values: object) -> str:
        """Return the sentence of a key, with the values in place of its braces."""
        return self.sentences[key].format(**values)

    def some(self, one: str, many: str, count: int) -> str:
        """Return the sentence of the key for one thing, or of the key for several."""
        return self(one if count == 1 else many, count=f"{count:,}")

    def each(self, *keys: str) -> tuple[str, ...]:
        """Return the sentences of several keys, in their order: heads of a table."""
        return tuple(self(key) for key in keys)

    def named(self, kind: str, name: str) -> str:
        """Return what a phase or a part is called; a name that the catalogue has not stays."""
        key = f"{kind}.{name}"
        return self(key) if key in self.sentences else name

    def filled(self, key: str, values: Mapping[str, object]) -> str:
        """Return a sentence with those values that it names, and "?" for those that are missing."""
        named = re.findall(r"\{(\w+)\}", self.sentences[key])
        return self(key, **{name: values.get(name, "?") for name in named})

    def size(self, nbytes: int) -> str:
        """Return a number of bytes with its unit."""
        return human(nbytes, self.unit)

    def translated(self, text: str, kind: str) -> str | None:
        """Return this language's sentence for the English one of a key `kind`.*, which the JSON
        form of an answer has; None for a text that is none of them."""
        key = _keys(self.catalogue, kind).get(text)
        return None if key is None else self.sentences[key]

    def why(self, text: str) -> str:
        """Return why a setting is what it is, in this language where that is known."""
        return self.translated(text, "why") or printable(text)

    def told(self, text: str | None) -> str:
        """Return a reason, a warning or a note in this language where it is one of those of
        known.*; their order decides, since the words of one may stand within another."""
        text = printable(text or "")
        if self.lang == "en":
            return text
        for key, pattern in _patterns(self.catalogue):
            match = pattern.fullmatch(text)
            if match:
                return self(key, **match.groupdict())
        return text


def words_in(
    lang: str, catalogue: str = "screens", *, page: bool = False, unit: str | None = None
) -> Words:
    """Return the sentences of a catalogue in a language, on a terminal or on a page. Raises
    ValueError for a language that there is none of."""
    if lang not in LANGUAGES:
        raise ValueError(f"{lang!r} is no language of the screens: {', '.join(LANGUAGES)}")
    return Words(lang, catalogue, _sentences(catalogue, lang, page), page, unit)


@cache
def entries(catalogue: str) -> Mapping[str, Mapping[str, Any]]:
    """Return a catalogue as its file has it: key -> language -> sentence."""
    path = os.path.join(os.path.dirname(__file__), f"{catalogue}.json")
    with open(path, encoding="utf-8") as file:
        found: dict[str, dict[str, Any]] = json.load(file)
    return found


@cache
def _sentences(catalogue: str, lang: str, page: bool) -> Mapping[str, str]:
    below = _sentences(BELOW[catalogue], lang, page) if catalogue in BELOW else {}
    own = entries(catalogue).items()
    return {**below, **{key: (e.get("page", e) if page else e)[lang] for key, e in own}}


@cache
def _keys(catalogue: str, kind: str) -> Mapping[str, str]:
    """Map English sentences of one kind to their keys: reports hold sentences, not keys."""
    english = _sentences(catalogue, "en", False)
    return {text: key for key, text in english.items() if key.startswith(f"{kind}.")}


@cache
def _patterns(catalogue: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Return patterns of the English sentences of known.*, with a group for each word in braces."""
    patterns = []
    for text, key in _keys(catalogue, "known").items():
        literal = re.split(r"\{(\w+)\}", text)
        parts = (f"(?P<{p}>.*?)" if i % 2 else re.escape(p) for i, p in enumerate(literal))
        patterns.append((key, re.compile("".join(parts))))
    return tuple(patterns)
