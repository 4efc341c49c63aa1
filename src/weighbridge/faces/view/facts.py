"""Facts below the tables of `--details`, each a pair (name, sentence)."""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.memory import Bytes, Device
from weighbridge.base.units import GIB, human, human_count
from weighbridge.base.wording import printable
from weighbridge.faces.view.answer import weights_too_big
from weighbridge.faces.view.load import WHEN
from weighbridge.faces.view.shown import ShownAnswer, distinct, ranges
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import HostVerdict, Verdict

Fact = tuple[str, str]
SAID = "as you said"  # the source of a size that the user set


def span(answer: ShownAnswer, interval: Bytes) -> str:
    """Return an interval of bytes as text: one size if it is exact, else the expected size and its
    bounds."""
    text = human(interval.expected, answer.unit)
    if interval.exact:
        return text
    return f"{text} ({bounds(answer, interval)})"


def bounds(answer: ShownAnswer, interval: Bytes) -> str:
    low, high = human(interval.low, answer.unit), human(interval.high, answer.unit)
    return low if interval.exact else answer.say("span", low=low, high=high)


def asked(answer: ShownAnswer) -> Iterator[str]:
    """Yield lines on the model, where it was read from, and all settings of the run."""
    model = answer.report.model
    yield " · ".join(
        filter(None, map(printable, (model.name, model.architecture, f"{model.parameters:,}")))
    )
    where = printable(", ".join(model.read_from))
    yield answer.say("footer.read", source=where) + (
        f" @{model.revision[:12]}" if model.revision else ""
    )
    yield _pipeline_sentence(answer) if answer.report.pictures else _run_sentence(answer)


def _pipeline_sentence(answer: ShownAnswer) -> str:
    """Return a sentence on what a pipeline makes, or on its training."""
    w = answer.report.workload
    return answer.say(
        f"setting.pictures.{answer.report.task}",
        form=w["quantization"] or w["dtype"],
        engine=w["engine"] if answer.report.task == "infer" else w["framework"],
        method=w.get("method") or "",
        size=f"{w['width']} x {w['height']}",
        frames=f"{w['frames']:,}",
        batch=f"{w['batch_size']:,}",
    )


def _run_sentence(answer: ShownAnswer) -> str:
    """Return a sentence on the task, the format and the engine of the run."""
    w, d = answer.report.workload, answer.report.derived
    form = answer.say("form.stored") if d.get("as_stored") else w["quantization"] or w["dtype"]
    program = f"{w['engine']} {w['engine_version']}" if w["engine_version"] else w["engine"]
    if answer.report.task == "train":
        return _training_sentence(answer)
    context = answer.say(
        f"setting.{answer.report.task}",
        form=form,
        engine=program,
        why=answer.say.why(d["dtype_from"]),
    )
    if answer.report.task == "load" or w["context"] is None:
        return context
    requests = answer.say.some("requests.one", "requests.many", w["batch_size"])
    size = answer.say("setting.requests", requests=requests, context=f"{w['context']:,}")
    return f"{context}: {size}, {answer.say.why(d['context_from'])}"


def _training_sentence(answer: ShownAnswer) -> str:
    w, d = answer.report.workload, answer.report.derived
    length = "" if w["seq_len"] is None else f"{w['seq_len']:,}"
    return answer.say(
        "setting.train.images" if answer.pictures else "setting.train",
        images=answer.pictures,
        method=w["method"],
        precision=w["precision"],
        form=w["quantization"] or w["dtype"],
        framework=w["framework"],
        optimizer=w["optimizer"],
        checkpointing=w["checkpointing"],
        batch=f"{w['batch_size']:,}",
        length=length,
        why=answer.say.why(d["context_from"]),
        trained=f"{d['trainable_parameters']:,}",
    )


def judged(answer: ShownAnswer) -> tuple[Fact, ...]:
    """Return facts about the device, from the memory sold to the memory usable, then the verdict in
    full; () without a verdict."""
    return (
        () if answer.report.verdict is None else tuple(_device_facts(answer, answer.report.verdict))
    )


def _device_facts(answer: ShownAnswer, verdict: Verdict) -> Iterator[Fact]:
    yield answer.say("fact.device"), _device_sentence(answer, verdict)
    if verdict.headroom_bytes:
        left = answer.say(
            "headroom",
            size=human(verdict.headroom_bytes, answer.unit),
            usable=bounds(answer, verdict.usable),
        )
        yield answer.say("fact.headroom"), left
    if verdict.count > 1:
        line = answer.say(
            "each.of", held=span(answer, verdict.per_device), usable=bounds(answer, verdict.usable)
        )
        key = "each.lacking" if verdict.devices_used > verdict.count else "each.used"
        yield (
            answer.say("fact.each"),
            line + answer.say(key, used=verdict.devices_used, count=verdict.count),
        )
    if verdict.host is not None:
        yield answer.say("fact.host"), _host_sentence(answer, verdict.host)
        if verdict.host.container:
            line = answer.say("container.memory", size=verdict.host.container // GIB)
            yield answer.say("fact.container"), line
    yield answer.say(f"verdict.{verdict.fits}"), printable(verdict.reason)


def _device_sentence(answer: ShownAnswer, verdict: Verdict) -> str:
    name = printable(verdict.cards)
    if verdict.marketed_gb is None:
        return name
    return answer.say(
        "device",
        name=name,
        sold=verdict.marketed_gb,
        total=bounds(answer, verdict.total),
        visible=bounds(answer, verdict.visible),
        basis=SAID if verdict.source == SAID else verdict.basis,
    )


def _host_sentence(answer: ShownAnswer, host: HostVerdict) -> str:
    needed = span(answer, host.needed)
    if host.available is None:
        return answer.say("host.unjudged", needed=needed)
    return answer.say("each.of", held=needed, usable=human(host.available, answer.unit))


def rest(answer: ShownAnswer) -> tuple[Fact, ...]:
    """Return the facts that no other table of `--details` shows."""
    return tuple(_task_facts(answer))


def _task_facts(answer: ShownAnswer) -> Iterator[Fact]:
    yield from TASKS[answer.report.task](answer)
    for name, count in answer.report.model.parts:
        yield (
            answer.say("fact.part"),
            answer.say("part.of", name=printable(name), count=human_count(count)),
        )


def _load_facts(answer: ShownAnswer) -> Iterator[Fact]:
    facts, d = answer.report.model, answer.report.derived
    if facts.stored_bytes is not None:
        yield (
            answer.say("fact.stored"),
            answer.say("stored", size=human(facts.stored_bytes, answer.unit)),
        )
    if facts.download_bytes is not None:
        yield answer.say("fact.download"), human(facts.download_bytes, answer.unit)
    if d["download_estimate_bytes"] is not None:
        size = human(d["download_estimate_bytes"], answer.unit)
        yield answer.say("fact.download"), answer.say("download.declared", size=size)
    yield from _host_facts(answer)
    for name, reason in d["unavailable_formats"].items():
        line = reason if reason.startswith(name) else f"{name}: {reason}"
        yield answer.say("fact.not_possible"), printable(line)


def _host_facts(answer: ShownAnswer) -> Iterator[Fact]:
    for device in answer.report.devices:
        if device.kind == "host" and device is not answer.device:
            yield answer.say("fact.host"), on_host(answer, device)


def on_host(answer: ShownAnswer, device: Device) -> str:
    """Return the bytes that the host needs per phase as text, and the cached pages of files, which
    are no need."""
    needs = [
        f"{span(answer, p.needed)} {(answer.say(WHEN[p.name]) if p.name in WHEN else p.name)}"
        for p in distinct(device)
    ]
    pages = max(p.droppable.high for p in device.phases)
    return ", ".join(needs) + (
        answer.say("host.pages", size=human(pages, answer.unit)) if pages else ""
    )


def _memory_facts(answer: ShownAnswer) -> Iterator[Fact]:
    """Yield facts on the bytes of every phase and device, and on those that an engine reserves."""
    for phase in answer.device.phases:
        yield answer.say("fact.phase", phase=phase.name), span(answer, phase.at("driver"))
    if answer.gpus > 1:
        groups: dict[Bytes, list[int]] = {}
        for d in answer.report.devices:
            if d.kind == "gpu":
                groups.setdefault(d.peak("driver"), []).append(d.index)
        for peak, which in groups.items():
            yield per_gpu(answer, which), span(answer, peak)
    yield from _host_facts(answer)
    if answer.device.taken is not None:
        yield (
            answer.say("fact.taken"),
            answer.say("taken", size=human(answer.device.taken, answer.unit)),
        )


def per_gpu(answer: ShownAnswer, which: list[int]) -> str:
    """Return a name for the devices numbered `which`, which hold equal bytes: their count if these
    are all, else their numbers."""
    if len(which) == answer.gpus:
        return answer.say("fact.alike", count=len(which))
    return answer.say("fact.gpus", which=ranges(which))


def _serving_facts(answer: ShownAnswer) -> Iterator[Fact]:
    d = answer.report.derived
    yield from _memory_facts(answer)
    if d.get("kv_cache_bytes_per_token"):
        each = human(d["kv_cache_bytes_per_token"])
        yield (
            answer.say("fact.token"),
            answer.say(TOKEN[answer.gpus > 1], size=each, gpus=answer.gpus),
        )
    if "not_counted" in d:  # language models have it
        yield from _limit_facts(answer)
    for what in d.get("not_counted", ()):
        yield answer.say("fact.missing"), printable(what)
    for remedy in answer.report.remedies:
        verdict, peak = answer.say(f"verdict.{remedy.fits}"), human(remedy.peak_bytes, answer.unit)
        yield (
            answer.say("fact.remedy"),
            printable(f"{remedy.flags}: {verdict}, {peak}; {answer.say.told(remedy.cost)}"),
        )
    note = d.get("launch_note")
    if note:
        yield answer.say("fact.launch"), answer.say.told(note)
    yield from _command_facts(answer, d.get("command"))


TOKEN = {False: "token", True: "token.together"}


def _limit_facts(answer: ShownAnswer) -> Iterator[Fact]:
    """Yield facts on the longest context and the most requests, each with the other settings as
    asked."""
    d, w, v = answer.report.derived, answer.report.workload, answer.report.verdict
    if "largest_context" not in d:
        return
    if d["not_counted"]:
        yield answer.say("fact.longest"), answer.say("largest.unknown")
        return
    if v is not None and v.devices_used > v.count:
        yield answer.say("fact.longest"), answer.say("largest.devices")
        return
    if not d["largest_context"] and not d["largest_batch_size"]:
        key = "largest.none" if weights_too_big(answer) else "largest.none.short"
        key = "largest.none.sure" if v is not None and v.fits == "unknown" else key
        yield answer.say("fact.longest"), answer.say(key)
        return
    requests = answer.say.some("requests.one", "requests.many", w["batch_size"])
    tokens, at_once = f"{d['largest_context']:,}", d["largest_batch_size"] or 0
    yield (
        answer.say("fact.longest"),
        answer.say(_longest_key(answer.report), tokens=tokens, requests=requests)
        + answer.say(_limit_key(answer)),
    )
    most = answer.say.some("requests.one", "requests.many", at_once)
    open_end = at_once == _searched_to(answer.report, "batch_size") != w.get("max_num_seqs")
    key = "largest.most.more" if open_end else "largest.most"
    yield (
        answer.say("fact.most"),
        answer.say(key, requests=most, context=f"{w['context']:,}")
        + answer.say(_limit_key(answer)),
    )


def _searched_to(report: Report, name: str) -> int | None:
    """Return the last value that the search for the largest value of a setting tried; None if there
    was none."""
    return (report.derived.get("searched_to") or {}).get(name)


def _longest_key(report: Report) -> str:
    """Return the key of the sentence on the longest context, which the model or the search may
    limit."""
    d = report.derived
    if d["largest_context"] == d["longest_context"]:
        return "largest.context.end"
    if d["largest_context"] == _searched_to(report, "context"):
        return "largest.context.more"
    return "largest.context"


def _limit_key(answer: ShownAnswer) -> str:
    """Return the key of the words for what limits the context: the command, the device, or the
    launch line."""
    if answer.report.derived.get("command") is not None:
        return "held.command"
    return "held.device" if answer.device.taken is None else "held.line"


def _command_facts(answer: ShownAnswer, command: Mapping[str, Any] | None) -> Iterator[Fact]:
    """Yield facts on the settings that a command line leaves to the engine, and its flags that need
    no memory."""
    if command is None:
        return
    for default in command["defaults"]:
        line = f"{default['name']} {default['value']}: {default['why']}"
        yield answer.say("fact.default"), printable(line)
    if command["ignored"]:
        ignored = printable(", ".join(command["ignored"]))
        yield answer.say("fact.ignored"), answer.say("ignored", flags=ignored)


def _training_facts(answer: ShownAnswer) -> Iterator[Fact]:
    d = answer.report.derived
    yield from _memory_facts(answer)
    for what in d.get("not_counted", ()):
        yield answer.say("fact.missing"), printable(what)
    saved = human(d["saved_activation_bytes"], answer.unit)
    yield answer.say("fact.kept"), answer.say("kept", size=saved)
    if "first_step_peak_bytes" in d:
        first = human(d["first_step_peak_bytes"], answer.unit)
        yield answer.say("fact.first_step"), answer.say("first_step", size=first)


TASKS = {"load": _load_facts, "infer": _serving_facts, "train": _training_facts}
