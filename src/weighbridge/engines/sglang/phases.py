"""A device's phases, with the pools that a workload needs or that a card has room for.

Source: sglang 0.5.23 srt/managers/scheduler.py (init_model_worker).
"""

from collections.abc import Iterator

from weighbridge.engines.sglang import caches
from weighbridge.engines.sglang.replica import CardFit, Served, pool_parts, pool_sizes
from weighbridge.memory import Bytes, Phase, exactly, total


def phases(served: Served, first: int, pools: caches.Pools, running: int) -> Iterator[Phase]:
    kind = served.case.kinds[first]
    held_bytes = (*kind.weights, *kind.extra, *served.case.driver)
    yield Phase("load", (*held_bytes, *kind.arriving))
    cached = pool_parts(served, kind, pools, running)
    for name, parts in served.steps[first].items():
        yield Phase(name, (*held_bytes, *cached, *(p for p in parts if p.bytes.high)))


def taken(served: Served, first: int, fit: CardFit) -> Bytes:
    """Return the bytes that the driver shows with the pools of the card."""
    kind = served.case.kinds[first]
    cached = exactly(sum(pool_sizes(served, kind, fit.pools[first], fit.running)))
    loading = kind.held.plus(total(c.bytes for c in kind.arriving))
    whole = (loading, *(moment.plus(cached) for moment in served.moments[first]))
    return Bytes(*(max(bounds) for bounds in zip(*whole, strict=True)))
