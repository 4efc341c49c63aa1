"""Many models on one card: a bar for each, up to a line for what the card has."""

from collections.abc import Iterator

from weighbridge.base.words import words_in
from weighbridge.faces.charts import reports, scale
from weighbridge.faces.charts.figure import (
    BarGroup,
    Bars,
    Figure,
    FigureBar,
    FigureSegment,
    FigureTable,
    Limit,
    Series,
)
from weighbridge.memory.report.scanned import ScanCell, ScanLine, ScanSummary

MOST = 60  # bars
CUT = 4  # times the card: longer bars are cut, and say how long they are
WEIGHTS = 0  # the style of the bars

Drawn = tuple[ScanLine, ScanCell]


def scanned(summary: ScanSummary, question: str, *, lang: str = "en") -> Figure:
    """Draw the memory of a scan's models by the answers to one question, the smallest first."""
    say = words_in(lang, "charts")
    models = sorted(_drawn(summary, question), key=lambda one: one[1].need.expected)[:MOST]
    usable = max((cell.usable or 0 for _, cell in models), default=0)
    most = max([usable, *(cell.need.expected for _, cell in models)])
    size = scale.unit(min(most, CUT * usable) if usable else most)
    limit = Limit(usable, usable, say("usable", size=size.told(usable))) if usable else None
    group = BarGroup("", tuple(_bar(line, cell, size) for line, cell in models), limit)
    far = reports.furthest([group]) or 1
    axis = scale.memory(
        say("axis.card", unit=size.name), min(far, CUT * usable) if usable else far, size
    )
    card = next((cell.gpu for _, cell in models if cell.gpu), "")
    fitting = sum(cell.fits == "yes" for _, cell in models)
    return Figure(
        title=say("title.scan", question=question, source=summary.source),
        answer=say("answer.scan", count=fitting, models=len(models), card=card) if usable else "",
        notes=(say("thick"),),
        description=say("described.scan", card=card),
        plots=(Bars((group,), (Series(question, WEIGHTS),), axis),),
        table=FigureTable(
            (say("head.what"), say("head.fits"), *say.each("head.total", "head.low", "head.high")),
            tuple(_row(line, cell, size) for line, cell in models),
            2,
            size.name,
        ),
        lang=lang,
    )


def _drawn(summary: ScanSummary, question: str) -> Iterator[Drawn]:
    """Yield the models that have an answer, with the one about the first card."""
    first = summary.cards[0] if summary.cards else None
    for line in summary.lines:
        for cell in line.answers.get(question, ()):
            if cell.gpu == first:
                yield line, cell


def _bar(line: ScanLine, cell: ScanCell, size: scale.ByteUnit) -> FigureBar:
    need = cell.need
    label, segment = size.told(need.expected), FigureSegment(0, need.expected)
    mark = cell.fits or ""
    return FigureBar(line.id, (segment,), need.low, need.high, label, mark == "yes", mark)


def _row(line: ScanLine, cell: ScanCell, size: scale.ByteUnit) -> tuple[str, ...]:
    need = cell.need
    ends = (size.exact(nbytes) for nbytes in (need.expected, need.low, need.high))
    return (line.id, cell.fits or "", *ends)
