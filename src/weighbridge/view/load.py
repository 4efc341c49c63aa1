"""`load` on a screen: the formats to load it in, and what loading costs beside the device."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from weighbridge.report import Report, Row
from weighbridge.units import human_count
from weighbridge.view.answer import about, mark
from weighbridge.view.changes import few, quality_cell, smallest, unhelped
from weighbridge.view.records import Action, Cell, Column, Grid, Lines, Mark, Note, Section, lines
from weighbridge.view.records import row as cells
from weighbridge.view.shown import FINEST, ShownAnswer, SizeFormat, sizes
from weighbridge.wording import printable

if TYPE_CHECKING:
    from weighbridge.memory import Component, Device, Phase
    from weighbridge.report.verdict import Remedy, Verdict

FORMAT = "quantization"
HALF = "float16"  # shown where what was asked is wider
SHORT = 7  # rows of the short table
# Formats that people ask for most: plain ones, and one of each kind of quantization (assumed)
USUAL = ("float32", "bfloat16", "bnb-int8", "fp8-tensor", "nf4", "awq-4bit-g128", "Q4_K_M")


def title(s: ShownAnswer) -> str:
    facts = s.report.model
    exactly = f"{facts.parameters:,}"
    sparse, whole = facts.active_parameters != facts.parameters, human_count(facts.parameters)
    key = "title.parameters.about" if sparse and not s.full else "title.parameters"
    count = s.say(key, count=whole, exactly=exactly)
    if sparse:
        count += s.say("title.active", count=human_count(facts.active_parameters))
    return " · ".join((printable(facts.name), count, form(s.report)))


def form(report: Report) -> str:
    """The format of the weights."""
    w = report.workload
    return str(w["quantization"] or w["dtype"])


def sections(s: ShownAnswer) -> Iterator[Section]:
    others = _others(s)
    if others is not None:
        yield (others,)
    elif unhelped(s):
        yield (smallest(s),)
    if s.report.table and not s.full:
        yield (_formats(s),)
    yield (_costs(s),)


def assumes(s: ShownAnswer) -> Iterator[str]:
    """Say which engine loads the model, and who says in which format."""
    w = s.report.workload
    yield f"{w['engine']} {w['engine_version'] or ''}".strip()
    yield f"{form(s.report)} {s.say.why(s.report.derived['dtype_from'])}"


def _formats(s: ShownAnswer) -> Grid:
    """The formats that may do instead, or the usual ones; the one that was asked is marked."""
    v = _judged(s.report)
    rows = _rows(s.report)
    instead = v is not None and v.fits != "yes" and len(rows) > 1
    return _table(s, rows, "load.instead" if instead else "load.formats")


def _judged(report: Report) -> "Verdict | None":
    """The verdict on a device; None where none was named."""
    return report.verdict if report.verdict is not None and report.verdict.count else None


def _others(s: ShownAnswer) -> Grid | None:
    """Changes that are no format, where there are some."""
    if not s.report.remedies:
        return None
    from weighbridge.view import changes

    told = [r for r in changes.found(s) if set(r.change) != {FORMAT}]
    return changes.grid(s, told)


def _rows(report: Report) -> list[Row]:
    """The asked format, then those that remedies name, or the usual ones whose weights leave
    room."""
    asked, v = form(report), _judged(report)
    own = [r for r in report.table if r.dtype == asked]
    others = [r for r in report.table if r.dtype != asked]
    named = {r.change.get(FORMAT) for r in report.remedies}
    usual = (*USUAL, HALF) if "float32" in asked else USUAL
    told = [r for r in others if r.dtype in named] or [r for r in others if r.dtype in usual]
    if v is not None:
        told = [r for r in told if r.total_bytes < v.usable_bytes * v.count]
    largest = sorted(told, key=lambda r: -r.total_bytes)
    return [*own, *largest][: SHORT + len(usual) - len(USUAL)]


def brief(s: ShownAnswer) -> Section:
    """The formats in one sentence, where nothing is judged."""
    if s.report.verdict is not None or not s.report.table:
        return ()
    rows = _rows(s.report)
    unit = sizes(max(r.total_bytes for r in rows), s.unit)
    told = " · ".join(f"{r.dtype} {unit.bare(r.total_bytes)}" for r in rows)
    return (Note(s.say("load.brief", formats=told, unit=unit.unit)),)


def _table(s: ShownAnswer, rows: list[Row], heading: str) -> Grid:
    peaks = _answered(s.report)
    asked, v = form(s.report), _judged(s.report)
    most = max((r.total_bytes for r in rows), default=0)
    unit = sizes(most, s.unit)._replace(decimals=FINEST)  # formats of four bits are close together
    known = any(r.quality for r in s.report.table)
    answered = any(r.dtype in peaks for r in rows)  # else the column has what was said above

    def told(r: Row) -> tuple[Cell, ...]:
        sign: Mark | None = None
        on_card, which = "", ""
        if r.dtype == asked:
            sign = None if v is None else mark(v)
            on_card, which = s.sizes.of(s.peak.expected), s.say("load.asked")
        elif r.dtype in peaks:
            then = peaks[r.dtype]
            sign, on_card = then.fits, s.sizes.of((then.per_device or s.peak).expected)
            which = "" if r.quality else few(s.say, then) or printable(then.cost)
        if not which and known and r.basis == "format":
            which = quality_cell(s.say, r.quality)
        own = (unit.of(r.total_bytes), *(_facts(r, unit) if v is None else (on_card,) * answered))
        return cells(r.dtype, *own, which, mark=sign)

    keys = ("head.largest_layer", "head.adam") if v is None else ("head.on_card",) * answered
    columns = (
        Column(s.say("head.format")),
        Column(s.say("head.weights"), right=True),
        *(Column(s.say(key), right=True, rank=v is None) for key in keys),
        Column(s.say("head.quality") if known else "", folds=True, rank=2),
    )
    left = len(s.report.table) - len(rows)
    title = s.say(heading, left=left)
    actions = tuple(None if r.dtype == asked else _chosen(r, peaks) for r in rows)
    return Grid(columns, tuple(told(r) for r in rows), title, actions=actions)


def _chosen(r: Row, peaks: "Mapping[str, Remedy]") -> Action:
    """The setting that loads in that format."""
    if r.dtype in peaks:
        return peaks[r.dtype].change
    return {FORMAT: r.dtype} if r.basis == "format" else {"dtype": r.dtype}


def _answered(report: Report) -> "dict[str, Remedy]":
    """The formats of which the device was asked, and what came of it."""
    single = [(next(iter(r.change.items())), r) for r in report.remedies if len(r.change) == 1]
    return {str(value): r for (name, value), r in single if name in (FORMAT, "dtype")}


def _facts(r: Row, unit: SizeFormat) -> tuple[str, str]:
    adam = r.training_adam_bytes
    return unit.of(r.largest_layer_bytes), "" if adam is None else unit.of(adam)


def _costs(s: ShownAnswer) -> Lines:
    """Download, and memory of the host."""
    return lines(" · ".join(filter(None, (_download(s), ram(s)))))


def _download(s: ShownAnswer) -> str:
    facts = s.report.model
    nbytes = facts.download_bytes or s.report.derived["download_estimate_bytes"]
    if nbytes is None:
        return ""
    if s.unit is not None:
        return s.say("load.download", size=s.size(nbytes))
    decimal = SizeFormat("GB").of(nbytes)
    return s.say("load.download.both", size=s.size(nbytes), decimal=decimal)


def _grows(c: "Component") -> bool:
    """Tell whether a device fills with use: the prompts that a server keeps in RAM."""
    return not c.bytes.expected and c.bytes.high > 0 and not c.droppable


def ram(s: ShownAnswer) -> str:
    """Return the bytes that the host needs, in the phase that needs most."""
    host = next((d for d in s.report.devices if d.kind == "host"), None)
    if host is None or host is s.device:
        return ""
    phase = max(host.phases, key=lambda p: p.needed.high)
    if not phase.needed.high:
        return ""
    grows = sum(c.bytes.high for c in phase.components if _grows(c))
    size = about(
        s,
        sizes(phase.needed.expected, s.unit),
        phase.needed._replace(high=phase.needed.high - grows),
    )
    if grows:
        size = s.say("host.ram.grows", size=size, more=s.size(grows))
    elif _of_processes(s.report.devices, phase):
        size = s.say("host.ram.processes", size=size)
    when = s.say(WHEN.get(phase.name, "when.serving"))
    half = None if s.report.verdict is None else s.report.verdict.host
    if half is None or half.available is None:
        return s.say("host.ram", when=when, size=size)
    return s.say("host.ram.of", when=when, size=size, has=s.size(half.available))


def _of_processes(devices: "Sequence[Device]", phase: "Phase") -> bool:
    """Tell whether most of the width is a guess of what processes of Python take."""
    width = phase.needed.high - phase.needed.low
    theirs = sum(c.bytes.high - c.bytes.low for c in phase.components if c.detail == "processes")
    return sum(d.kind == "gpu" for d in devices) > 1 and 2 * theirs > width


WHEN: Mapping[str, str] = {
    "load": "when.load",
    "save": "when.save",
    **dict.fromkeys(("forward", "loss", "backward", "step", "evaluation"), "when.step"),
    "prefill": "when.serving",
    "decode": "when.serving",
}
