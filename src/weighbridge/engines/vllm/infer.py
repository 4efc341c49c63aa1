"""What vLLM holds on each device for a workload: needed, and taken by its share of the card."""

import math
from collections.abc import Iterator

from weighbridge.accelerators.budget import Budget
from weighbridge.arch.model_types import facts
from weighbridge.engines import launch_line
from weighbridge.engines.engine import release, version
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
from weighbridge.engines.vllm import ENGINE, checks, components, launching, serving, setting
from weighbridge.engines.vllm.cases import VllmCase, VllmLaunched, case
from weighbridge.engines.vllm.reserve import RankReserve, share
from weighbridge.engines.vllm.rules import FIRST, older, rules
from weighbridge.memory import Device, total
from weighbridge.report.keys import DerivedFacts, FirstRank
from weighbridge.units import human
from weighbridge.workload import Infer

SPAN = 256  # tokens over which a marginal byte is measured
BATCH = "--batch-size"


def unstable(model_type: str) -> bool:
    """True if vLLM holds a model type to be unstable in float16."""
    return facts(model_type).vllm.not_float16


NEEDS = device_support.Needs(ENGINE.name, oldest=(7, 0), refuses=True, unstable=unstable)


def infer(subject: Subject, w: Infer, budget: Budget | None) -> EngineAnswer:
    """Raises UsageError for settings that the engine refuses."""
    subject, case_of = _met(subject, w, budget)
    point = SearchPoint(subject.context, w.prompt_len, setting.positive(w.batch_size, BATCH) or 1)
    asked = case_of.launched(w, point, setting.said(w))
    able = asked if budget is None else serving.able(case_of, asked, point, budget)
    sized = asked if w.engine_defaults or able is None else able  # a command is taken as it is
    return EngineAnswer(
        devices=_devices(subject, sized, budget),
        settings=sized.launch.to_dict(sized.w) | {"dtype": subject.choice.dtype.name},
        derived=_derived(subject, sized, able, budget) | _served(asked, able, budget),
        warnings=(
            *(() if budget is None else _warnings(asked, able, budget)),
            *launch_line.warnings(subject, w, ENGINE),
            *checks.warnings(sized, w),
            *device_support.caution(budget, ENGINE),
            *device_support.packed_alone(subject, budget, ENGINE, sized.launch.rules.version),
        ),
        serves=None if budget is None else _serves(subject, asked, able, budget),
    )


def probe(subject: Subject, w: Infer, budget: Budget) -> Probe:
    """Prepares the numbers of `infer` for searches."""
    subject, case_of = _met(subject, w, budget)

    def ask(point: SearchPoint) -> HeldBytes | None:
        launched: VllmLaunched | None = case_of.launched(w, point, setting.said(w))
        assert launched is not None
        if not w.engine_defaults:
            launched = serving.surest(case_of, launched, point, budget)
        elif not serving.serves(launched, budget, serving.WORST):
            launched = None
        if launched is None:
            return None
        kinds = [[p.parts for p in components.phases(r)] for r in launched.kinds]
        return HeldBytes(len(launched.kind_of), kinds)

    return ask


def _met(subject: Subject, w: Infer, budget: Budget | None) -> tuple[Subject, VllmCase]:
    """The model as vLLM takes it on that card, and what was prepared of it."""
    number, _ = version(ENGINE, w.engine_version)
    subject = device_support.suited(subject, w, budget, NEEDS)
    subject = subject.without_towers() if w.language_model_only else subject
    checks.check(subject, w, number)
    release_asked = number if w.engine_version is None else release(ENGINE, w.engine_version)
    rules_of = older(release_asked) if release_asked < FIRST.version else rules(number)
    return subject, case(subject, w, budget, rules_of)


def _devices(subject: Subject, launched: VllmLaunched, budget: Budget | None) -> tuple[Device, ...]:
    kinds = [
        (components.phases(r), None if budget is None else r.taken(_asks(launched, budget)))
        for r in launched.kinds
    ]
    gpus = (
        Device(index=i, kind="gpu", phases=kinds[k][0], taken=kinds[k][1])
        for i, k in enumerate(launched.kind_of)
    )
    return (*gpus, components.host(subject, launched))


def _asks(launched: VllmLaunched, budget: Budget) -> int:
    """Bytes of the card that vLLM asks for."""
    return share(launched.kinds[0].standing.launch.rules, launched.utilization, budget)


def _served(asked: VllmLaunched, able: VllmLaunched | None, budget: Budget | None) -> DerivedFacts:
    if budget is None:
        return {}
    return {"serves_as_asked": serving.serves(asked, budget), "launch_serves": able is not None}


def _serves(
    subject: Subject, asked: VllmLaunched, able: VllmLaunched | None, budget: Budget
) -> Serves:
    """A command is taken as it is; else the launch line is what was sized."""
    alike = asked.w.engine_defaults
    judged = asked if alike or able is None else able
    surely, lacks = serving.surely(judged, budget), _lacks(judged, budget)
    if able is asked or able is None:
        return Serves(surely=surely, lacks=lacks)
    return Serves(
        surely=surely,
        lacks=lacks,
        flags=launching.changes(asked.w, able.w),
        change=launching.change(asked.w, able.w),
        changed=_devices(subject, able, budget) if alike else (),
        then=serving.surely(able, budget),
    )


def _derived(
    subject: Subject, sized: VllmLaunched, able: VllmLaunched | None, budget: Budget | None
) -> DerivedFacts:
    launch, kinds = sized.launch, sized.kinds
    replica = sized.kind_of[: launch.tensor * launch.pipeline]
    marginal = [_marginal(r) for r in kinds]
    widest = max((r.peak for r in kinds), key=lambda b: b.expected)
    stages = [_logged(kinds[k]) for k in replica[:: launch.tensor]]
    facts: DerivedFacts = {
        "dtype_from": subject.why,
        "kv_cache_bytes_per_token": sum(marginal[k] for k in replica),
        "kv_cache_bytes_per_request": sum(
            kinds[k].blocks.request * kinds[k].blocks.pool.block for k in replica
        ),
        "profile_peak_bytes": widest.expected,
        "profile_peak_interval": list(widest),
        "non_torch_bytes": max(r.standing.non_torch.expected for r in kinds),
        "model_loading_bytes": kinds[0].standing.loaded,
        "first_rank": stages[0],  # which vLLM's log is about; those above are of the fullest
        "stages": stages,
        "cuda_graph_bytes": max(r.standing.captured.taken.expected for r in kinds),
        "cuda_graph_estimate_bytes": max(r.standing.estimated.expected for r in kinds),
        **_line(subject, able or sized),
    }
    return facts if budget is None else facts | _of_card(sized, budget)


def _logged(reserve: RankReserve) -> FirstRank:
    """Return the facts that a rank's own log prints."""
    return {
        "profile_peak_bytes": reserve.peak.expected,
        "profile_peak_interval": list(reserve.peak),
        "non_torch_bytes": reserve.standing.non_torch.expected,
        "non_torch_interval": list(reserve.standing.non_torch),
    }


def _line(s: Subject, launched: VllmLaunched) -> DerivedFacts:
    return launch_line.facts(
        s, launched.w, ENGINE, launching.command(s, launched.launch, launched.w)
    )


def _marginal(reserve: RankReserve) -> int:
    """Bytes of one more token of a request."""
    context = reserve.blocks.context
    span = min(SPAN, context - 1) or 1
    return (reserve.blocks.content(context) - reserve.blocks.content(context - span)) // span


def _of_card(launched: VllmLaunched, budget: Budget) -> DerivedFacts:
    """The rank with the fewest blocks decides for all of a replica."""
    share_bytes, kinds, data = _asks(launched, budget), launched.kinds, launched.launch.data
    least = min(kinds, key=lambda r: _blocks(r, share_bytes))
    available = max(0, least.available(share_bytes))
    facts: DerivedFacts = {
        "available_kv_cache_bytes": available,
        "available_kv_cache_interval": list(least.available_interval(share_bytes)),
        "serving_bytes": max(r.serving(share_bytes) for r in kinds),
        "serving_interval": list(max(r.serving_interval(share_bytes) for r in kinds)),
        "gpu_memory_utilization_needed": serving.utilization(kinds, budget),
    }
    if not least.blocks.pool.groups:
        return facts
    return facts | {
        "num_gpu_blocks": least.blocks.pool.count(available),
        "kv_cache_tokens": data * least.blocks.logged(available),
        "max_concurrency": round(data * _concurrency(least, available), 2),
    }


def _blocks(reserve: RankReserve, share_bytes: int) -> float:
    available = max(0, reserve.available(share_bytes))
    return reserve.blocks.pool.count(available) if reserve.blocks.pool.groups else available


def _concurrency(reserve: RankReserve, available: int) -> float:
    return reserve.blocks.pool.concurrency(available, reserve.blocks.setting.load)


def _warnings(asked: VllmLaunched, able: VllmLaunched | None, budget: Budget) -> Iterator[str]:
    if able is not asked:
        yield _lacks(asked, budget) + _way(asked, able, budget)


def _lacks(asked: VllmLaunched, budget: Budget) -> str:
    """Say what the flags as they were asked leave no room for; "" where they surely serve."""
    share_bytes = _asks(asked, budget)
    least = min(asked.kinds, key=lambda r: _blocks(r, share_bytes))
    reasons = (_loading, _refusal, _room, _nearly)
    return next((reason for tell in reasons if (reason := tell(asked, least, budget))), "")


def _loading(asked: VllmLaunched, least: RankReserve, budget: Budget) -> str:
    """Say what is there while weights load, where the card has not room for it; else ""."""
    r = max((*asked.kinds, least), key=lambda r: r.standing.loading.expected)
    if serving.loads(r, budget):
        return ""
    arriving = total(c.bytes for c in r.standing.resident.arriving).expected
    packed = f", {human(arriving)} of it until weights are packed" if arriving else ""
    return (
        f"vLLM does not load: that takes {human(r.standing.loading.expected)} of each card"
        f"{packed}, and a process has {human(budget.usable.expected)}"
    )


def _nearly(asked: VllmLaunched, reserve: RankReserve, budget: Budget) -> str:
    """Describe a launch that is expected to serve, and may not; "" where it surely does."""
    if serving.serves(asked, budget, serving.WORST):
        return ""
    if reserve.given is not None:
        return (
            f"{human(reserve.given)} of cache were asked for; with all else they take up to "
            f"{human(reserve.inside.high + reserve.given + reserve.outside.high)} of the card"
        )
    low, _, high = reserve.available_interval(_asks(asked, budget))
    return (
        f"vLLM may not start: its share of {asked.utilization:g} leaves {human(low)} to "
        f"{human(high)} for blocks, of which {human(reserve.blocks.nbytes)} are needed, and "
        f"{human(reserve.outside.low)} to {human(reserve.outside.high)} are outside of it"
    )


def _room(asked: VllmLaunched, reserve: RankReserve, budget: Budget) -> str:
    """Say what there is no room for: the profile run, the cache that was asked for, or the blocks
    of all requests; else ""."""
    share_bytes = _asks(asked, budget)
    room = max(0, reserve.available(share_bytes))
    if reserve.available(share_bytes) < 0:
        return (
            f"vLLM will not start: weights, the profile run and graphs take "
            f"{human(reserve.inside.expected)}, and its share, {asked.utilization:g} of the card, "
            "is "
            f"{human(share_bytes)}"
        )
    if reserve.given is not None and reserve.taken(share_bytes) > budget.usable.expected:
        return (
            f"{human(reserve.given)} of cache were asked for, and with all else they take "
            f"{human(reserve.taken(share_bytes))} of the {human(budget.usable.expected)} that a "
            "process has"
        )
    if room >= reserve.blocks.nbytes:
        return ""
    if room < reserve.blocks.request * reserve.blocks.pool.block:
        return (
            f"vLLM will not start: one request of {reserve.context:,} tokens takes "
            f"{human(reserve.blocks.request * reserve.blocks.pool.block)} of blocks, and "
            f"{human(room)} are left for them"
        )
    return (
        f"{reserve.requests:,} requests of {reserve.context:,} tokens do not run at once: there is "
        "room "
        f"for {_concurrency(reserve, room):.2f}; the others wait"
    )


def _refusal(asked: VllmLaunched, reserve: RankReserve, budget: Budget) -> str:
    share_bytes = _asks(asked, budget)
    if not serving.refused(reserve, share_bytes, budget):
        return ""
    refuses = (
        "refuses" if serving.refused(reserve, share_bytes, budget, serving.BEST) else "may refuse"
    )
    return (
        f"--gpu-memory-utilization {asked.utilization:g} asks for {human(share_bytes)}, and "
        f"{human(serving.at_start(reserve, budget))} are free once the context is there: vLLM "
        f"{refuses}"
    )


def _ranks(w: Infer) -> int:
    sizes = (w.tensor_parallel_size, w.pipeline_parallel_size, w.data_parallel_size)
    return math.prod(int(size or 1) for size in sizes)


def _way(asked: VllmLaunched, able: VllmLaunched | None, budget: Budget) -> str:
    if able is None:
        return f"; {unhelped(budget.choice.count, _ranks(asked.w))}"
    changes, would = launching.changes(asked.w, able.w), WOULD[serving.surely(able, budget)]
    return f"; the launch line asks for {changes}, which {would} do"
