"""Facts below the tables of `--details`: (what, sentence) of each."""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.memory import Bytes, Device, Phase
from weighbridge.report import Report
from weighbridge.report.verdict import HostVerdict, Verdict
from weighbridge.units import human, human_count
from weighbridge.view.answer import weights_too_big
from weighbridge.view.load import WHEN
from weighbridge.view.shown import ShownAnswer
from weighbridge.wording import printable

Fact = tuple[str, str]
SAID = "as you said"  # the source of a size that the user named


def span(s: ShownAnswer, b: Bytes) -> str:
    """One size where it is exact, else the expected one and its bounds."""
    text = human(b.expected, s.unit)
    if b.exact:
        return text
    return f"{text} ({s.say('span', low=human(b.low, s.unit), high=human(b.high, s.unit))})"


def bounds(s: ShownAnswer, b: Bytes) -> str:
    low, high = human(b.low, s.unit), human(b.high, s.unit)
    return low if b.exact else s.say("span", low=low, high=high)


def asked(s: ShownAnswer) -> Iterator[str]:
    """The model and the settings in full."""
    model = s.report.model
    yield " · ".join(
        filter(None, map(printable, (model.name, model.architecture, f"{model.parameters:,}")))
    )
    where = printable(", ".join(model.read_from))
    yield s.say("footer.read", source=where) + (
        f" @{model.revision[:12]}" if model.revision else ""
    )
    yield _setting(s)


def _setting(s: ShownAnswer) -> str:
    """Return what is done, in which format and by which engine, as a sentence."""
    w, d = s.report.workload, s.report.derived
    form = s.say("form.stored") if d["as_stored"] else w["quantization"] or w["dtype"]
    program = f"{w['engine']} {w['engine_version']}" if w["engine_version"] else w["engine"]
    if s.report.task == "train":
        return _training(s)
    told = s.say(
        f"setting.{s.report.task}", form=form, engine=program, why=s.say.why(d["dtype_from"])
    )
    if s.report.task == "load" or w["context"] is None:
        return told
    requests = s.say.some("requests.one", "requests.many", w["batch_size"])
    size = s.say("setting.requests", requests=requests, context=f"{w['context']:,}")
    return f"{told}: {size}, {s.say.why(d['context_from'])}"


def _training(s: ShownAnswer) -> str:
    w, d = s.report.workload, s.report.derived
    return s.say(
        "setting.train",
        method=w["method"],
        precision=w["precision"],
        form=w["quantization"] or w["dtype"],
        framework=w["framework"],
        optimizer=w["optimizer"],
        checkpointing=w["checkpointing"],
        batch=f"{w['batch_size']:,}",
        length=f"{w['seq_len']:,}",
        why=s.say.why(d["context_from"]),
        trained=f"{d['trainable_parameters']:,}",
    )


def judged(s: ShownAnswer) -> tuple[Fact, ...]:
    """Return facts about the device, from what is sold to what can be used, then the verdict in
    full."""
    return () if s.report.verdict is None else tuple(_judged(s, s.report.verdict))


def _judged(s: ShownAnswer, v: Verdict) -> Iterator[Fact]:
    yield s.say("fact.device"), _device(s, v)
    if v.headroom_bytes:
        left = s.say("headroom", size=human(v.headroom_bytes, s.unit), usable=bounds(s, v.usable))
        yield s.say("fact.headroom"), left
    if v.count > 1:
        told = s.say("each.of", held=span(s, v.per_device), usable=bounds(s, v.usable))
        key = "each.lacking" if v.devices_used > v.count else "each.used"
        yield s.say("fact.each"), told + s.say(key, used=v.devices_used, count=v.count)
    if v.host is not None:
        yield s.say("fact.host"), _host(s, v.host)
    yield s.say(f"verdict.{v.fits}"), printable(v.reason)


def _device(s: ShownAnswer, v: Verdict) -> str:
    name = printable(f"{v.times}{v.accelerator}")
    if v.marketed_gb is None:
        return name
    return s.say(
        "device",
        name=name,
        sold=v.marketed_gb,
        total=bounds(s, v.total),
        visible=bounds(s, v.visible),
        basis=SAID if v.source == SAID else v.basis,
    )


def _host(s: ShownAnswer, h: HostVerdict) -> str:
    needed = span(s, h.needed)
    if h.available is None:
        return s.say("host.unjudged", needed=needed)
    return s.say("each.of", held=needed, usable=human(h.available, s.unit))


def rest(s: ShownAnswer) -> tuple[Fact, ...]:
    """Return the facts that belong to no table."""
    return tuple(_rest(s))


def _rest(s: ShownAnswer) -> Iterator[Fact]:
    yield from TASKS[s.report.task](s)
    for name, count in s.report.model.parts:
        yield s.say("fact.part"), s.say("part.of", name=printable(name), count=human_count(count))


def _of_load(s: ShownAnswer) -> Iterator[Fact]:
    facts, d = s.report.model, s.report.derived
    if facts.stored_bytes is not None:
        yield s.say("fact.stored"), s.say("stored", size=human(facts.stored_bytes, s.unit))
    if facts.download_bytes is not None:
        yield s.say("fact.download"), human(facts.download_bytes, s.unit)
    if d["download_estimate_bytes"] is not None:
        size = human(d["download_estimate_bytes"], s.unit)
        yield s.say("fact.download"), s.say("download.declared", size=size)
    yield from _hosts(s)
    for name, reason in d["unavailable_formats"].items():
        told = reason if reason.startswith(name) else f"{name}: {reason}"
        yield s.say("fact.not_possible"), printable(told)


def _hosts(s: ShownAnswer) -> Iterator[Fact]:
    for device in s.report.devices:
        if device.kind == "host" and device is not s.device:
            yield s.say("fact.host"), on_host(s, device)


def on_host(s: ShownAnswer, device: Device) -> str:
    """Return the bytes the host needs, phase by phase, and pages of files that are no need."""
    needs = [f"{span(s, p.needed)} {_when(s, p.name)}" for p in _distinct(device)]
    held = max(p.droppable.high for p in device.phases)
    return ", ".join(needs) + (s.say("host.pages", size=human(held, s.unit)) if held else "")


def _when(s: ShownAnswer, name: str) -> str:
    return s.say(WHEN[name]) if name in WHEN else name


def _distinct(device: Device) -> Iterator[Phase]:
    """Phases that need as much as the one before are not told again."""
    before: Bytes | None = None
    for phase in device.phases:
        if phase.needed != before:
            yield phase
        before = phase.needed


def _devices(s: ShownAnswer) -> Iterator[Fact]:
    """Yield the bytes of every device, and those that the engine takes beside them."""
    for phase in s.device.phases:
        yield s.say("fact.phase", phase=phase.name), span(s, phase.at("driver"))
    if s.gpus > 1:
        groups: dict[Bytes, list[int]] = {}
        for d in s.report.devices:
            if d.kind == "gpu":
                groups.setdefault(d.peak("driver"), []).append(d.index)
        for peak, which in groups.items():
            yield per_gpu(s, which), span(s, peak)
    yield from _hosts(s)
    if s.device.taken is not None:
        yield s.say("fact.taken"), s.say("taken", size=human(s.device.taken, s.unit))


def per_gpu(s: ShownAnswer, which: list[int]) -> str:
    """The devices that hold as much as one another."""
    if len(which) == s.gpus:
        return s.say("fact.alike", count=len(which))
    return s.say("fact.gpus", which=_ranges(which))


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> "0-2, 5"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _of_serving(s: ShownAnswer) -> Iterator[Fact]:
    d = s.report.derived
    yield from _devices(s)
    if d.get("kv_cache_bytes_per_token"):
        each = human(d["kv_cache_bytes_per_token"])
        yield s.say("fact.token"), s.say(TOKEN[s.gpus > 1], size=each, gpus=s.gpus)
    yield from _bounds(s)
    for what in d["not_counted"]:
        yield s.say("fact.missing"), printable(what)
    for remedy in s.report.remedies:
        verdict, peak = s.say(f"verdict.{remedy.fits}"), human(remedy.peak_bytes, s.unit)
        yield s.say("fact.remedy"), printable(f"{remedy.flags}: {verdict}, {peak}; {remedy.cost}")
    note = d.get("launch_note")
    if note:
        yield s.say("fact.launch"), s.say.told(note)
    yield from _of_command(s, d.get("command"))


TOKEN = {False: "token", True: "token.together"}


def _bounds(s: ShownAnswer) -> Iterator[Fact]:
    """Yield the longest context and the most requests, the other settings as they were asked."""
    d, w, v = s.report.derived, s.report.workload, s.report.verdict
    if "largest_context" not in d:
        return
    if d["not_counted"]:
        yield s.say("fact.longest"), s.say("largest.unknown")
        return
    if v is not None and v.devices_used > v.count:
        yield s.say("fact.longest"), s.say("largest.devices")
        return
    if not d["largest_context"] and not d["largest_batch_size"]:
        key = "largest.none" if weights_too_big(s) else "largest.none.short"
        key = "largest.none.sure" if v is not None and v.fits == "unknown" else key
        yield s.say("fact.longest"), s.say(key)
        return
    requests = s.say.some("requests.one", "requests.many", w["batch_size"])
    tokens, held = f"{d['largest_context']:,}", d["largest_batch_size"] or 0
    yield (
        s.say("fact.longest"),
        s.say(_end(s.report), tokens=tokens, requests=requests) + s.say(_held_by(s)),
    )
    most = s.say.some("requests.one", "requests.many", held)
    open_end = held == _searched_to(s.report, "batch_size") != w.get("max_num_seqs")
    key = "largest.most.more" if open_end else "largest.most"
    yield (
        s.say("fact.most"),
        s.say(key, requests=most, context=f"{w['context']:,}") + s.say(_held_by(s)),
    )


def _searched_to(report: Report, name: str) -> int | None:
    """Return where the search for the largest value of a setting ended; None where there was
    none."""
    return (report.derived.get("searched_to") or {}).get(name)


def _end(report: Report) -> str:
    """Return the key of the longest context, which may be where the model or the search ends."""
    d = report.derived
    if d["largest_context"] == d["longest_context"]:
        return "largest.context.end"
    if d["largest_context"] == _searched_to(report, "context"):
        return "largest.context.more"
    return "largest.context"


def _held_by(s: ShownAnswer) -> str:
    """Tell whose bound it is: an engine with a share of the card has one for each launch."""
    if s.report.derived.get("command") is not None:
        return "held.command"
    return "held.device" if s.device.taken is None else "held.line"


def _of_command(s: ShownAnswer, command: Mapping[str, Any] | None) -> Iterator[Fact]:
    """Yield what a command line leaves to the engine, and its flags that weigh nothing."""
    if command is None:
        return
    for default in command["defaults"]:
        told = f"{default['name']} {default['value']}: {default['why']}"
        yield s.say("fact.default"), printable(told)
    if command["ignored"]:
        ignored = printable(", ".join(command["ignored"]))
        yield s.say("fact.ignored"), s.say("ignored", flags=ignored)


def _of_training(s: ShownAnswer) -> Iterator[Fact]:
    d = s.report.derived
    yield from _devices(s)
    for what in d["not_counted"]:
        yield s.say("fact.missing"), printable(what)
    kept = human(d["saved_activation_bytes"], s.unit)
    yield s.say("fact.kept"), s.say("kept", size=kept)
    first = human(d["first_step_peak_bytes"], s.unit)
    yield s.say("fact.first_step"), s.say("first_step", size=first)


TASKS = {"load": _of_load, "infer": _of_serving, "train": _of_training}
