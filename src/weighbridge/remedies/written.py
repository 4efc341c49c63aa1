"""A change as flags, and what to paste for it."""

from collections.abc import Mapping
from typing import Any

from weighbridge.remedies.case import Case
from weighbridge.report import Report


def flags(change: Mapping[str, Any]) -> str:
    """The change as this program's own flags."""
    return " ".join(_flag(name, value) for name, value in change.items())


def _flag(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return flag
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{flag} {text}" if " " not in text else f"{flag} '{text}'"


def paste(case: Case, report: Report) -> str:
    """The whole line that does what was sized; "" where there is none."""
    del case
    return str(report.derived.get("launch") or "")


def note(report: Report, notes: tuple[str, ...]) -> str:
    """What must be done first, or why there is nothing to paste."""
    said = [*notes, str(report.derived.get("launch_note") or "")]
    return "; ".join(dict.fromkeys(filter(None, said)))
