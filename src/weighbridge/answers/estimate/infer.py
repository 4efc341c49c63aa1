"""`infer`: memory for serving a model, by the rules of one engine."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.answers import bounds
from weighbridge.answers.estimate import exact, served, traits, uncounted
from weighbridge.answers.estimate.divided import divided
from weighbridge.answers.estimate.facts import cautions, derived, facts
from weighbridge.answers.estimate.limits import LIMITED, Setting, answered, runs
from weighbridge.answers.estimate.limits import limits as how_far
from weighbridge.answers.estimate.spilling import spilled
from weighbridge.answers.verdict import on_devices, on_host
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.memory import Bytes, Device
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines.ignorance import STANDS_IN
from weighbridge.engines.interface import EngineAnswer, Subject
from weighbridge.engines.stand_ins import STAND_INS
from weighbridge.engines.subject import subject as subject_of
from weighbridge.engines.table import Engine, engine, version, written
from weighbridge.engines.weight_formats import by_default
from weighbridge.memory.components.weights import unpacked_experts
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import (
    CountName,
    DerivedFacts,
    EffectiveSettings,
    Interval,
    IntervalName,
)
from weighbridge.memory.report.verdict import Answer as Fits
from weighbridge.memory.report.verdict import Condition, Remedy
from weighbridge.models.checkpoint.model import Model
from weighbridge.workload import SPREAD, Infer, foreign, layouts

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

# Intervals in the derived facts, and the published figure and level that widen each
TOLD: Mapping[IntervalName, tuple[str, str]] = {
    "serving_interval": (bounds.PEAK, "driver"),
    "available_kv_cache_interval": ("kv_available", "component"),
    "profile_peak_interval": ("activation", "component"),
    "model_loading_interval": ("weights", "component"),
    "max_total_num_tokens_interval": ("kv_tokens", "component"),
    "swa_max_total_num_tokens_interval": ("kv_tokens_sliding", "component"),
    "ollama_ps_interval": ("ps", "component"),
}
# Counts that the rules give as one number, and the interval made of each by published figures
COUNTED: Mapping[CountName, IntervalName] = {
    "model_loading_bytes": "model_loading_interval",
    "max_total_num_tokens": "max_total_num_tokens_interval",
    "swa_max_total_num_tokens": "swa_max_total_num_tokens_interval",
    "ollama_ps_bytes": "ollama_ps_interval",
}
LINE = ("launch", "launch_note", "launch_serves")  # facts about the engine's launch line


def infer(
    model: Model,
    workload: Infer,
    *,
    draft: Model | None = None,
    projector: Model | None = None,
    limits: Sequence[Setting] | None = None,
) -> Report:
    """Report the memory for serving. Raises UnsupportedError if our rules do not cover the model or
    the engine. `limits` are the settings whose largest fitting value is searched for, by default
    context and batch size."""
    kind = engine(workload.engine) if workload.engine else _usual(model, workload)
    named = (workload.engine or "").lower()
    if named != kind.name and named in STAND_INS and not STAND_INS[named].same:
        unmodelled = f"{STANDS_IN} {workload.unmodelled}".rstrip()
        meant = workload.but(engine=kind.name, engine_version=None, unmodelled=unmodelled)
        report = infer(model, meant, draft=draft, projector=projector, limits=limits)
        derived: Any = {name: v for name, v in report.derived.items() if name not in LINE}
        derived["engine_asked"] = workload.engine
        said = sentence("engine.stands_in", name=workload.engine, near=kind.title)
        return replace(report, derived=derived, warnings=(said, *report.warnings))
    workload = workload.but(engine=kind.name)
    *first, last = _spread(workload, kind)
    for spread in first:
        try:
            return _infer(model, spread, kind, draft, projector, limits)[0]
        except UsageError as error:
            if isinstance(error, UnsupportedError):
                raise
    whole, divisions = _infer(model, last, kind, draft, projector, limits)
    budget = workload.budget()
    if whole.verdict is None or budget is None:
        return whole
    if whole.verdict.fits == "yes" and not workload.engine_defaults:
        return whole
    for moved in divisions:
        report, _ = _infer(model, last.but(**moved), kind, draft, projector, ())
        verdict = report.verdict
        if verdict and verdict.fits == "yes":
            known = workload.host_memory() is not None
            return divided(whole, report, moved, kind.title, budget.choice.part, known=known)
        if verdict and verdict.host and verdict.host.fits in ("unknown", "no"):
            break  # the other divisions leave more to the host
    return whole


def _spread(workload: Infer, kind: Engine) -> Iterator[Infer]:
    """Yield the workload with each parallel layout over the named cards, if the user sets none for
    a server; at last the workload itself. A command stays as it is."""
    budget = workload.budget()
    count = 1 if budget is None else budget.choice.count
    open_ = (
        kind.server
        and not workload.engine_defaults
        and all(getattr(workload, n) is None for n in SPREAD)
    )
    if open_:
        yield from (workload.but(**settings) for settings in layouts(count))
    yield workload


def _infer(
    model: Model,
    workload: Infer,
    kind: Engine,
    draft: Model | None,
    projector: Model | None,
    limits: Sequence[Setting] | None,
) -> tuple[Report, tuple[Mapping[str, int], ...]]:
    """Return the report of a workload as it stands, and the layer splits the engine may use."""
    limits = LIMITED if limits is None else limits
    foreign(workload, kind.name)
    beside = uncounted.beside_weights(model)
    if beside:
        return _weights_alone(model, workload, kind, beside), ()
    pictured = (
        uncounted.seen(model, workload) if kind.reads == "any" and not workload.exact else None
    )
    if pictured is not None:
        return pictured, ()
    if workload.exact:
        workload = workload.but(engine_version=exact.ready(kind.name, workload.engine_version))
    number, note = version(kind, workload.engine_version)
    budget = workload.budget()
    asked = _subject(model, workload, kind, number, draft, projector)
    if workload.images and kind.server:
        from weighbridge.engines import launch_line

        launch_line.holds_images(asked, workload, kind)
    answer = answered(asked, workload, kind, budget)
    if workload.exact:
        answer = exact.answer(asked, workload, answer)
    answer = _unloaded(
        widened(answer, bounds.TRACED if workload.exact else runs(asked, kind, workload)), budget
    )
    missing = () if workload.exact else uncounted.of_subject(asked, workload)
    far = how_far(asked, workload, kind, answer, budget, limits) if limits else {}
    judged = None
    if budget is not None:
        judged = uncounted.judged(served.verdict(answer, workload, kind.name, budget), missing)
    published = bounds.published(answer.devices, runs(asked, kind, workload))
    verdict = on_host.both(
        on_devices.cited(judged, published), answer.devices, workload.host_memory()
    )
    if answer.serves is None:  # a server's share of the card is another question
        verdict = spilled(verdict, workload)
    remedies = () if budget is None else tuple(_remedies(workload, answer, budget, missing))
    experts = kind.reads == "any" and unpacked_experts(asked.part, asked.choice, asked.major)
    report = Report(
        task="infer",
        model=facts(model),
        workload=_effective(asked, workload, kind, written(number)) | answer.settings,
        devices=answer.devices,
        derived=served.as_asked(derived(asked, missing) | answer.derived, workload, verdict) | far,
        verdict=verdict,
        remedies=remedies,
        warnings=(
            *([note] if note else ()),
            *_warnings(model, asked, answer, kind, workload),
            *([experts] if experts else ()),
            *(() if workload.exact else traits.few(answer.devices, runs(asked, kind, workload))),
            *uncounted.warnings(missing),
        ),
    )
    return report, answer.divisions


def _weights_alone(model: Model, workload: Infer, kind: Engine, missing: str) -> Report:
    if kind.reads != "any":
        why = uncounted.refuse_to_serve(model.parts[0], kind.name)
        raise UnsupportedError(f"{model.reference}: {why}")
    if workload.exact:
        raise UnsupportedError(sentence("exact.one_model"), where=model.reference)
    return uncounted.seen(model, workload) or uncounted.weights_alone(model, workload, missing)


def _unloaded(answer: EngineAnswer, budget: "Budget | None") -> EngineAnswer:
    """Return the answer with a KV cache of 0 tokens if the weights surely exceed the card. Only for
    engines that budget a share of the card: the share itself does not show that."""
    taking = [d for d in answer.devices if d.kind == "gpu" and d.taken is not None]
    if budget is None or all(
        d.phases[0].at("driver").low <= budget.of(d.index).high for d in taking
    ):
        return answer
    none: DerivedFacts = {
        "kv_cache_tokens": 0,
        "max_concurrency": 0.0,
        "serves_as_asked": False,
        "launch_serves": False,
    }
    return replace(answer, derived=answer.derived | none)


def _remedies(
    workload: Infer, answer: EngineAnswer, budget: "Budget", missing: tuple[str, ...]
) -> Iterator[Remedy]:
    """Yield the flags with which the engine serves, if it does not with the requested ones."""

    def judge(devices: tuple[Device, ...]) -> Fits:
        verdict = uncounted.judged(on_devices.serving(devices, budget), missing)
        both = on_host.both(verdict, devices, workload.host_memory())
        return verdict.fits if both is None else both.fits

    yield from served.remedies(answer, judge)


def widened(
    answer: EngineAnswer, like: bounds.RunForm, table: bounds.MarginTable | None = None
) -> EngineAnswer:
    """Return the answer with the margins of similar published runs, on devices and on the intervals
    derived from them."""
    several = sum(d.kind == "gpu" for d in answer.devices) > 1

    def around(name: IntervalName, interval: Interval) -> Interval:
        return list(
            bounds.around(Bytes(*interval), like, *TOLD[name], several=several, table=table)
        )

    facts, pool = answer.derived.copy(), answer.derived.get("available_kv_cache_interval")
    for counted, of_count in COUNTED.items():
        number = facts.get(counted)
        if number is not None:
            facts.setdefault(of_count, [number] * 3)
    for name in TOLD:
        margin = facts.get(name)
        if margin is not None:
            facts[name] = around(name, margin)
    first = facts.get("first_rank")
    if first is not None:
        interval = around("profile_peak_interval", first["profile_peak_interval"])
        facts["first_rank"] = {**first, "profile_peak_interval": interval}
    serves = answer.serves
    if serves is not None:
        wider = facts.get("available_kv_cache_interval")
        counts = tuple(_as_wide(c, pool, wider) for c in serves.conditions)
        changed = bounds.widened(serves.changed, like, table)
        serves = replace(serves, conditions=counts, changed=changed)
    return replace(
        answer,
        devices=bounds.widened(answer.devices, like, table),
        derived=facts,
        serves=serves,
    )


def _as_wide(condition: Condition, pool: Interval | None, wider: Interval | None) -> Condition:
    """Return a condition on blocks with `available` widened as the KV pool was (`wider`)."""
    if condition.unit != "blocks" or condition.available is None or not pool or not wider:
        return condition
    each = zip(condition.available, pool, wider, strict=True)
    return condition._replace(available=Bytes(*(n * b // max(1, a) for n, a, b in each)))


def _usual(model: Model, workload: Infer) -> Engine:
    """Return the default engine: llama.cpp for GGUF files, another engine for formats that
    transformers does not load."""
    budget = workload.budget()
    card = None if budget is None else budget.choice.part
    return by_default(model.parts[0], workload.quantization, card)


def _subject(
    model: Model,
    workload: Infer,
    kind: Engine,
    number: tuple[int, ...],
    draft: Model | None,
    projector: Model | None,
) -> Subject:
    subject = subject_of(model, workload, kind, number)
    if draft is not None:
        drafted = workload.but(
            dtype=None,
            quantization=None,
            context=subject.context,
            prompt_len=None,
            max_new_tokens=None,
        )
        subject = replace(subject, draft=subject_of(draft, drafted, kind, number))
    return replace(subject, projector=projector) if projector is not None else subject


def _effective(subject: Subject, workload: Infer, kind: Engine, number: str) -> EffectiveSettings:
    """Return every setting as it was used; each engine adds its own settings."""
    form = subject.choice.scheme
    return {
        "engine": kind.name,
        "engine_version": workload.engine_version or number,
        "dtype": subject.choice.dtype.name,
        "quantization": form.name if form else None,
        "base_model": workload.base_model,
        "context": subject.context,
        "prompt_len": workload.prompt_len,
        "max_new_tokens": workload.max_new_tokens,
        "batch_size": workload.batch_size or 1,
        "gpu": workload.gpu,
        "gpu_memory": workload.gpu_memory,
        "headroom": workload.headroom,
        "ram": workload.ram,
        "platform": workload.platform,
    }


def _warnings(
    model: Model, subject: Subject, answer: EngineAnswer, kind: Engine, workload: Infer
) -> list[str]:
    lines = [*model.notes, *subject.notes, *answer.warnings]
    if subject.longest is not None and subject.context > subject.longest:
        beyond = sentence("beyond", tokens=subject.context, most=subject.longest)
        variable = f"{kind.longer}=1" if kind.longer else ""
        needs = sentence("beyond.variable", engine=kind.title, variable=variable)
        lines.append(clauses(beyond, needs if variable else ""))
    return [*lines, *cautions(workload, metal=kind.metal)]
