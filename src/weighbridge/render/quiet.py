"""One number for scripts: the expected driver-level peak, in bytes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weighbridge.report import Report


def quiet(report: "Report") -> str:
    return f"{report.peak.expected}\n"
