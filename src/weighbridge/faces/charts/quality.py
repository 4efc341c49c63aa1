"""The chart of quality against size: a dot per format, as in llama.cpp's articles.

Values of different sources are not comparable (other texts, other windows); the loss of each
against the baseline of its source is. So the axis is the loss in percent; for a metric whose
baseline is zero (a divergence) it is the value. It is logarithmic: good formats differ by little.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.words import Words, words_in
from weighbridge.faces.charts import scale
from weighbridge.faces.charts.figure import MOST, Axis, Dot, Dots, Figure, FigureTable, Series
from weighbridge.models.quantization.quality import QualityRow, QualityTable, scoreboards

if TYPE_CHECKING:
    from weighbridge.memory.report import ModelFacts, Report

WIDE = 3  # ratio of the largest to the least size from which their axis is logarithmic
BESIDE = 1.2  # room at the ends of a logarithmic axis of sizes, for names beside dots
ROOM = 1.1  # room beyond the values
LEAST = 0.01  # percent: the smallest loss that is drawn
BITS = 64  # bits per weight at most: a greater `size` is bytes
MANY = 4  # fewest formats of a table that is drawn
UNPACKED = "float16"  # format of a baseline: such pages call it FP16 or F16
PERPLEXITY = "perplexity"  # the metric that is drawn


class Quality(NamedTuple):
    """One published figure. `size`: bytes of the weights, or bits per weight; lower values are
    better, and `baseline` is the value of `baseline_format` at the same source."""

    format: str
    size: float
    value: float
    baseline: float
    source: str
    baseline_format: str = "float16"


def quality(
    records: Sequence[Quality], *, model: str, metric: str = "perplexity", lang: str = "en"
) -> Figure:
    if not records:
        raise UsageError(sentence("draw.quality", metric=metric, model=model))
    say = words_in(lang, "charts")
    sources = list(dict.fromkeys(r.source for r in records))
    unit = scale.unit(max(r.size for r in records)) if records[0].size >= BITS else None
    losses = [loss(r) for r in records]
    floor = max(LEAST, min((x for x in losses if x > 0), default=LEAST) / 2)
    dots = (
        Dot(r.size, max(x, floor), r.format, sources.index(r.source) % MOST)
        for r, x in zip(records, losses, strict=True)
    )
    label = metric if not records[0].baseline else say("axis.loss", metric=metric)
    plot = Dots(
        tuple(sorted(dots)),
        tuple(Series(s, i) for i, s in enumerate(sources[:MOST])),
        _size_axis(records, unit, say),
        scale.ratios(label, floor / ROOM, max(max(losses), 2 * floor) * ROOM),
    )
    edge = (say("edge"),) if min(losses) < floor else ()
    return Figure(
        title=say("title.quality", metric=metric, model=model),
        answer="",
        notes=(say("lower", source="; ".join(sources)), *edge),
        description=say("described.dots", metric=metric),
        plots=(plot,),
        table=_table(records, unit, metric, say),
        lang=lang,
    )


def _perplexity_dots(groups: Iterable[Sequence[Quality]]) -> Iterator[Dot]:
    for number, group in enumerate(groups):
        for record in group:
            yield Dot(record.size, record.value, record.format, number)


def perplexities(groups: Mapping[str, Sequence[Quality]], *, lang: str = "en") -> Figure:
    """Return the figure of several models' perplexities against their sizes, a series per model:
    values of one page and one text, which can be compared as they are."""
    say = words_in(lang, "charts")
    records = [record for group in groups.values() for record in group]
    unit = scale.unit(max(r.size for r in records))
    low, high = min(r.value for r in records), max(r.value for r in records)
    plot = Dots(
        tuple(sorted(_perplexity_dots(groups.values()))),
        tuple(Series(name, number) for number, name in enumerate(groups)),
        _size_axis(records, unit, say),
        scale.ratios(PERPLEXITY, low / ROOM, high * ROOM),
    )
    return Figure(
        title=say("title.quality", metric=PERPLEXITY, model=", ".join(groups)),
        answer="",
        notes=(say("lower", source="; ".join(dict.fromkeys(r.source for r in records))),),
        description=say("described.dots", metric=PERPLEXITY),
        plots=(plot,),
        table=_table(records, unit, PERPLEXITY, say),
        lang=lang,
    )


def loss(record: Quality) -> float:
    """Return the percent above the baseline, 0 below it (noise); without a baseline the value."""
    return max(0.0, 100 * (record.value / record.baseline - 1)) if record.baseline else record.value


def _size_axis(records: Sequence[Quality], unit: scale.ByteUnit | None, say: Words) -> Axis:
    low, high = min(r.size for r in records), max(r.size for r in records)
    label = say("axis.size", unit=unit.name) if unit else say("axis.bits")
    if high > WIDE * low:
        return scale.ratios(label, low / BESIDE, high * BESIDE, unit.size if unit else 1)
    if unit is not None:
        return scale.memory(label, high * ROOM, unit)
    return scale.plain(label, 0, high * ROOM)


def _table(
    records: Sequence[Quality], unit: scale.ByteUnit | None, metric: str, say: Words
) -> FigureTable:
    head = (
        say("head.format"),
        say("axis.size", unit=unit.name) if unit else say("axis.bits"),
        metric,
    )
    rows = (
        (
            r.format,
            unit.exact(r.size) if unit else f"{r.size:.2f}",
            f"{r.value:.4f}",
            f"{100 * (r.value / r.baseline - 1):+.2f} %" if r.baseline else "",
            r.source,
        )
        for r in sorted(records, key=lambda r: -r.size)
    )
    beyond = say("head.against", name=records[0].baseline_format)
    return FigureTable((*head, beyond, say("head.source")), tuple(rows))


# The published figures that are drawn


def figure(load: "Callable[..., Report]", settings: Mapping[str, Any], lang: str) -> Figure:
    """Return the figure of the losses of formats against their sizes, from `load` of the model. The
    losses are of one table of one page: that of the nearest model with a table of several formats.
    Raises UsageError if none is published."""
    facts = load(remedies=False).model
    experts = facts.active_parameters < facts.parameters
    for table in scoreboards(facts.name, facts.parameters, experts=experts):
        sizes = dict(_weight_sizes(load, table, settings)) if _is_drawable(table) else {}
        if len(sizes) >= MANY:
            records = [
                Quality(
                    format=row.formats[0],
                    size=sizes[row.formats[0]],
                    value=row.value,
                    baseline=table.baseline or 0.0,
                    source=_source(table),
                    baseline_format=table.baseline_name,
                )
                for row in _known_rows(table)
                if row.formats[0] in sizes
            ]
            return quality(records, model=facts.name, lang=lang)
    return quality([], model=facts.name, lang=lang)


def _tables_by_page(facts: "Iterable[ModelFacts]") -> Iterable[Mapping[str, QualityTable]]:
    """Return tables of perplexities by model's name, a group for each page, text and setting."""
    groups: dict[tuple[str, str, str], dict[str, QualityTable]] = {}
    for each in facts:
        experts = each.active_parameters < each.parameters
        for table in scoreboards(each.name, each.parameters, experts=experts, same=True):
            if table.metric == PERPLEXITY and table.baseline and _known_rows(table):
                page = (table.page, table.text, table.under)
                groups.setdefault(page, {}).setdefault(each.name, table)
    return groups.values()


def beside(
    loads: "Sequence[Callable[..., Report]]", settings: Mapping[str, Any], lang: str
) -> Figure:
    """Return the figure of several models' perplexities against their sizes, from `loads`.

    The figures are of the page with the most figures of all these models on one text. Raises
    UsageError if there is none, and for more models than a picture tells apart.
    """
    facts = [load(remedies=False).model for load in loads]
    names = [each.name for each in facts]
    if len(names) > MOST:
        raise UsageError(sentence("draw.many", count=len(names), most=MOST))
    whole = [group for group in _tables_by_page(facts) if len(group) == len(names)]
    if not whole:
        raise UsageError(sentence("draw.perplexity", names=", ".join(names)))
    chosen = max(whole, key=lambda group: sum(len(_known_rows(t)) for t in group.values()))
    pairs = zip(names, loads, strict=True)
    return perplexities(
        {name: list(_figures_of_model(chosen[name], load, settings)) for name, load in pairs},
        lang=lang,
    )


def _figures_of_model(
    table: QualityTable, load: "Callable[..., Report]", settings: Mapping[str, Any]
) -> Iterator[Quality]:
    """Yield the figures of one model, its baseline first."""
    baseline = table.baseline or 0.0
    first = QualityRow(table.baseline_name, (UNPACKED,), baseline, None)
    rows = [first, *(row for row in _known_rows(table) if row.formats)]
    sizes = dict(_weight_sizes(load, table._replace(rows=tuple(rows)), settings))
    for row in rows:
        form = row.formats[0]
        if form in sizes:
            name = table.baseline_name if row is first else form
            yield Quality(
                format=name,
                size=sizes[form],
                value=row.value,
                baseline=baseline,
                source=_source(table, whose=False),
                baseline_format=table.baseline_name,
            )


def _is_drawable(table: QualityTable) -> bool:
    return table.metric == PERPLEXITY and len({r.formats for r in _known_rows(table)}) >= MANY


def _known_rows(table: QualityTable) -> list[QualityRow]:
    return [row for row in table.rows if row.formats]


def _weight_sizes(
    load: "Callable[..., Report]", table: QualityTable, settings: Mapping[str, Any]
) -> Iterator[tuple[str, int]]:
    """Yield (format, bytes of the weights) for each format of the table that the model can have."""
    same = {name: settings[name] for name in ("engine_version", "base_model")}
    for form in dict.fromkeys(row.formats[0] for row in _known_rows(table)):
        how = {"dtype": form} if form == UNPACKED else {"quantization": form}
        try:
            report = load(**how, remedies=False, **same)
        except UnsupportedError:
            continue
        yield form, report.devices[0].phases[0].of("weights").expected


def _source(table: QualityTable, *, whose: bool = True) -> str:
    """Return the source of a table's figures: the model (if `whose`), the text, the method, the
    page."""
    model = table.model.rpartition("/")[2] if whose else ""
    parts = (model, table.text, table.under, table.caution)
    page = re.sub(
        r"^https://(.*)/blob/(.{7})[^/]*/", r"\1@\2 ", table.page
    )  # shortens the commit and the address
    return f"{', '.join(filter(None, parts))}: {page.removeprefix('https://')}"
