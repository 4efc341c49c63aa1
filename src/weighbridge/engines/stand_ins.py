"""Engines whose code was not read, and how the rules of another engine answer their command lines.

Each has one table in stand_ins.toml.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.parsed import Deferred, text_beside
from weighbridge.base.records import frozen_record


@frozen_record
class StandIn:
    """An engine that the rules of another one, `near`, answer for; stand_ins.toml explains the
    fields."""

    name: str
    near: str
    same: bool = False
    spellings: tuple[str, ...] = ()
    programs: Mapping[str, tuple[str, ...]]
    images: Mapping[str, str]
    fork: bool = False
    flags: Mapping[str, str]
    switches: tuple[str, ...] = ()
    counted: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]


TABLES = ("programs", "images", "flags", "counted", "values")  # subtables of an engine


def _read() -> dict[str, StandIn]:
    import tomllib

    tables = tomllib.loads(text_beside(__file__, "stand_ins.toml"))
    return {name: each for own in tables.items() for each in [_row(*own)] for name in _names(each)}


def _row(name: str, table: Mapping[str, Any]) -> StandIn:
    tables: dict[str, Any] = {key: {} for key in TABLES}
    row = {**tables, "spellings": (), "switches": "", **table}
    programs = {program: tuple(words) for program, words in row.pop("programs").items()}
    switches, spellings = tuple(row.pop("switches").split()), tuple(row.pop("spellings"))
    return StandIn(name=name, programs=programs, switches=switches, spellings=spellings, **row)


def _names(each: StandIn) -> Iterator[str]:
    yield from (each.name, *each.spellings)


# Each name or spelling of such an engine -> its row
STAND_INS: Mapping[str, StandIn] = Deferred(_read)
