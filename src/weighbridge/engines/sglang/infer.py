"""Memory that SGLang needs for a workload on each device, and what it takes of a card.

needed    weights, the smallest pools for the requests, and what lies outside the fraction
taken     the same with the pools that the fraction makes of the card
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Device, Instant
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import human
from weighbridge.engines import launch_line
from weighbridge.engines.engine import version
from weighbridge.engines.interface import (
    WORST,
    EngineAnswer,
    HeldBytes,
    Probe,
    SearchPoint,
    Serves,
    Subject,
    asking,
    unhelped,
)
from weighbridge.engines.servers import device_support
from weighbridge.engines.servers.cache_formats import refuse
from weighbridge.engines.sglang import ENGINE, caches, serving
from weighbridge.engines.sglang.cases import SglangCase, case, said
from weighbridge.engines.sglang.effective import remembered
from weighbridge.engines.sglang.host import host
from weighbridge.engines.sglang.launch import change, changes, launch, settings
from weighbridge.engines.sglang.replica import CardFit, Served, fitted, phases, taken
from weighbridge.engines.sglang.serving import SglangLaunched
from weighbridge.memory.report.keys import DerivedFacts

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.workload import Infer

NEEDS = device_support.Needs(ENGINE.name, oldest=(7, 5))


def infer(subject: Subject, w: "Infer", budget: "Budget | None") -> EngineAnswer:
    subject, case_of = _met(subject, w, budget)
    point = SearchPoint(subject.context, w.prompt_len, w.batch_size or 1)
    asked = SglangLaunched(served=Served(case=case_of, asked=w, limits=said(w), point=point))
    asked = serving.capped(asked) if _starts_alone(w) else asked
    able = serving.able(asked)
    line = asked if able is None else able
    sized = asked if w.engine_defaults else line  # a command is taken as it is
    return EngineAnswer(
        devices=_devices(sized),
        settings=settings(sized.settings, sized.w) | {"dtype": subject.choice.dtype.name},
        derived=_derived(sized)
        | _served(asked, able)
        | launch_line.facts(subject, line.w, ENGINE, launch(subject, line.w, line.settings))
        | {"dtype_from": subject.why},
        warnings=(
            *_warnings(asked, able),
            *launch_line.warnings(subject, w, ENGINE),
            *device_support.caution(budget, ENGINE),
            *device_support.packed_alone(subject, budget, ENGINE, sized.settings.version),
        ),
        serves=None if asked.fit is None else _serves(asked, able),
    )


def probe(subject: Subject, w: "Infer", budget: "Budget") -> Probe:
    """Prepares the numbers of `infer` for searches."""
    _, case_of = _met(subject, w, budget)

    def ask(point: SearchPoint) -> HeldBytes | None:
        asked = SglangLaunched(served=Served(case=case_of, asked=w, limits=said(w), point=point))
        launched = serving.surest(asked) if not w.engine_defaults else asked if asked.sure else None
        if launched is None:
            return None
        served = launched.served
        kinds = [[p.parts for p in _needs(served, i)] for i in case_of.kinds]
        return HeldBytes(len(case_of.firsts) * served.settings.data, kinds)

    return ask


def _met(subject: Subject, w: "Infer", budget: "Budget | None") -> tuple[Subject, SglangCase]:
    """The model as SGLang takes it on that card, and what was prepared of it."""
    number, _ = version(ENGINE, w.engine_version)
    subject = device_support.suited(subject, w, budget, NEEDS)
    if not remembered(subject):
        raise UnsupportedError(sentence("pools_unknown"), where=subject.model.reference)
    refuse(subject.model.reference, ENGINE.name, remembered(subject), caches.LACKED)
    subject = subject.without_towers() if w.language_model_only else subject
    return subject, case(subject, w, budget, number)


def _starts_alone(w: "Infer") -> bool:
    """Tell whether it is asked of a command whether it starts, and of no request."""
    request = (w.prompt_len, w.max_new_tokens, w.batch_size)
    return w.engine_defaults and all(value is None for value in request)


def _devices(launched: SglangLaunched) -> tuple[Device, ...]:
    served = launched.served
    kinds = {i: _device(launched, i) for i in served.case.kinds}
    gpus = (
        replace(kinds[first], index=i)
        for i, first in enumerate(served.case.firsts * served.settings.data)
    )
    return (*gpus, host(served, launched.fit))


def _served(asked: SglangLaunched, able: SglangLaunched | None) -> DerivedFacts:
    if asked.fit is None:
        return {}
    serves = able is not None
    return {"serves_as_asked": serves and asked.serves(), "launch_serves": serves}


def _serves(asked: SglangLaunched, able: SglangLaunched | None) -> Serves:
    """A command is taken as it is; else the launch line is what was sized."""
    alike = asked.served.asked.engine_defaults
    judged = asked if alike or able is None else able
    assert judged.fit is not None
    lacks = "" if judged.surely == "yes" else _lacking(judged, judged.fit)
    if able is asked or able is None:
        return Serves(surely=asked.surely, lacks=lacks, caps=_caps(asked.served))
    return Serves(
        surely=judged.surely,
        lacks=lacks,
        flags=changes(asked.w, able.w),
        change=change(asked.w, able.w),
        changed=_devices(able) if alike else (),
        then=able.surely,
    )


def _caps(served: Served) -> str:
    return "" if served.request is None else sentence("capped.alone", tokens=served.request)


def _device(launched: SglangLaunched, first: int) -> Device:
    served, fit = launched.served, launched.fit
    device = Device(index=0, kind="gpu", phases=_needs(served, first))
    least = fitted(served, launched.fraction, WORST)
    if fit is None or least is None or fit.tokens <= 0:
        return device
    whole = taken(served, first, fit).expected
    little = taken(served, first, least).expected if least.tokens > 0 else whole
    return replace(device, taken=whole, taken_at_least=little)


def _needs(served: Served, first: int) -> tuple[Instant, ...]:
    """Return the phases with the smallest pools that hold the workload."""
    return tuple(phases(served, first, served.needed[first], served.running(first)))


def _derived(launched: SglangLaunched) -> DerivedFacts:
    served, fit = launched.served, launched.fit
    cells = [served.case.kinds[first].cells for first in served.case.firsts]
    ratio = served.settings.swa_ratio
    marginal = sum(c.full + (ratio * c.sliding if c.full else c.sliding) for c in cells)
    more = served.case.beside * len(cells) // served.settings.pipeline
    facts: DerivedFacts = {
        "kv_cache_bytes_per_token": (int(marginal) + more) // served.settings.groups
    }
    return facts if fit is None else facts | _of_card(served, fit)


def _of_card(served: Served, fit: CardFit) -> DerivedFacts:
    at_once = fit.slots // served.alone.slots if fit.slots else fit.running
    facts: DerivedFacts = {
        "kv_cache_tokens": max(0, fit.tokens) * served.settings.pools_of,
        "max_total_num_tokens": max(0, fit.tokens),
        "available_kv_cache_bytes": min(r.available for r in fit.rooms),
        "max_running_requests": fit.running,
        "max_concurrency": min(fit.tokens / served.settings.context, fit.running, at_once)
        * served.settings.pools_of,
    }
    if fit.sliding:
        facts["swa_max_total_num_tokens"] = fit.sliding
    if served.request is not None:
        facts["longest_request"] = served.request
    return facts


def _warnings(asked: SglangLaunched, able: SglangLaunched | None) -> Iterator[str]:
    served, fit = asked.served, asked.fit
    if (
        fit is None
        and served.settings.tokens is not None
        and served.settings.tokens < served.settings.context
    ):
        tokens, context = served.settings.tokens, served.settings.context
        yield sentence("total_tokens", tokens=tokens, context=context)
    if served.request is not None:
        yield sentence("capped", tokens=served.request, context=served.settings.context)
    if fit is not None and able is not asked:
        yield clauses(_lacking(asked, fit), _way(asked, able))
    budget, ranks = served.case.budget, len(served.case.firsts) * served.settings.data
    if budget is not None and budget.choice.count < ranks:
        yield sentence("devices_needed", count=ranks, named=budget.choice.count)


def _lacking(launched: SglangLaunched, fit: CardFit) -> str:
    served, share = launched.served, launched.settings.share
    if launched.serves() and served.case.budget is not None:
        return _nearly(launched, served.case.budget)
    least = min(fit.rooms, key=lambda r: r.available)
    if least.available <= 0:
        lacking = least.available / least.free / launched.settings.share_used
        above = share - lacking if share else 1.0
        if above >= 1:
            return sentence("fraction_none", share=_fraction(launched))
        nothing = sentence("fraction_above", share=_fraction(launched))
        return clauses(nothing, sentence("fraction_needed", share=above))
    need = max(max(p.full, p.sliding) for p in served.needed.values())
    capped = served.settings.tokens is not None and served.settings.tokens < need
    by = f"--max-total-tokens {served.settings.tokens:,}" if capped else _fraction(launched)
    return sentence(
        "fraction_room",
        by=by,
        tokens=fit.tokens,
        requests=fit.running,
        count=served.load.requests,
        each=served.settings.context,
        needed=need,
    )


def _fraction(launched: SglangLaunched) -> str:
    used = launched.settings.share_used
    share, backend = launched.settings.share, launched.settings.backend
    if used < 1:
        return sentence("fraction_used", share=share, backend=backend, used=used)
    return f"mem_fraction_static {share:.3f}"


def _nearly(launched: SglangLaunched, budget: "Budget") -> str:
    """Describe a launch that is expected to serve, and may not."""
    low, high = human(launched.whole.low), human(launched.whole.high)
    usable = human(budget.usable.low)
    return sentence("fraction_pools", share=_fraction(launched), low=low, high=high, has=usable)


def _way(asked: SglangLaunched, able: SglangLaunched | None) -> str:
    if able is None:
        return unhelped(_named(asked), len(asked.served.case.firsts) * asked.served.settings.data)
    return asking(changes(asked.w, able.w), able.surely)


def _named(asked: SglangLaunched) -> int:
    budget = asked.served.case.budget
    return 1 if budget is None else budget.choice.count
