"""`load MODEL --chart FILE --chart-of quality`: what formats cost, against what they take."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.errors import UnsupportedError
from weighbridge.quantization.quality import scoreboards
from weighbridge.quantization.quality.records import QualityRow, QualityTable

if TYPE_CHECKING:
    from weighbridge.charts.figure import Figure
    from weighbridge.questions.prepared import Prepared

MANY = 4  # formats that a table has at least, to be worth a picture
PERPLEXITY = "perplexity"  # the metric that a picture is of


def figure(model: "Prepared", settings: Mapping[str, Any], lang: str) -> "Figure":
    """Sizes are of this model, losses those of one table of one page: the nearest model that has a
    table of several formats. Raises UsageError where none is published."""
    from weighbridge.charts.quality import Quality, quality

    facts = model.load(remedies=False).model
    experts = facts.active_parameters < facts.parameters
    for table in scoreboards(facts.name, facts.parameters, experts=experts):
        sizes = dict(_sizes(model, table, settings)) if _drawable(table) else {}
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
                for row in _ours(table)
                if row.formats[0] in sizes
            ]
            return quality(records, model=facts.name, lang=lang)
    return quality([], model=facts.name, lang=lang)


def _drawable(table: QualityTable) -> bool:
    return table.metric == PERPLEXITY and len({r.formats for r in _ours(table)}) >= MANY


def _ours(table: QualityTable) -> list[QualityRow]:
    return [row for row in table.rows if row.formats]


def _sizes(
    model: "Prepared", table: QualityTable, settings: Mapping[str, Any]
) -> Iterator[tuple[str, int]]:
    """Bytes of the weights of the model in each format of the table that it can be in."""
    kept = {name: settings[name] for name in ("engine_version", "base_model")}
    for form in dict.fromkeys(row.formats[0] for row in _ours(table)):
        try:
            report = model.load(quantization=form, remedies=False, **kept)
        except UnsupportedError:
            continue
        components = report.devices[0].phases[0].components
        yield form, sum(c.bytes.expected for c in components if c.name == "weights")


def _source(table: QualityTable) -> str:
    """Tell whose figures they are: the model, the text, the way of making, the page."""
    told = (table.model.rpartition("/")[2], table.text, table.under, table.caution)
    page = re.sub(r"^https://(.*)/blob/(.{7})[^/]*/", r"\1@\2 ", table.page)  # short enough
    return f"{', '.join(filter(None, told))}: {page.removeprefix('https://')}"
