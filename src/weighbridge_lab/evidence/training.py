"""The answer of `train` to a published figure of a training run.

    peak(record, table)     of the fullest device or of all, at the record's level
    first(record, table)    of the first micro-batch, where that has the longest sequence
    kind(record)            which published runs it is like

A setting has the names of `Train`. The record's engine is its framework, and its version the
framework's; of a loop over transformers it is that of transformers.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from weighbridge.answers import bounds
from weighbridge.answers.estimate import megatron
from weighbridge.answers.estimate.train import MEGATRON, Alone, first_step, run
from weighbridge.base.memory import LEVELS, Bytes, Device, Level, total
from weighbridge.base.records import dataclass
from weighbridge.base.units import MIB
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import Model, resolve
from weighbridge.training.host import FLOAT
from weighbridge.workload import read
from weighbridge_lab.evidence.records import HOST, PublishedFigure, config, origins

# Engines of records -> our names of frameworks, where they differ
FRAMEWORKS = {"transformers": "trainer"}
LIBRARIES = 300 * MIB  # kernels of cuBLAS and cuDNN, loaded after a context was read (CUDA 11)
RANK = "rank "  # before the number of a device, if a figure is not of the fullest
OVER_TRANSFORMERS = ("trainer", "plain")


@dataclass(frozen=True, slots=True)
class TrainingRunKey:
    """One run, as a key: figures of one log share the answer."""

    model: str
    setting: tuple[tuple[str, Any], ...]


def peak(record: PublishedFigure, table: bounds.MarginTable | None) -> Bytes:
    """Return the peak at the record's level. Raises WeighbridgeError if our rules refuse the
    run."""
    level: Level = next(known for known in LEVELS if known == record.level)
    run_ = _run(_asked(record))
    devices = [device for device in run_.devices(table) if device.kind == "gpu"]
    rank = record.device.removeprefix(RANK)
    if rank != record.device:
        devices = [device for device in devices if device.index == int(rank)]
    context = record.given.get("context")
    if context is not None:
        return max((_beside(device, context) for device in devices), key=lambda b: b.expected)
    peaks = [_peak(device, level, record.phase) for device in devices]
    return total(peaks) if record.device == "gpus" else max(peaks, key=lambda b: b.expected)


def _peak(device: Device, level: Level, phase: str) -> Bytes:
    """Return the peak of one phase; of the fullest one if `phase` is ""."""
    named = [one.at(level) for one in device.phases if one.name == phase]
    return named[0] if named else device.peak(level)


# Parts of the host's memory in DeepSpeed's log, which adds them in turn: (component, its detail)
PARTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "host_master": (("master_weights", ""),),
    "host_states": (("optimizer_states", ""), ("gradients", FLOAT)),
}


def host(record: PublishedFigure, table: bounds.MarginTable | None) -> Bytes:
    """Return what one machine holds besides file pages, in a phase or the fullest; for a part of
    the record, only what its components hold."""
    run_ = _run(_asked(record))
    (machine,) = (device for device in run_.devices(table) if device.kind == HOST)
    phases = [p for p in machine.phases if record.phase in ("", p.name)]
    parts = PARTS.get(record.quantity)
    if parts is None:
        return max((p.needed for p in phases), key=lambda b: b.expected)
    sums = [total(c.bytes for c in p.components if (c.name, c.detail) in parts) for p in phases]
    return max(sums, key=lambda b: b.expected)


def _beside(device: Device, context: int) -> Bytes:
    """Return the peak, with the measured context and libraries loaded later instead of our
    context."""
    read_context = Bytes(context, context, context + LIBRARIES)
    return max(
        (
            total((*(c.bytes for c in phase.components if c.name != "context"), read_context))
            for phase in device.phases
        ),
        key=lambda b: b.expected,
    )


def first(record: PublishedFigure, table: bounds.MarginTable | None) -> Bytes:
    """Return the peak of the first step at the level `allocated`."""
    run_ = _run(_asked(record))
    assert isinstance(run_, Alone)
    return Bytes(*first_step(run_.answer.derived, run_.like, table)["first_step_peak_interval"])


def kind(record: PublishedFigure) -> bounds.RunGroup | None:
    """Return the kind of published runs like the record's; None for host memory, which has no
    margin."""
    if record.device == HOST:
        return None
    run_ = _run(_asked(record))
    several = sum(device.kind == "gpu" for device in run_.devices()) > 1
    return bounds.kind(run_.like, bounds.PEAK, record.level, several=several)


def like(record: PublishedFigure) -> bounds.RunForm:
    """Return the form of a record's run."""
    return _run(_asked(record)).like


def _asked(record: PublishedFigure) -> TrainingRunKey:
    framework = FRAMEWORKS.get(record.engine, record.engine)
    version = "engine_version" if framework in OVER_TRANSFORMERS else "framework_version"
    card = f"{record.accelerator}:{record.count}" if record.accelerator else None
    settings = {"framework": framework, version: record.version, "gpu": card, **record.setting}
    sorted_settings = {n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()}
    return TrainingRunKey(record.model, tuple(sorted(sorted_settings.items())))


@cache
def _run(key: TrainingRunKey) -> Alone | megatron.MegatronRuns:
    workload = read("train", dict(key.setting))
    runs = megatron.run if workload.framework == MEGATRON else run
    return runs(_model(key.model), workload)


@cache
def _model(name: str) -> Model:
    return resolve(gather_config(config(origins()[name]), reference=name))
