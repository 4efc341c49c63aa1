"""The screen of `load`: the formats to load a model in, and the download and host memory of
loading."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.units import human_count
from weighbridge.base.wording import printable
from weighbridge.faces.view.answer import about, mark
from weighbridge.faces.view.changes import few, quality_cell, smallest, unhelped
from weighbridge.faces.view.records import (
    Action,
    Cell,
    Column,
    Grid,
    Lines,
    Mark,
    Note,
    Section,
    lines,
)
from weighbridge.faces.view.records import row as cells
from weighbridge.faces.view.shown import FINEST, ShownAnswer, SizeFormat, sizes
from weighbridge.memory.report import Report, Row

if TYPE_CHECKING:
    from weighbridge.base.memory import Device, Instant
    from weighbridge.memory.report.verdict import Remedy, Verdict

FORMAT = "quantization"
HALF = "float16"  # listed as well if the chosen format is float32
SHORT = 7  # most rows of the short table
# Formats that people ask for most: plain ones, and one of each kind of quantization (assumed)
USUAL = ("float32", "bfloat16", "bnb-int8", "fp8-tensor", "nf4", "awq-4bit-g128", "Q4_K_M")


def title(answer: ShownAnswer) -> str:
    facts = answer.report.model
    exactly = f"{facts.parameters:,}"
    sparse, whole = facts.active_parameters != facts.parameters, human_count(facts.parameters)
    key = "title.parameters.about" if sparse and not answer.full else "title.parameters"
    count = answer.say(key, count=whole, exactly=exactly)
    if sparse:
        count += answer.say("title.active", count=human_count(facts.active_parameters))
    return " · ".join((printable(facts.name), count, form(answer.report)))


def form(report: Report) -> str:
    """Return the format that weights are loaded in: its name, or the dtype without quantization."""
    w = report.workload
    return str(w["quantization"] or w["dtype"])


def sections(answer: ShownAnswer) -> Iterator[Section]:
    others = _other_changes(answer)
    if others is not None:
        yield (others,)
    elif unhelped(answer):
        yield (smallest(answer),)
    if answer.report.table and not answer.full:
        yield (_formats(answer),)
    yield (_cost_line(answer),)


def assumes(answer: ShownAnswer) -> Iterator[str]:
    """Yield the engine that loads the model, and the format with the reason why it was chosen."""
    w = answer.report.workload
    yield f"{w['engine']} {w['engine_version'] or ''}".strip()
    yield f"{form(answer.report)} {answer.say.why(answer.report.derived['dtype_from'])}"


def _formats(answer: ShownAnswer) -> Grid:
    """Return a table of formats that may fit instead, or of usual ones; the row of the chosen
    format is marked."""
    v = _device_verdict(answer.report)
    rows = _shown_rows(answer.report)
    instead = v is not None and v.fits != "yes" and len(rows) > 1
    return _table(answer, rows, "load.instead" if instead else "load.formats")


def _device_verdict(report: Report) -> "Verdict | None":
    """Return the verdict on a device; None if the user named no device."""
    return report.verdict if report.verdict is not None and report.verdict.count else None


def _other_changes(answer: ShownAnswer) -> Grid | None:
    """Return a table of the changes other than another format; None if there are no changes."""
    if not answer.report.remedies:
        return None
    from weighbridge.faces.view import changes

    remedies = [r for r in changes.found(answer) if set(r.change) != {FORMAT}]
    return changes.grid(answer, remedies)


def _shown_rows(report: Report) -> list[Row]:
    """Return the row of the chosen format, then those of remedies, or usual formats whose weights
    leave room."""
    asked, v = form(report), _device_verdict(report)
    asked_rows = [r for r in report.table if r.dtype == asked]
    others = [r for r in report.table if r.dtype != asked]
    named = {r.change.get(FORMAT) for r in report.remedies}
    usual = (*USUAL, HALF) if "float32" in asked else USUAL
    usual_rows = [r for r in others if r.dtype in named] or [r for r in others if r.dtype in usual]
    if v is not None:
        usual_rows = [r for r in usual_rows if r.total_bytes < v.usable_bytes * v.count]
    largest = sorted(usual_rows, key=lambda r: -r.total_bytes)
    return [*asked_rows, *largest][: SHORT + len(usual) - len(USUAL)]


def brief(answer: ShownAnswer) -> Section:
    """Return a note with the sizes of a few formats in one sentence; () if there is a verdict."""
    if answer.report.verdict is not None or not answer.report.table:
        return ()
    rows = _shown_rows(answer.report)
    unit = sizes(max(r.total_bytes for r in rows), answer.unit)
    sizes_told = " · ".join(f"{r.dtype} {unit.bare(r.total_bytes)}" for r in rows)
    return (Note(answer.say("load.brief", formats=sizes_told, unit=unit.unit)),)


def _table(answer: ShownAnswer, rows: list[Row], heading: str) -> Grid:
    peaks = _format_remedies(answer.report)
    asked_form, v = form(answer.report), _device_verdict(answer.report)
    most = max((r.total_bytes for r in rows), default=0)
    unit = sizes(most, answer.unit)._replace(
        decimals=FINEST
    )  # sizes of 4-bit formats differ little
    known = any(r.quality for r in answer.report.table)
    answered = any(
        r.dtype in peaks for r in rows
    )  # without other answers the column repeats the headline

    def told(row: Row) -> tuple[Cell, ...]:
        sign: Mark | None = None
        on_card, which = "", ""
        if row.dtype == asked_form:
            sign = None if v is None else mark(v)
            on_card, which = answer.sizes.of(answer.peak.expected), answer.say("load.asked")
        elif row.dtype in peaks:
            then = peaks[row.dtype]
            sign, on_card = then.fits, answer.sizes.of((then.per_device or answer.peak).expected)
            which = "" if row.quality else few(answer.say, then) or printable(then.cost)
        if not which and known and row.basis == "format":
            which = quality_cell(answer.say, row.quality)
        total = (
            unit.of(row.total_bytes),
            *(_layer_and_adam(row, unit) if v is None else (on_card,) * answered),
        )
        return cells(row.dtype, *total, which, mark=sign)

    keys = ("head.largest_layer", "head.adam") if v is None else ("head.on_card",) * answered
    columns = (
        Column(answer.say("head.format")),
        Column(answer.say("head.weights"), right=True),
        *(Column(answer.say(key), right=True, rank=v is None) for key in keys),
        Column(answer.say("head.quality") if known else "", folds=True, rank=2),
    )
    left = len(answer.report.table) - len(rows)
    title = answer.say(heading, left=left)
    actions = tuple(None if r.dtype == asked_form else _row_action(r, peaks) for r in rows)
    return Grid(columns, tuple(told(r) for r in rows), title, actions=actions)


def _row_action(row: Row, peaks: "Mapping[str, Remedy]") -> Action:
    """Return the setting that a click on a row sets, to load in that format."""
    if row.dtype in peaks:
        return peaks[row.dtype].change
    return {FORMAT: row.dtype} if row.basis == "format" else {"dtype": row.dtype}


def _format_remedies(report: Report) -> "dict[str, Remedy]":
    """Return format or dtype -> remedy, for the remedies that change only that."""
    single = [(next(iter(r.change.items())), r) for r in report.remedies if len(r.change) == 1]
    return {str(value): r for (name, value), r in single if name in (FORMAT, "dtype")}


def _layer_and_adam(row: Row, unit: SizeFormat) -> tuple[str, str]:
    adam = row.training_adam_bytes
    return unit.of(row.largest_layer_bytes), "" if adam is None else unit.of(adam)


def _cost_line(answer: ShownAnswer) -> Lines:
    """Return a line with the bytes of the download, and of host memory during loading."""
    return lines(" · ".join(filter(None, (_download(answer), ram(answer)))))


def _download(answer: ShownAnswer) -> str:
    facts = answer.report.model
    nbytes = facts.download_bytes or answer.report.derived["download_estimate_bytes"]
    if nbytes is None:
        return ""
    if answer.unit is not None:
        return answer.say("load.download", size=answer.size(nbytes))
    decimal = SizeFormat("GB").of(nbytes)
    return answer.say("load.download.both", size=answer.size(nbytes), decimal=decimal)


def ram(answer: ShownAnswer) -> str:
    """Return a sentence on the host memory of the phase that needs most; "" if it needs none or the
    host is the device of the answer."""
    host = next((d for d in answer.report.devices if d.kind == "host"), None)
    if host is None or host is answer.device:
        return ""
    phase = max(host.phases, key=lambda p: p.needed.high)
    if not phase.needed.high:
        return ""
    grows = sum(c.bytes.high for c in phase.components if c.growing)
    size = about(
        answer,
        sizes(phase.needed.expected, answer.unit),
        phase.needed._replace(high=phase.needed.high - grows),
    )
    if grows:
        size = answer.say("host.ram.grows", size=size, more=answer.size(grows))
    elif _is_mostly_processes(answer.report.devices, phase):
        size = answer.say("host.ram.processes", size=size)
    when = answer.say(WHEN.get(phase.name, "when.serving"))
    half = None if answer.report.verdict is None else answer.report.verdict.host
    if half is None or half.available is None:
        return answer.say("host.ram", when=when, size=size)
    has = answer.size(half.available)
    if half.shared:
        whole = answer.size(half.needed.expected)
        line = answer.say("host.ram.shared", when=when, size=size, whole=whole, has=has)
        return answer.say("host.ram.swapped", line=line) if half.swapped else line
    return answer.say("host.ram.of", when=when, size=size, has=has)


def _is_mostly_processes(devices: "Sequence[Device]", phase: "Instant") -> bool:
    """Return whether most of the interval's width is the guess for Python processes."""
    width = phase.needed.high - phase.needed.low
    theirs = sum(c.bytes.high - c.bytes.low for c in phase.components if c.detail == "processes")
    return sum(d.kind == "gpu" for d in devices) > 1 and 2 * theirs > width


WHEN: Mapping[str, str] = {
    "load": "when.load",
    "save": "when.save",
    "sleep": "when.sleep",
    "engine-writes": "when.engine-writes",
    "trainer-trains": "when.trainer-trains",
    **dict.fromkeys(("forward", "loss", "backward", "step", "evaluation"), "when.step"),
    "prefill": "when.serving",
    "decode": "when.serving",
}
