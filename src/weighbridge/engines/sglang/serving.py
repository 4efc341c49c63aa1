"""Which flags make SGLang serve a workload on a card, where those that were asked for do not.

    serves     every pool holds what all requests need at once, and as many may run; `surely` where
               they do by the widest bounds too, and the card has room for these pools
    fraction   the smallest that makes such pools, by the high estimate of what is there before
               weights; no more than leaves the card room for the step and the graphs
    then       as many requests as there are, chunks of 2,048 and of 1,024 tokens, no CUDA graphs:
               one after the other, until it serves

What the user has said is never changed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from weighbridge.engines.caches import sglang as caches
from weighbridge.engines.serving import Subject, Surely
from weighbridge.engines.sglang.effective import effective, requests
from weighbridge.engines.sglang.phases import taken
from weighbridge.engines.sglang.replica import (
    BEST,
    WORST,
    Fit,
    Served,
    fitted,
    layers_of,
    room,
    weights,
)
from weighbridge.memory import Bytes, total
from weighbridge.workload import Infer

STEPS = 1000  # a fraction is written in thousandths
SEARCHED = 12
CHUNKS = (2048, 1024)


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Launched:
    """A launch and the pools that it makes; `v.w` says what differs from SGLang's defaults."""

    v: Served

    @cached_property
    def fit(self) -> Fit | None:
        return fitted(self.v)

    @property
    def serves(self) -> bool:
        fit = self.fit
        return fit is not None and all(self._holds(fit, i) for i in set(self.v.firsts))

    def _holds(self, fit: Fit, first: int) -> bool:
        v, made = self.v, fit.pools[first]
        need = pools_needed(v, first)
        slots = need.slots if states(v) else 0
        lacking = (made.full < need.full, made.sliding < need.sliding, made.slots < slots)
        return fit.tokens > 0 and not any(lacking) and fit.running >= v.load.requests

    @property
    def fits(self) -> bool:
        """Whether the card has room for what these pools leave outside."""
        assert self.v.budget is not None
        assert self.fit is not None
        most = max(taken(self.v, i, self.fit).expected for i in set(self.v.firsts))
        return most <= self.v.budget.usable.expected

    @cached_property
    def surely(self) -> Surely:
        """What holds by every estimate, by none, or by some."""
        assert self.v.budget is not None
        if self._by(WORST).serves and self.whole.high <= self.v.budget.usable.low:
            return "yes"
        able = self._by(BEST).serves and self.whole.low <= self.v.budget.usable.high
        return "unknown" if able else "no"

    @property
    def whole(self) -> Bytes:
        """What the fullest card holds with these pools."""
        assert self.fit is not None
        found = [taken(self.v, i, self.fit) for i in set(self.v.firsts)]
        return Bytes(*(max(bounds) for bounds in zip(*found, strict=True)))

    def _by(self, bound: int) -> "Launched":
        """The same launch where all estimates are at one bound."""
        return Launched(v=replace(self.v, by=bound))


def pools_needed(v: Served, first: int) -> caches.Pools:
    return caches.needed(layers_of(v, v.ranks[first]), v.setting(v.load.requests))[0]


def launched(s: Subject, w: Infer, v: Served) -> Launched:
    """The same model and card with other settings."""
    return Launched(v=Served(s=s, w=w, e=effective(s, w, v.budget, v.e.version), budget=v.budget))


def able(own: Launched) -> Launched | None:
    """The nearest launch that surely serves, else one that is expected to; None where none is, or
    without a card."""
    if own.fit is None:
        return None
    if own.surely == "yes":
        return own
    v, near = own.v, own if own.serves and own.fits else None
    if any(_hopeless(v, i) for i in set(v.firsts)):
        return near
    for w in _ladder(v):
        made = own if w == v.w else launched(v.s, w, v)
        for wider in _near(made):
            if wider.surely == "yes":
                return wider
            near = near or wider
    return near


def _near(made: Launched) -> Iterator[Launched]:
    """The launch itself where it serves, and with a larger fraction."""
    if made.serves and made.fits:
        yield made
    yield from _widened(made)


def _hopeless(v: Served, first: int) -> bool:
    """Weights and the smallest pools are more than the card."""
    assert v.budget is not None
    rank = v.ranks[first]
    pools, c = caches.needed(layers_of(v, rank), v.setting(v.load.requests))
    sizes = pools.sizes(c, v.e.page)
    held = total(p.bytes for p in weights(v, rank)).expected + sizes.kv + sizes.state
    return held > v.budget.usable.expected


def _ladder(v: Served) -> Iterator[Infer]:
    w, e = v.w, v.e
    yield w
    changes: dict[str, Any] = {}
    if w.max_running_requests is None and e.algorithm is None:
        changes["max_running_requests"] = v.load.requests * e.pools_of
        yield replace(w, **changes)
    for tokens in CHUNKS:
        if w.chunked_prefill_size is None and tokens < e.chunk:
            changes["chunked_prefill_size"] = tokens * e.groups
            yield replace(w, **changes)
    if not w.disable_cuda_graph:
        yield replace(w, **changes, disable_cuda_graph=True)


def _widened(made: Launched) -> Iterator[Launched]:
    """With a larger fraction, where one makes the pools."""
    v = made.v
    least = _least(v) if v.w.mem_fraction_static is None else None
    for share in () if least is None else (_surely(v, least), least):
        wider = _with(v, share)
        if wider.serves and wider.fits:
            yield wider


def _least(v: Served) -> float | None:
    """The smallest fraction whose pools hold the workload: from their bytes, then step by step,
    since pools are whole pages and slots."""
    first = max(_from_bytes(v, i) for i in set(v.firsts))
    for steps in range(first, min(first + SEARCHED, STEPS)):
        if _with(v, steps / STEPS).serves:
            return steps / STEPS
    return None


def _from_bytes(v: Served, first: int) -> int:
    """Thousandths: what is available grows by what is free, times the fraction."""
    r = room(v, v.ranks[first])
    assert r is not None
    assert v.e.share is not None
    layers, setting = layers_of(v, v.ranks[first]), v.setting(v.load.requests)
    pools, c = caches.needed(layers, setting)
    sizes = pools.sizes(c, 0)
    own = sizes.kv + pools.full * v.beside
    states = pools.slots * c.state
    if states:  # they have a share of their own, and the rest is not theirs
        ratio = v.e.mamba_ratio
        own = max(own + states, int(states * (1 + ratio) / ratio), int(own * (1 + ratio)))
    return math.ceil(STEPS * (v.e.share + (own - r.available) / r.free))


def _surely(v: Served, least: float) -> float:
    """The fraction that keeps as many bytes as `least` where as little is free as may be."""
    assert v.budget is not None
    before, usable = total(c.bytes for c in v.driver), v.budget.usable
    wider = least * (usable.expected - before.expected) / max(1, usable.low - before.high)
    return min(STEPS - 1, math.ceil(STEPS * wider)) / STEPS


def _with(v: Served, share: float) -> Launched:
    """What is kept of `v` holds for any fraction."""
    w = replace(v.w, mem_fraction_static=share)
    return Launched(v=Served(s=v.s, w=w, e=replace(v.e, share=share), budget=v.budget))


def running(v: Served, first: int) -> int:
    """Requests that the smallest pools of the workload let run."""
    pools = pools_needed(v, first)
    return requests(v.e, max(pools.full, pools.sliding), pools.slots if states(v) else None)


def states(v: Served) -> bool:
    return any(caches.cells(layers_of(v, r), v.setting(1)).state for r in v.kinds)
