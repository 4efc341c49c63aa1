"""One report as one row of a table: flat, typed, and with the same columns for every task.

    columns(report)    {"task": "infer", "engine": "vllm", ..., "need": 19371433984, ...}

Columns may be added later; what a column means never changes.
"""

from collections import Counter
from typing import TYPE_CHECKING, Literal

from weighbridge.base.memory import Device
from weighbridge.base.records import NamedTuple

if TYPE_CHECKING:
    from weighbridge.memory.report import Report

FlatValue = str | int | None


class FlatColumn(NamedTuple):
    """A column: its name, the kind of its values, and their meaning."""

    name: str
    kind: Literal["text", "whole"]
    meaning: str


COLUMNS = (
    FlatColumn("task", "text", "load, infer or train"),
    FlatColumn("engine", "text", "the program that loads, serves or trains it"),
    FlatColumn("engine_version", "text", "its release, whose rules were used"),
    FlatColumn("method", "text", "of training: full, lora, qlora, dora"),
    FlatColumn("format", "text", "the format that weights are packed in; null: as they are"),
    FlatColumn("context", "whole", "tokens of a request, or of a row that is trained on"),
    FlatColumn("gpu", "text", "the card, by its id of `weighbridge gpus`"),
    FlatColumn("count", "whole", "how many such cards"),
    FlatColumn("fits", "text", "yes, no or unknown; null where no card was named"),
    FlatColumn(
        "need_low", "whole", "bytes of the fullest card that we would be surprised to see less of"
    ),
    FlatColumn("need", "whole", "bytes that are expected there, as nvidia-smi shows them"),
    FlatColumn("need_high", "whole", "bytes that we would be surprised to see more of"),
    FlatColumn("usable", "whole", "bytes of one card that can be had"),
    FlatColumn("parameters", "whole", "of the class that the config names"),
    FlatColumn("kv_per_token", "whole", "bytes of the cache for each token of a request"),
    FlatColumn("basis", "text", "what most bytes of `need` rest on: read, computed, ... assumed"),
)


def columns(report: "Report") -> dict[str, FlatValue]:
    """Return one value per column of COLUMNS; None if it does not apply."""
    w, verdict, peak = report.workload, report.verdict, report.peak
    return {
        "task": report.task,
        "engine": w.get("engine"),
        "engine_version": w.get("engine_version"),
        "method": w.get("method") if report.task == "train" else None,
        "format": w.get("quantization"),
        "context": w.get("seq_len") if report.task == "train" else w.get("context"),
        "gpu": None if verdict is None else verdict.accelerator_id,
        "count": None if verdict is None else verdict.count,
        "fits": None if verdict is None else verdict.fits,
        "need_low": peak.low,
        "need": peak.expected,
        "need_high": peak.high,
        "usable": None if verdict is None else verdict.usable_bytes,
        "parameters": report.model.parameters,
        "kv_per_token": report.derived.get("kv_cache_bytes_per_token"),
        "basis": _basis(report.fullest),
    }


def _basis(device: Device) -> str | None:
    """Return how most bytes of the fullest phase are known ("computed"); None without
    components."""
    found: Counter[str] = Counter()
    for component in device.binding().components:
        found[component.basis] += component.bytes.expected
    return max(found, key=found.__getitem__, default=None)
