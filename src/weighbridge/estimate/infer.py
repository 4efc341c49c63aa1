"""`infer`: what serving a model takes, by the rules of one engine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Literal

from weighbridge import bounds
from weighbridge.checkpoint.model import Model
from weighbridge.components.unpacked_experts import told
from weighbridge.engines.interface import EngineAnswer, HeldBytes, SearchPoint, Subject
from weighbridge.engines.readable import by_default
from weighbridge.engines.subject import subject
from weighbridge.engines.table import Engine, engine, version, written
from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.estimate import exact, served, uncounted
from weighbridge.estimate.facts import cautions, facts, layers
from weighbridge.estimate.limits import largest
from weighbridge.memory import Bytes, Device
from weighbridge.report import Report
from weighbridge.report.keys import DerivedFacts, EffectiveSettings, Interval, IntervalName
from weighbridge.report.verdict import Answer as Fits
from weighbridge.report.verdict import Remedy, Verdict
from weighbridge.settings import foreign
from weighbridge.verdict import on_devices, on_host
from weighbridge.workload import SPREAD, Infer

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget

UNBOUNDED = 1 << 20  # tokens: where a model names no end, the search stops here
Setting = Literal["context", "batch_size"]
LIMITED: tuple[Setting, ...] = ("context", "batch_size")
MANY = 1 << 16  # requests: the search for the most at once stops here
# Intervals beside the devices' own, and the published figure that each is
TOLD: Mapping[IntervalName, tuple[str, str]] = {
    "serving_interval": (bounds.PEAK, "driver"),
    "available_kv_cache_interval": ("kv_available", "component"),
    "profile_peak_interval": ("activation", "component"),
}


def infer(
    model: Model,
    w: Infer,
    *,
    draft: Model | None = None,
    projector: Model | None = None,
    limits: Sequence[Setting] | None = None,
) -> Report:
    """Raises UnsupportedError where the model or the engine is outside our rules. `limits` are the
    settings of which somebody looks how far they can go: all that have one, unless it is said."""
    kind = engine(w.engine) if w.engine else _usual(model, w)
    w = replace(w, engine=kind.name)
    *first, last = _spread(w, kind)
    for spread in first:
        try:
            return _infer(model, spread, kind, draft, projector, limits)
        except UsageError as error:
            if isinstance(error, UnsupportedError):
                raise
    return _infer(model, last, kind, draft, projector, limits)


def _spread(w: Infer, kind: Engine) -> Iterator[Infer]:
    """Yield the ways in which a server is spread over the cards that were named, where nobody says:
    each layer over all of them, or over those of one machine with a stage a machine, else layers in
    stages, else one card. A command stands as it is."""
    budget = w.budget()
    count = 1 if budget is None else budget.choice.count
    open_ = kind.server and not w.engine_defaults and all(getattr(w, n) is None for n in SPREAD)
    if open_ and count > 1:
        from weighbridge.accelerators.machines import MACHINE, filled

        stages = filled(count)
        if stages:
            yield replace(w, tensor_parallel_size=MACHINE, pipeline_parallel_size=stages)
        yield replace(w, tensor_parallel_size=count)
        yield replace(w, pipeline_parallel_size=count)
    yield w


def _infer(
    model: Model,
    w: Infer,
    kind: Engine,
    draft: Model | None,
    projector: Model | None,
    limits: Sequence[Setting] | None,
) -> Report:
    limits = LIMITED if limits is None else limits
    foreign(w, kind.name)
    beside = uncounted.beside_weights(model)
    if beside:
        return _weights_alone(model, w, kind, beside)
    if w.exact:
        w = replace(w, engine_version=exact.ready(kind.name, w.engine_version))
    number, said = version(kind, w.engine_version)
    budget = w.budget()
    asked = _subject(model, w, kind, number, draft, projector)
    if w.images and kind.server:
        from weighbridge.engines import launch_line

        launch_line.holds_images(asked, w, kind)
    answer = _answer(asked, w, kind, budget)
    if w.exact:
        answer = exact.answer(asked, w, answer)
    answer = _unloaded(widened(answer, bounds.TRACED if w.exact else runs(asked, kind)), budget)
    missing = () if w.exact else uncounted.of_subject(asked, w)
    far = _limits(asked, w, kind, answer, budget, limits) if limits else {}
    verdict = on_host.both(
        on_devices.cited(
            None if budget is None else _verdict(answer, w, kind, budget, missing),
            bounds.published(answer.devices, runs(asked, kind)),
        ),
        answer.devices,
        w.host_memory(),
        shared=budget is not None and budget.shares_host,
    )
    remedies = () if budget is None else tuple(_remedies(asked, w, answer, budget))
    answer = replace(answer, warnings=served.softened(answer, w, verdict, remedies))
    return Report(
        task="infer",
        model=facts(model),
        workload=_effective(asked, w, kind, written(number)) | answer.settings,
        devices=answer.devices,
        derived=served.as_asked(_derived(asked, answer, missing), w, verdict) | far,
        verdict=verdict,
        remedies=remedies,
        warnings=(
            *([said] if said else ()),
            *_warnings(model, asked, answer, kind, budget),
            *filter(None, (_experts(asked, kind),)),
            *uncounted.warnings(missing),
        ),
    )


def _weights_alone(model: Model, w: Infer, kind: Engine, missing: str) -> Report:
    if kind.reads != "any":
        why = uncounted.refuse_to_serve(model.parts[0], kind.name)
        raise UnsupportedError(f"{model.reference}: {why}")
    if w.exact:
        raise UnsupportedError(f"{model.reference}: --exact runs one model; leave it out")
    return uncounted.weights_alone(model, w, missing)


def _experts(s: Subject, kind: Engine) -> str:
    return told(s.part, s.choice, s.major) if kind.reads == "any" else ""


def _verdict(
    answer: EngineAnswer, w: Infer, kind: Engine, budget: "Budget", missing: tuple[str, ...]
) -> Verdict:
    return uncounted.judged(served.verdict(answer, w, kind.name, budget), missing)


def _unloaded(answer: EngineAnswer, budget: "Budget | None") -> EngineAnswer:
    """An engine that takes a share of the card holds no tokens where loading is surely more than
    the card: the share says nothing of that."""
    taking = [d for d in answer.devices if d.kind == "gpu" and d.taken is not None]
    if budget is None or all(d.phases[0].at("driver").low <= budget.usable.high for d in taking):
        return answer
    none: DerivedFacts = {
        "kv_cache_tokens": 0,
        "max_concurrency": 0.0,
        "serves_as_asked": False,
        "launch_serves": False,
    }
    return replace(answer, derived=answer.derived | none)


def _remedies(s: Subject, w: Infer, answer: EngineAnswer, budget: "Budget") -> Iterator[Remedy]:
    """Flags that serve, where those that were asked do not."""
    missing = () if w.exact else uncounted.of_subject(s, w)

    def judge(devices: tuple[Device, ...]) -> Fits:
        found = uncounted.judged(on_devices.serving(devices, budget), missing)
        both = on_host.both(found, devices, w.host_memory(), shared=budget.shares_host)
        return found.fits if both is None else both.fits

    yield from served.remedies(answer, judge)


def _answer(s: Subject, w: Infer, kind: Engine, budget: "Budget | None") -> EngineAnswer:
    if not s.model.rough:
        return kind.infer(s, w, budget)
    from weighbridge.estimate import rough

    return rough.answer(s, w)


def _holds(s: Subject, w: Infer, kind: Engine, budget: "Budget") -> bool:
    if kind.holds is not None and not s.model.rough and not kind.holds(s, w, budget):
        return False  # nor does it with the margins of published runs
    found = _answer(s, w, kind, budget)
    phases = {id(d.phases): d.phases for d in found.devices if d.kind == "gpu"}
    told = HeldBytes(
        gpus=sum(d.kind == "gpu" for d in found.devices),
        kinds=[[p.parts for p in own] for own in phases.values()],
        surely="yes" if found.serves is None else found.serves.surely,
    )
    return _surely(told, runs(s, kind), budget)


def _quick(
    s: Subject, w: Infer, kind: Engine, budget: "Budget"
) -> Callable[[SearchPoint], bool] | None:
    """`_holds` in numbers alone, where the engine has them."""
    if kind.probe is None or s.model.rough:
        return None
    probe, like = kind.probe(s, w, budget), runs(s, kind)

    @cache
    def holds(at: SearchPoint) -> bool:
        found = probe(at)
        if found is None:
            return False
        if _surely(found, like, budget):
            return True
        between = found.bounds
        if between is None or not _surely(found._replace(kinds=between.least), like, budget):
            return False
        return _surely(between.exactly(), like, budget)

    return holds


def _surely(found: HeldBytes, like: bounds.RunForm, budget: "Budget") -> bool:
    """Whether the verdict is yes, with the margins of such runs."""
    if budget.mixed and len(found.kinds) == found.gpus == budget.choice.count:
        each = enumerate(bounds.highest([k], like, several=found.gpus > 1) for k in found.kinds)
        rooms = all(on_devices.surely(high, 1, budget.alone(i)) for i, high in each)
        return found.surely == "yes" and rooms
    high = bounds.highest(found.kinds, like, several=found.gpus > 1)
    return found.surely == "yes" and on_devices.surely(high, found.gpus, budget)


def runs(s: Subject, kind: Engine) -> bounds.RunForm:
    """The published runs that an answer is like."""
    form = s.choice.scheme
    return bounds.RunForm("serve", kind.name, bounds.form(form.name if form else None), layers(s))


def widened(
    answer: EngineAnswer, like: bounds.RunForm, table: bounds.MarginTable | None = None
) -> EngineAnswer:
    """Return the answer with the margins of such runs, in devices and in the intervals that follow
    from them."""
    several = sum(d.kind == "gpu" for d in answer.devices) > 1

    def around(name: IntervalName, own: Interval) -> Interval:
        return list(bounds.around(Bytes(*own), like, *TOLD[name], several=several, table=table))

    told = answer.derived.copy()
    for name in TOLD:
        own = told.get(name)
        if own is not None:
            told[name] = around(name, own)
    first = told.get("first_rank")
    if first is not None:
        interval = around("profile_peak_interval", first["profile_peak_interval"])
        told["first_rank"] = {**first, "profile_peak_interval": interval}
    serves = answer.serves
    if serves is not None and serves.changed:
        serves = replace(serves, changed=bounds.widened(serves.changed, like, table))
    return replace(
        answer,
        devices=bounds.widened(answer.devices, like, table),
        derived=told,
        serves=serves,
    )


def _usual(model: Model, w: Infer) -> Engine:
    """GGUF files are llama.cpp's, and what transformers does not read is another's."""
    budget = w.budget()
    card = None if budget is None else budget.choice.part
    return by_default(model.parts[0], w.quantization, card)


def _subject(
    model: Model,
    w: Infer,
    kind: Engine,
    number: tuple[int, ...],
    draft: Model | None,
    projector: Model | None,
) -> Subject:
    found = subject(model, w, kind, number)
    if draft is not None:
        own = replace(
            w,
            dtype=None,
            quantization=None,
            context=found.context,
            prompt_len=None,
            max_new_tokens=None,
        )
        found = replace(found, draft=subject(draft, own, kind, number))
    return replace(found, projector=projector) if projector is not None else found


def _effective(s: Subject, w: Infer, kind: Engine, number: str) -> EffectiveSettings:
    """Every setting as it was used; what belongs to the engine it adds itself."""
    form = s.choice.scheme
    return {
        "engine": kind.name,
        "engine_version": w.engine_version or number,
        "dtype": s.choice.dtype.name,
        "quantization": form.name if form else None,
        "base_model": w.base_model,
        "context": s.context,
        "prompt_len": w.prompt_len,
        "max_new_tokens": w.max_new_tokens,
        "batch_size": w.batch_size or 1,
        "gpu": w.gpu,
        "gpu_memory": w.gpu_memory,
        "headroom": w.headroom,
        "ram": w.ram,
    }


def _derived(s: Subject, answer: EngineAnswer, missing: tuple[str, ...]) -> DerivedFacts:
    return {
        "dtype_from": s.why,
        "as_stored": s.choice.as_stored,
        "context_from": s.context_from,
        "longest_context": s.longest,
        "not_counted": list(missing),
        **answer.derived,
    }


def _limits(
    s: Subject,
    w: Infer,
    kind: Engine,
    answer: EngineAnswer,
    budget: "Budget | None",
    wanted: Sequence[Setting],
) -> DerivedFacts:
    """How far context and batch can go on the device, each with all else as it was asked; null
    where something is not counted."""
    if budget is None:
        return {}
    own = any(d.taken is not None for d in answer.devices)  # an engine's share decides
    if uncounted.of_subject(s, w):
        unknown: DerivedFacts = {
            "largest_context": None,
            "largest_batch_size": None,
            "searched_to": None,
        }
        return unknown if own else unknown | {"kv_cache_tokens": None, "max_concurrency": None}

    def longer(n: int) -> bool:
        return _holds(replace(s, context=n), _of_length(w, n), kind, budget)

    def more(n: int) -> bool:
        return _holds(s, replace(w, batch_size=n), kind, budget)

    batch, tokens = w.batch_size or 1, max(s.longest or UNBOUNDED, s.context)
    most = w.max_num_seqs or max(MANY, batch)
    quick = _quick(s, w, kind, budget)
    by_length = None if quick is None else lambda n: quick(SearchPoint(n, _prompt(w, n), batch))
    by_batch = None if quick is None else lambda n: quick(SearchPoint(s.context, w.prompt_len, n))
    found: DerivedFacts = {}
    if "context" in wanted:
        length = largest(longer, tokens, near=s.context, quick=by_length)
        found["largest_context"] = length
        found |= _flags(s, w, length, kind, budget) if own else {}
    if "batch_size" in wanted:
        found["largest_batch_size"] = largest(more, most, near=batch, quick=by_batch)
    found["searched_to"] = {"context": tokens, "batch_size": most}
    held = found.get("largest_batch_size")
    if not own and held is not None:
        found |= {"kv_cache_tokens": held * s.context, "max_concurrency": float(held)}
    return found


def _flags(s: Subject, w: Infer, context: int, kind: Engine, budget: "Budget") -> DerivedFacts:
    """What a launch of that context has beside what was set; "" where nothing holds."""
    if not context:
        return {"largest_context_flags": ""}
    serves = _answer(replace(s, context=context), _of_length(w, context), kind, budget).serves
    return {"largest_context_flags": serves.flags if serves is not None else ""}


def _of_length(w: Infer, context: int) -> Infer:
    return replace(w, context=context, prompt_len=_prompt(w, context))


def _prompt(w: Infer, context: int) -> int | None:
    """A longer or shorter prompt: what is written stays."""
    return None if w.prompt_len is None else max(1, context - (w.max_new_tokens or 0))


def _warnings(
    model: Model, s: Subject, answer: EngineAnswer, kind: Engine, budget: "Budget | None"
) -> list[str]:
    found = [*model.notes, *s.notes, *answer.warnings]
    if s.longest is not None and s.context > s.longest:
        needs = f"; {kind.title} needs {kind.longer}=1 for them" if kind.longer else ""
        found.append(
            f"{s.context:,} tokens are more than the {s.longest:,} that the model was made for"
            f"{needs}"
        )
    return [*found, *(cautions(budget, metal=kind.metal) if budget is not None else ())]
