"""The chart of many models on one card: a bar per model, and a line at the card's memory."""

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

MOST = 60  # most bars
CUT = 4  # multiple of the card's memory at which bars are cut
WEIGHTS = 0  # style of the bars

Drawn = tuple[ScanLine, ScanCell]


def scanned(summary: ScanSummary, question: str, *, lang: str = "en") -> Figure:
    """Return the figure of a scan's models by the memory in the answers to one question, the
    smallest first."""
    say = words_in(lang, "charts")
    models = sorted(_answered_models(summary, question), key=lambda one: one[1].need.expected)[
        :MOST
    ]
    usable = max((cell.usable or 0 for _, cell in models), default=0)
    most = max([usable, *(cell.need.expected for _, cell in models)])
    size = scale.unit(min(most, CUT * usable) if usable else most)
    limit = Limit(usable, usable, say("usable", size=size.told(usable))) if usable else None
    group = BarGroup("", tuple(_model_bar(line, cell, size) for line, cell in models), limit)
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
            tuple(_table_row(line, cell, size) for line, cell in models),
            2,
            size.name,
        ),
        lang=lang,
    )


def _answered_models(summary: ScanSummary, question: str) -> Iterator[Drawn]:
    """Yield (model, answer) for the models that have an answer about the first card."""
    first = summary.cards[0] if summary.cards else None
    for line in summary.lines:
        for cell in line.answers.get(question, ()):
            if cell.gpu == first:
                yield line, cell


def _model_bar(line: ScanLine, cell: ScanCell, size: scale.ByteUnit) -> FigureBar:
    need = cell.need
    label, segment = size.told(need.expected), FigureSegment(0, need.expected)
    mark = cell.fits or ""
    return FigureBar(line.id, (segment,), need.low, need.high, label, mark == "yes", mark)


def _table_row(line: ScanLine, cell: ScanCell, size: scale.ByteUnit) -> tuple[str, ...]:
    need = cell.need
    ends = (size.exact(nbytes) for nbytes in (need.expected, need.low, need.high))
    return (line.id, cell.fits or "", *ends)
