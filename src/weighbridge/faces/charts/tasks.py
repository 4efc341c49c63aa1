"""The chart of loading, training and inference as three bars: from a model's answers, or a script's
peaks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.records import NamedTuple
from weighbridge.base.words import Words, words_in
from weighbridge.engines.table import title
from weighbridge.faces.charts import parts, reports, scale
from weighbridge.faces.charts.figure import (
    BarGroup,
    Bars,
    Figure,
    FigureBar,
    FigureTable,
)
from weighbridge.faces.charts.sides import ENDS, cells, held_in

if TYPE_CHECKING:
    from weighbridge.memory.report import Report

LOADS = "transformers"
TASKS = ("load", "train", "infer")
PARTS = {  # role of a traced tensor -> name of its part
    "weight": "weights",
    "buffer": "weights",
    "gradient": "gradients",
    "optimizer state": "optimizer_states",
    "saved activation": "activations",
    "temporary": "activations",
    "kv cache": "kv_cache",
    "workspace": "workspace",
    "rounding": "allocator",
}


class TaskPeak(NamedTuple):
    """Bytes at a script's fullest moment of one task, in all and by role of tensors, and the most
    that PyTorch reserved."""

    name: str  # one of TASKS
    allocated: int
    reserved: int
    roles: Mapping[str, int]


def _bars(
    known: "Sequence[Report]", labels: Sequence[str], rows: reports.BarSettings, *, marked: bool
) -> Iterator[FigureBar]:
    """Yield a bar for each answer; with `marked`, it shows the sign of its verdict."""
    for answer, label in zip(known, labels, strict=True):
        bar, verdict = held_in(answer, rows, label), answer.verdict
        yield bar._replace(mark=verdict.fits if verdict is not None else "") if marked else bar


def tasks(
    answers: "Mapping[str, Report]",
    refused: Mapping[str, str],
    *,
    unit: str | None = None,
    lang: str = "en",
) -> Figure:
    """Return the figure of the answers about one model, by the name of their question, each in a
    separate process. `refused` has the reasons of questions without an answer."""
    say, known = words_in(lang, "charts"), list(answers.values())
    phases = [r.fullest.binding() for r in known]
    size = scale.unit(max(p.needed.expected for p in phases), unit)
    names = parts.chosen(map(parts.sums, phases))
    rows = reports.BarSettings(say, size, names, parts.series(names, say, parts.otherwise(known)))
    labels = [_question_name(name, r, say) for name, r in answers.items()]
    limit = reports.limit(known[0].verdict, say, size)
    bars = _bars(known, labels, rows, marked=limit is not None)
    group = BarGroup("", tuple(bars), limit)
    reasons = [f"{say(f'question.{name}')}: {why}" for name, why in refused.items()]
    lines = [(label, *cells(r, size)) for r, label in zip(known, labels, strict=True)]
    lines += [(reason, "", "", "", "") for reason in reasons]
    levels = [p.at("allocated").expected for p in phases]
    return Figure(
        title=say("title.tasks", model=known[0].model.name),
        answer=ratio(labels, levels, say),
        notes=(say("thick"), *reasons),
        description=say("described.tasks"),
        plots=(
            Bars(
                (group,),
                rows.series,
                scale.memory(say("axis.card", unit=size.name), reports.furthest([group]), size),
            ),
        ),
        table=FigureTable((say("head.what"), *say.each(*ENDS)), tuple(lines), 1, rows.caption),
        lang=lang,
    )


def _question_name(question: str, report: "Report", say: Words) -> str:
    """Return the name of a question, with the engine if another than LOADS answers."""
    engine, name = report.workload.get("engine"), say(f"question.{question}")
    return name if engine in (None, LOADS) else f"{name} ({title(str(engine))})"


def ratio(names: Sequence[str], levels: Sequence[int], say: Words) -> str:
    """Return a sentence with the tensors' bytes in each task as multiples of the first; "" for a
    single task."""
    if len(levels) < 2 or not levels[0]:
        return ""
    multiples = " : ".join(f"{n / levels[0]:.3g}" for n in levels)
    return say("answer.tasks", names=" : ".join(names), ratio=multiples)


def traced(
    peaks: Sequence[TaskPeak], program: str, gpu: str, *, unit: str | None = None, lang: str = "en"
) -> Figure:
    """Return the figure of the peaks of a script's tasks, in one process."""
    say = words_in(lang, "charts")
    size = scale.unit(max((p.allocated for p in peaks), default=0), unit)
    sums = [_sums_by_part(p) for p in peaks]
    names = parts.chosen(sums)
    series = parts.series(names, say, {})
    labels = [say(f"task.{p.name}") for p in peaks]
    bars = tuple(
        FigureBar(
            label,
            parts.segments(bytes_of, names, series, size),
            p.allocated,
            p.allocated,
            size.told(p.allocated),
            strong=p.allocated == max(each.allocated for each in peaks),
        )
        for label, p, bytes_of in zip(labels, peaks, sums, strict=True)
    )
    group = BarGroup("", bars)
    pytorch = scale.memory(say("axis.pytorch", unit=size.name), reports.furthest([group]), size)
    table = [
        (label, size.exact(p.allocated), size.exact(p.reserved))
        for label, p in zip(labels, peaks, strict=True)
    ]
    head = say.each("head.what", "head.allocated", "head.reserved")
    return Figure(
        title=say("title.tasks", model=program),
        answer=ratio(labels, [p.allocated for p in peaks], say),
        notes=(say("fake.tasks", gpu=gpu),),
        description=say("described.tasks"),
        plots=(Bars((group,), series, pytorch),),
        table=FigureTable(head, tuple(table), 1, say("sizes", unit=size.name)),
        lang=lang,
    )


def _sums_by_part(peak: TaskPeak) -> parts.Sums:
    totals: Counter[str] = Counter()
    for role, nbytes in peak.roles.items():
        totals[PARTS.get(role, "other")] += nbytes
    return totals
