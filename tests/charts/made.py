"""Reports, timelines and records with numbers that a reader can add up."""

from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.records import replace
from weighbridge.memory.report import ModelFacts, Report
from weighbridge.memory.report.verdict import Condition, HostVerdict, Verdict
from weighbridge_lab.measure.record import Levels, MeasuredMachine, MeasuredRun, Measurement
from weighbridge_lab.measure.record import MeasuredPhase as Measured

GIB = 1 << 30


def gib(low, expected=None, high=None):
    expected = low if expected is None else expected
    high = expected if high is None else high
    return Bytes(*(round(n * GIB) for n in (low, expected, high)))


def component(name, size, **more):
    size = gib(*size) if isinstance(size, tuple) else gib(size)
    return Component(name=name, bytes=size, basis="computed", **more)


def phase(name, **sizes):
    return Instant(name, tuple(component(n, s) for n, s in sizes.items()))


SERVING = (
    phase("load", weights=15, context=0.5),
    phase("prefill", weights=15, kv_cache=4, activations=(0.5, 1, 2), context=0.5),
    phase("decode", weights=15, kv_cache=4, activations=0.25, context=0.5),
)


def device(index=0, phases=SERVING, kind="gpu", taken=None):
    return Device(index=index, kind=kind, phases=tuple(phases), taken=taken)


def facts(name="llama-3.1-8b"):
    return ModelFacts(
        name, None, name, "LlamaForCausalLM", 8_030_261_248, 8_030_261_248, None, None, ("a test",)
    )


def verdict(
    fits="yes",
    usable=(23.5, 23.5, 23.5),
    per_device=None,
    count=1,
    used=1,
    card="RTX 4090",
    ram=None,
):
    each = per_device or gib(20, 20.5, 21.5)
    have = gib(*usable)
    host = None
    if ram is not None:
        host = HostVerdict(needed=gib(1), phase="load", room=gib(ram), fits="yes", reason="")
    return Verdict(
        accelerator=card, accelerator_id=card, count=count, usable_bytes=have.low, fits=fits,
        margin_bytes=have.low - each.expected, reason="", marketed_gb=24, total=have, visible=have,
        usable=have, headroom_bytes=0, per_device=each, devices_used=used, basis="read", source="",
        host=host, conditions=(HOLDS[fits],),
    )  # fmt: skip


HOLDS = {  # a condition by its answer
    "yes": Condition("room", exactly(1), exactly(1)),
    "unknown": Condition("room", exactly(1), Bytes(0, 1, 1)),
    "no": Condition("room", exactly(1), exactly(0)),
}


def answering(judged, fits, **more):
    """A verdict with another answer."""
    return replace(judged, fits=fits, conditions=(HOLDS[fits],), **more)


def report(devices=None, judged=None, name="llama-3.1-8b", task="infer", **workload):
    settings = {
        "engine": "vllm",
        "engine_version": "0.33",
        "context": 4096,
        "batch_size": 1,
        **workload,
    }
    return Report(
        task=task, model=facts(name), workload=settings, devices=tuple(devices or (device(),)), verdict=judged
    )  # fmt: skip


def host(size=1, pages=40):
    held = (component("other", size), component("weights", pages, droppable=True))
    return device(0, (Instant("load", held),), kind="host")


def scaled(index, factor):
    """A device whose every component is `factor` times that of the first."""
    phases = (
        Instant(
            p.name, tuple(component(c.name, factor * c.bytes.expected / GIB) for c in p.components)
        )
        for p in SERVING
    )
    return device(index, phases)


def timeline(events=40, memory=None, devices=1, program="train.py --steps 2"):
    """Weights from the start, activations that grow and go, and a reserve above both."""
    weights = [GIB] * events
    kept = [min(i, events - 1 - i) * GIB // 8 for i in range(events)]
    one = {
        "length": events,
        "events": list(range(events)),
        "allocated": [a + b for a, b in zip(weights, kept, strict=True)],
        "reserved": [max(kept[: i + 1]) + GIB * 3 // 2 for i in range(events)],
        "roles": {"weight": weights, "saved activation": kept, "rounding": [0] * events},
        "modules": ["m"] * events,
        "bands": [
            {"phase": "forward", "first": 0, "last": events // 2 - 1},
            {"phase": "backward", "first": events // 2, "last": events - 1},
        ],
    }
    named = [
        {**one, "index": i, "allocated": [n + i for n in one["allocated"]]} for i in range(devices)
    ]
    return {
        "schema": "weighbridge.timeline/1",
        "program": program,
        "gpu": "T4",
        "memory": memory,
        "devices": named,
    }


def run(*peaks):
    phases = tuple(Measured(name=n, peak=Levels(*(round(x * GIB) for x in p))) for n, p in peaks)
    return MeasuredRun(outcome="done", phases=phases, driver="nvml", seconds=1.0)


def record(target="train.py", predicted=True):
    here = MeasuredMachine(gpu="NVIDIA H200", card="h200", capability="9.0", total_memory=140 * GIB, driver="570",
                   versions={"torch": "2.13.0", "cuda": "12.8"})  # fmt: skip
    measured = run(("load", (15, 15.25, 16)), ("backward", (33, 34, 35)))
    ours = run(("load", (15, 15.25, 15.5)), ("backward", (33, 34, 35.7)))
    return Measurement(target=target, date="2026-11-21", version="0.1.0", machine=here, measured=measured,
                  predicted=ours if predicted else None)  # fmt: skip
