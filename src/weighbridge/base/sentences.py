"""Sentences with a key and values: rooms compare keys, and a screen says them in its language.

    line = sentence("beyond", tokens=9000, most=8192)
    line                     "9,000 tokens are more than the 8,192 that the model was made for"
    line.key, line.values    "beyond", {"tokens": 9000, "most": 8192}
    clauses(line, other)     "...; ..."        whose parts stay sentences, in `line.parts`
    about("gpt2", line)      "gpt2: ..."       too

The words of a key stand in words/warnings.json and words/errors.json, in each language. A sentence
is a str, and equal to its text: JSON and pickle have it as they have text.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Self

CATALOGUES = ("warnings", "errors")
CLAUSES, ABOUT = "clauses", "of_model"  # keys of sentences made of sentences
BETWEEN = "; "


class Sentence(str):
    """An English sentence. `key` is "" for text from outside."""

    __slots__ = ("key", "values")

    key: str
    values: Mapping[str, Any]

    def __new__(cls, text: str, key: str = "", values: Mapping[str, Any] | None = None) -> Self:
        """Make a sentence from its text, key and values."""
        self = super().__new__(cls, text)
        self.key, self.values = key, values or {}
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:  # of pickle and copy
        return str(self), self.key, self.values

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the clauses; only itself if it has one."""
        parts: tuple[str, ...] = self.values["parts"] if self.key == CLAUSES else (self,)
        return parts


def sentence(key: str, /, **values: Any) -> Sentence:
    """Return the English sentence for a key, with `values` filled in."""
    return Sentence(_english(key).format(**values), key, values)


def clauses(*parts: str | None) -> Sentence:
    """Return one sentence of several clauses, without empty ones."""
    flat = tuple(clause for part in parts if part for clause in parts_of(part))
    if len(flat) == 1 and isinstance(flat[0], Sentence):
        return flat[0]
    return Sentence(BETWEEN.join(flat), CLAUSES, {"parts": flat}) if flat else Sentence("")


def about(name: str, line: str) -> str:
    """Return `line` after a name and a colon; `line` itself if the name is ""."""
    return Sentence(f"{name}: {line}", ABOUT, {"name": name, "line": line}) if name else line


def parts_of(text: str) -> tuple[str, ...]:
    """Return the clauses of a sentence; text without a key is one clause."""
    return text.parts if isinstance(text, Sentence) else (text,)


def keys_of(text: object) -> Iterator[str]:
    """Yield the keys of a sentence and of the sentences in it; none for text without a key."""
    if isinstance(text, Sentence):
        yield text.key
        for value in (*text.values.get("parts", ()), *text.values.values()):
            yield from keys_of(value)


def key_of(text: object) -> str:
    """Return the key of a sentence; "" for text without one."""
    return text.key if isinstance(text, Sentence) else ""


def before(text: str) -> str:
    """Return the name before a sentence made by `about`; "" for others."""
    name: str = text.values["name"] if isinstance(text, Sentence) and text.key == ABOUT else ""
    return name


def without(text: str, key: str) -> str:
    """Return a sentence without the clause that has `key`."""
    return clauses(*(part for part in parts_of(text) if key_of(part) != key))


@cache
def _english(key: str) -> str:
    """Return the English text of a key; only that entry of a catalogue is parsed."""
    import json  # which most starts have already, and none needs before it says something

    for catalogue in CATALOGUES:
        _, name, entry = _text(catalogue).partition(f'\n "{key}": ')
        if name:
            english: str = json.JSONDecoder().raw_decode(entry)[0]["en"]
            return english
    raise KeyError(key)


@cache
def _text(catalogue: str) -> str:
    path = os.path.join(os.path.dirname(__file__), "words", f"{catalogue}.json")
    with open(path, encoding="utf-8") as file:
        return file.read()
