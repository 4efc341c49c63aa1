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

from weighbridge.engines.interface import Surely
from weighbridge.engines.sglang.cases import saying
from weighbridge.engines.sglang.effective import Effective
from weighbridge.engines.sglang.phases import taken
from weighbridge.engines.sglang.replica import (
    BEST,
    EXPECTED,
    WORST,
    CardFit,
    Served,
    fitted,
    least_pools,
    room,
)
from weighbridge.memory import Bytes, total
from weighbridge.workload import Infer

STEPS = 1000  # a fraction is written in thousandths
SEARCHED = 12
CHUNKS = (2048, 1024)


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class SglangLaunched:
    """A launch and the pools that it makes. `share` is the fraction, where it is not as asked."""

    v: Served
    share: float | None = None

    @cached_property
    def e(self) -> Effective:
        return self.v.e if self.share is None else replace(self.v.e, share=self.share)

    @cached_property
    def w(self) -> Infer:
        """Return the request with what differs from SGLang's defaults."""
        found = saying(self.v.asked, self.v.told)
        return found if self.share is None else replace(found, mem_fraction_static=self.share)

    @property
    def fraction(self) -> float | None:
        return self.v.e.share if self.share is None else self.share

    @cached_property
    def fit(self) -> CardFit | None:
        return fitted(self.v, self.fraction)

    def serves(self, by: int = EXPECTED) -> bool:
        """`by`: the estimates that are believed."""
        fit = self.fit if by == EXPECTED else fitted(self.v, self.fraction, by)
        return fit is not None and all(self._holds(fit, i) for i in self.v.case.kinds)

    def _holds(self, fit: CardFit, first: int) -> bool:
        v, made = self.v, fit.pools[first]
        need = v.needed[first]
        slots = need.slots if v.states else 0
        lacking = made.full < need.full or made.sliding < need.sliding or made.slots < slots
        return fit.tokens > 0 and not lacking and fit.running >= v.load.requests

    @property
    def fits(self) -> bool:
        """Whether the card has room for what these pools leave outside."""
        assert self.v.case.budget is not None
        return self.whole.expected <= self.v.case.budget.usable.expected

    @cached_property
    def surely(self) -> Surely:
        """What holds by every estimate, by none, or by some."""
        if self.sure:
            return "yes"
        assert self.v.case.budget is not None
        able = self.serves(BEST) and self.whole.low <= self.v.case.budget.usable.high
        return "unknown" if able else "no"

    @cached_property
    def sure(self) -> bool:
        assert self.v.case.budget is not None
        return self.serves(WORST) and self.whole.high <= self.v.case.budget.usable.low

    @cached_property
    def whole(self) -> Bytes:
        """What the fullest card holds with these pools."""
        assert self.fit is not None
        found = [taken(self.v, i, self.fit) for i in self.v.case.kinds]
        return Bytes(*(max(bounds) for bounds in zip(*found, strict=True)))


def able(own: SglangLaunched) -> SglangLaunched | None:
    """The nearest launch that surely serves, else one that is expected to; None where none is, or
    without a card."""
    if own.fit is None:
        return None
    sure = surest(own)
    if sure is not None:
        return sure
    if own.serves() and own.fits:
        return own
    if _hopeless(own.v):
        return None
    made = (made for v in _ladder(own) for made in _tries(own, v))
    return next((one for one in made if one.serves() and one.fits), None)


def surest(own: SglangLaunched) -> SglangLaunched | None:
    """The nearest that surely serves; None where weights and pools are more than the card."""
    if own.sure:
        return own
    if _hopeless(own.v):
        return None
    made = (made for v in _ladder(own) if _may(v) for made in _tries(own, v))
    return next((one for one in made if one.sure and one.serves() and one.fits), None)


def _may(v: Served) -> bool:
    """Whether pools that hold the workload surely leave room for the rest, if they are no larger
    than that."""
    assert v.case.budget is not None
    usable = v.case.budget.usable.low
    return all(
        moment.high + least_pools(v, i) <= usable
        for i, found in v.moments.items()
        for moment in found
    )


def _hopeless(v: Served) -> bool:
    """Weights and the smallest pools are more than the card."""
    assert v.case.budget is not None
    usable = v.case.budget.usable.expected
    return any(_least_held(v, i) > usable for i in v.case.kinds)


def _least_held(v: Served, first: int) -> int:
    kind = v.case.kinds[first]
    sizes = v.needed[first].sizes(kind.cells, v.e.page)
    return total(p.bytes for p in kind.weights).expected + sizes.kv + sizes.state


def _tries(own: SglangLaunched, v: Served) -> Iterator[SglangLaunched]:
    """Launches by such steps that may serve, the nearest first."""
    made = own if v is own.v else SglangLaunched(v=v)
    yield made
    yield from _widened(made)


def _ladder(own: SglangLaunched) -> Iterator[Served]:
    """What steps may be left to say, the nearest first."""
    v, e, told = own.v, own.v.e, own.v.told
    yield v
    changed = told
    if told.running is None and e.algorithm is None:
        changed = changed._replace(running=v.load.requests * e.pools_of)
        yield replace(v, told=changed)
    for tokens in CHUNKS:
        if told.chunk is None and tokens < e.chunk:
            changed = changed._replace(chunk=tokens * e.groups)
            yield replace(v, told=changed)
    if not told.without_graphs:
        yield replace(v, told=changed._replace(without_graphs=True))


def _widened(made: SglangLaunched) -> Iterator[SglangLaunched]:
    """Yield the launch with a larger fraction, where one makes the pools."""
    v = made.v
    least = _least(v) if v.asked.mem_fraction_static is None else None
    if least is not None and least.share is not None:
        yield SglangLaunched(v=v, share=_surely(v, least.share))
        yield least


def _least(v: Served) -> SglangLaunched | None:
    """Return the launch with the smallest fraction whose pools hold the workload: reckoned from
    their bytes, then step by step, since pools are whole pages and slots."""
    first = max(_from_bytes(v, i) for i in v.case.kinds)
    for steps in range(first, min(first + SEARCHED, STEPS)):
        made = SglangLaunched(v=v, share=steps / STEPS)
        if made.serves():
            return made
    return None


def _from_bytes(v: Served, first: int) -> int:
    """Thousandths: what is available grows by what is free, times the fraction."""
    kind, pools = v.case.kinds[first], v.needed[first]
    r = room(v, kind, v.e.share, EXPECTED)
    assert r is not None
    assert v.e.share is not None
    own = pools.sizes(kind.cells, 0).kv + pools.full * v.case.beside
    states = pools.slots * kind.cells.state
    if states:  # they have a share of their own, and the rest is not theirs
        ratio = v.e.mamba_ratio
        own = max(own + states, int(states * (1 + ratio) / ratio), int(own * (1 + ratio)))
    return math.ceil(STEPS * (v.e.share + (own - r.available) / r.free))


def _surely(v: Served, least: float) -> float:
    """Return the smallest fraction that keeps as many bytes as `least` if the CUDA context and
    buffers of communication take their upper bounds."""
    assert v.case.budget is not None
    before, usable = v.case.before, v.case.budget.usable
    wider = least * (usable.expected - before.expected) / max(1, usable.low - before.high)
    return min(STEPS - 1, math.ceil(STEPS * wider)) / STEPS
