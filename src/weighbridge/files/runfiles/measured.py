"""What a log measured beside what we predict for the same run, part by part."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from weighbridge.base.memory import Component, Device, Instant, exactly
from weighbridge.base.records import NamedTuple, replace
from weighbridge.files.runfiles.record import ServerStart
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import DerivedFacts

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

# name of a part -> key of the report with the same figure, per rank
DERIVED = {
    "vllm": {
        "activations": "profile_peak_bytes",
        "other": "non_torch_bytes",
        "kv_cache": "available_kv_cache_bytes",
        "cuda_graphs": "cuda_graph_bytes",
        "tokens": "kv_cache_tokens",
    },
    "sglang": {"kv_cache": "available_kv_cache_bytes", "tokens": "max_total_num_tokens"},
}
# part of a log -> our components that it includes
HELD = {"weights": ("weights",), "activations": ("activations", "logits", "workspaces")}
BY_CARD = ("kv_cache", "tokens")  # parts that follow from the server's memory budget
FAR = 0.1  # relative difference that releases and drivers explain
GGML = ("llama.cpp", "ollama")
HOSTS = ("CPU", "Host", "BLAS")  # buffers that are not on a card


class MeasuredPart(NamedTuple):
    """A part measured in bytes; in tokens if `name` is "tokens". `predicted`: our expected value,
    None if it depends on the card and the user names none."""

    name: str
    measured: int
    predicted: int | None


def beside(start: ServerStart, report: Report) -> tuple[MeasuredPart, ...]:
    """Return the parts that both log and report have; () if their engines differ."""
    engine = str(report.workload.get("engine", ""))
    if start.program != engine and not {start.program, engine} <= set(GGML):
        return ()
    return tuple(_parts(start, report, engine))


def _derived(report: Report, engine: str, name: str) -> int:
    """Return the report's figure for the log's part `name`; 0 if it has none."""
    value = report.derived.get(DERIVED.get(engine, {}).get(name, ""))
    return value if isinstance(value, int) else 0


def _parts(start: ServerStart, report: Report, engine: str) -> Iterator[MeasuredPart]:
    gpus = gpus_of(report)
    if not gpus:
        return
    for name, measured in _measured(start).items():
        derived = _derived(report, engine, name)
        if name == "consumed":  # weights and what is outside of torch, in one figure
            outside = _derived(report, engine, "other")
            yield MeasuredPart(name, measured, predicted(gpus[:1], "weights") + outside)
        elif derived:
            yield MeasuredPart(name, measured, derived)
        elif name != "tokens" and name not in DERIVED.get(engine, {}):
            expected = predicted(gpus if engine in GGML else gpus[:1], name)
            if expected:
                yield MeasuredPart(name, measured, expected)
        elif report.verdict is None and name in BY_CARD:
            yield MeasuredPart(name, measured, None)


def _measured(start: ServerStart) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in start.parts:
        if not any(host in part.device for host in HOSTS):
            sums[part.name] = sums.get(part.name, 0) + part.value
    if "tokens" in start.counts:
        sums["tokens"] = start.counts["tokens"]
    return sums


def gpus_of(report: Report) -> list[Device]:
    """Return the cards of a report, without the host."""
    return [device for device in report.devices if device.kind == "gpu"]


def predicted(gpus: Sequence[Device], name: str) -> int:
    """Return the expected bytes of a component on all cards, each at its peak."""
    return sum(device.binding().of(name).expected for device in gpus)


def overruled(parts: Sequence[MeasuredPart]) -> bool:
    """Return whether a rank's log differs from our estimate by more than FAR, so its build does
    something that our rules do not cover."""
    compared = [part for part in parts if part.name in (*HELD, "consumed")]
    expected = sum(part.predicted or 0 for part in compared)
    return abs(sum(part.measured for part in compared) - expected) > FAR * expected


def with_room(report: Report, parts: Sequence[MeasuredPart]) -> Report:
    """Return a report without a card, with the number of cached tokens from the log."""
    by_name = {part.name: part.measured for part in parts if part.predicted is None}
    tokens, context = by_name.get("tokens"), report.workload.get("context")
    if not tokens or not context:
        return report
    derived: DerivedFacts = {
        **report.derived,
        "kv_cache_tokens": tokens,
        "max_concurrency": round(tokens / context, 2),
    }
    if "kv_cache" in by_name:
        derived["available_kv_cache_bytes"] = by_name["kv_cache"]
    return replace(report, derived=derived)


def _with_cache(derived: DerivedFacts, measured: int, share: Fraction) -> DerivedFacts:
    """Return the derived figures of a cache of `measured` bytes, `share` times the expected
    size."""
    return {
        **derived,
        "available_kv_cache_bytes": measured,
        "kv_cache_tokens": int((derived.get("kv_cache_tokens") or 0) * share),
        "max_concurrency": round(float((derived.get("max_concurrency") or 0) * share), 2),
    }


def by_the_log(report: Report, parts: Sequence[MeasuredPart], budget: "Budget | None") -> Report:
    """Return a report in which the log's measurements replace our estimate on every card; verdict
    and cached tokens follow from them."""
    from weighbridge.answers.verdict import on_devices

    measured = {part.name: part.measured for part in parts}
    devices = tuple(
        replace(d, phases=tuple(_as_logged(p, measured) for p in d.phases))
        if d.kind == "gpu"
        else d
        for d in report.devices
    )
    verdict = report.verdict if budget is None else on_devices.serving(devices, budget)
    room = next((part for part in parts if part.name == "kv_cache"), None)
    derived: DerivedFacts = {**report.derived, "largest_context": None}
    if room is not None and room.predicted:
        derived = _with_cache(derived, room.measured, Fraction(room.measured, room.predicted))
    return replace(report, devices=devices, verdict=verdict, derived=derived)


def _as_logged(phase: Instant, measured: dict[str, int]) -> Instant:
    """Return a phase with the log's measurements in place of the components that they include."""
    replaced = {name: parts for name, parts in HELD.items() if name in measured}
    inside = {one for parts in replaced.values() for one in parts}
    logged = tuple(
        Component(name=name, bytes=exactly(measured[name]), basis="measured", source="the log")
        for name, parts in replaced.items()
        if any(c.name in parts for c in phase.components)
    )
    return Instant(phase.name, (*logged, *(c for c in phase.components if c.name not in inside)))
