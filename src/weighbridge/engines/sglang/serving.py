"""Flags that make SGLang serve a workload on a card, if the user's flags do not.

    serves     every pool holds what all requests need at once, and as many may run; `surely` if
               they do by the widest bounds too, and the card has room for these pools
    fraction   the smallest that makes such pools, by the high estimate of what is there before
               weights; no more than leaves the card room for the step and the graphs
    capped     a line starts with whatever pool there is, and its requests are a token shorter than
               that (srt/managers/tp_worker.py of 0.5.23, max_req_len)
    then       as many sequences as requests, chunks of 2,048 and of 1,024 tokens, no CUDA graphs:
               one after the other, until it serves

Flags that the user set are never changed.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes, exactly, most, total
from weighbridge.base.records import dataclass, replace
from weighbridge.engines.interface import BEST, EXPECTED, WORST
from weighbridge.engines.sglang.cases import saying
from weighbridge.engines.sglang.effective import Effective
from weighbridge.engines.sglang.replica import (
    CardFit,
    Served,
    fitted,
    least_pools,
    room,
    taken,
)
from weighbridge.memory.report.verdict import Condition

if TYPE_CHECKING:
    from weighbridge.workload import Infer

STEPS = 1000  # the fraction is rounded to thousandths
SEARCHED = 12
CHUNKS = (2048, 1024)
BESIDE_ANSWER = 6  # a prompt is this many tokens shorter than the longest request


@dataclass(frozen=True, kw_only=True)  # not slotted, for cached properties
class SglangLaunched:
    """A launch and its pools. `share` overrides mem_fraction_static unless None."""

    served: Served
    share: float | None = None

    @property
    def asked(self) -> "Infer":
        return self.served.asked

    @property
    def ranks(self) -> tuple[int, ...]:
        """Return, for each rank of all replicas, the first in a replica that holds the same."""
        return self.served.case.firsts * self.served.settings.data

    @property
    def usable(self) -> Bytes:
        """Return the bytes of a card that a process can use; the launch must have a card."""
        assert self.served.case.budget is not None
        return self.served.case.budget.usable

    @cached_property
    def settings(self) -> Effective:
        return (
            self.served.settings
            if self.share is None
            else replace(self.served.settings, share=self.share)
        )

    @cached_property
    def w(self) -> "Infer":
        """Return the workload with the flags that this launch changed."""
        workload = saying(self.served.asked, self.served.limits)
        return workload if self.share is None else workload.but(mem_fraction_static=self.share)

    @property
    def fraction(self) -> float | None:
        return self.served.settings.share if self.share is None else self.share

    @cached_property
    def fits(self) -> tuple[CardFit, ...]:
        """Return the pools on the card by WORST, EXPECTED and BEST; empty without a card."""
        fits = (fitted(self.served, self.fraction, by) for by in (WORST, EXPECTED, BEST))
        return tuple(fit for fit in fits if fit is not None)

    @property
    def fit(self) -> CardFit | None:
        return self.fits[EXPECTED] if self.fits else None

    @cached_property
    def pools(self) -> tuple[Condition, ...]:
        """Return the conditions on the pools of every rank."""
        served = self.served
        counts = [("tokens", 1, [fit.tokens for fit in self.fits])]
        for i in served.case.kinds:
            need, pools = served.needed[i], [fit.pools[i] for fit in self.fits]
            counts += [
                ("full tokens", need.full, [p.full for p in pools]),
                ("tokens of windows", need.sliding, [p.sliding for p in pools]),
                ("states", need.slots * bool(served.states), [p.slots for p in pools]),
            ]
        counts.append(("requests", served.load.requests, [fit.running for fit in self.fits]))
        return tuple(
            Condition("pool", exactly(needed), Bytes(*sizes), unit)
            for unit, needed, sizes in counts
            if needed
        )

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """Return these conditions, and that the card has room for all outside the pools."""
        sized = [self._with_pools(fit) for fit in self.fits[:BEST] if fit.tokens > 0]
        if not sized:
            return self.pools
        low, expected, _ = sized[-1]
        high = sized[0].high  # of the smallest pools, if there are any
        least = Bytes(min(low, high), min(expected, high), high)
        return (*self.pools, Condition("pools", least, self.usable))

    def serves(self, by: int = EXPECTED) -> bool:
        """Return whether the pools hold the workload; `by`: WORST, EXPECTED or BEST estimates."""
        return bool(self.fits) and all(one.stands(by) for one in self.pools)

    def stands(self, by: int) -> bool:
        """Return whether it serves, and the card has room for all outside its pools."""
        return self.serves(by) and all(one.stands(by) for one in self.conditions)

    def _with_pools(self, fit: CardFit) -> Bytes:
        """Return the bytes that the fullest card holds with these pools."""
        return most(taken(self.served, i, fit) for i in self.served.case.kinds)


def capped(asked: SglangLaunched) -> SglangLaunched:
    """Return the launch with requests as long as its pools surely hold, or else are expected to;
    unchanged if they hold a whole context, or nothing, or if the user set a context."""
    served = asked.served
    for by in () if served.asked.context else (WORST, EXPECTED, BEST):
        fit = fitted(served, asked.fraction, by)
        if fit is not None and fit.tokens > BESIDE_ANSWER:
            longest = min(served.settings.context, fit.tokens) - 1
            whole = asked.serves(by) or longest + 1 == served.settings.context
            return asked if whole else SglangLaunched(served=replace(served, request=longest))
    return asked


def others(asked: SglangLaunched, by: int) -> Iterator[SglangLaunched]:
    """Yield other launches, the nearest first, except those that surely leave no room."""
    ladder = (served for served in _ladder(asked.served) if by != WORST or _may(served))
    return (launched for served in ladder for launched in _tries(asked, served))


def _may(served: Served) -> bool:
    """Return whether the smallest pools for the workload surely leave room for the rest."""
    assert served.case.budget is not None
    usable = served.case.budget.usable.low
    return all(
        moment.high + least_pools(served, i) <= usable
        for i, moments in served.moments.items()
        for moment in moments
    )


def hopeless(asked: SglangLaunched) -> bool:
    """Return whether weights and the smallest pools exceed the card."""
    served, usable = asked.served, asked.usable.expected
    return any(_least_held(served, i) > usable for i in served.case.kinds)


def _least_held(served: Served, first: int) -> int:
    kind = served.case.kinds[first]
    sizes = served.needed[first].sizes(kind.cells, served.settings.page)
    return total(p.bytes for p in kind.weights).expected + sizes.kv + sizes.state


def _tries(asked: SglangLaunched, served: Served) -> Iterator[SglangLaunched]:
    """Yield launches with these step limits that may serve, the nearest first."""
    launched = asked if served is asked.served else SglangLaunched(served=served)
    yield launched
    yield from _widened(launched)


def _ladder(served: Served) -> Iterator[Served]:
    """Yield the workload with smaller and smaller step limits, the nearest first."""
    settings = served.settings
    requests = served.load.requests * settings.pools_of
    sizes = (tokens * settings.groups for tokens in CHUNKS if tokens < settings.chunk)
    for limits in served.limits.less(None if settings.algorithm else requests, sizes):
        yield served if limits == served.limits else replace(served, limits=limits)


def _widened(launched: SglangLaunched) -> Iterator[SglangLaunched]:
    """Yield the launch with a larger fraction, if one makes the pools."""
    served = launched.served
    least = _least(served) if served.asked.mem_fraction_static is None else None
    if least is not None and least.share is not None:
        yield SglangLaunched(served=served, share=_surely(served, least.share))
        yield least


def _least(served: Served) -> SglangLaunched | None:
    """Return the launch with the smallest fraction whose pools hold the workload: first computed
    from their bytes, then by steps, since pools are whole pages and slots."""
    first = max(_from_bytes(served, i) for i in served.case.kinds)
    for steps in range(first, min(first + SEARCHED, STEPS)):
        launched = SglangLaunched(served=served, share=steps / STEPS)
        if launched.serves():
            return launched
    return None


def _from_bytes(served: Served, first: int) -> int:
    """Return the fraction needed in thousandths, from the pools' bytes."""
    kind, pools = served.case.kinds[first], served.needed[first]
    r = room(served, kind, served.settings.share, EXPECTED)
    assert r is not None
    assert served.settings.share is not None
    need = pools.sizes(kind.cells, 0).kv + pools.full * served.case.beside
    states = pools.slots * kind.cells.state
    if states and served.settings.states is not None:
        need += states
    elif states:  # states have a separate share
        ratio = served.settings.mamba_ratio
        need = max(need + states, int(states * (1 + ratio) / ratio), int(need * (1 + ratio)))
    return math.ceil(
        STEPS * (served.settings.share + (need - r.available) / r.free / served.settings.share_used)
    )


def _surely(served: Served, least: float) -> float:
    """Return the smallest fraction that keeps as many bytes as `least` if the CUDA context and
    buffers of communication take their upper bounds."""
    assert served.case.budget is not None
    before, usable = served.case.before, served.case.budget.usable
    wider = least * (usable.expected - before.expected) / max(1, usable.low - before.high)
    return min(STEPS - 1, math.ceil(STEPS * wider)) / STEPS
