"""What SGLang needs for a workload on each device, and what it takes of a card.

    needed    weights, the smallest pools for the requests, and what lies outside the fraction
    taken     the same with the pools that the fraction makes of the card

Source: sglang 0.5.23 srt/managers/scheduler.py (init_model_worker).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from weighbridge.engines import shards
from weighbridge.engines.caches import sglang as caches
from weighbridge.engines.serving import Answer, Subject
from weighbridge.engines.sglang import outside
from weighbridge.engines.sglang.effective import effective, generates, remembered, requests
from weighbridge.engines.sglang.launch import launch, settings
from weighbridge.engines.sglang.replica import Fit, Served, fitted, layers_of, pool_parts, weights
from weighbridge.engines.table import ENGINES, version
from weighbridge.errors import UnsupportedError
from weighbridge.memory import Bytes, Component, Device, Phase
from weighbridge.units import GIB
from weighbridge.workload import Infer

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget

PROCESS = Bytes(GIB, 5 * GIB // 2, 4 * GIB)  # of one rank's process on the host, without weights
FILE_PAGES = "pages of mapped files, which the kernel may drop"


def phases(v: Served, rank: shards.Rank, pools: caches.Pools, running: int) -> Iterator[Phase]:
    held = (*weights(v, rank), *v.extra(rank), *v.driver)
    yield Phase("load", held)
    cached = pool_parts(v, rank, pools, running)
    steps = outside.components(v.s, rank, v.e, v.load, v.compute)
    for name, parts in steps.items():
        yield Phase(name, (*held, *cached, *(p for p in parts if p.bytes.high)))


def serve(s: Subject, w: Infer, budget: "Budget | None") -> Answer:
    number, _ = version(ENGINES["sglang"], w.engine_version)
    if not remembered(s):
        raise UnsupportedError(
            f"{s.model.reference}: its layers are not known, so the pools that sglang makes for "
            "them are not either; give the model's config.json"
        )
    s = s.without_towers() if w.language_model_only else s
    e = effective(s, w, budget, number)
    v = Served(s=s, w=w, e=e, budget=budget)
    fit = fitted(v)
    made = {i: _device(v, i, fit) for i in set(v.firsts)}
    devices = [
        Device(index=i, kind="gpu", phases=made[first][0], taken=made[first][1])
        for i, first in enumerate(v.firsts * e.data)
    ]
    return Answer(
        devices=(*devices, _host(v)),
        settings=settings(e, w),
        derived=_derived(v, fit) | {"launch": launch(s, w, e)},
        warnings=tuple(_warnings(v, fit)),
    )


def _device(v: Served, index: int, fit: Fit | None) -> tuple[tuple[Phase, ...], int | None]:
    rank = v.ranks[index]
    pools, _ = caches.needed(layers_of(v, rank), v.setting(v.load.requests))
    tokens = max(pools.full, pools.sliding)
    own = tuple(phases(v, rank, pools, requests(v.e, tokens, pools.slots if _states(v) else None)))
    if fit is None or fit.tokens <= 0:
        return own, None
    whole = phases(v, rank, fit.pools[index], fit.running)
    return own, max(p.at("driver").expected for p in whole)


def _states(v: Served) -> bool:
    return any(caches.cells(layers_of(v, r), v.setting(1)).state for r in v.kinds)


def _derived(v: Served, fit: Fit | None) -> dict[str, Any]:
    own = {i: caches.cells(layers_of(v, v.ranks[i]), v.setting(1)) for i in set(v.firsts)}
    cells = [own[first] for first in v.firsts]
    ratio = v.e.swa_ratio
    marginal = sum(c.full + (ratio * c.sliding if c.full else c.sliding) for c in cells)
    more = v.beside * len(cells) // v.e.pipeline
    found: dict[str, Any] = {"kv_cache_bytes_per_token": (int(marginal) + more) // v.e.groups}
    if fit is None:
        return found
    held = fit.slots // v.e.pools(1).slots if fit.slots else fit.running
    found |= {
        "kv_cache_tokens": max(0, fit.tokens) * v.e.pools_of,
        "max_total_num_tokens": max(0, fit.tokens),
        "available_kv_cache_bytes": min(r.available for r in fit.rooms),
        "max_running_requests": fit.running,
        "max_concurrency": min(fit.tokens / v.e.context, fit.running, held) * v.e.pools_of,
    }
    if fit.sliding:
        found["swa_max_total_num_tokens"] = fit.sliding
    return found


def _warnings(v: Served, fit: Fit | None) -> Iterator[str]:
    if fit is not None and min(r.available for r in fit.rooms) <= 0:
        r = min(fit.rooms, key=lambda r: r.available)
        least = v.e.share - r.available / r.free if v.e.share else 1.0
        yield (
            f"mem_fraction_static {v.e.share:.3f} leaves nothing for the KV cache; it would have "
            f"to be above {least:.3f}"
        )
    if v.budget is not None and v.budget.choice.count < len(v.ranks) * v.e.data:
        yield (f"{len(v.ranks) * v.e.data} devices are needed, {v.budget.choice.count} were named")


def _host(v: Served) -> Device:
    """One process a rank, and the files of the weights while they are read."""
    ranks = len(v.ranks) * v.e.data
    held = sum(c.bytes.expected for r in v.ranks for c in weights(v, r) if c.name == "weights")
    files = sum(t.nbytes for part in v.s.model.parts for t in part.stored) or held
    process = Component(
        name="other",
        bytes=Bytes(*(ranks * b for b in PROCESS)),
        basis="assumed",
        detail="processes",
        formula=f"{ranks} ranks x 1 to 4 GiB: torch, CUDA libraries, compiled kernels",
        source="no rule is published",
    )
    read = Component(
        name="weights",
        bytes=Bytes(0, files, files),
        basis="computed",
        detail="mapped files",
        formula=FILE_PAGES,
        source="sglang 0.5.23 srt/model_loader/weight_utils.py",
    )
    names = ("prefill", "decode") if generates(v.s) else ("prefill",)
    running = tuple(Phase(name, (process,)) for name in names)
    return Device(index=0, kind="host", phases=(Phase("load", (process, read)), *running))
