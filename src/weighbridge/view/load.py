"""`load` on a screen: the formats to load it in, and what loading costs beside the device."""

from collections.abc import Iterator, Mapping

from weighbridge.memory import Device
from weighbridge.report import Report, Row
from weighbridge.units import GIB, human, human_count
from weighbridge.view.answer import about, mark
from weighbridge.view.records import Cell, Column, Grid, Lines, Mark, Section, lines
from weighbridge.view.records import row as cells
from weighbridge.view.shown import Shown
from weighbridge.view.sizes import sizes
from weighbridge.wording import printable

SHORT = 6  # rows of the short table
USUAL = ("float32", "bfloat16", "bnb-int8", "fp8-tensor", "nf4", "Q8_0", "Q4_K_M")  # without a card


def title(s: Shown) -> str:
    facts = s.report.model
    count = s.say("title.parameters", count=human_count(facts.parameters))
    if facts.active_parameters != facts.parameters:
        count += s.say("title.active", count=human_count(facts.active_parameters))
    return " · ".join((printable(facts.name), count, _as(s)))


def _as(s: Shown) -> str:
    """The format, and who says so."""
    return f"{form(s.report)}, {s.report.derived['dtype_from']}"


def form(report: Report) -> str:
    """The format of the weights."""
    w = report.workload
    return str(w["quantization"] or w["dtype"])


def sections(s: Shown) -> Iterator[Section]:
    if s.report.table:
        yield (_formats(s),)
    yield (_costs(s),)


def _formats(s: Shown) -> Grid:
    """The formats that may do instead, or the usual ones; the one that was asked is marked."""
    v = s.report.verdict
    asked = form(s.report)
    if v is None or not v.count:
        return _table(s, [r for r in s.report.table if r.dtype in (*USUAL, asked)], "load.formats")
    return _table(
        s, _nearby(s.report, asked), "load.instead" if v.fits != "yes" else "load.formats"
    )


def _nearby(report: Report, asked: str) -> list[Row]:
    """Formats that remedies name, then the largest whose weights leave room, and the asked one."""
    assert report.verdict is not None
    named = {r.change.get("quantization") for r in report.remedies}
    own = [r for r in report.table if r.dtype == asked]
    room = report.verdict.usable_bytes
    others = [
        r for r in report.table if r.basis == "format" and r.dtype != asked and r.total_bytes < room
    ]
    told = [r for r in others if r.dtype in named] or others
    distinct = {r.total_bytes * 10 // GIB: r for r in told}  # those of one size stand for others
    largest = sorted(distinct.values(), key=lambda r: -r.total_bytes)
    return [*own, *largest[: SHORT - len(own)]]


def _table(s: Shown, rows: list[Row], heading: str) -> Grid:
    peaks = {r.change.get("quantization"): r for r in s.report.remedies}
    asked, v = form(s.report), s.report.verdict
    unit = sizes(max((r.total_bytes for r in rows), default=0), s.unit)

    def told(r: Row) -> tuple[Cell, ...]:
        sign: Mark | None = None
        on_card = ""
        if r.dtype == asked:
            sign = mark(v) if v is not None and v.count else None
            on_card = s.sizes.of(s.peak.expected)
        elif r.dtype in peaks:
            sign, on_card = peaks[r.dtype].fits, s.sizes.of(peaks[r.dtype].peak_bytes)
        which = s.say("load.asked") if r.dtype == asked else ""
        largest, whole = (unit.of(n) for n in (r.largest_layer_bytes, r.total_bytes))
        return cells(r.dtype, whole, on_card, largest, which, mark=sign)

    columns = (
        Column(s.say("head.format")),
        Column(s.say("head.weights"), right=True),
        Column(s.say("head.on_card"), right=True),
        Column(s.say("head.largest_layer"), right=True, rank=1),
        Column("", rank=2),
    )
    left = len(s.report.table) - len(rows)
    title = s.say(heading, left=left)
    return Grid(columns, tuple(told(r) for r in rows), title)


def _costs(s: Shown) -> Lines:
    """Download, and memory of the host."""
    return lines(" · ".join(filter(None, (_download(s), ram(s)))))


def _download(s: Shown) -> str:
    facts = s.report.model
    nbytes = facts.download_bytes or s.report.derived["download_estimate_bytes"]
    if nbytes is None:
        return ""
    return s.say("load.download", size=s.size(nbytes), decimal=human(nbytes, "GB"))


def ram(s: Shown) -> str:
    """What the host needs, in the phase that needs most."""
    host = next((d for d in s.report.devices if d.kind == "host"), None)
    if host is None or host is s.device:
        return ""
    phase = max(host.phases, key=lambda p: p.needed.high)
    if not phase.needed.high:
        return ""
    size = about(s, sizes(phase.needed.expected, s.unit), phase.needed)
    return s.say("host.ram", when=s.say(WHEN.get(phase.name, "when.serving")), size=size) + _pages(
        s, host
    )


WHEN: Mapping[str, str] = {
    "load": "when.load",
    "save": "when.save",
    "step": "when.step",
    "prefill": "when.serving",
    "decode": "when.serving",
}


def _pages(s: Shown, host: Device) -> str:
    """Files that are mapped: no need."""
    held = max(p.droppable.high for p in host.phases)
    return s.say("host.pages", size=s.size(held)) if held else ""
