"""The screens of rankings: cards for a model, models for a card, layouts of a run, placements."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from weighbridge.base.units import human_count
from weighbridge.base.wording import printable, printable_lines, several
from weighbridge.base.words import Words, words_in
from weighbridge.engines.table import title
from weighbridge.faces.view.changes import quality_cell
from weighbridge.faces.view.lists import MONTH
from weighbridge.faces.view.records import (
    Block,
    Cell,
    Column,
    Grid,
    Mark,
    Paste,
    Screen,
    lines,
)
from weighbridge.faces.view.shown import sizes
from weighbridge.memory.report.fit import Ranking
from weighbridge.models.quantization.quality import Finding
from weighbridge.workload.flags import flags

Figures = partial(Column, right=True)
FIRST = 20  # most rows without `full`
MARKS: Mapping[str, Mark] = {"yes": "yes", "no": "no", "unknown": "unknown"}


def ranking(
    rank: Ranking,
    *,
    lang: str = "en",
    unit: str | None = None,
    full: bool = False,
    page: bool = False,
) -> Screen:
    """Return the screen of a ranking: with `full` all rows, else the first ones that fit."""
    words = words_in(lang, page=page)
    least = (
        rank.of == "layouts" and not rank.fitting
    )  # true if no layout fits: the rows that take least are shown
    rows = rank.rows if full or least else rank.fitting[:FIRST]
    left = rank.candidates - len(rows)
    more = words("rank.more", count=f"{left:,}") if left else ""
    table = TABLES_OF[_table_key(rank)](rows, words, unit)
    empty = lines(words("rank.none"))
    pictured = (_pipelines_table(rank.pipelines, words, unit),) if rank.pipelines else ()
    beside = _layout_blocks(rank, words, unit, full=full) if rank.of == "layouts" else ()
    return Screen(
        title=_title(rank, words, full=full),
        sections=(
            *(((table if rows else empty,),) if rank.rows or not pictured else ()),
            *((one,) for one in pictured),
            *beside,
        ),
        footer=(more,) if more else (),
        lang=lang,
    )


def _table_key(rank: Ranking) -> str:
    """Return the key of a ranking's table. Layouts of FSDP and ZeRO, layouts of a server, and
    placements over cards and host memory each have another one."""
    if rank.of != "layouts" or not rank.rows:
        return rank.of
    row = rank.rows[0]
    of = (("sharded", "shard"), ("placed", "cards"), ("served", "cached_tokens"))
    return next((kind for kind, name in of if name in row), rank.of)


def _title(rank: Ranking, words: Words, *, full: bool) -> str:
    many = {"fitting": f"{len(rank.fitting):,}", "count": f"{rank.candidates:,}"}
    question = words(f"fit.{rank.about}", tokens="").strip()
    if rank.pipelines and not rank.rows:
        return words("rank.pictures", card=printable(rank.accelerator or ""))
    if rank.of == "gpus":
        return words("rank.gpus", model=printable(rank.model or ""), question=question, **many)
    name = printable(rank.accelerator or "")
    card = several(rank.count, name)
    if rank.of == "layouts":
        about = {"card": card, "model": printable(rank.model or ""), "framework": rank.by}
        kind = "layouts" if _table_key(rank) == "sharded" else _table_key(rank)
        of = "placed" if kind == "placed" else "layouts"
        fit = words(f"number.{of}.{_count_key(rank, full=full)}", **many)
        if rank.rows and " + " not in name and kind != "placed":  # all cards are alike
            room = _size(rank.rows[0]["usable_bytes"], None)
            about["card"] = words("layouts.each", card=card, room=room)
        return words(f"rank.{kind}", fit=fit, **about)
    key = "rank.models" if rank.candidates == len(rank.rows) else "rank.models.first"
    return words(key, card=card, question=question, **many)


def _count_key(rank: Ranking, *, full: bool) -> str:
    """Return a key for how many fit: none, one or several, of all or of the best; "none_surely" if
    that is unknown."""
    if rank.fits == "unknown":
        return "none_surely"
    if not rank.fitting:
        return "none_fits"
    return ("one_" if len(rank.fitting) == 1 else "") + ("all" if full else "best")


def _cards_table(rows: tuple[Mapping[str, Any], ...], words: Words, unit: str | None) -> Grid:
    columns = (
        Column(words("rank.card")),
        Figures(words("beside.has")),
        Figures(words("beside.needs")),
        Figures(words("beside.spare"), rank=2),
        Figures(words("beside.context"), rank=3),
        *([Column(words("rank.format"), rank=1)] if any(row.get("format") for row in rows) else []),
    )
    actions = tuple({"gpu": row["id"]} for row in rows)
    cells = (
        (
            Cell(printable(row["name"]), MARKS[row["fits"]]),
            Cell(_size(row["usable_bytes"], unit)),
            *_measure_cells(row, unit),
            Cell(printable(row.get("format") or "")),
        )
        for row in rows
    )
    return Grid(columns, tuple(row[: len(columns)] for row in cells), actions=actions)


def _measure_cells(row: Mapping[str, Any], unit: str | None) -> tuple[Cell, ...]:
    return (
        Cell(_size(row["peak_bytes"], unit)),
        Cell(_size(row["margin_bytes"], unit)),
        Cell(f"{row['context']:,}" if row["context"] else ""),
    )


def _layouts_table(rows: tuple[Mapping[str, Any], ...], words: Words, unit: str | None) -> Grid:
    columns = (
        Column(words("layouts.ranks")),
        Figures(words("beside.needs")),
        Figures(words("beside.spare"), rank=2),
        *_host_columns(rows, words),
        Column(words("layouts.again")),
        Figures(words("layouts.waits")),
        Figures(words("layouts.near")),
        Figures(words("layouts.far")),
    )
    judged = _has_host_bytes(rows)
    return Grid(columns, tuple(_layout_cells(row, words, unit, judged=judged) for row in rows))


def _has_host_bytes(rows: tuple[Mapping[str, Any], ...]) -> bool:
    """Return whether host memory was estimated for any of the layouts."""
    return any("host_bytes" in row for row in rows)


def _host_columns(rows: tuple[Mapping[str, Any], ...], words: Words) -> tuple[Column, ...]:
    return (Figures(words("placed.host")),) if _has_host_bytes(rows) else ()


def _host_cells(row: Mapping[str, Any], unit: str | None, *, judged: bool) -> tuple[Cell, ...]:
    """Return the cell of the host memory that a layout needs, empty if it was not estimated; () if
    the table has no such column."""
    host = row.get("host_bytes")
    return (Cell("" if host is None else _size(host, unit)),) if judged else ()


def _layout_cells(
    row: Mapping[str, Any], words: Words, unit: str | None, *, judged: bool
) -> tuple[Cell, ...]:
    return (
        Cell(row["id"], MARKS[row["fits"]]),
        Cell(_size(row["peak_bytes"], unit)),
        Cell(_size(row["margin_bytes"], unit) if row["fits"] == "yes" else ""),
        *_host_cells(row, unit, judged=judged),
        Cell(_recomputed(row, words)),
        Cell(f"+{100 * row['bubble']:.1f} %"),
        Cell(_size(row["near_bytes"], unit) if row["near_bytes"] else "-"),
        Cell(_size(row["far_bytes"], unit) if row["far_bytes"] else "-"),
    )


def _recomputed(row: Mapping[str, Any], words: Words) -> str:
    """Return the recomputed parts (Megatron's modules, torchtitan's list of operations) as text,
    and their percentage of a step's FLOPs."""
    selected = row["recompute"] == "selective" and "shard" in row
    what = words(f"layouts.{'ops' if selected else row['recompute']}")
    more = 100 * row["computed_again"]
    return f"{what} +{more:.0f} %" if more else what


def _served_table(rows: tuple[Mapping[str, Any], ...], words: Words, unit: str | None) -> Grid:
    columns = (
        Column(words("layouts.ranks")),
        Figures(words("beside.needs")),
        Figures(words("beside.spare"), rank=2),
        *_host_columns(rows, words),
        Figures(words("served.tokens")),
        Figures(words("served.requests"), rank=1),
        Figures(words("served.turn")),
        Figures(words("layouts.near")),
        Figures(words("layouts.far")),
    )
    judged = _has_host_bytes(rows)
    return Grid(columns, tuple(_served_cells(row, words, unit, judged=judged) for row in rows))


def _served_cells(
    row: Mapping[str, Any], words: Words, unit: str | None, *, judged: bool
) -> tuple[Cell, ...]:
    return (
        Cell(row["id"], MARKS[row["fits"]]),
        Cell(_size(row["peak_bytes"], unit)),
        Cell(_size(row["margin_bytes"], unit) if row["fits"] == "yes" else ""),
        *_host_cells(row, unit, judged=judged),
        Cell(f"{row['cached_tokens']:,}"),
        Cell(f"{row['requests']:,}"),
        Cell(_size(row["read_in_turn_bytes"], unit)),
        Cell(_size(row["near_bytes"], unit) if row["near_bytes"] else "-"),
        Cell(_size(row["far_bytes"], unit) if row["far_bytes"] else "-"),
    )


def _placements_table(rows: tuple[Mapping[str, Any], ...], words: Words, unit: str | None) -> Grid:
    columns = (
        Column(words("placed.flags")),
        Figures(words("placed.context")),
        Column(words("placed.cache")),
        Figures(words("placed.needs")),
        Figures(words("placed.host")),
        Figures(words("placed.host.read")),
        Figures(words("placed.read"), rank=1),
        Figures(words("placed.sent"), rank=2),
    )
    return Grid(columns, tuple(_placement_cells(row, words, unit) for row in rows))


def _placement_cells(row: Mapping[str, Any], words: Words, unit: str | None) -> tuple[Cell, ...]:
    read, sent = row["read_from_host_bytes"], row["near_bytes"]
    size = sizes(max(card["needs_bytes"] for card in row["cards"]), unit)
    needs = " + ".join(size.bare(card["needs_bytes"]) for card in row["cards"])
    return (
        Cell(row["placed"], MARKS[row["fits"]]),
        Cell(f"{row['context']:,}"),
        Cell("/".join(dict.fromkeys(row["cache_types"]))),
        Cell(f"{needs} {size.unit}"),
        Cell(_size(row["host_bytes"], unit)),
        Cell(_size(read, unit) if read else "-"),
        Cell(_size(row["read_in_turn_bytes"], unit)),
        Cell(_size(sent, unit) if sent else "-"),
    )


def _places(row: Mapping[str, Any], words: Words, unit: str | None) -> Iterator[str]:
    """Yield lines on which layers of a placement are on each card and on the host."""
    begin = row["host_layers"]
    total = begin + sum(card["layers"] for card in row["cards"])
    for card in row["cards"]:
        end = begin + card["layers"]
        sizes_ = {n: _size(card[f"{n}_bytes"], unit) for n in ("needs", "usable")}
        which = f"{begin}-{end - 1}" if end > begin else words("placed.no_layers")
        key = "placed.last_card" if end == total > begin else "placed.card"
        if card["guests"]:
            which += words("placed.guests", count=str(card["guests"]))
        yield words(key, name=printable(card["name"]), layers=which, **sizes_)
        begin = end
    needs, away = _size(row["host_bytes"], unit), row["host_layers"]
    what = [words("placed.layers", count=str(away))] if away else []
    if row["host_experts"]:
        what.append(words("placed.experts", count=str(row["host_experts"])))
    if what:
        yield words("placed.on_host", what=words("bar.and").join(what), needs=needs)
    else:
        yield words("placed.none_on_host", needs=needs)


def _layout_blocks(
    rank: Ranking, words: Words, unit: str | None, *, full: bool
) -> tuple[tuple[Block, ...], ...]:
    """Return blocks with the meaning of the columns, and the question about the first layout."""
    kind = _table_key(rank)
    if not rank.rows:
        return ()
    notes = [words(f"means.{kind}")]
    if _has_host_bytes(rank.rows) and kind != "placed":
        had = _size(
            next(row["host_usable_bytes"] for row in rank.rows if "host_bytes" in row), unit
        )
        notes.append(words("means.host", size=had))
    if rank.fitting and not full:
        notes.append(words(f"unbeaten.{kind}"))
    blocks: tuple[Block, ...] = (lines(*notes),)
    if kind == "placed":
        first = (rank.fitting or rank.rows)[0]
        blocks += (lines(words("placed.first"), *_places(first, words, unit)),)
    if rank.fitting:
        flags = rank.fitting[0]["flags"]
        line = f"weighbridge {rank.about} {printable(rank.model or '')} {printable(flags)}"
        blocks += (Paste(words("layouts.first"), line),)
        if rank.fitting[0].get("launch"):
            launch = printable_lines(rank.fitting[0]["launch"])
            blocks += (Paste(words("placed.run"), launch),)
    return tuple((block,) for block in blocks)


def _models_table(rows: tuple[Mapping[str, Any], ...], words: Words, unit: str | None) -> Grid:
    columns = (
        Column(words("rank.model")),
        Column(words("rank.format")),
        Column(words("ladder.head.engine"), rank=2),
        Figures(words("beside.needs")),
        Figures(words("beside.spare"), rank=5),
        Figures(words("beside.context")),
        Column(words("ladder.head.quality"), folds=True, rank=1),
        Figures(words("rank.parameters"), rank=3),
        Figures(words("models.released"), rank=4),
        Column(words("rank.task"), rank=6),
    )
    actions = tuple({"model": row["name"]} for row in rows)
    return Grid(columns, tuple(_model_cells(row, words, unit) for row in rows), actions=actions)


def _model_cells(row: Mapping[str, Any], words: Words, unit: str | None) -> tuple[Cell, ...]:
    return (
        Cell(printable(row["name"]), MARKS[row["fits"]]),
        Cell(row["format"] or ""),
        Cell(title(row["engine"]) if row["engine"] else ""),
        *_measure_cells(row, unit),
        Cell(_quality_loss(row["quality"], words)),
        Cell(human_count(row["parameters"])),
        Cell((row["released"] or "")[:MONTH]),
        Cell(words(f"use.{row['task']}")),
    )


def _pipelines_table(rows: tuple[Mapping[str, Any], ...], words: Words, unit: str | None) -> Grid:
    """Return a table of pipelines, each in the first way that fits."""
    size = sizes(max(row["peak_bytes"] for row in rows), unit)
    columns = (
        Column(words("models.pipeline")),
        Figures(words("beside.needs")),
        Column(words("rank.pipelines.with"), folds=True),
        Figures(words("rank.parameters"), rank=1),
    )
    cells = tuple(
        (
            Cell(printable(row["name"]), MARKS[row["fits"]]),
            Cell(size.of(row["peak_bytes"])),
            Cell(flags(row["settings"], "")),
            Cell(human_count(row["parameters"])),
        )
        for row in rows
    )
    actions = tuple({"model": row["name"], **row["settings"]} for row in rows)
    return Grid(columns, cells, words("rank.pipelines"), actions=actions)


def _quality_loss(quality: Mapping[str, Any] | None, words: Words) -> str:
    """Return a format's published quality loss as text, of the model or of a similar one; ""
    without one."""
    if quality is None:
        return ""
    fields = {name: value for name, value in quality.items() if name != "unit"}
    loss = quality_cell(words, Finding(**{**fields, "near": "model"}))
    near = quality["near"] == "model" or not quality["change"]
    return loss if near else words("ladder.about", quality=loss)


TABLES_OF: Mapping[str, Callable[..., Grid]] = {
    "gpus": _cards_table,
    "models": _models_table,
    "layouts": _layouts_table,
    "sharded": _layouts_table,
    "served": _served_table,
    "placed": _placements_table,
}


def _size(nbytes: int | None, unit: str | None) -> str:
    return "" if nbytes is None else sizes(abs(nbytes), unit).of(nbytes)
