"""Several models on the same cards: each is estimated by itself, and their memory is added up.

A process has its own context on the card, which each answer counts, so their memory adds up. An
engine that budgets a share of the card gets the smallest share that serves the workload.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.answers.questions.fit.ladder import engine_of
from weighbridge.answers.questions.prepared import Prepared
from weighbridge.base.errors import NotServedError, UnsupportedError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.engines.table import record, usual
from weighbridge.machines.accelerators.budget import Budget, budget
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Accelerator
from weighbridge.memory.report.together import Service, Services

SHARE = "gpu_memory_utilization"  # share of the card's total, whatever else is on it
STEPS = 12  # hundredths of a card that are tried above the minimum
WHOLE = 100


def together(
    models: Sequence[Any], opened: Callable[[Any], Prepared], settings: Mapping[str, Any]
) -> Services:
    """Return whether these models fit the same cards at once.

    Raises UsageError without a card, or with one model; UnsupportedError if our rules do not know
    how an engine budgets part of a card.
    """
    if len(models) < 2:
        raise UsageError(sentence("together_two"))
    room = budget(settings.get("gpu"), settings.get("gpu_memory"), settings.get("headroom"))
    if room is None:
        raise UsageError(sentence("together_card"))
    services = tuple(_service(opened(model), room, settings) for model in models)
    verdict = services[0].verdict
    return Services(
        services=services,
        accelerator=Accelerator(
            name=verdict.accelerator,
            id=verdict.accelerator_id,
            count=verdict.count,
            total=verdict.visible.low,
            free=verdict.usable_bytes,
        ),
        usable=room.usable,
    )


def _service(model: Prepared, room: Budget, settings: Mapping[str, Any]) -> Service:
    """Return the answer for one model, by the user's engine or the usual one for the card."""
    report = _asked(model, room, settings)
    if not record(str(report.workload["engine"])).server:
        return Service(report=report)
    if report.setting(SHARE) is None:
        raise UnsupportedError(sentence("fraction", engine=report.workload["engine"]))
    return _shared(model, report, room, settings)


def _asked(model: Prepared, room: Budget, settings: Mapping[str, Any]) -> Report:
    """Return the report by the engine that the user or the model's name sets, else by the usual one
    for the card."""
    plain = model.infer(remedies=False, **settings)
    engine = engine_of(room.choice.part).name
    named = "engine" in settings or plain.workload["engine"] != usual().name
    if named or engine == plain.workload["engine"]:
        return plain
    try:
        return model.infer(remedies=False, **{**settings, "engine": engine})
    except (NotServedError, UsageError):
        return plain


def _shared(model: Prepared, report: Report, room: Budget, settings: Mapping[str, Any]) -> Service:
    """Return the answer with the smallest share by which the engine serves; without a share if none
    does."""
    if SHARE in settings:
        return Service(report=report, share=float(settings[SHARE]))
    about = {**settings, "engine": report.workload["engine"]}
    for share in _shares(report, room):
        answer = model.infer(remedies=False, **{**about, SHARE: share})
        serves = answer.verdict is not None and answer.verdict.fits == "yes"
        if serves and answer.peak == report.peak:  # with no flag that lowers the peak
            return Service(report=answer, share=share)
    return Service(report=report)


def _shares(report: Report, room: Budget) -> Iterator[float]:
    assert report.verdict is not None
    least = ceil_div(WHOLE * report.verdict.per_device.low, room.choice.part.total.bytes.expected)
    yield from (n / WHOLE for n in range(max(1, least), min(least + STEPS, WHOLE)))
