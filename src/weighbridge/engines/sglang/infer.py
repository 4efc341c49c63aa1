"""What SGLang needs for a workload on each device, and what it takes of a card.

needed    weights, the smallest pools for the requests, and what lies outside the fraction
taken     the same with the pools that the fraction makes of the card
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.components import host
from weighbridge.engines import launch_line
from weighbridge.engines.caches.formats import refuse
from weighbridge.engines.engine import version
from weighbridge.engines.interface import (
    WOULD,
    EngineAnswer,
    HeldBytes,
    Probe,
    SearchPoint,
    Serves,
    Subject,
    unhelped,
)
from weighbridge.engines.servers import device_support
from weighbridge.engines.sglang import ENGINE, caches, offloading, serving
from weighbridge.engines.sglang.cases import SglangCase, case, said
from weighbridge.engines.sglang.effective import generates, remembered
from weighbridge.engines.sglang.launch import change, changes, launch, settings
from weighbridge.engines.sglang.phases import phases, taken
from weighbridge.engines.sglang.replica import CardFit, Served
from weighbridge.engines.sglang.serving import SglangLaunched
from weighbridge.errors import UnsupportedError
from weighbridge.memory import Bytes, Component, Device, Phase
from weighbridge.report_keys import DerivedFacts
from weighbridge.units import GIB, human
from weighbridge.workload import Infer

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget

NEEDS = device_support.Needs(ENGINE.name, oldest=(7, 5))
PROCESS = Bytes(GIB, 5 * GIB // 2, 4 * GIB)  # of one rank's process on the host, without weights


def infer(s: Subject, w: Infer, budget: "Budget | None") -> EngineAnswer:
    s, found = _met(s, w, budget)
    point = SearchPoint(s.context, w.prompt_len, w.batch_size or 1)
    own = SglangLaunched(v=Served(case=found, asked=w, told=said(w), point=point))
    able = serving.able(own)
    line = own if able is None else able
    sized = own if w.engine_defaults else line  # a command is taken as it is
    return EngineAnswer(
        devices=_devices(sized),
        settings=settings(sized.e, sized.w) | {"dtype": s.choice.dtype.name},
        derived=_derived(sized)
        | _served(own, able)
        | launch_line.facts(s, line.w, ENGINE, launch(s, line.w, line.e))
        | {"dtype_from": s.why},
        warnings=(
            *_warnings(own, able),
            *launch_line.warnings(s, w, ENGINE),
            *device_support.caution(budget, ENGINE),
            *device_support.packed_alone(s, budget, ENGINE, sized.e.version),
        ),
        serves=None if own.fit is None else _serves(own, able),
    )


def probe(s: Subject, w: Infer, budget: "Budget") -> Probe:
    """Prepares the numbers of `infer` for searches."""
    _, found = _met(s, w, budget)

    def ask(point: SearchPoint) -> HeldBytes | None:
        own = SglangLaunched(v=Served(case=found, asked=w, told=said(w), point=point))
        made = serving.surest(own) if not w.engine_defaults else own if own.sure else None
        if made is None:
            return None
        v = made.v
        kinds = [[p.parts for p in _needs(v, i)] for i in found.kinds]
        return HeldBytes(len(found.firsts) * v.e.data, kinds)

    return ask


def _met(s: Subject, w: Infer, budget: "Budget | None") -> tuple[Subject, SglangCase]:
    """The model as SGLang takes it on that card, and what was prepared of it."""
    number, _ = version(ENGINE, w.engine_version)
    s = device_support.suited(s, w, budget, NEEDS)
    if not remembered(s):
        raise UnsupportedError(
            f"{s.model.reference}: its layers are not known, so the pools that sglang makes for "
            "them are not either; give the model's config.json"
        )
    refuse(s.model.reference, ENGINE.name, remembered(s), caches.LACKED)
    s = s.without_towers() if w.language_model_only else s
    return s, case(s, w, budget, number)


def _devices(made: SglangLaunched) -> tuple[Device, ...]:
    v = made.v
    kinds = {i: _device(made, i) for i in v.case.kinds}
    gpus = (
        Device(index=i, kind="gpu", phases=kinds[first][0], taken=kinds[first][1])
        for i, first in enumerate(v.case.firsts * v.e.data)
    )
    return (*gpus, _host(v))


def _served(own: SglangLaunched, able: SglangLaunched | None) -> DerivedFacts:
    if own.fit is None:
        return {}
    found = able is not None
    return {"serves_as_asked": found and own.serves(), "launch_serves": found}


def _serves(own: SglangLaunched, able: SglangLaunched | None) -> Serves:
    """A command is taken as it is; else the launch line is what was sized."""
    alike = own.v.asked.engine_defaults
    judged = own if alike or able is None else able
    assert judged.fit is not None
    lacks = "" if judged.surely == "yes" else _lacking(judged, judged.fit)
    if able is own or able is None:
        return Serves(surely=own.surely, lacks=lacks)
    return Serves(
        surely=judged.surely,
        lacks=lacks,
        flags=changes(own.w, able.w),
        change=change(own.w, able.w),
        changed=_devices(able) if alike else (),
        then=able.surely,
    )


def _device(made: SglangLaunched, first: int) -> tuple[tuple[Phase, ...], int | None]:
    needed, fit = _needs(made.v, first), made.fit
    if fit is None or fit.tokens <= 0:
        return needed, None
    return needed, taken(made.v, first, fit).expected


def _needs(v: Served, first: int) -> tuple[Phase, ...]:
    """Return the phases with the smallest pools that hold the workload."""
    return tuple(phases(v, first, v.needed[first], v.running(first)))


def _derived(made: SglangLaunched) -> DerivedFacts:
    v, fit = made.v, made.fit
    cells = [v.case.kinds[first].cells for first in v.case.firsts]
    ratio = v.e.swa_ratio
    marginal = sum(c.full + (ratio * c.sliding if c.full else c.sliding) for c in cells)
    more = v.case.beside * len(cells) // v.e.pipeline
    found: DerivedFacts = {"kv_cache_bytes_per_token": (int(marginal) + more) // v.e.groups}
    return found if fit is None else found | _of_card(v, fit)


def _of_card(v: Served, fit: CardFit) -> DerivedFacts:
    held = fit.slots // v.alone.slots if fit.slots else fit.running
    found: DerivedFacts = {
        "kv_cache_tokens": max(0, fit.tokens) * v.e.pools_of,
        "max_total_num_tokens": max(0, fit.tokens),
        "available_kv_cache_bytes": min(r.available for r in fit.rooms),
        "max_running_requests": fit.running,
        "max_concurrency": min(fit.tokens / v.e.context, fit.running, held) * v.e.pools_of,
    }
    if fit.sliding:
        found["swa_max_total_num_tokens"] = fit.sliding
    return found


def _warnings(own: SglangLaunched, able: SglangLaunched | None) -> Iterator[str]:
    v, fit = own.v, own.fit
    if fit is None and v.e.tokens is not None and v.e.tokens < v.e.context:
        yield (
            f"--max-total-tokens {v.e.tokens:,}: SGLang refuses requests of {v.e.context:,} "
            "tokens, which the pool does not hold"
        )
    if fit is not None and able is not own:
        yield f"{_lacking(own, fit)}; {_way(own, able)}"
    budget, ranks = v.case.budget, len(v.case.firsts) * v.e.data
    if budget is not None and budget.choice.count < ranks:
        yield (f"{ranks} devices are needed, {budget.choice.count} were named")


def _lacking(own: SglangLaunched, fit: CardFit) -> str:
    v, share = own.v, own.e.share
    if own.serves() and v.case.budget is not None:
        return _nearly(own, v.case.budget)
    least = min(fit.rooms, key=lambda r: r.available)
    if least.available <= 0:
        above = share - least.available / least.free if share else 1.0
        more = f"; it would have to be above {above:.3f}"
        none = ", and no fraction would: the weights alone do not fit"
        return (
            f"mem_fraction_static {share:.3f} leaves nothing for the KV cache"
            f"{more if above < 1 else none}"
        )
    need = max(max(p.full, p.sliding) for p in v.needed.values())
    capped = v.e.tokens is not None and v.e.tokens < need
    by = f"--max-total-tokens {v.e.tokens:,}" if capped else f"mem_fraction_static {share:.3f}"
    return (
        f"{by} leaves room for {fit.tokens:,} tokens and "
        f"{fit.running:,} requests, and {v.load.requests:,} of {v.e.context:,} tokens take "
        f"{need:,}"
    )


def _nearly(own: SglangLaunched, budget: "Budget") -> str:
    """What is expected to serve, and may not."""
    low, high = human(own.whole.low), human(own.whole.high)
    return (
        f"mem_fraction_static {own.e.share:.3f} makes pools with which the card would hold {low} "
        f"to {high} of the {human(budget.usable.low)} that a process can have, or too few tokens"
    )


def _way(own: SglangLaunched, able: SglangLaunched | None) -> str:
    if able is None:
        return unhelped(_named(own), len(own.v.case.firsts) * own.v.e.data)
    changed = changes(own.w, able.w)
    return f"the launch line asks for {changed}, which {WOULD[able.surely]} do"


def _named(own: SglangLaunched) -> int:
    budget = own.v.case.budget
    return 1 if budget is None else budget.choice.count


def _host(v: Served) -> Device:
    """One process a rank, and the files of the weights while they are read."""
    case, ranks = v.case, len(v.case.firsts) * v.e.data
    own = (c for i in case.firsts for c in case.kinds[i].weights if c.name == "weights")
    held = sum(c.bytes.expected for c in own)
    files = sum(t.nbytes for part in case.s.model.parts for t in part.stored) or held
    process = Component(
        name="other",
        bytes=Bytes(*(ranks * b for b in PROCESS)),
        basis="assumed",
        detail="processes",
        formula=f"{ranks} ranks x 1 to 4 GiB: torch, CUDA libraries, compiled kernels",
        source="no rule is published",
    )
    read = host.pages(files, source="sglang 0.5.23 srt/model_loader/weight_utils.py")
    names = ("prefill", "decode") if generates(case.s) else ("prefill",)
    away = sum(case.kinds[i].offloaded for i in case.firsts) * v.e.data
    stays = (process, *((offloading.on_the_host(away),) if away else ()))
    running = tuple(Phase(name, stays) for name in names)
    return Device(index=0, kind="host", phases=(Phase("load", (*stays, read)), *running))
