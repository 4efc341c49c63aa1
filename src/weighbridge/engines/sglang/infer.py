"""Memory that SGLang needs for a workload on each device, and what it takes of a card.

needed    weights, the smallest pools for the requests, and what is outside the fraction
taken     the same with the pools that the fraction makes of the card
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Instant
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import human
from weighbridge.engines.engine import Version, version
from weighbridge.engines.interface import BEST, EXPECTED, WORST, Subject
from weighbridge.engines.servers import device_support
from weighbridge.engines.servers.cache_formats import refuse
from weighbridge.engines.servers.paged import Asks, PagedServer
from weighbridge.engines.sglang import ENGINE, caches, serving
from weighbridge.engines.sglang.cases import case, said
from weighbridge.engines.sglang.effective import remembered
from weighbridge.engines.sglang.host import host
from weighbridge.engines.sglang.launching import launch, settings
from weighbridge.engines.sglang.replica import CardFit, Served, fitted, phases, taken
from weighbridge.engines.sglang.serving import SglangLaunched
from weighbridge.engines.sglang.settings import Sglang
from weighbridge.memory.report.keys import DerivedFacts

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.workload import Infer


def check(subject: Subject, w: "Infer", _: Version) -> None:
    """Raise UnsupportedError for what the engine refuses."""
    if not remembered(subject):
        raise UnsupportedError(sentence("pools_unknown"), where=subject.model.reference)
    refuse(subject.model.reference, ENGINE.name, remembered(subject), caches.LACKED)


def asks(subject: Subject, w: "Infer", budget: "Budget | None") -> Asks[SglangLaunched]:
    """Return a function from a search point to the launch of this model on a card."""
    case_of = case(subject, w, budget, version(ENGINE, w.engine_version)[0])
    limits = said(w)
    return lambda point: SglangLaunched(
        served=Served(case=case_of, asked=w, limits=limits, point=point)
    )


def caps(launched: SglangLaunched) -> str:
    tokens = launched.served.request
    return "" if tokens is None else sentence("capped.alone", tokens=tokens)


def needs(launched: SglangLaunched, kind: int) -> tuple[Instant, ...]:
    """Return the phases with the smallest pools that hold the workload."""
    served = launched.served
    return tuple(phases(served, kind, served.needed[kind], served.running(kind)))


def takes(launched: SglangLaunched, kind: int) -> tuple[int | None, int | None]:
    served, fit = launched.served, launched.fit
    least = fitted(served, launched.fraction, WORST)
    if fit is None or least is None or fit.tokens <= 0:
        return None, None
    whole = taken(served, kind, fit).expected
    return whole, taken(served, kind, least).expected if least.tokens > 0 else whole


def derived(launched: SglangLaunched) -> DerivedFacts:
    served, fit = launched.served, launched.fit
    cells = [served.case.kinds[first].cells for first in served.case.firsts]
    ratio = served.settings.swa_ratio
    marginal = sum(c.full + (ratio * c.sliding if c.full else c.sliding) for c in cells)
    more = served.case.beside * len(cells) // served.settings.pipeline
    facts: DerivedFacts = {
        "kv_cache_bytes_per_token": (int(marginal) + more) // served.settings.groups
    }
    card = {} if fit is None else _of_card(launched, fit)
    return facts | card


def _of_card(launched: SglangLaunched, fit: CardFit) -> DerivedFacts:
    served = launched.served
    at_once = fit.slots // served.alone.slots if fit.slots else fit.running
    facts: DerivedFacts = {
        "kv_cache_tokens": max(0, fit.tokens) * served.settings.pools_of,
        "max_total_num_tokens": max(0, fit.tokens),
        "available_kv_cache_bytes": min(r.available for r in fit.rooms),
        "max_running_requests": fit.running,
        "max_concurrency": min(fit.tokens / served.settings.context, fit.running, at_once)
        * served.settings.pools_of,
    }
    if served.case.subject.unsure:
        fits = (fitted(served, launched.fraction, by) for by in (WORST, EXPECTED, BEST))
        facts["max_total_num_tokens_interval"] = [max(0, f.tokens) for f in fits if f is not None]
    if fit.sliding:
        facts["swa_max_total_num_tokens"] = fit.sliding
    if served.request is not None:
        facts["longest_request"] = served.request
    return facts


def warnings(asked: SglangLaunched) -> Iterator[str]:
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


def few_cards(sized: SglangLaunched) -> Iterator[str]:
    budget, ranks = sized.served.case.budget, len(sized.ranks)
    if budget is not None and budget.choice.count < ranks:
        yield sentence("devices_needed", count=ranks, named=budget.choice.count)


def lacks(launched: SglangLaunched) -> str:
    served, share, fit = launched.served, launched.settings.share, launched.fit
    assert fit is not None
    if launched.serves():
        return _nearly(launched)
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


def _nearly(launched: SglangLaunched) -> str:
    """Return a sentence about a launch that is expected to serve, but may not."""
    low, _, high = map(
        human, next(c.needed for c in launched.conditions if c.name == "pools") or ()
    )
    usable = human(launched.usable.low)
    return sentence("fraction_pools", share=_fraction(launched), low=low, high=high, has=usable)


SERVER = PagedServer[SglangLaunched](
    engine=ENGINE,
    needs=device_support.Needs(ENGINE.name, oldest=(7, 5)),
    changed=(
        Sglang.mem_fraction_static,
        Sglang.chunked_prefill_size,
        Sglang.max_running_requests,
        Sglang.disable_cuda_graph,
    ),
    check=check,
    asks=asks,
    alone=serving.capped,
    phases=needs,
    taken=takes,
    host=host,
    effective=lambda launched: settings(launched.settings, launched.w),
    facts=derived,
    command=lambda subject, launched: launch(subject, launched.w, launched.settings),
    holds=SglangLaunched.serves,
    stands=SglangLaunched.stands,
    hopeless=serving.hopeless,
    others=serving.others,
    conditions=lambda launched: launched.conditions,
    lacks=lacks,
    caps=caps,
    first=warnings,
    last=few_cards,
)
infer, probe = SERVER.infer, SERVER.probe
