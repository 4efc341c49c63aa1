"""Tables of which a start needs one row: a row is read when it is first asked for."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")
Written = TypeVar("Written")
Row = TypeVar("Row")


def text_beside(module: str, name: str) -> str:
    """Return the text of a data file next to a module, given the module's `__file__`."""
    with open(os.path.join(os.path.dirname(module), name), encoding="utf-8") as file:
        return file.read()


def lines_beside(module: str, name: str) -> list[str]:
    """Return the lines of a data file next to a module, without those that begin with #."""
    lines = text_beside(module, name).splitlines()
    return [line for line in lines if not line.startswith("#")]


def names_beside(module: str, name: str) -> frozenset[str]:
    """Return the words of a data file next to a module."""
    return frozenset(" ".join(lines_beside(module, name)).split())


def sections_beside(module: str, name: str) -> dict[str, list[str]]:
    """Return the lines of a data file by section; a section's title is a line in brackets."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in filter(None, lines_beside(module, name)):
        if line.startswith("["):
            lines = sections[line.strip("[]")] = []
        else:
            lines.append(line)
    return sections


class Parsed(Mapping[Key, Row], Generic[Key, Written, Row]):
    """Rows by key, each parsed when first used; `written` holds them unparsed."""

    def __init__(self, written: Mapping[Key, Written], read: Callable[[Written], Row]) -> None:
        self._written, self._parse = written, read
        self._rows: dict[Key, Row] = {}

    def __getitem__(self, key: Key) -> Row:
        if key not in self._rows:
            self._rows[key] = self._parse(self._written[key])
        return self._rows[key]

    def __contains__(self, key: object) -> bool:
        return key in self._written

    def __iter__(self) -> Iterator[Key]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._written)


class Deferred(Mapping[Key, Row], Generic[Key, Row]):
    """A table that is made when first used."""

    def __init__(self, make: Callable[[], Mapping[Key, Row]]) -> None:
        self._make = make
        self._made: Mapping[Key, Row] | None = None

    def _table(self) -> Mapping[Key, Row]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __getitem__(self, key: Key) -> Row:
        return self._table()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._table()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._table())

    def __len__(self) -> int:
        return len(self._table())
