"""A device's phases, with the pools that a workload needs or that a card has room for.

Source: sglang 0.5.23 srt/managers/scheduler.py (init_model_worker).
"""

from collections.abc import Iterator

from weighbridge.engines import shards
from weighbridge.engines.caches import sglang as caches
from weighbridge.engines.sglang import outside
from weighbridge.engines.sglang.replica import Fit, Served, pool_parts, weights
from weighbridge.memory import Bytes, Phase


def phases(v: Served, rank: shards.Rank, pools: caches.Pools, running: int) -> Iterator[Phase]:
    held = (*weights(v, rank), *v.extra(rank), *v.driver)
    at = next(i for i, one in enumerate(v.ranks) if one is rank)
    yield Phase("load", (*held, *v.arriving[at]))
    cached = pool_parts(v, rank, pools, running)
    steps = outside.components(v.s, rank, v.e, v.load, v.compute)
    for name, parts in steps.items():
        yield Phase(name, (*held, *cached, *(p for p in parts if p.bytes.high)))


def taken(v: Served, first: int, fit: Fit) -> Bytes:
    """What the driver shows with the pools of the card."""
    whole = [p.at("driver") for p in phases(v, v.ranks[first], fit.pools[first], fit.running)]
    return Bytes(*(max(bounds) for bounds in zip(*whole, strict=True)))
