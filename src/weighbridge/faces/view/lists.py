"""Lists on a screen: accelerators and the machines that clouds rent, models, and predictions next
to measurements."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.records import replace
from weighbridge.base.units import GIB, human_count
from weighbridge.base.wording import printable
from weighbridge.base.words import Words, words_in
from weighbridge.faces.view.records import (
    Block,
    Cell,
    Column,
    Grid,
    Screen,
    row,
)
from weighbridge.machines.accelerators.listing import abilities
from weighbridge.machines.accelerators.parts import Instance, MemoryFigure, Part, parts
from weighbridge.models.catalogue import CatalogueEntry, parameters, popularity, uses
from weighbridge.models.catalogue.pipelines import CataloguePipeline

ACCURACY = (  # keys of the heads of the accuracy table's columns
    "engine",
    "quantity",
    "level",
    "figures",
    "median",
    "p95",
    "worst",
    "inside",
)
WORD_COLUMNS = 3  # number of text columns, which stand before the numbers
MONTH = len("2026-05")


def gpus(
    cards: Sequence[Part],
    machines: Sequence[Instance],
    lang: str = "en",
    *,
    full: bool = False,
    page: bool = False,
) -> Screen:
    """Return the screen of `weighbridge gpus`; `full` adds both bounds of each figure and its
    source."""
    words = words_in(lang, page=page)
    blocks = tuple(_gpu_blocks(cards, machines, words, full=full))
    return Screen(
        title=words.some("gpus.title.one", "gpus.title", len(cards)),
        sections=tuple((block,) for block in blocks),
        footer=(words("gpus.footer"),),
        lang=lang,
    )


def _gpu_blocks(
    parts: Sequence[Part], machines: Sequence[Instance], words: Words, *, full: bool
) -> Iterator[Block]:
    if parts:
        columns = _gpu_columns(words, full=full)
        cards = tuple(tuple(_gpu_cells(p, words, full=full)) for p in parts)
        yield Grid(columns, cards, actions=tuple({"gpu": p.id} for p in parts))
    if machines:
        heads = ("gpus.machine", "gpus.provider", "gpus.devices")
        rows = tuple(row(i.name, i.provider, _machine_cards(i)) for i in machines)
        columns, actions = (
            tuple(Column(words(key)) for key in heads),
            ({"gpu": i.id} for i in machines),
        )
        yield Grid(columns, rows, words("gpus.machines"), actions=tuple(actions))


def _gpu_columns(words: Words, *, full: bool) -> tuple[Column, ...]:
    return (
        Column(words("gpus.name"), folds=not full),
        Column(words("gpus.sold"), right=True, rank=0 if full else 3),
        Column(words("gpus.driver"), right=True, rank=0 if full else 5),
        Column(words("gpus.left" if full else "gpus.left.short"), right=True),
        Column(words("gpus.compute"), rank=0 if full else 1),
        Column(words("gpus.types")),
        Column(words("gpus.bandwidth"), right=True, rank=0 if full else 4),
        Column(words("gpus.link"), rank=0 if full else 2),
        *((Column(words("gpus.basis")),) if full else ()),
    )


def _gpu_cells(part: Part, words: Words, *, full: bool) -> Iterator[Cell]:
    size = _size_range if full else _low_size
    yield Cell(part.name)
    yield Cell(f"{part.marketed_gb} GB")
    yield Cell(size(part.total))
    yield Cell(size(replace(part.visible, bytes=part.room)))
    yield Cell(part.compute_capability or "")
    yield Cell(types(part) or words("gpus.unknown"))
    yield Cell(f"{part.bandwidth[0]:,.0f} GB/s" if part.bandwidth else "")
    yield Cell(words(f"gpus.{part.nvlink}") if part.nvlink else "")
    if full:
        yield Cell(part.visible.basis)


def types(part: Part) -> str:
    """Return the names of the dtypes below 16 bits, and bfloat16, that a part computes in; "-" if
    it is known to have none, "" if unknown."""
    known = abilities(part)
    flags = " ".join(name for name, has in known.items() if has)
    return flags or ("" if None in known.values() else "-")


def _low_size(figure: MemoryFigure) -> str:
    return f"{figure.bytes.low / GIB:,.1f} GiB"


def _size_range(figure: MemoryFigure) -> str:
    low, high = (f"{nbytes / GIB:.2f}" for nbytes in figure.bytes[::2])
    return f"{low} GiB" if low == high else f"{low}-{high} GiB"


def _machine_cards(machine: Instance) -> str:
    return f"{machine.count} x {parts()[machine.part].name}"


def models(
    entries: Sequence[CatalogueEntry],
    lang: str = "en",
    makers: Sequence[CataloguePipeline] = (),
) -> Screen:
    """Return the screen of models, then of the pipelines `makers`, which make pictures and
    video."""
    words = words_in(lang)
    columns = (
        Column(words("models.name")),
        Column(words("models.use"), rank=2),
        Column(words("rank.parameters"), right=True),
        Column(words("models.released"), right=True, rank=1),
        Column(words("models.downloads"), right=True, rank=1),
        Column(words("models.type"), rank=4),
        Column(words("models.hub"), folds=True, rank=3),
    )
    rows = (tuple(_model_cells(entry, words)) for entry in entries)
    grid = Grid(columns, tuple(rows), actions=tuple({"model": m.name} for m in entries))
    pictured = _pipelines_table(makers, words)
    return Screen(
        title=words.some("models.title.one", "models.title", len(entries) + len(makers)),
        sections=tuple((table,) for table in (grid, pictured) if table.rows),
        footer=(words("models.footer"),),
        lang=lang,
    )


def _pipelines_table(makers: Sequence[CataloguePipeline], words: Words) -> Grid:
    """Return a table of pipelines; the cell of an unknown number of parameters is empty."""
    columns = (
        Column(words("models.pipeline")),
        Column(words("rank.parameters"), right=True),
        Column(words("models.hub"), folds=True),
    )
    counts = parameters()
    rows = tuple(
        (
            Cell(printable(pipeline.name)),
            Cell(human_count(counts[pipeline.name]) if pipeline.name in counts else ""),
            Cell(printable(pipeline.repo_id)),
        )
        for pipeline in makers
    )
    return Grid(columns, rows, actions=tuple({"model": pipeline.name} for pipeline in makers))


def _model_cells(entry: CatalogueEntry, words: Words) -> Iterator[Cell]:
    """Yield the cells of a model's row; unknown values are empty."""
    known = popularity.of(entry.name)
    yield Cell(printable(entry.name))
    yield Cell(words(f"use.{uses.of(entry)}"))
    yield Cell(human_count(parameters()[entry.name]))
    yield Cell((known.released or "")[:MONTH])
    yield Cell(human_count(known.downloads) if known.downloads else "")
    yield Cell(printable(entry.model_type))
    yield Cell(printable(entry.repo_id))


def accuracy(rows: Sequence[Mapping[str, Any]], lang: str = "en") -> Screen:
    """Return the screen of `rows`, the rows in the JSON of `weighbridge accuracy`."""
    words = words_in(lang, page=True)  # the command line prints it as text
    columns = tuple(
        Column(words(f"accuracy.{head}"), right=rank >= WORD_COLUMNS)
        for rank, head in enumerate(ACCURACY)
    )
    figures = sum(r["n"] for r in rows)
    return Screen(
        title=words("accuracy.title", count=f"{figures:,}"),
        sections=((Grid(columns, tuple(row(*_accuracy_cells(r)) for r in rows)),),),
        footer=(words("accuracy.footer"),),
        lang=lang,
    )


def _accuracy_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    where = row["engine"] if row["source"] is None else f"{row['source']}: {row['engine']}"
    errors = (f"{100 * row['signed_median']:+.2f} %", f"{100 * row['p95']:.2f} %")
    worst, inside = f"{100 * row['max']:+.2f} %", f"{100 * row['inside']:.0f} %"
    return (where, row["quantity"], row["level"], f"{row['n']:,}", *errors, worst, inside)
