"""vLLM (V1): a share of the whole card, of which the cache gets what is left.

    infer(subject, workload, budget) -> Answer

rules.py      what changed between versions          setting.py   flags and their defaults
forward.py    widths of one step                     sampling.py  logits and samplers
encoders.py   images and sounds                      profile.py   the profile run's moments
graphs.py     CUDA graphs                            weights.py   weights as they are held
pool.py       blocks of the cache                    reserve.py   who counts what, and what is left
talking.py    communicators                          hardware.py  what of a GPU matters
parts.py      the answer's components                launching.py the command line
"""

from collections.abc import Iterator, Sequence
from typing import Any

from weighbridge.accelerators.budget import Budget
from weighbridge.engines.caches import vllm as caches
from weighbridge.engines.serving import Answer, Subject
from weighbridge.engines.table import ENGINES, version
from weighbridge.engines.vllm import launching, parts, setting
from weighbridge.engines.vllm.reserve import Reserve, reserves
from weighbridge.engines.vllm.rules import rules
from weighbridge.engines.vllm.setting import Launch
from weighbridge.memory import Device
from weighbridge.units import human
from weighbridge.workload import Infer

SPAN = 256  # tokens over which a marginal byte is measured


def infer(subject: Subject, w: Infer, budget: Budget | None) -> Answer:
    """Raises UsageError for settings that the engine refuses."""
    number, _ = version(ENGINES["vllm"], w.engine_version)
    at = setting.launch(subject, w, budget, rules(number))
    found = reserves(subject, at, w, budget)
    gpus = [
        Device(
            index=i,
            kind="gpu",
            phases=parts.phases(r, subject, at),
            taken=r.taken(budget) if budget else None,
        )
        for i, r in enumerate(found)
    ]
    return Answer(
        devices=(*gpus, parts.host(subject, found, at)),
        settings=at.to_dict(w),
        derived=_derived(subject, at, w, found, budget),
        warnings=tuple(_warnings(at, found, budget)),
    )


def _derived(
    subject: Subject, at: Launch, w: Infer, found: Sequence[Reserve], budget: Budget | None
) -> dict[str, Any]:
    replica = found[: at.tensor * at.pipeline]
    facts: dict[str, Any] = {
        "kv_cache_bytes_per_token": sum(_marginal(r) for r in replica),
        "kv_cache_bytes_per_request": sum(r.blocks.request * r.blocks.pool.block for r in replica),
        "profile_peak_bytes": max(r.profiled.total.expected for r in found),
        "non_torch_bytes": max(r.grown.expected for r in found),
        "cuda_graph_bytes": max(r.captured.taken.expected for r in found),
        "cuda_graph_estimate_bytes": max(r.captured.charged.expected for r in found),
        "launch": launching.command(subject, at, w, found, budget),
    }
    return facts | (_of_card(at, found, budget) if budget else {})


def _marginal(r: Reserve) -> int:
    """Bytes of one more token of a request."""
    s = r.blocks.setting
    span = min(SPAN, s.context - 1) or 1
    size = caches.content(r.blocks.layers, s).kv
    return (size - caches.content(r.blocks.layers, caches.shorter(s, span)).kv) // span


def _of_card(at: Launch, found: Sequence[Reserve], budget: Budget) -> dict[str, Any]:
    """The rank with the fewest blocks decides for all of a replica."""
    least = min(found, key=lambda r: _blocks(r, budget))
    available = max(0, least.available(budget))
    facts: dict[str, Any] = {
        "available_kv_cache_bytes": available,
        "available_kv_cache_interval": least.available_interval(budget),
        "serving_bytes": max(r.serving(budget) for r in found),
        "gpu_memory_utilization_needed": launching.utilization(found, budget),
    }
    if not least.blocks.pool.groups:
        return facts
    logged = caches.logged_tokens(least.blocks.layers, least.blocks.setting, available)
    return facts | {
        "num_gpu_blocks": least.blocks.pool.count(available),
        "kv_cache_tokens": at.data * logged,
        "max_concurrency": round(at.data * _concurrency(least, available), 2),
    }


def _blocks(r: Reserve, budget: Budget) -> float:
    available = max(0, r.available(budget))
    return r.blocks.pool.count(available) if r.blocks.pool.groups else available


def _concurrency(r: Reserve, available: int) -> float:
    return r.blocks.pool.concurrency(available, r.blocks.setting.load)


def _warnings(at: Launch, found: Sequence[Reserve], budget: Budget | None) -> Iterator[str]:
    if budget is None:
        return
    least = min(found, key=lambda r: _blocks(r, budget))
    if at.kv_cache_bytes is None:
        yield from _refusals(at, least, budget)
    room = max(0, least.available(budget)) // (least.blocks.pool.block or 1)
    if not least.blocks.pool.groups:
        return
    if room < least.blocks.request:
        yield (
            f"vLLM will not start: one request of {at.context:,} tokens takes "
            f"{human(least.blocks.request * least.blocks.pool.block)} of blocks, and "
            f"{human(max(0, least.available(budget)))} are left for them{_share(found, budget)}"
        )
    elif room < least.blocks.count:
        yield (
            f"{at.requests:,} requests of {at.context:,} tokens do not run at once: there is room "
            f"for {_concurrency(least, least.available(budget)):.2f}; the others wait"
            f"{_share(found, budget)}"
        )


def _share(found: Sequence[Reserve], budget: Budget) -> str:
    share = launching.utilization(found, budget)
    if share is None:
        return "; not even the whole card would do"
    return f"; --gpu-memory-utilization {share:g} would do"


def _refusals(at: Launch, r: Reserve, budget: Budget) -> Iterator[str]:
    """What `request_memory` refuses: a share that is not free when the worker starts."""
    free = budget.usable.expected - r.context.expected - r.talk_outside.expected
    if r.requested(budget) > free:
        yield (
            f"--gpu-memory-utilization {at.utilization:g} asks for {human(r.requested(budget))}, "
            f"and {human(max(0, free))} are free once the context is there: vLLM refuses"
        )
