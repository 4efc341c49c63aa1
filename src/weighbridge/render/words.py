"""The words that every renderer shares: titles, spans of bytes, rows of the tables."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.memory import LEVELS, Bytes, Component, Device, Phase, compared, when
from weighbridge.units import human, human_count
from weighbridge.wording import printable

if TYPE_CHECKING:
    from weighbridge.judged import HostVerdict, Verdict
    from weighbridge.report import Report, Row

SAID = "as you said"  # the source of a size that the user named
FITS = {"yes": "fits", "no": "does not fit", "unknown": "cannot say"}
DIVISIONS, FORMATS = "every weight alike", "as loaders hold them"
LOAD_COLUMNS = ("format", "largest layer", "total", "training, Adam", "pure 16 bit")


def span(b: Bytes, unit: str | None) -> str:
    """One size where it is exact, else the expected one and its bounds."""
    text = human(b.expected, unit)
    return text if b.exact else f"{text} ({human(b.low, unit)} to {human(b.high, unit)})"


def title(report: "Report") -> str:
    facts = report.model
    count = f"{human_count(facts.parameters)} parameters ({facts.parameters:,})"
    if facts.active_parameters != facts.parameters:
        count += f", {human_count(facts.active_parameters)} active per token"
    return " · ".join(filter(None, map(printable, (facts.name, facts.architecture, count))))


def provenance(report: "Report") -> str:
    facts = report.model
    where = printable(", ".join(facts.read_from))
    return f"read from {where}" + (f" at {facts.revision[:12]}" if facts.revision else "")


def setting(report: "Report") -> str:
    """What is being done, in which format, by what."""
    w, d = report.workload, report.derived
    form = "its stored formats" if d["as_stored"] else w["quantization"] or w["dtype"]
    engine = f"{w['engine']} {w['engine_version']}" if w["engine_version"] else w["engine"]
    if report.task == "load":
        return f"Loading in {form} with {engine}, {d['dtype_from']}"
    if report.task == "train":
        return training(report)
    if w["context"] is None and d["not_counted"]:
        return f"Weights alone in {form} with {engine}, {d['dtype_from']}"
    requests = "1 request" if w["batch_size"] == 1 else f"{w['batch_size']:,} requests"
    end = d["longest_context"]
    beyond = ""
    if end is not None and end > w["context"]:
        beyond = f"; the model goes to {end:,}: --context {end}"
    return (
        f"Serving in {form} with {engine}, {d['dtype_from']}: {requests} of {w['context']:,} "
        f"tokens, {d['context_from']}{beyond}"
    )


def training(report: "Report") -> str:
    w, d = report.workload, report.derived
    form = w["quantization"] or w["dtype"]
    tokens = "1 token" if w["seq_len"] == 1 else f"{w['seq_len']:,} tokens"
    sequences = "1 sequence" if w["batch_size"] == 1 else f"{w['batch_size']:,} sequences"
    return (
        f"Training ({w['method']}, {w['precision']}, weights in {form}) with {w['framework']}, "
        f"{w['optimizer']}, checkpointing {w['checkpointing']}: {sequences} of {tokens}, "
        f"{d['context_from']}; {d['trainable_parameters']:,} parameters are trained"
    )


def fullest(report: "Report") -> Device:
    """The accelerator with the highest peak; the host where there is none."""
    gpus = [d for d in report.devices if d.kind == "gpu"]
    return max(gpus or report.devices, key=lambda d: d.peak("driver").expected)


def moment(report: "Report") -> str:
    """The phase that the table of components is of."""
    device = fullest(report)
    several = sum(d.kind == "gpu" for d in report.devices) > 1
    where = "on the host" if device.kind == "host" else f"on the {'fullest ' * several}device"
    count = len(device.phases)
    among = f", the fullest of {count} phases" if count > 1 else ""
    return f"phase {device.peak_phase} {where}{among}"


def component_rows(device: Device, unit: str | None) -> Iterator[tuple[str, str, str, str]]:
    """(name, size, basis, formula) of each component, with a subtotal after each level."""
    phase = next(p for p in device.phases if p.name == device.peak_phase)
    for level in LEVELS:
        inside = [c for c in phase.components if c.level == level]
        for c in inside:
            yield _label(c), span(c.bytes, unit), c.basis, c.formula
        if inside:
            yield f"= {level}", span(phase.at(level), unit), "", ""


EXACT = ("closed form and trace", "closed form", "traced", "difference")


def exact_rows(device: Device, unit: str | None) -> Iterator[tuple[str, str, str, str]]:
    """Each phase at two levels; of the fullest one every component."""
    for closed, traced in device.exact.phases if device.exact else ():
        for level in LEVELS[:2]:
            a, b = closed.at(level).expected, traced.at(level).expected
            yield f"{closed.name}, {level}", human(a, unit), human(b, unit), _beside(a, b)
        if closed.name == device.peak_phase:
            for name, a, b in compared(closed, traced):
                yield f"  {name}", human(a, unit), human(b, unit), _beside(a, b)


def _beside(closed: int, traced: int) -> str:
    return f"{100 * (traced - closed) / closed:+.2f} %" if closed else ""


def _label(c: Component) -> str:
    return f"{c.name} ({c.detail})" if c.detail else c.name


def load_row(row: "Row", unit: str | None) -> tuple[str, str, str, str, str]:
    def size(nbytes: int | None) -> str:
        return "" if nbytes is None else human(nbytes, unit)

    return (
        row.dtype,
        size(row.largest_layer_bytes),
        size(row.total_bytes),
        size(row.training_adam_bytes),
        size(row.training_adam_pure_bytes),
    )


def divisions(report: "Report") -> "list[Row]":
    return [row for row in report.table if row.basis == "division"]


def formats(report: "Report") -> "list[Row]":
    return [row for row in report.table if row.basis == "format"]


def verdict(v: "Verdict", unit: str | None) -> Iterator[tuple[str, str]]:
    """(word, what it says): from what is sold to what can be used, then the verdict."""
    name = f"{v.times}{v.accelerator}"
    if v.marketed_gb is None:
        yield "device", printable(name)
    else:
        shown = f"sold as {v.marketed_gb} GB, {bounds(v.total, unit)} in the driver"
        had = f"{bounds(v.visible, unit)} for a process ({SAID if v.source == SAID else v.basis})"
        yield "device", f"{printable(name)}: {shown}, {had}"
    if v.headroom_bytes:
        yield "headroom", f"{human(v.headroom_bytes, unit)}, so {bounds(v.usable, unit)} to use"
    if v.count > 1:
        held = f"{span(v.per_device, unit)} of {bounds(v.usable, unit)}"
        lacking = f"; needs {v.devices_used} devices, {v.count} are named"
        used = f", on {v.devices_used} of {v.count} devices"
        yield "each", held + (lacking if v.devices_used > v.count else used)
    if v.host is not None:
        yield "host", _host(v.host, unit)
    yield FITS[v.fits], v.reason


def _host(h: "HostVerdict", unit: str | None) -> str:
    if h.available is None:
        return f"{span(h.needed, unit)} needed, and not judged: --ram says what there is"
    return f"{span(h.needed, unit)} of {human(h.available, unit)}"


def on_host(device: Device, unit: str | None) -> str:
    """What the host needs, phase by phase, and the pages of files that are no need."""
    needs = [f"{span(p.needed, unit)} {when(p.name)}" for p in _distinct(device)]
    held = max(p.droppable.high for p in device.phases)
    beside = f"; beside it {human(held, unit)} of file pages, which the kernel may drop"
    return ", ".join(needs) + (beside if held else "")


def _distinct(device: Device) -> Iterator[Phase]:
    """Phases that need as much as the one before are not told again."""
    before: Bytes | None = None
    for phase in device.phases:
        if phase.needed != before:
            yield phase
        before = phase.needed


def bounds(b: Bytes, unit: str | None) -> str:
    return human(b.low, unit) if b.exact else f"{human(b.low, unit)} to {human(b.high, unit)}"
