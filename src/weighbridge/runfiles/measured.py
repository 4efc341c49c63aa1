"""What a log measured beside what we predict for the same run, part by part."""

from collections.abc import Iterator, Sequence

from weighbridge.memory import Device
from weighbridge.records import NamedTuple
from weighbridge.report import Report
from weighbridge.runfiles.record import ServerStart

# Where an answer has a part that a log of an engine prints for one rank
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
GGML = ("llama.cpp", "ollama")
HOSTS = ("CPU", "Host", "BLAS")  # buffers that are not on a card


class MeasuredPart(NamedTuple):
    """One part: bytes, or tokens where `name` is that. `predicted` is the expected value."""

    name: str
    measured: int
    predicted: int


def beside(start: ServerStart, report: Report) -> tuple[MeasuredPart, ...]:
    """Return the parts that both a log and an answer have; none where they are of two engines."""
    engine = str(report.workload.get("engine", ""))
    if start.program != engine and not {start.program, engine} <= set(GGML):
        return ()
    return tuple(_parts(start, report, engine))


def _parts(start: ServerStart, report: Report, engine: str) -> Iterator[MeasuredPart]:
    gpus = [device for device in report.devices if device.kind == "gpu"]
    if not gpus:
        return
    for name, measured in _measured(start).items():
        derived = report.derived.get(DERIVED.get(engine, {}).get(name, ""))
        if isinstance(derived, int) and derived:
            yield MeasuredPart(name, measured, derived)
        elif name != "tokens" and name not in DERIVED.get(engine, {}):
            predicted = _predicted(gpus if engine in GGML else gpus[:1], name)
            if predicted:
                yield MeasuredPart(name, measured, predicted)


def _measured(start: ServerStart) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in start.parts:
        if not any(host in part.device for host in HOSTS):
            sums[part.name] = sums.get(part.name, 0) + part.value
    if "tokens" in start.counts:
        sums["tokens"] = start.counts["tokens"]
    return sums


def _predicted(gpus: Sequence[Device], name: str) -> int:
    return sum(
        c.bytes.expected
        for device in gpus
        for phase in device.phases
        if phase.name == device.peak_phase
        for c in phase.components
        if c.name == name
    )
