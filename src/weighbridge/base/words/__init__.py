"""Every sentence that people read, in each language: catalogues, and the one way to say them.

    screens.json   answers, in a terminal and in a browser
    oom.json       an out-of-memory message, explained
    charts.json    pictures; parts and phases are called there what screens call them
    page.json      the page around an answer
    errors.json    what is wrong with a question, on a terminal
    warnings.json  warnings and reasons of answers, clause by clause

A key has its sentence in all languages, so that they are changed together. Words in braces are
filled in (str.format). Where a page says it otherwise, since nobody types options there, that
stands under "page":

    "gpus.footer": {"en": "blank: not known", "zh": "空白", "page": {"en": ..., "zh": ...}}

Names of settings, formats and models stay as they are. Warnings and errors know their key
(sentences.py). Keys that begin with "why." and "known." are of reasons and warnings that an answer
has in English alone: a key is found by the words then, which stand here a second time.
"""

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import ABOUT, BETWEEN, CATALOGUES, CLAUSES, Sentence
from weighbridge.base.units import human
from weighbridge.base.wording import printable

LANGUAGES = ("en", "zh")
LONG = 1_000  # characters of our longest sentence
BELOW: Mapping[str, str] = {"charts": "screens"}  # catalogue -> the one that has what it has not


class Words(NamedTuple):
    """The sentences of one catalogue in one language, and the unit of sizes."""

    lang: str
    catalogue: str
    sentences: Mapping[str, str]
    page: bool = False  # for a page, without options
    unit: str | None = None  # None: fitting each size

    def __call__(self, key: str, **values: object) -> str:
        """Return the sentence of a key, with `values` filled in."""
        return self.sentences[key].format(**values)

    def some(self, one: str, many: str, count: int) -> str:
        """Return the sentence `one` for a count of 1, else the sentence `many`."""
        return self(one if count == 1 else many, count=f"{count:,}")

    def each(self, *keys: str) -> tuple[str, ...]:
        """Return the sentences of several keys, in order, as for a table's headings."""
        return tuple(self(key) for key in keys)

    def named(self, kind: str, name: str) -> str:
        """Return the name of a phase or a part; `name` itself if the catalogue lacks it."""
        key = f"{kind}.{name}"
        return self(key) if key in self.sentences else name

    def filled(self, key: str, values: Mapping[str, object]) -> str:
        """Return a sentence with its values filled in, and "?" for missing ones."""
        named = re.findall(r"\{(\w+)", self.sentences[key])
        return self(key, **{name: values.get(name, "?") for name in named})

    def size(self, nbytes: int) -> str:
        """Return a number of bytes with its unit."""
        return human(nbytes, self.unit)

    def translated(self, text: str, kind: str) -> str | None:
        """Return this language's sentence for an English one with a key `kind`.*, as in an answer's
        JSON form; None for other text."""
        key = _keys(self.catalogue, kind).get(text)
        return None if key is None else self.sentences[key]

    def why(self, text: str) -> str:
        """Return the reason for a setting, in this language if it is known."""
        return self.translated(text, "why") or printable(text)

    def told(self, text: str | None) -> str:
        """Return a reason, a warning or a note in this language: by its key, or if it, or each of
        its clauses, is a sentence of known.*."""
        plain = printable(text or "")
        english = self.lang == "en"
        if isinstance(text, Sentence) and text.key and (self.page or not english):
            return printable(self._keyed(text))
        return plain if english else self._known(plain) or plain

    def _keyed(self, text: Sentence) -> str:
        """Return a sentence by its key, with the sentences in it by theirs."""
        if text.key == CLAUSES:
            first, *others = map(self.told, text.parts)
            for second in others:
                first = self._joined(CLAUSES, first=first, second=second)
            return first
        values = {
            name: self.told(value) if isinstance(value, str) else value
            for name, value in text.values.items()
        }
        catalogues = (_sentences(each, self.lang, self.page) for each in CATALOGUES)
        return next(each[text.key] for each in catalogues if text.key in each).format(**values)

    def _known(self, text: str) -> str | None:
        """Return the translation of a sentence of known.*, also after a model's name, or of its
        clauses if each is one; None for others."""
        if len(text) > LONG:
            return None
        translated = self._sentence(text)
        head, between, tail = text.partition(BETWEEN)
        while translated is None and between:
            first = self._sentence(head)
            second = None if first is None else self._known(tail)
            if second is not None:
                return self._joined(CLAUSES, first=first, second=second)
            more, between, tail = tail.partition(BETWEEN)
            head = f"{head}{BETWEEN}{more}"
        return translated

    def _sentence(self, text: str) -> str | None:
        """Return the translation of one sentence with its values, None without one. The order of
        known.* decides, since one may contain another's words."""
        name, _, line = text.partition(": ")
        translated = None if " " in name or not line else self._sentence(line)
        if translated is not None:
            return self._joined(ABOUT, name=name, line=translated)
        for sentence, pattern in _patterns(self.catalogue, self.lang, self.page):
            match = pattern.fullmatch(text)
            if match:
                values = {name: self._value(value) for name, value in match.groupdict().items()}
                return sentence.format(**values)
        return None

    def _joined(self, key: str, **values: object) -> str:
        return _sentences("warnings", self.lang, self.page)[key].format(**values)

    def _value(self, text: str) -> str:
        """Return a value in a sentence; a phase or a sentence is translated."""
        return self._known(text) or text


def words_in(
    lang: str, catalogue: str = "screens", *, page: bool = False, unit: str | None = None
) -> Words:
    """Return the sentences of a catalogue in a language, for a terminal or a page. Raises
    ValueError for an unknown language."""
    if lang not in LANGUAGES:
        raise ValueError(f"{lang!r} is no language of the screens: {', '.join(LANGUAGES)}")
    return Words(lang, catalogue, _sentences(catalogue, lang, page), page, unit)


@cache
def entries(catalogue: str) -> Mapping[str, Mapping[str, Any]]:
    """Return a catalogue as in its file: key -> language -> sentence."""
    path = os.path.join(os.path.dirname(__file__), f"{catalogue}.json")
    with open(path, encoding="utf-8") as file:
        catalogue_entries: dict[str, dict[str, Any]] = json.load(file)
    return catalogue_entries


@cache
def _sentences(catalogue: str, lang: str, page: bool) -> Mapping[str, str]:
    below = _sentences(BELOW[catalogue], lang, page) if catalogue in BELOW else {}
    items = entries(catalogue).items()
    return {**below, **{key: (e.get("page", e) if page else e)[lang] for key, e in items}}


@cache
def _keys(catalogue: str, kind: str) -> Mapping[str, str]:
    """Return keys by English sentence, for keys of one kind, since reports hold sentences."""
    english = _sentences(catalogue, "en", False)
    return {text: key for key, text in english.items() if key.startswith(f"{kind}.")}


@cache
def _patterns(catalogue: str, lang: str, page: bool) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Return (key, pattern) of the sentences of known.*; the pattern matches the English one, with
    a group per word in braces."""
    sentences, warnings = _sentences(catalogue, lang, page), _sentences("warnings", lang, page)
    english = {text: sentences[key] for text, key in _keys(catalogue, "known").items()}
    english |= {text: warnings[key] for text, key in _keys("warnings", "known").items()}
    patterns = []
    for text, sentence in english.items():
        literal = re.split(r"\{(\w+)\}", text)
        value = r".*?" if text in _keys(catalogue, "known") else rf"(?:(?!{BETWEEN}).)*?"
        parts = (f"(?P<{p}>{value})" if i % 2 else re.escape(p) for i, p in enumerate(literal))
        patterns.append((sentence, re.compile("".join(parts))))
    return tuple(patterns)
