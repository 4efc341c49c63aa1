"""The chart of several reports: memory as a line over a growing setting, or a bar per report."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes
from weighbridge.base.words import Words, words_in
from weighbridge.faces.charts import parts, reports, scale
from weighbridge.faces.charts.figure import (
    BarGroup,
    Bars,
    Curve,
    CurvePoint,
    Figure,
    FigureBar,
    FigureTable,
    Limit,
    LinePlot,
    Series,
)

if TYPE_CHECKING:
    from weighbridge.memory.report import Report

# Settings along which memory may be drawn; the first that differs is used
_ALONG = """
context prompt_len seq_len batch_size max_num_seqs max_num_batched_tokens parallel images lora_r
n_gpu_layers n_cpu_moe tensor_parallel_size
"""
ALONG = tuple(_ALONG.split())
APART = ("quantization", "dtype", "kv_cache_dtype", "gpu", "gpu_memory", "engine", "method")
CURVES = 6
ENDS = ("head.total", "head.low", "head.high", "head.usable")


def sides(answers: Sequence["Report"], *, unit: str | None = None, lang: str = "en") -> Figure:
    """Return the figure of reports side by side, or along the numeric setting in which they
    differ."""
    if len(answers) == 1:
        return reports.bars(answers[0], unit=unit, lang=lang)
    say, size = words_in(lang, "charts"), scale.unit(max(peak(r).expected for r in answers), unit)
    along = _growing_setting(answers)
    if along is None:
        return _bar_figure(answers, say, size)
    return _line_figure(answers, along, say, size)


def peak(report: "Report") -> Bytes:
    """Return the bytes of the fullest device; its share if an engine splits the layers."""
    v = report.verdict
    return v.per_device if v is not None and v.count else report.peak


def _values(reports: Sequence["Report"], name: str) -> list[object]:
    return [r.setting(name) for r in reports]


def _growing_setting(reports: Sequence["Report"]) -> str | None:
    """Return the name of the first numeric setting of which each line has several values, none
    twice; None without one."""
    for name in ALONG:
        values = _values(reports, name)
        if len(set(values)) < 2 or not all(isinstance(v, int) for v in values):
            continue
        lines = _reports_by_line(reports, name)
        several = all(len(rs) > 1 for rs in lines.values())
        if (
            several
            and len(lines) <= CURVES
            and all(len(set(_values(rs, name))) == len(rs) for rs in lines.values())
        ):
            return name
    return None


def _reports_by_line(reports: Sequence["Report"], along: str) -> dict[Hashable, list["Report"]]:
    """Return label -> reports that differ only in the setting `along`: each group is a line of the
    plot."""
    lines: dict[Hashable, list[Report]] = {}
    for report in reports:
        lines.setdefault(_difference_label(report, reports, skip=along), []).append(report)
    return lines


def _difference_label(report: "Report", reports: Sequence["Report"], *, skip: str = "") -> str:
    """Return the values that tell a report apart from the others, as text."""
    words = []
    if len({r.model.name for r in reports}) > 1:
        words.append(report.model.name)
    words += [
        _value_text(name, report)
        for name in (*APART, *ALONG)
        if name != skip and name in report.workload and len(set(_values(reports, name))) > 1
    ]
    return ", ".join(dict.fromkeys(words))


def _value_text(name: str, report: "Report") -> str:
    value = report.setting(name)
    if name == "gpu" and report.verdict is not None:
        v = report.verdict
        return v.cards
    if isinstance(value, int):
        return f"{name.replace('_', '-')} {value:,}"
    return str(value if value is not None else report.workload.get("dtype"))


def _models(reports: Sequence["Report"]) -> str:
    return ", ".join(dict.fromkeys(r.model.name for r in reports))


def _line_figure(
    reports: Sequence["Report"], along: str, say: Words, unit: scale.ByteUnit
) -> Figure:
    what = say.named("along", along)
    lines = _reports_by_line(reports, along)
    curves = []
    for i, (label, some) in enumerate(lines.items()):
        ordered = sorted(some, key=lambda r: r.setting(along))
        curves.append(Curve(Series(str(label), i), tuple(_point(r, along, unit) for r in ordered)))
    limits = tuple(dict.fromkeys(x for r in reports if (x := _limit_line(r, reports, say, unit))))
    most = max(p.high for c in curves for p in c.points)
    high = max([most, *(x.high for x in limits)]) * (1.06 if limits else 1)
    plot = LinePlot(
        tuple(curves),
        scale.given(what, (r.setting(along) for r in reports)),
        scale.memory(say("axis.card", unit=unit.name), high, unit),
        limits,
    )
    return Figure(
        title=say("title.versus", what=what, model=_models(reports)),
        answer=_fitting_sentence(lines, along, say),
        notes=(say("bands" if limits else "bands.alone"),),
        description=say("described.lines", what=what),
        plots=(plot,),
        table=_points_table(lines, along, say, unit),
        lang=say.lang,
    )


def _cards(reports: Sequence["Report"]) -> list[str]:
    known = (r.verdict for r in reports)
    return list(dict.fromkeys(v.accelerator for v in known if v is not None and v.count))


def _fitting_sentence(lines: dict[Hashable, list["Report"]], along: str, say: Words) -> str:
    """Return a sentence with the largest value at which each line surely fits; "" without a
    verdict."""
    sentences = []
    for label, some in lines.items():
        if any(r.verdict is None for r in some):
            return ""
        fits = [r.setting(along) for r in some if r.verdict is not None and r.verdict.fits == "yes"]
        name = str(label) or some[0].model.name
        key = "fits.to" if fits else "fits.none"
        sentences.append(say(key, name=name, value=f"{max(fits):,}" if fits else ""))
    cards = [c for r in lines.values() for c in _cards(r)]
    return "; ".join(sentences) + f" ({', '.join(dict.fromkeys(cards))})"


def _point(report: "Report", along: str, unit: scale.ByteUnit) -> CurvePoint:
    b = peak(report)
    return CurvePoint(report.setting(along), b.low, b.expected, b.high, unit.number(b.expected))


def _limit_line(
    report: "Report", answers: Sequence["Report"], say: Words, unit: scale.ByteUnit
) -> Limit | None:
    """Return the line of a report's limit, with the card's name if there are several cards; None
    without a card."""
    known = reports.limit(report.verdict, say, unit)
    if known is None or report.verdict is None:
        return None
    cards = {r.verdict.accelerator for r in answers if r.verdict is not None}
    if len(cards) < 2:
        return known
    return known._replace(label=f"{report.verdict.accelerator}: {known.label}")


def _points_table(
    lines: dict[Hashable, list["Report"]], along: str, say: Words, unit: scale.ByteUnit
) -> FigureTable:
    ends = say.each(*ENDS)
    rows = (
        (str(label), f"{r.setting(along):,}", *cells(r, unit))
        for label, some in lines.items()
        for r in sorted(some, key=lambda r: int(r.setting(along)))
    )
    return FigureTable(
        (say("head.what"), along.replace("_", "-"), *ends),
        tuple(rows),
        1,
        say("sizes", unit=unit.name),
    )


def cells(report: "Report", unit: scale.ByteUnit) -> tuple[str, ...]:
    b, v = peak(report), report.verdict
    usable = unit.exact(v.usable_bytes) if v is not None and v.count else ""
    return (unit.exact(b.expected), unit.exact(b.low), unit.exact(b.high), usable)


def _bar_figure(answers: Sequence["Report"], say: Words, unit: scale.ByteUnit) -> Figure:
    """Return the figure of each report's peak in parts; reports on one card share a line of
    memory."""
    phases = [r.fullest.binding() for r in answers]
    names = parts.chosen(map(parts.sums, phases))
    rows = reports.BarSettings(say, unit, names, parts.series(names, say, parts.otherwise(answers)))
    shown = answers[: reports.ROWS]
    together: dict[Limit | None, list[FigureBar]] = {}
    for report in shown:
        limit = _limit_line(report, answers, say, unit)
        together.setdefault(limit, []).append(
            held_in(report, rows, _difference_label(report, answers))
        )
    groups = tuple(BarGroup("", tuple(some), limit) for limit, some in together.items())
    left = len(answers) - len(shown)
    axis = scale.memory(say("axis.card", unit=unit.name), reports.furthest(groups), unit)
    return Figure(
        title=say("title.beside", model=_models(answers)),
        answer=", ".join(_cards(answers)),
        notes=(say("thick"),),
        description=say("described.rows"),
        plots=(Bars(groups, rows.series, axis, f"+ {left}" if left else ""),),
        table=FigureTable(
            (say("head.what"), *say.each(*ENDS)),
            tuple((_difference_label(r, answers), *cells(r, unit)) for r in answers),
            1,
            rows.caption,
        ),
        lang=say.lang,
    )


def held_in(report: "Report", rows: reports.BarSettings, label: str) -> FigureBar:
    """Return the bar of the fullest phase in parts; in one part if a device holds only a share of
    them."""
    phase = report.fullest.binding()
    row = reports.bar(phase, rows, label, strong=False)
    whole = peak(report)
    if whole.expected != phase.at("driver").expected:
        share = row.segments[-1]._replace(
            series=len(rows.series) - 1, value=whole.expected, told=rows.say("share")
        )
        row = row._replace(segments=(share,))
    sentence = reports.span(whole, rows.say, rows.unit)
    return row._replace(low=whole.low, high=whole.high, told=sentence)
