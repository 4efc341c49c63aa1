"""What an answer says of the question beside the estimate: settings in effect, names as they were
understood, and the line of Python that trains so.
"""

from dataclasses import replace
from typing import Any, cast

from weighbridge.questions.question import Asked, ModelQuestion
from weighbridge.report import Report
from weighbridge.report.keys import EffectiveSettings
from weighbridge.workload import besides


def remarked(report: Report, typed: ModelQuestion[Asked], meant: Asked) -> Report:
    """Add all that was asked to the settings of a report, and a word on each name that was read as
    another one. `meant` are the settings that were estimated."""
    if typed.task == "train":
        report = _with_optimizer(report, typed.workload)
    more = besides(report.task, meant, report.workload)
    if more:
        report = replace(report, workload=cast(EffectiveSettings, {**report.workload, **more}))
    if meant.quantization in (None, typed.workload.quantization):
        return report
    from weighbridge.engines.format_names import said

    return _warned(report, said(typed.workload.quantization, meant.quantization or ""))


def _with_optimizer(report: Report, typed: Any) -> Report:
    """Add a word on the optimizer that a name was read as."""
    if typed.optimizer is None:
        return report
    from weighbridge.training.optimizers import taken_as

    return _warned(report, taken_as(typed.optimizer))


def _warned(report: Report, line: str) -> Report:
    return replace(report, warnings=(line, *report.warnings)) if line else report


def with_launch_line(report: Report, w: Any, loads: str, packed: tuple[str, str]) -> Report:
    """Add the line of Python that trains it so, unless it is known not to fit. `loads` is what
    that line is told to load; `packed` the format of the files and their quant_method."""
    v = report.verdict
    if v is not None and v.fits == "no":
        return report
    from weighbridge.training.launching import TrainerRun, line, start

    run = line(TrainerRun(report.workload, w, loads, report.model.architecture, *packed))
    note = run.why or start(1 if v is None else v.count)
    derived = report.derived | {"launch": run.text or None, "launch_note": note or None}
    return replace(report, derived=derived)
