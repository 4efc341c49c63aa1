"""The lines below the tables: facts that belong to none of them."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.memory import Bytes
from weighbridge.render import words
from weighbridge.units import human, human_count
from weighbridge.wording import printable

if TYPE_CHECKING:
    from weighbridge.judged import Remedy
    from weighbridge.report import Report

PASTE = "To paste:"


def to_paste(report: "Report") -> str:
    """The line that launches what was sized; "" where there is none."""
    return printable(report.derived.get("launch") or "")


def heading(report: "Report") -> str:
    """What the line to paste is good for: one that does not fit is not offered."""
    judged, line = report.verdict, to_paste(report)
    for remedy in report.remedies:
        if f" {remedy.flags}" in line:  # a command's, with the flags that it lacks
            return f"With {remedy.flags} ({words.FITS[remedy.fits]}):"
    return PASTE if judged is None or judged.fits != "no" else f"Judged ({words.FITS['no']}):"


def footer(report: "Report", unit: str | None) -> Iterator[str]:
    """Facts that belong to no table."""
    yield from FOOTERS[report.task](report, unit)
    for name, count in report.model.parts:
        yield f"part      {printable(name)}: {human_count(count)} parameters"


def _of_load(report: "Report", unit: str | None) -> Iterator[str]:
    facts = report.model
    if facts.stored_bytes is not None:
        yield f"stored    {human(facts.stored_bytes, unit)} in the checkpoint's tensors"
    if facts.download_bytes is not None:
        yield f"download  {human(facts.download_bytes, unit)}"
    estimate = report.derived["download_estimate_bytes"]
    if estimate is not None:
        yield f"download  about {human(estimate, unit)}, as the config declares; no file was read"
    for device in report.devices:
        if device.kind == "host":
            yield f"host      {words.on_host(device, unit)}"
    for name, reason in report.derived["unavailable_formats"].items():
        told = reason if reason.startswith(name) else f"{name}: {reason}"
        yield f"no row    {printable(told)}"


def _of_serving(report: "Report", unit: str | None) -> Iterator[str]:
    yield from phases(report, unit)
    yield from _devices(report, unit)
    yield from _room(report, unit)
    for what in report.derived["not_counted"]:
        yield f"missing   {printable(what)}"
    for remedy in report.remedies:
        yield f"remedy    {_remedy(remedy, unit)}"
    if report.derived.get("launch_note"):
        yield f"launch    {printable(report.derived['launch_note'])}"
    yield from _of_command(report.derived.get("command"))


def _remedy(remedy: "Remedy", unit: str | None) -> str:
    """What to change, what it makes of the verdict, and what it costs."""
    then = f"{words.FITS[remedy.fits]}, {human(remedy.peak_bytes, unit)} on the device"
    return printable(f"{remedy.flags}: {then}; {remedy.cost}")


def _of_training(report: "Report", unit: str | None) -> Iterator[str]:
    yield from phases(report, unit)
    yield from _devices(report, unit)
    d = report.derived
    yield f"saved     {human(d['saved_activation_bytes'], unit)} for backward, of one micro-batch"
    first = human(d["first_step_peak_bytes"], unit)
    yield f"first     {first} allocated at most in the first step, before there are states"


def _devices(report: "Report", unit: str | None) -> Iterator[str]:
    """What every device holds, and what the engine takes beside it."""
    if sum(device.kind == "gpu" for device in report.devices) > 1:
        for which, holds in others(report, unit):
            yield f"each      {which}: {holds}"
    for device in report.devices:
        if device.kind == "host" and device is not words.fullest(report):
            yield f"host      {words.on_host(device, unit)}"
    taken = words.fullest(report).taken
    if taken is not None:
        yield f"taken     {human(taken, unit)} by the engine's own rule, whatever is needed"


def _room(report: "Report", unit: str | None) -> Iterator[str]:
    """What a token costs, and what the device has room for."""
    d, context = report.derived, report.workload["context"]
    if d.get("kv_cache_bytes_per_token"):
        gpus = sum(device.kind == "gpu" for device in report.devices)
        where = f", on {gpus} devices together" if gpus > 1 else ""
        yield f"token     {human(d['kv_cache_bytes_per_token'])} of cache for one more{where}"
    if d.get("kv_cache_tokens") is not None and words.fullest(report).taken is not None:
        at_once = _at_once(report)
        more = "" if at_once is None else f", {at_once:,.2f} requests of {context:,} at once"
        yield f"room      {d['kv_cache_tokens']:,} tokens of cache in what it takes{more}"
    if "largest_context" in d:
        yield f"largest   {_largest(report)}"


def _at_once(report: "Report") -> float | None:
    """Requests that run at once in what is taken: no more than the engine lets run."""
    w, held = report.workload, report.derived.get("max_concurrency")
    if held is None or not w.get("max_num_seqs"):
        return held
    return min(float(held), float(w["max_num_seqs"] * (w.get("data_parallel_size") or 1)))


def _largest(report: "Report") -> str:
    """How far one setting can go with the others as they were asked."""
    w, d = report.workload, report.derived
    if d["not_counted"]:
        return "not known: something is not counted"
    verdict = report.verdict
    if verdict is not None and verdict.devices_used > verdict.count:
        return "not asked: more devices are launched than there are"
    if not d["largest_context"] and not d["largest_batch_size"]:
        return "nothing surely fits, however short"
    batch = "1 request" if w["batch_size"] == 1 else f"{w['batch_size']:,} requests"
    end = ", the model's maximum," if d["largest_context"] == d["longest_context"] else ""
    ends = d["searched_to"]
    if not end and d["largest_context"] == ends["context"]:
        end = " or more"
    context = f"{d['largest_context']:,} tokens{end} for {batch}"
    some = d["largest_batch_size"]
    requests = "1 request" if some == 1 else f"{some:,} requests"
    if some == ends["batch_size"] and some != w.get("max_num_seqs"):
        requests += " or more"
    return f"{context}; {requests} of {w['context']:,}: what {_held_by(report)}"


def _held_by(report: "Report") -> str:
    """Whose bound it is: an engine with a share of the card has one for each launch."""
    if report.derived.get("command") is not None:
        return "this command surely serves, its other flags as they are"
    if words.fullest(report).taken is None:
        return "the device surely holds"
    return "the device surely holds, each by a launch line made for it"


def _of_command(command: Mapping[str, Any] | None) -> Iterator[str]:
    """What the engine's own command line leaves to the engine, and what weighs nothing."""
    if command is None:
        return
    for default in command["defaults"]:
        told = f"{default['name']} {default['value']}: {default['why']}"
        yield f"default   {printable(told)}"
    if command["ignored"]:
        yield f"ignored   {printable(', '.join(command['ignored']))}: no influence on memory"


FOOTERS = {"load": _of_load, "infer": _of_serving, "train": _of_training}


def phases(report: "Report", unit: str | None) -> Iterator[str]:
    """The fullest device at driver level, moment by moment."""
    for phase in words.fullest(report).phases:
        yield f"{phase.name:<9} {words.span(phase.at('driver'), unit)} on the device"


def others(report: "Report", unit: str | None) -> Iterator[tuple[str, str]]:
    """(which devices, what they hold at most) of all but the host, equal ones together."""
    groups: dict[Bytes, list[int]] = {}
    for d in report.devices:
        if d.kind == "gpu":
            groups.setdefault(d.peak("driver"), []).append(d.index)
    for peak, which in groups.items():
        yield f"device {_ranges(which)}", words.span(peak, unit)


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> "0-2, 5"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
