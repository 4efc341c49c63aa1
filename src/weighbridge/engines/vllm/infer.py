"""What vLLM holds on each device for a workload: needed, and taken by its share of the card."""

import math
from collections.abc import Iterator

from weighbridge.accelerators.budget import Budget
from weighbridge.arch.table import column
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
from weighbridge.engines.vllm import ENGINE, checks, launching, parts, serving, setting
from weighbridge.engines.vllm.cases import VllmCase, VllmLaunched, case
from weighbridge.engines.vllm.reserve import RankReserve, share
from weighbridge.engines.vllm.rules import FIRST, older, rules
from weighbridge.memory import Device, total
from weighbridge.report_keys import DerivedFacts, FirstRank
from weighbridge.units import human
from weighbridge.workload import Infer

SPAN = 256  # tokens over which a marginal byte is measured
BATCH = "--batch-size"
UNSTABLE = frozenset(column("vllm.not_float16"))
NEEDS = device_support.Needs(ENGINE.name, oldest=(7, 0), refuses=True, unstable=UNSTABLE)


def infer(subject: Subject, w: Infer, budget: Budget | None) -> EngineAnswer:
    """Raises UsageError for settings that the engine refuses."""
    subject, found = _met(subject, w, budget)
    point = SearchPoint(subject.context, w.prompt_len, setting.positive(w.batch_size, BATCH) or 1)
    own = found.launched(w, point, setting.said(w))
    able = own if budget is None else serving.able(found, own, point, budget)
    sized = own if w.engine_defaults or able is None else able  # a command is taken as it is
    return EngineAnswer(
        devices=_devices(subject, sized, budget),
        settings=sized.at.to_dict(sized.w) | {"dtype": subject.choice.dtype.name},
        derived=_derived(subject, sized, able, budget) | _served(own, able, budget),
        warnings=(
            *(() if budget is None else _warnings(own, able, budget)),
            *launch_line.warnings(subject, w, ENGINE),
            *checks.warnings(sized, w),
            *device_support.caution(budget, ENGINE),
            *device_support.packed_alone(subject, budget, ENGINE, sized.at.rules.version),
        ),
        serves=None if budget is None else _serves(subject, own, able, budget),
    )


def probe(subject: Subject, w: Infer, budget: Budget) -> Probe:
    """Prepares the numbers of `infer` for searches."""
    subject, found = _met(subject, w, budget)

    def ask(point: SearchPoint) -> HeldBytes | None:
        made: VllmLaunched | None = found.launched(w, point, setting.said(w))
        assert made is not None
        if not w.engine_defaults:
            made = serving.surest(found, made, point, budget)
        elif not serving.serves(made, budget, serving.WORST):
            made = None
        if made is None:
            return None
        kinds = [[p.parts for p in parts.phases(r)] for r in made.kinds]
        return HeldBytes(len(made.dealt), kinds)

    return ask


def _met(subject: Subject, w: Infer, budget: Budget | None) -> tuple[Subject, VllmCase]:
    """The model as vLLM takes it on that card, and what was prepared of it."""
    number, _ = version(ENGINE, w.engine_version)
    subject = device_support.suited(subject, w, budget, NEEDS)
    subject = subject.without_towers() if w.language_model_only else subject
    checks.check(subject, w, number)
    asked = number if w.engine_version is None else release(ENGINE, w.engine_version)
    found = older(asked) if asked < FIRST.version else rules(number)
    return subject, case(subject, w, budget, found)


def _devices(subject: Subject, made: VllmLaunched, budget: Budget | None) -> tuple[Device, ...]:
    kinds = [
        (parts.phases(r), None if budget is None else r.taken(_asks(made, budget)))
        for r in made.kinds
    ]
    gpus = (
        Device(index=i, kind="gpu", phases=kinds[k][0], taken=kinds[k][1])
        for i, k in enumerate(made.dealt)
    )
    return (*gpus, parts.host(subject, made))


def _asks(made: VllmLaunched, budget: Budget) -> int:
    """Bytes of the card that vLLM asks for."""
    return share(made.kinds[0].own.at.rules, made.utilization, budget)


def _served(own: VllmLaunched, able: VllmLaunched | None, budget: Budget | None) -> DerivedFacts:
    if budget is None:
        return {}
    return {"serves_as_asked": serving.serves(own, budget), "launch_serves": able is not None}


def _serves(
    subject: Subject, own: VllmLaunched, able: VllmLaunched | None, budget: Budget
) -> Serves:
    """A command is taken as it is; else the launch line is what was sized."""
    alike = own.w.engine_defaults
    judged = own if alike or able is None else able
    surely, lacks = serving.surely(judged, budget), _lacks(judged, budget)
    if able is own or able is None:
        return Serves(surely=surely, lacks=lacks)
    return Serves(
        surely=surely,
        lacks=lacks,
        flags=launching.changes(own.w, able.w),
        change=launching.change(own.w, able.w),
        changed=_devices(subject, able, budget) if alike else (),
        then=serving.surely(able, budget),
    )


def _derived(
    subject: Subject, sized: VllmLaunched, able: VllmLaunched | None, budget: Budget | None
) -> DerivedFacts:
    at, kinds = sized.at, sized.kinds
    replica = sized.dealt[: at.tensor * at.pipeline]
    marginal = [_marginal(r) for r in kinds]
    widest = max((r.peak for r in kinds), key=lambda b: b.expected)
    stages = [_logged(kinds[k]) for k in replica[:: at.tensor]]
    facts: DerivedFacts = {
        "dtype_from": subject.why,
        "kv_cache_bytes_per_token": sum(marginal[k] for k in replica),
        "kv_cache_bytes_per_request": sum(
            kinds[k].blocks.request * kinds[k].blocks.pool.block for k in replica
        ),
        "profile_peak_bytes": widest.expected,
        "profile_peak_interval": list(widest),
        "non_torch_bytes": max(r.own.non_torch.expected for r in kinds),
        "model_loading_bytes": kinds[0].own.loaded,
        "first_rank": stages[0],  # which vLLM's log is about; those above are of the fullest
        "stages": stages,
        "cuda_graph_bytes": max(r.own.captured.taken.expected for r in kinds),
        "cuda_graph_estimate_bytes": max(r.own.estimated.expected for r in kinds),
        **_line(subject, able or sized),
    }
    return facts if budget is None else facts | _of_card(sized, budget)


def _logged(r: RankReserve) -> FirstRank:
    """What a rank's own log prints."""
    return {
        "profile_peak_bytes": r.peak.expected,
        "profile_peak_interval": list(r.peak),
        "non_torch_bytes": r.own.non_torch.expected,
        "non_torch_interval": list(r.own.non_torch),
    }


def _line(s: Subject, made: VllmLaunched) -> DerivedFacts:
    return launch_line.facts(s, made.w, ENGINE, launching.command(s, made.at, made.w))


def _marginal(r: RankReserve) -> int:
    """Bytes of one more token of a request."""
    context = r.blocks.context
    span = min(SPAN, context - 1) or 1
    return (r.blocks.content(context) - r.blocks.content(context - span)) // span


def _of_card(made: VllmLaunched, budget: Budget) -> DerivedFacts:
    """The rank with the fewest blocks decides for all of a replica."""
    asked, kinds, data = _asks(made, budget), made.kinds, made.at.data
    least = min(kinds, key=lambda r: _blocks(r, asked))
    available = max(0, least.available(asked))
    facts: DerivedFacts = {
        "available_kv_cache_bytes": available,
        "available_kv_cache_interval": list(least.available_interval(asked)),
        "serving_bytes": max(r.serving(asked) for r in kinds),
        "serving_interval": list(max(r.serving_interval(asked) for r in kinds)),
        "gpu_memory_utilization_needed": serving.utilization(kinds, budget),
    }
    if not least.blocks.pool.groups:
        return facts
    return facts | {
        "num_gpu_blocks": least.blocks.pool.count(available),
        "kv_cache_tokens": data * least.blocks.logged(available),
        "max_concurrency": round(data * _concurrency(least, available), 2),
    }


def _blocks(r: RankReserve, asked: int) -> float:
    available = max(0, r.available(asked))
    return r.blocks.pool.count(available) if r.blocks.pool.groups else available


def _concurrency(r: RankReserve, available: int) -> float:
    return r.blocks.pool.concurrency(available, r.blocks.setting.load)


def _warnings(own: VllmLaunched, able: VllmLaunched | None, budget: Budget) -> Iterator[str]:
    if able is not own:
        yield _lacks(own, budget) + _way(own, able, budget)


def _lacks(own: VllmLaunched, budget: Budget) -> str:
    """What the flags as they were asked leave no room for; "" where they surely serve."""
    asked = _asks(own, budget)
    least = min(own.kinds, key=lambda r: _blocks(r, asked))
    told = (_loading, _refusal, _room, _nearly)
    return next((said for tell in told if (said := tell(own, least, budget))), "")


def _loading(own: VllmLaunched, least: RankReserve, budget: Budget) -> str:
    """What is there while weights load, where the card has not room for it."""
    r = max((*own.kinds, least), key=lambda r: r.own.loading.expected)
    if serving.loads(r, budget):
        return ""
    arriving = total(c.bytes for c in r.own.resident.arriving).expected
    packed = f", {human(arriving)} of it until weights are packed" if arriving else ""
    return (
        f"vLLM does not load: that takes {human(r.own.loading.expected)} of each card{packed}, and "
        f"a process has {human(budget.usable.expected)}"
    )


def _nearly(own: VllmLaunched, r: RankReserve, budget: Budget) -> str:
    """What is expected to serve, and may not."""
    if serving.serves(own, budget, serving.WORST):
        return ""
    if r.given is not None:
        return (
            f"{human(r.given)} of cache were asked for; with all else they take up to "
            f"{human(r.inside.high + r.given + r.outside.high)} of the card"
        )
    low, _, high = r.available_interval(_asks(own, budget))
    return (
        f"vLLM may not start: its share of {own.utilization:g} leaves {human(low)} to "
        f"{human(high)} for blocks, of which {human(r.blocks.nbytes)} are needed, and "
        f"{human(r.outside.low)} to {human(r.outside.high)} are outside of it"
    )


def _room(own: VllmLaunched, r: RankReserve, budget: Budget) -> str:
    """What there is no room for."""
    asked = _asks(own, budget)
    room = max(0, r.available(asked))
    if r.available(asked) < 0:
        return (
            f"vLLM will not start: weights, the profile run and graphs take "
            f"{human(r.inside.expected)}, and its share, {own.utilization:g} of the card, is "
            f"{human(asked)}"
        )
    if r.given is not None and r.taken(asked) > budget.usable.expected:
        return (
            f"{human(r.given)} of cache were asked for, and with all else they take "
            f"{human(r.taken(asked))} of the {human(budget.usable.expected)} that a process has"
        )
    if room >= r.blocks.nbytes:
        return ""
    if room < r.blocks.request * r.blocks.pool.block:
        return (
            f"vLLM will not start: one request of {r.context:,} tokens takes "
            f"{human(r.blocks.request * r.blocks.pool.block)} of blocks, and "
            f"{human(room)} are left for them"
        )
    return (
        f"{r.requests:,} requests of {r.context:,} tokens do not run at once: there is room "
        f"for {_concurrency(r, room):.2f}; the others wait"
    )


def _refusal(own: VllmLaunched, r: RankReserve, budget: Budget) -> str:
    asked = _asks(own, budget)
    if not serving.refused(r, asked, budget):
        return ""
    refuses = "refuses" if serving.refused(r, asked, budget, serving.BEST) else "may refuse"
    return (
        f"--gpu-memory-utilization {own.utilization:g} asks for {human(asked)}, and "
        f"{human(serving.at_start(r, budget))} are free once the context is there: vLLM {refuses}"
    )


def _ranks(w: Infer) -> int:
    sizes = (w.tensor_parallel_size, w.pipeline_parallel_size, w.data_parallel_size)
    return math.prod(int(size or 1) for size in sizes)


def _way(own: VllmLaunched, able: VllmLaunched | None, budget: Budget) -> str:
    if able is None:
        return f"; {unhelped(budget.choice.count, _ranks(own.w))}"
    changes, would = launching.changes(own.w, able.w), WOULD[serving.surely(able, budget)]
    return f"; the launch line asks for {changes}, which {would} do"
