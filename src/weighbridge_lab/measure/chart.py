"""A chart of measured and predicted memory: two bars per phase, or per program."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from weighbridge.base.words import Words, words_in
from weighbridge.faces.charts import scale
from weighbridge.faces.charts.figure import (
    BarGroup,
    Bars,
    Figure,
    FigureBar,
    FigureSegment,
    FigureTable,
    Series,
)
from weighbridge.faces.charts.tasks import TASKS, ratio

if TYPE_CHECKING:
    from weighbridge_lab.measure.record import Levels, Measurement

LEVELS = ("allocated", "reserved", "driver")
STYLES = (0, 1, 2)
PROGRAMS = 16  # programs that are drawn; the table has all


def pairs(records: Sequence["Measurement"], *, unit: str | None = None, lang: str = "en") -> Figure:
    """Return a figure of the records' measured and predicted bytes."""
    say = words_in(lang, "charts")
    measured = list(_pairs(records, say))
    one = scale.unit(max(max(m.driver, p.driver if p else 0) for _, m, p in measured), unit)
    groups = tuple(_group(label, m, p, (say, one)) for label, m, p in measured[:PROGRAMS])
    most = max(b.high for g in groups for b in g.bars)
    here = records[0].machine
    left = len(measured) - len(groups)
    plot = Bars(
        groups,
        tuple(Series(say(f"level.{n}"), s) for n, s in zip(LEVELS, STYLES, strict=True)),
        scale.memory(say("axis.card", unit=one.name), most, one),
        f"+ {left}" if left else "",
    )
    names = records[0].target if len(records) == 1 else here.gpu
    return Figure(
        title=f"{say('title.measure')}: {names}",
        answer="; ".join(filter(None, (_tasks(records, say), _summed(measured, say)))),
        notes=(", ".join([here.gpu, *(f"{k} {v}" for k, v in _versions(here.versions))]),),
        description=say("described.pairs"),
        plots=(plot,),
        table=_table(measured, say, one),
        lang=lang,
    )


def _tasks(records: Sequence["Measurement"], say: Words) -> str:
    """Return a sentence on tensors' bytes in each task, if one program's phases are tasks."""
    phases = records[0].measured.phases
    if len(records) > 1 or not {p.name for p in phases} <= {*TASKS}:
        return ""
    names = [say(f"task.{p.name}") for p in phases]
    return ratio(names, [p.peak.allocated for p in phases], say)


def _summed(measured_pairs: "Sequence[tuple[str, Levels, Levels | None]]", say: Words) -> str:
    """Return a sentence with the error of the program or phase with most memory."""
    both = [(m.driver, p.driver) for _, m, p in measured_pairs if p is not None]
    if not both:
        return ""
    measured, predicted = max(both)
    return say("off", error=_error(predicted, measured))


def _versions(versions: dict[str, str]) -> list[tuple[str, str]]:
    return [(k, versions[k]) for k in ("torch", "cuda") if k in versions]


def _pairs(
    records: Sequence["Measurement"], say: Words
) -> "list[tuple[str, Levels, Levels | None]]":
    """Return (name, measured, predicted) of one program's phases, or of several programs as
    wholes."""
    if len(records) > 1:
        return [
            (r.target, r.measured.peak, r.predicted.peak if r.predicted else None) for r in records
        ]
    record = records[0]
    ours = record.predicted.phases if record.predicted else ()
    return [
        (
            say.named("task" if p.name in TASKS else "phase", p.name),
            p.peak,
            ours[i].peak if i < len(ours) else None,
        )
        for i, p in enumerate(record.measured.phases)
    ]


def _group(
    label: str,
    measured: "Levels",
    predicted: "Levels | None",
    words: tuple[Words, scale.ByteUnit],
) -> BarGroup:
    say, unit = words
    bars = [_bar(say("measured"), measured, unit.told(measured.driver), unit)]
    if predicted is not None:
        text = f"{unit.told(predicted.driver)} ({_error(predicted.driver, measured.driver)})"
        bars.append(_bar(say("predicted"), predicted, text, unit))
    return BarGroup(label, tuple(bars))


def _bar(label: str, levels: "Levels", text: str, unit: scale.ByteUnit) -> FigureBar:
    """Return a bar in which each level's segment is what it adds to the level before."""
    below, segments = 0, []
    for i, nbytes in enumerate(levels):
        segments.append(FigureSegment(i, max(0, nbytes - below), unit.number(nbytes - below)))
        below = max(below, nbytes)
    return FigureBar(label, tuple(segments), below, below, text)


def _error(predicted: int, measured: int) -> str:
    return f"{100 * (predicted - measured) / measured:+.1f} %" if measured else "-"


def _table(
    measured_pairs: "Sequence[tuple[str, Levels, Levels | None]]", say: Words, unit: scale.ByteUnit
) -> FigureTable:
    rows = []
    for label, measured, predicted in measured_pairs:
        rows.append((label, say("measured"), *map(unit.exact, measured), ""))
        if predicted is not None:
            error = _error(predicted.driver, measured.driver)
            rows.append((label, say("predicted"), *map(unit.exact, predicted), error))
    head = ("head.what", "head.side", *(f"head.{level}" for level in LEVELS), "head.error")
    return FigureTable(say.each(*head), tuple(rows), 2, say("sizes", unit=unit.name))
