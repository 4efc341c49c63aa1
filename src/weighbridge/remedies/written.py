"""A change as flags, and what to paste for it."""

from collections.abc import Mapping
from typing import Any

from weighbridge.estimate.served import LENGTH
from weighbridge.remedies.case import Case
from weighbridge.report import Report

# What llama.cpp calls them, and this program too
SHORT = {"n_gpu_layers": "-ngl", "n_cpu_moe": "-ncmoe", "cache_type_k": "-ctk"}
SHORT["cache_type_v"] = "-ctv"


def flags(change: Mapping[str, Any], engine: str) -> str:
    """The change as the engine's own flags where this program has the same, else as its own."""
    return " ".join(_flag(name, value, engine) for name, value in change.items())


def _flag(name: str, value: Any, engine: str) -> str:
    flag = SHORT.get(name) or f"--{name.replace('_', '-')}"
    if name == "context" and engine in LENGTH:
        flag = LENGTH[engine]
    if value is True:
        return flag
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{flag} {text}" if " " not in text else f"{flag} '{text}'"


def paste(case: Case) -> str:
    """The whole line that does what was sized; "" where there is none."""
    return str(case.report.derived.get("launch") or "")


def note(report: Report, notes: tuple[str, ...]) -> str:
    """What must be done first, or why there is nothing to paste."""
    said = [*notes, str(report.derived.get("launch_note") or "")]
    return "; ".join(dict.fromkeys(filter(None, said)))
