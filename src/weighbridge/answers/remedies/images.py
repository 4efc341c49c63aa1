"""Remedies for an image network, in the order in which people take them: 16 bits, an 8-bit
optimizer, and half as many pictures per batch, repeatedly."""

from collections.abc import Iterator
from typing import Any

from weighbridge.answers.remedies.climbing import Ask, Step, climb
from weighbridge.answers.remedies.pictures import CAST, SMALL
from weighbridge.base.sentences import sentence
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Price, Remedy

FEW = Price(quality=1)


def ladder(report: Report, w: Any, ask: Ask, pinned: frozenset[str]) -> tuple[Remedy, ...]:
    """Return the steps climbed from the user's question. No typed setting changes."""
    return climb(report, w, ask, pinned, _steps(report))


def _steps(report: Report) -> Iterator[Step]:
    row = report.workload
    if report.task == "train":
        yield Step({"precision": "bf16-mixed"}, sentence("step.half"), CAST)
        yield Step({"optimizer": "adamw_8bit"}, sentence("step.optimizer"), FEW)
    else:
        yield Step({"dtype": "float16"}, sentence("step.half"), CAST)
    batch = row["batch_size"] // 2
    while batch:
        yield Step({"batch_size": batch}, sentence("step.batch", batch=batch), SMALL)
        batch //= 2
