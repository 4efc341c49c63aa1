"""The screen of a rank: what fits, a row each."""

from collections.abc import Mapping
from typing import Any

from weighbridge.report.fit import Ranking
from weighbridge.units import human_count
from weighbridge.view.records import Cell, Column, Grid, Mark, Screen, lines
from weighbridge.view.shown import sizes
from weighbridge.wording import printable
from weighbridge.words import Words, words_in

FIRST = 20  # rows of the first screen
MARKS: Mapping[str, Mark] = {"yes": "yes", "no": "no", "unknown": "unknown"}


def screen(
    found: Ranking,
    *,
    lang: str = "en",
    unit: str | None = None,
    full: bool = False,
    page: bool = False,
) -> Screen:
    """`full` has every row; else those that fit, as many as one reads."""
    words = words_in(lang, page=page)
    rows = found.rows if full else found.fitting[:FIRST]
    left = len(found.rows) - len(rows)
    more = words("rank.more", count=f"{left:,}") if left else ""
    table = (_models if found.of == "models" else _cards)(rows, words, unit)
    empty = lines(words("rank.none"))
    return Screen(
        title=_title(found, words),
        sections=((table if rows else empty,),),
        footer=(more,) if more else (),
        lang=lang,
    )


def _title(found: Ranking, words: Words) -> str:
    many = {"fitting": f"{len(found.fitting):,}", "count": f"{len(found.rows):,}"}
    question = words(f"fit.{found.about}", tokens="").strip()
    if found.of == "gpus":
        return words("rank.gpus", model=printable(found.model or ""), question=question, **many)
    name = printable(found.accelerator or "")
    card = name if found.count == 1 else f"{found.count} x {name}"
    return words("rank.models", card=card, question=question, **many)


def _cards(rows: tuple[Mapping[str, Any], ...], words: Words, unit: str | None) -> Grid:
    columns = (
        Column(words("rank.card")),
        Column(words("beside.has"), right=True),
        Column(words("beside.needs"), right=True),
        Column(words("beside.spare"), right=True, rank=1),
        Column(words("beside.context"), right=True, rank=2),
    )
    actions = tuple({"gpu": row["id"]} for row in rows)
    return Grid(columns, tuple(_card(row, unit) for row in rows), actions=actions)


def _card(row: Mapping[str, Any], unit: str | None) -> tuple[Cell, ...]:
    return (
        Cell(printable(row["name"]), MARKS[row["fits"]]),
        Cell(_size(row["usable_bytes"], unit)),
        *_measures(row, unit),
    )


def _measures(row: Mapping[str, Any], unit: str | None) -> tuple[Cell, ...]:
    return (
        Cell(_size(row["peak_bytes"], unit)),
        Cell(_size(row["margin_bytes"], unit)),
        Cell(f"{row['context']:,}" if row["context"] else ""),
    )


def _models(rows: tuple[Mapping[str, Any], ...], words: Words, unit: str | None) -> Grid:
    columns = (
        Column(words("rank.model")),
        Column(words("rank.task"), rank=3),
        Column(words("rank.parameters"), right=True),
        Column(words("rank.format")),
        Column(words("beside.needs"), right=True),
        Column(words("beside.spare"), right=True, rank=2),
        Column(words("beside.context"), right=True, rank=1),
    )
    actions = tuple({"model": row["name"]} for row in rows)
    return Grid(columns, tuple(_model(row, unit) for row in rows), actions=actions)


def _model(row: Mapping[str, Any], unit: str | None) -> tuple[Cell, ...]:
    return (
        Cell(printable(row["name"]), MARKS[row["fits"]]),
        Cell(row["task"]),
        Cell(human_count(row["parameters"])),
        Cell(row["format"] or ""),
        *_measures(row, unit),
    )


def _size(nbytes: int | None, unit: str | None) -> str:
    return "" if nbytes is None else sizes(abs(nbytes), unit).of(nbytes)
