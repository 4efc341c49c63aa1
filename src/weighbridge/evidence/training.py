"""What `train` says for a published figure of a training run.

    peak(record) -> Bytes       of the fullest device or of all, at the record's level
    first(record) -> Bytes      of the first micro-batch, where that has the longest sequence

A setting has the names of `Train`. The record's engine is its framework, and its version the
framework's; of a loop over transformers it is that of transformers.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from weighbridge.estimate.train import train
from weighbridge.evidence.records import Record, config, origins
from weighbridge.gather import gather_config
from weighbridge.memory import LEVELS, Bytes, Level, exactly, total
from weighbridge.model import Model, resolve
from weighbridge.report import Report
from weighbridge.settings import read
from weighbridge.units import MIB

# Engines of records -> our names of frameworks, where they differ
FRAMEWORKS = {"transformers": "trainer"}
LIBRARIES = 300 * MIB  # kernels of cuBLAS and cuDNN, loaded after a context was read (CUDA 11)
OVER_TRANSFORMERS = ("trainer", "plain")


@dataclass(frozen=True, slots=True)
class Asked:
    """One run, as a key: figures of one log share the answer."""

    model: str
    setting: tuple[tuple[str, Any], ...]


def peak(record: Record) -> Bytes:
    """Raises WeighbridgeError where our rules refuse it."""
    level: Level = next(known for known in LEVELS if known == record.level)
    if "context" in record.given:
        level = "reserved"
    devices = [d for d in _run(_asked(record)).devices if d.kind == "gpu"]
    peaks = [d.peak(level) for d in devices]
    found = total(peaks) if record.device == "gpus" else max(peaks, key=lambda b: b.expected)
    context = record.given.get("context")
    return found if context is None else found.plus(Bytes(context, context, context + LIBRARIES))


def first(record: Record) -> Bytes:
    """At the level `allocated`."""
    return exactly(int(_run(_asked(record)).derived["first_step_peak_bytes"]))


def _asked(record: Record) -> Asked:
    framework = FRAMEWORKS.get(record.engine, record.engine)
    version = "engine_version" if framework in OVER_TRANSFORMERS else "framework_version"
    card = f"{record.accelerator}:{record.count}" if record.accelerator else None
    given = {"framework": framework, version: record.version, "gpu": card, **record.setting}
    setting = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
    return Asked(record.model, tuple(sorted(setting.items())))


@cache
def _run(asked: Asked) -> Report:
    return train(_model(asked.model), read("train", dict(asked.setting)))


@cache
def _model(name: str) -> Model:
    return resolve(gather_config(config(origins()[name]), reference=name))
