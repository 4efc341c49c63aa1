"""Refusals by an engine: of a launch command that it may not start with, or of a whole question.

A command gets a verdict, whatever the memory:

    unknown flags, another kind of device     cannot say
    more devices than the environment leaves  does not fit
    a format that the checkpoint is not in    does not fit
    a context beyond the model's maximum      does not fit; the variable that allows it is a remedy

Source: vllm 0.33 config/model.py (_verify_quantization, _get_and_verify_max_len); sglang 0.5.23
srt/configs/model_config.py (_derive_context_length, _verify_quantization).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.answers.estimate.infer import infer
from weighbridge.base.errors import NotServedError, UnsupportedError, WeighbridgeError
from weighbridge.base.records import replace
from weighbridge.base.sentences import about, clauses, sentence
from weighbridge.base.wording import either
from weighbridge.engines.engine import Engine
from weighbridge.engines.format_choice import NOT_STORED
from weighbridge.engines.launch.paths import packed
from weighbridge.engines.launch.record import Obstacle
from weighbridge.engines.table import ENGINES, record, title
from weighbridge.engines.weight_formats import runs_on
from weighbridge.machines.accelerators.parts import Part
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Condition, Remedy, Verdict
from weighbridge.models.checkpoint.model import Model
from weighbridge.settings.ranks import SIZES
from weighbridge.workload import Infer

if TYPE_CHECKING:
    from weighbridge.engines.launch import Launch

ON = ("1", "true")  # values that turn an environment variable on
TOO_LONG = (
    "vllm 0.33 config/model.py: User-specified max_model_len is greater than the derived "
    "max_model_len; sglang 0.5.23: User-specified context_length is greater than the derived "
    "context_length"
)
STARTS = {"no": "will not start", "unknown": "may not start"}
# Flags that change the model's maximum length
_CONFIGURES = """
--hf-overrides --rope-scaling --rope-theta --hf-config-path --config-format
--json-model-override-args
"""
CONFIGURES = frozenset(_CONFIGURES.split())
NODES = frozenset(("--nnodes", "-n"))  # with these, cards may be on other machines
RANKS = SIZES["tensor"]
LOCAL = frozenset(("--data-parallel-size-local", "-dpl"))  # replicas on this machine


def as_it_is(workload: Infer, launched: "Launch", model: Model) -> Infer:
    """Return the workload without a quantization that the launch line names but the checkpoint does
    not have: the stored weights are estimated, and `judged` adds the engine's refusal."""
    quantization = str(launched.settings.get("quantization", ""))
    wrong = launched.stored_as.endswith(f" {quantization}") and not model.parts[0].packed
    return (
        workload.but(quantization=None)
        if quantization and wrong and workload.quantization == quantization
        else workload
    )


def longest(report: Report, workload: Infer, launched: "Launch") -> int | None:
    """Return the longest context that surely serves, if the engine would choose it and the model's
    maximum does not surely serve; else None."""
    if not launched.longest or workload.context is not None:
        return None
    if report.verdict is None or report.verdict.fits == "yes":
        return None
    return report.derived.get("largest_context") or None


def told_longest(report: Report, length: int) -> Report:
    """Return the report with a warning that it estimates the longest context that surely serves."""
    lead = f"{length:,} tokens is the longest context that surely serves, and what was sized"
    return replace(report, warnings=(*report.warnings, lead))


def judged(report: Report, launched: "Launch", model: Model) -> Report:
    """Return the report with a verdict that includes what the engine refuses at its start."""
    name = title(launched.engine)
    beyond = _beyond(report, launched)
    unread = list(_of_model(launched, model))
    used = 0 if report.verdict is None else report.verdict.devices_used
    few = (each for each in launched.stops if each.cards is None or each.cards < used)
    stops = [*few, *unread]
    if beyond:
        stops.append(Obstacle("no", beyond, "tried", TOO_LONG))
    was = report.verdict
    if was is not None and NODES & launched.given and not LOCAL & launched.given:
        report = replace(report, verdict=(was := _with_other_machines(was, launched)))
    if was is None or was.fits == "no":  # its reason differs, if it has one
        report = replace(report, warnings=(*report.warnings, *(each.why for each in unread)))
    if was is not None and stops:
        weights = report.fullest.phases[0].of("weights").low
        if weights > was.usable.high and not was.usable_each:
            stops = [s._replace(answer="unknown") if s.answer == "beside" else s for s in stops]
        stopped = _stopped(was, name, stops)
        report = replace(report, verdict=stopped, remedies=_left(report.remedies, stops))
    if not beyond:
        return report
    helps = was is not None and was.fits != "no" and len(stops) == 1
    return _allowed(report, launched.engine, was if helps else None)


def _with_other_machines(was: Verdict, launched: "Launch") -> Verdict:
    """Return the verdict opened if it lacks cards that other machines of the launch may have."""
    if all(c.name != "devices" for c in was.conditions):
        return was
    every = (c._replace(opens="yes") if c.name == "devices" else c for c in was.conditions)
    away = sentence("flag.other_machines")
    why = sentence("not_modelled", name=min(NODES & launched.given), reason=away)
    return replace(was, conditions=tuple(every)).under(reason=clauses(was.reason, why))


def _stopped(was: Verdict, name: str, stops: list[Obstacle]) -> Verdict:
    """Return the verdict with the engine's obstacles; one that is "no" already keeps its reason."""
    turned = was.under(*map(_condition, stops), reason=was.reason)
    if was.fits == "no" == turned.fits:
        return turned
    refused = turned.fits == "no"
    reason: str = clauses(*(s.why for s in stops if s.answer == "no" or not refused))
    if was.fits != "no":
        reason = about(f"{name} {STARTS[turned.fits]}", reason)
    if turned.fits == was.fits:
        reason = clauses(reason, was.reason)
    return replace(turned, reason=reason)


def _condition(stop: Obstacle) -> Condition:
    if stop.answer == "no":
        return Condition("starts", ground=stop.ground or "tried", source=stop.seen)
    return Condition("read", opens="yes" if stop.answer == "unknown" else "either", source=stop.why)


def _left(remedies: tuple[Remedy, ...], stops: list[Obstacle]) -> tuple[Remedy, ...]:
    """Return the remedies that may still help: none if the engine refuses the line, but fewer ranks
    if it sees too few cards."""
    seen = stops[0].cards if len(stops) == 1 else None
    if seen is not None:
        return tuple(r for r in remedies if 0 < r.change.get(RANKS, 0) <= seen)
    if any(each.answer == "no" for each in stops):
        return ()
    return tuple(replace(r, fits="unknown") if r.fits == "yes" else r for r in remedies)


def _of_model(launched: "Launch", model: Model) -> Iterator[Obstacle]:
    part = model.parts[0]
    if not launched.stored_as or part.packed or part.library != "transformers":
        return
    if launched.model not in (model.repo_id, model.reference, model.name):  # which stands in for it
        if not packed(launched.model):
            names = {"form": launched.stored_as, "name": launched.model}
            yield Obstacle("unknown", sentence("stands_in", **names))
    else:
        why = f"{launched.stored_as} is of a checkpoint that is stored so, and this is not"
        yield Obstacle("no", why, "tried", NOT_STORED)


def _beyond(report: Report, launched: "Launch") -> str:
    """Return why the engine refuses the context; "" if it does not."""
    end, context = report.derived.get("longest_context"), report.workload.get("context")
    allows = record(launched.engine).longer
    if not allows or end is None or context is None or context <= end:
        return ""
    if launched.env.get(allows, "").lower() in ON or CONFIGURES & launched.given:
        return ""
    return f"{context:,} tokens were asked for, and the model's maximum is {end:,}"


def _allowed(report: Report, engine: str, then: Verdict | None) -> Report:
    """Return the report with the variable as a remedy if it leads to `then`, not in its line."""
    variable = f"{record(engine).longer}=1"
    line = report.derived.get("launch")
    if line:
        facts = report.derived | {"launch": line.removeprefix(f"{variable} ")}
        report = replace(report, derived=facts)
    if then is None:
        return report
    remedy = Remedy(
        change={variable.removesuffix("=1"): "1"},
        peak_bytes=report.peak.expected,
        fits=then.fits,
        cost="beyond what it was made for, a model may write nonsense",
        flags=variable,
    )
    return replace(report, remedies=(remedy, *report.remedies))


def named(report: Report, launched: "Launch") -> Report:
    """Return the report with the engine's parsed command line and the engine's own defaults."""
    settings = {
        "engine": launched.engine,
        "program": launched.program,
        "ignored": launched.ignored,
        "unknown": launched.unknown,
        "defaults": [
            {"name": name, "value": value, "why": why} for name, value, why in launched.defaults
        ],
    }
    return replace(
        report,
        derived={**report.derived, "command": settings},
        warnings=(*launched.warnings, *report.warnings),
    )


# ---- Engines that answer a question which another refuses: each one is tried, so that no refusal
# recommends an engine that refuses as well


def by_others(error: NotServedError, model: Model, workload: Infer) -> UnsupportedError:
    """Return the refusal, naming the engines that answer the question on the same device; as it was
    if only another device helps."""
    budget = workload.budget()
    card = None if budget is None else budget.choice.part
    able = tuple(_answering(error, model, workload, card))
    if able:
        does = sentence("does_it", engines=either(able))
        return UnsupportedError(error.what, where=error.where, then=does)
    if error.away:
        return UnsupportedError(error.sentence)
    nobody = sentence("nobody") if card is None else sentence("nobody_on", card=card.name)
    return UnsupportedError(error.what, where=error.where, then=nobody)


def _answering(
    error: NotServedError, model: Model, workload: Infer, card: Part | None
) -> Iterator[str]:
    asked = (workload.engine, error.engine)
    others = (
        engine for engine in ENGINES.values() if engine.name not in asked and runs_on(engine, card)
    )
    yield from (kind.name for kind in others if _answers(kind, model, workload))


def _answers(kind: Engine, model: Model, workload: Infer) -> bool:
    """Return whether an engine gives an estimate, with its default settings."""
    asked = Infer(
        engine=kind.name,
        dtype=workload.dtype,
        quantization=workload.quantization,
        context=workload.context,
        batch_size=workload.batch_size,
        gpu=workload.gpu,
        gpu_memory=workload.gpu_memory,
    )
    try:
        infer(model, asked, limits=())
    except WeighbridgeError:
        return False
    return True
