"""A trace's report for people and programs: the peaks, what makes them, the verdict."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.units import human as size
from weighbridge.base.wording import printable, safe_markdown
from weighbridge.base.words import Words, words_in
from weighbridge.faces.render import draw
from weighbridge.faces.render.data import json_text
from weighbridge.faces.render.terminal import cells
from weighbridge.faces.view.records import RenderOptions
from weighbridge_lab.trace.report import where
from weighbridge_lab.trace.screen import screen, why

if TYPE_CHECKING:
    from weighbridge_lab.trace.differences import RunComparison, StepRise
    from weighbridge_lab.trace.report import (
        DeviceTrace,
        Refusal,
        TracedProgram,
        TraceMoment,
        TraceReport,
    )
    from weighbridge_lab.trace.trainers import TrainingAdvice

LARGEST = 10  # rows of tensors
ENDED = {
    "finished": sentence("trace.ended.finished"),
    "interrupted": sentence("trace.ended.interrupted"),
    "time is up": sentence("trace.ended.time_is_up"),
    "out of memory": sentence("trace.ended.out_of_memory"),
}
FITS = {"yes": "fits", "no": "does not fit", "unknown": "cannot say"}


class TextTable(NamedTuple):
    """A table as text. Column 0 and those in `words` hold words. `which` follows the title."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    words: tuple[int, ...] = (0,)
    which: str = ""


def render(
    report: "TraceReport",
    form: str,
    *,
    unit: str | None = None,
    look: RenderOptions = RenderOptions(),  # noqa: B008
) -> str:
    if form == "human":
        top = draw(screen(report, unit=unit, lang=look.lang), form, look)
        return f"{top}{human(report, unit, look.lang)}"
    return RENDERERS[form](report, unit)


def human(report: "TraceReport", unit: str | None = None, lang: str = "en") -> str:
    words = words_in(lang)
    lines = [*map(words.told, _facts(report)), ""]
    for table in _tables(report, unit):
        lines += [*_columns(table, words), ""]
    return "\n".join([*lines, *map(words.told, _closing(report, unit))]).rstrip() + "\n"


def markdown(report: "TraceReport", unit: str | None = None) -> str:
    first, *facts = map(printable, _facts(report))
    verdict = [f"**{safe_markdown(line)}**" for line in _verdict(report, unit)]
    lines = [*verdict, "", f"**{safe_markdown(first)}**", ""]
    lines += [*(f"{safe_markdown(line)}  " for line in facts), ""]
    for table in _tables(report, unit):
        lines += [*_markdown(table), ""]
    closing = (
        f"- {safe_markdown(printable(line))}"
        for line in (*_closing(report, unit), *_warnings(report))
    )
    return "\n".join([*lines, *closing]).rstrip() + "\n"


def as_json(report: "TraceReport", _: str | None = None) -> str:
    return json_text(report.to_dict())


def remarks(report: "TraceReport", lang: str) -> str:
    """Return why a peak is not the whole run's, to be printed next to it; "" if it is."""
    reason = why(report, words_in(lang))
    whole = report.used and report.program.ended and report.program.ending != "out of memory"
    return "" if whole else reason


def quiet(report: "TraceReport", _: str | None = None) -> str:
    return f"{report.peak.expected}\n"


def _facts(report: "TraceReport") -> Iterator[str]:
    program, gpu = report.program, report.gpu
    name = program.script if program.function is None else f"{program.script}:{program.function}"
    cards = gpu.name if gpu.count == 1 else f"{gpu.count} x {gpu.name}"
    yield sentence("trace.traced", program=" ".join([name, *program.arguments]))
    memory = size(gpu.memory) if gpu.limited else sentence("trace.no_end")
    rules = sentence("trace.rules", torch=report.torch_version, rules=report.rules)
    yield sentence("trace.on_fake", cards=cards, memory=memory, rules=rules)
    yield sentence(
        "trace.after", ending=_ending(program), count=sum(d.allocations for d in report.devices)
    )


def _ending(program: "TracedProgram") -> str:
    if program.went_on == "finished":
        return sentence("trace.ended.larger")
    if program.ending == "exit":
        return sentence("trace.ended.exit", code=program.exit_code)
    if program.ending == "exception":
        return sentence("trace.ended.exception", error=program.error)
    return ENDED[program.ending]


def _tables(report: "TraceReport", unit: str | None) -> Iterator[TextTable]:
    for device in report.devices:
        if device.allocations or len(report.devices) == 1:
            yield from _device_tables(device, unit, alone=len(report.devices) == 1)
    if report.advice is not None:
        yield _advised(report.advice, unit)
    if report.against is not None:
        yield _compared(report.against, unit)
    if report.looks:
        rows = [
            (
                printable(k.place),
                f"{k.times:,}",
                k.told + " (assumed)" * k.assumed,
                printable(k.code),
            )
            for k in report.looks[:LARGEST]
        ]
        yield TextTable("values looked at", ("place", "times", "told", "line"), rows, (0, 2, 3))


def _advised(advice: "TrainingAdvice", unit: str | None) -> TextTable:
    rows = [
        (printable(c.flags), FITS[c.fits], size(c.peak_bytes, unit), printable(c.cost))
        for c in advice.changes
    ]
    return TextTable(
        "what would help", ("change", "verdict", "needs", "what it costs"), rows, (0, 1, 3)
    )


def _compared(comparison: "RunComparison", unit: str | None) -> TextTable:
    rows = [("allocated", *_sizes(comparison.before, comparison.after, unit), "", "")]
    rows += [
        (c.role, *_sizes(c.before, c.after, unit), printable(c.module), printable(c.line))
        for c in comparison.changes[:LARGEST]
    ]
    head = ("role", "before", "now", "more", "module", "line")
    return TextTable("against", head, rows, (0, 4, 5), f" {printable(comparison.file)}")


def _sizes(before: int, after: int, unit: str | None) -> tuple[str, str, str]:
    sign = "-" if after < before else "+"
    return size(before, unit), size(after, unit), sign + size(abs(after - before), unit)


def _device_tables(device: "DeviceTrace", unit: str | None, *, alone: bool) -> Iterator[TextTable]:
    which = "" if alone else f" of cuda:{device.index}"
    yield TextTable("peaks", ("level", "bytes", "when"), list(_peaks(device, unit)), (0, 2), which)
    if len(device.phases) > 1:
        peaks = [(p.name, size(p.allocated, unit), size(p.reserved, unit)) for p in device.phases]
        yield TextTable("phases", ("phase", "allocated", "reserved"), peaks, which=which)
    top: TraceMoment | Refusal = device.allocated
    what = "at the peak of allocated memory"
    if device.refusals and device.refusals[-1].allocated >= top.allocated:
        top, what = device.refusals[-1], "when it was refused"
    if top.roles:
        rows = [(role, size(nbytes, unit)) for role, nbytes in top.roles.items()]
        rows.append(("= allocated", size(top.allocated, unit)))
        yield TextTable(what, ("role", "bytes"), rows, which=which)
        yield TextTable(
            "its largest tensors",
            ("role", "bytes", "how many", "module", "made by", "line"),
            list(_largest(top, unit)),
            (0, 3, 4, 5),
        )


def _peaks(device: "DeviceTrace", unit: str | None) -> Iterator[tuple[str, ...]]:
    for name, moment in (("allocated", device.allocated), ("reserved", device.reserved)):
        yield name, size(getattr(moment, name), unit), _when(moment)
    yield "driver", span(device.driver, unit), "with the context"


def _when(moment: "TraceMoment") -> str:
    return printable(where(moment.phase, moment.module, moment.op))


def _largest(moment: "TraceMoment | Refusal", unit: str | None) -> Iterator[tuple[str, ...]]:
    for tensors in moment.tensors[:LARGEST]:
        origin = f"{tensors.op} in {tensors.phase}" if tensors.op else tensors.phase
        names = map(printable, (tensors.module, origin, tensors.line))
        yield tensors.role, size(tensors.nbytes, unit), f"{tensors.count:,}", *names
    smaller = moment.tensors[LARGEST:]
    if smaller:
        count, nbytes = (
            sum(tensors.count for tensors in smaller),
            sum(tensors.nbytes for tensors in smaller),
        )
        yield "others", size(nbytes, unit), f"{count:,}", "", "", ""


def _closing(report: "TraceReport", unit: str | None) -> Iterator[str]:
    """Yield lines on steps that rose above those before, on refused requests, and on where to get
    advice."""
    for device in report.devices:
        for rise in device.rises[:LARGEST]:
            yield _rise(rise, unit)
        for r in device.refusals:
            place = where(r.phase, r.module, r.op) + f" at {r.place}" * bool(r.place)
            yield sentence(
                "trace.refused", size=size(r.requested, unit), place=place, message=r.message
            )
    if report.advice is not None:
        needs = span(report.advice.needs, unit)
        command = f"weighbridge train {report.advice.flags}"
        yield sentence("trace.answered_by", command=command, needs=needs)


def _rise(rise: "StepRise", unit: str | None) -> str:
    """Return a line on why a step's peak rose: "step 2 peaks 8.00 GiB above those before: optimizer
    state +8.00 GiB (train.py:8)"."""
    sums: Counter[tuple[str, str]] = Counter()
    for c in rise.because:
        sums[c.role, c.line] += c.after - c.before
    why = ", ".join(
        f"{role} +{size(more, unit)}" + f" ({line})" * bool(line)
        for (role, line), more in sums.most_common()
    )
    above = size(rise.allocated - rise.before, unit)
    return sentence("trace.rise", step=rise.step, above=above, why=why)


def span(interval: Bytes, unit: str | None) -> str:
    """Return one size if it is exact, else the expected one and its bounds."""
    text = size(interval.expected, unit)
    if interval.exact:
        return text
    return f"{text} ({size(interval.low, unit)} to {size(interval.high, unit)})"


def _verdict(report: "TraceReport", unit: str | None) -> Iterator[str]:
    verdict = report.verdict
    if verdict is not None:
        margin = verdict.margin_bytes
        left = f"{size(abs(margin), unit)} {'to spare' if margin >= 0 else 'short'}"
        known = report.used and report.program.ended
        line = f"{left} by the expected estimate; {verdict.reason}" if known else verdict.reason
        yield f"{FITS[verdict.fits]}: {printable(line)}"


def _warnings(report: "TraceReport") -> Iterable[str]:
    return (f"warning: {printable(line)}" for line in report.warnings)


def _columns(table: TextTable, words: Words) -> Iterator[str]:
    title, *head = (words(f"trace.table.{_key(cell)}") for cell in (table.title, *table.head[1:]))
    lines = [(title + table.which, *head), *table.rows]
    widths = [max(cells(line[i]) for line in lines) for i in range(len(table.head))]
    for line in lines:
        padded = (
            cell + " " * (w - cells(cell)) if i in table.words else " " * (w - cells(cell)) + cell
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(padded).rstrip()


def _key(cell: str) -> str:
    return cell.replace(" ", "_")


def _markdown(table: TextTable) -> Iterator[str]:
    yield f"| {' | '.join((table.title + table.which, *table.head[1:]))} |"
    rules = ("---" if i in table.words else "---:" for i in range(len(table.head)))
    yield f"| {' | '.join(rules)} |"
    yield from (_row(row) for row in table.rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(safe_markdown, cells)) + " |"


RENDERERS: dict[str, Callable[["TraceReport", str | None], str]] = {
    "human": human,
    "markdown": markdown,
    "json": as_json,
    "quiet": quiet,
}
