"""The chart of an answer of `fit`: a bar per question, and one for the first change that makes it
fit."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import exactly
from weighbridge.base.wording import several
from weighbridge.base.words import Words, words_in
from weighbridge.engines.table import title
from weighbridge.faces.charts import parts, reports, scale
from weighbridge.faces.charts.figure import (
    MOST,
    BarGroup,
    Bars,
    Figure,
    FigureBar,
    FigureSegment,
    FigureTable,
    Limit,
    Series,
)
from weighbridge.faces.charts.palette import CHANGED
from weighbridge.faces.charts.sides import ENDS, cells, held_in, peak
from weighbridge.workload.flags import flags

if TYPE_CHECKING:
    from weighbridge.base.memory import Bytes
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit, Question
    from weighbridge.memory.report.verdict import Answer

CUT = 4  # multiple of the card's memory at which bars are cut


def fits(fit: "Fit", *, unit: str | None = None, lang: str = "en") -> Figure:
    """Return the figure of an answer of `fit`; questions without an answer are only in the figure's
    table."""
    say, card = words_in(lang, "charts"), fit.accelerator
    known = [q.report for q in fit.questions if q.report is not None]
    size = scale.unit(max([card.free, *(peak(r).expected for r in known)]), unit)
    rows = _bar_settings(known, CUT * card.free, (say, size))
    limit = Limit(card.free, card.free, say("usable", size=size.told(card.free)))
    group = BarGroup("", tuple(_question_bars(fit, rows)), limit)
    far = min(reports.furthest([group]), CUT * card.free) or 1
    axis = scale.memory(say("axis.card", unit=size.name), far, size)
    name = several(card.count, card.name)
    return Figure(
        title=say("title.fit", model=fit.model.name, card=name),
        answer=_answer_sentence(fit, say),
        notes=(say("thick"),),
        description=say("described.fit", card=name),
        plots=(Bars((group,), _drawn_series(group, rows), axis),),
        table=_table(fit.questions, rows),
        lang=lang,
    )


def _answer_sentence(fit: "Fit", say: Words) -> str:
    """Return a sentence on whether the model fits, and in which format if `fit` chose one."""
    rung, here = fit.plan.rung, fit.plan.why in ("whole", "divided")
    what = say(f"question.{fit.about}")
    if rung is not None and here:
        what = say("answer.fit.with", what=what, form=rung.format, engine=title(rung.engine))
    return say("answer.fit", what=what, fits=say(fit.fits))


def _bar_settings(
    answers: "Sequence[Report]", most: float, words: tuple[Words, scale.ByteUnit]
) -> reports.BarSettings:
    """Return the settings of bars that are drawn up to `most` bytes."""
    say, unit = words
    seen = (_scaled_sums(parts.sums(r.fullest.binding()), most) for r in answers)
    names = parts.chosen(seen, MOST - 1)
    series = parts.series(names, say, parts.otherwise(answers))
    return reports.BarSettings(say, unit, names, series)


def _drawn_series(group: BarGroup, rows: reports.BarSettings) -> tuple[Series, ...]:
    """Return the series of the bars, with the series of a change if one is drawn."""
    changed = Series(rows.say("changed"), CHANGED)
    last = len(rows.series)
    there = any(s.series == last for b in group.bars for s in b.segments)
    return (*rows.series, changed) if there else rows.series


def _scaled_sums(sums: parts.Sums, most: float) -> parts.Sums:
    """Return `sums` scaled down to `most` bytes if the bar is cut there: its parts would hide those
    of other bars."""
    whole = sums.total()
    return parts.Sums(
        {n: round(v * min(1, most / whole)) for n, v in sums.items()} if whole else {}
    )


def _question_bars(fit: "Fit", rows: reports.BarSettings) -> Iterator[FigureBar]:
    for q in fit.questions:
        if q.report is None:
            continue
        name = rows.say(f"question.{q.name}")
        yield held_in(q.report, rows, name)._replace(strong=True, mark=q.fits)
        if q is fit.asked and fit.plan.rung is not None and fit.plan.settings:
            rung = fit.plan.rung
            yield _changed_bar(
                flags(fit.plan.settings, ""), rung.verdict.per_device, rung.fits, rows
            )
            continue
        first = next((r for r in q.remedies if r.fits == "yes"), None)
        if first is not None and q.fits != "yes":
            needs = first.per_device or exactly(first.peak_bytes)
            yield _changed_bar(first.flags, needs, "yes", rows)


def _changed_bar(
    settings: str, needs: "Bytes", fits: "Answer", rows: reports.BarSettings
) -> FigureBar:
    """Return the bar of the bytes that a question needs with other settings."""
    segment = FigureSegment(len(rows.series), needs.expected, rows.say("changed"))
    label = rows.unit.told(needs.expected)
    return FigureBar(settings, (segment,), needs.low, needs.high, label, mark=fits)


def _table(questions: "Sequence[Question]", rows: reports.BarSettings) -> FigureTable:
    say = rows.say
    lines: list[tuple[str, ...]] = []
    for q in questions:
        name = say(f"question.{q.name}")
        if q.report is None:
            lines.append((name, q.reason, "", "", "", ""))
            continue
        lines.append((name, say(q.fits), *cells(q.report, rows.unit)))
        lines += [
            (f"{name}, {r.flags}", say(r.fits), rows.unit.exact(r.peak_bytes), "", "", "")
            for r in q.remedies
        ]
    return FigureTable(
        (say("head.what"), say("head.fits"), *say.each(*ENDS)), tuple(lines), 2, rows.caption
    )
