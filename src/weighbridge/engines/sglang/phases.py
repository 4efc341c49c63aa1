"""A device's phases, with the pools that a workload needs or that a card has room for.

Source: sglang 0.5.23 srt/managers/scheduler.py (init_model_worker).
"""

from collections.abc import Iterator

from weighbridge.engines.sglang import caches
from weighbridge.engines.sglang.replica import CardFit, Served, pool_parts, pool_sizes
from weighbridge.memory import Bytes, Phase, exactly, total


def phases(v: Served, first: int, pools: caches.Pools, running: int) -> Iterator[Phase]:
    kind = v.case.kinds[first]
    held = (*kind.weights, *kind.extra, *v.case.driver)
    yield Phase("load", (*held, *kind.arriving))
    cached = pool_parts(v, kind, pools, running)
    for name, parts in v.steps[first].items():
        yield Phase(name, (*held, *cached, *(p for p in parts if p.bytes.high)))


def taken(v: Served, first: int, fit: CardFit) -> Bytes:
    """What the driver shows with the pools of the card."""
    kind = v.case.kinds[first]
    cached = exactly(sum(pool_sizes(v, kind, fit.pools[first], fit.running)))
    loading = kind.held.plus(total(c.bytes for c in kind.arriving))
    whole = (loading, *(moment.plus(cached) for moment in v.moments[first]))
    return Bytes(*(max(bounds) for bounds in zip(*whole, strict=True)))
