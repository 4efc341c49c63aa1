"""Which flags make vLLM serve a workload on a card, where those that were asked for do not.

    serves     every rank has room for the blocks of all requests, and vLLM accepts the share, as
               is expected; `surely` where it does by the widest bounds too
    share      what is inside and the blocks, by the high estimate; no more than leaves the expected
               bytes outside, unless the expected ones inside do not do with less
    less       where the default is not surely free: the largest share that leaves what is outside,
               else the largest that is free when it starts
    then       as many sequences as requests, batches of 2,048 and of 512 tokens, no CUDA graphs:
               one after the other, until it serves

What the user has said is never changed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from weighbridge.accelerators.budget import Budget
from weighbridge.engines.interface import SearchPoint, Surely
from weighbridge.engines.vllm import hardware
from weighbridge.engines.vllm.cases import VllmCase, VllmLaunched
from weighbridge.engines.vllm.reserve import RankReserve, share
from weighbridge.engines.vllm.setting import Batch

STEPS = 1000  # a share is written in thousandths
BATCHES = (2048, 512)
WORST, EXPECTED, BEST = range(3)  # of what is free, the bound; of what is taken, the other one


def serves(made: VllmLaunched, budget: Budget, by: int = EXPECTED) -> bool:
    """`by`: the estimates that are believed."""
    return all(_serves(r, made.utilization, budget, by) for r in made.kinds)


def surely(made: VllmLaunched, budget: Budget) -> Surely:
    """What holds by every estimate, by none, or by some."""
    if serves(made, budget, WORST):
        return "yes"
    return "unknown" if serves(made, budget, BEST) else "no"


def able(
    case: VllmCase, own: VllmLaunched, point: SearchPoint, budget: Budget
) -> VllmLaunched | None:
    """The nearest launch that surely serves, else one that is expected to; None where none is."""
    sure = surest(case, own, point, budget)
    if sure is not None or _hopeless(own, budget):
        return sure
    tried = (own, *_tries(case, own, point, budget))
    return next((made for made in tried if serves(made, budget)), None)


def surest(
    case: VllmCase, own: VllmLaunched, point: SearchPoint, budget: Budget
) -> VllmLaunched | None:
    """The nearest that surely serves; None where weights and blocks are more than the card, or what
    is there while they load."""
    if serves(own, budget, WORST):
        return own
    if _hopeless(own, budget):
        return None
    tried = _tries(case, own, point, budget)
    return next((made for made in tried if serves(made, budget, WORST)), None)


def _tries(
    case: VllmCase, own: VllmLaunched, point: SearchPoint, budget: Budget
) -> Iterator[VllmLaunched]:
    """Yield other launches, the nearest first."""
    for batch in _ladder(own):
        made = own if batch == own.batch else case.launched(own.asked, point, batch)
        yield _widened(made, budget)
        yield from _narrowed(made, budget)


def _hopeless(own: VllmLaunched, budget: Budget) -> bool:
    usable = budget.usable.expected
    if not all(loads(r, budget, BEST) for r in own.kinds):
        return True
    return any(r.own.resident.loaded.allocated + r.blocks.nbytes > usable for r in own.kinds)


def _ladder(own: VllmLaunched) -> Iterator[Batch]:
    at, said = own.kinds[0].own.at, own.batch
    yield said
    requests, changed = own.kinds[0].requests, said
    if said.sequences is None and requests < at.sequences:
        changed = changed._replace(sequences=requests)
        yield changed
    least = 1 if at.chunked else own.kinds[0].context
    for tokens in BATCHES:
        smaller = max(tokens, least, changed.sequences or at.sequences)
        if said.tokens is None and smaller < at.tokens:
            changed = changed._replace(tokens=smaller)
            yield changed
    if said.eager is None:
        yield changed._replace(eager=True)


def _widened(made: VllmLaunched, budget: Budget) -> VllmLaunched:
    """The same with the share that it needs, where that is more than vLLM's default."""
    if _given(made):
        return made
    wanted = utilization(made.kinds, budget)
    if wanted is None or wanted <= made.utilization:
        return made
    return replace(made, share=wanted)


def _narrowed(made: VllmLaunched, budget: Budget) -> Iterator[VllmLaunched]:
    """The same with a share that is less than vLLM's default: the largest that surely leaves all
    that is outside of it, then the largest that is surely free when it starts."""
    if _given(made):
        return
    total = hardware.total(budget)
    start = min(_down(at_start(r, budget, WORST), total) for r in made.kinds)
    whole = min(_down(budget.usable.low - r.outside.high, total) for r in made.kinds)
    for wanted in (min(start, whole), start):
        if 0 < wanted < made.utilization:
            yield replace(made, share=wanted)


def _given(made: VllmLaunched) -> bool:
    """Whether the user has said what the engine may take."""
    said = made.asked.gpu_memory_utilization is not None
    return said or any(r.given is not None for r in made.kinds)


def utilization(found: Sequence[RankReserve], budget: Budget) -> float | None:
    """The share to ask for; None where no share does."""
    total = hardware.total(budget)
    inside = [r.inside for r in found]
    blocks = [r.blocks.nbytes for r in found]
    free = budget.usable.expected
    least = max(_up(i.expected + b, total) for i, b in zip(inside, blocks, strict=True))
    wanted = max(_up(i.high + b, total) for i, b in zip(inside, blocks, strict=True))
    kept = min(_down(free - r.outside.expected, total) for r in found)
    most = min(_down(free - r.outside.low, total) for r in found)
    if least > min(most, 1.0):
        return None
    return max(least, min(wanted, kept))


def _up(nbytes: int, total: int) -> float:
    return math.ceil(STEPS * nbytes / total) / STEPS


def _down(nbytes: int, total: int) -> float:
    return math.floor(STEPS * nbytes / total) / STEPS


def loads(r: RankReserve, budget: Budget, by: int = EXPECTED) -> bool:
    """Whether the card has room for what is there while weights are read and packed."""
    return r.own.loading[2 - by] <= budget.usable[by]


def _serves(r: RankReserve, utilization: float, budget: Budget, by: int) -> bool:
    if not loads(r, budget, by):
        return False
    if r.given is not None:
        taken = r.inside[2 - by] + r.given + r.outside[2 - by]
        return taken <= budget.usable[by] and r.given >= r.blocks.nbytes
    asked = share(r.own.at.rules, utilization, budget)
    if by == WORST and _overdrawn(r, utilization, asked, budget):
        return False
    room = asked - r.inside[2 - by]
    return room >= r.blocks.nbytes and not refused(r, asked, budget, by)


def _overdrawn(r: RankReserve, utilization: float, asked: int, budget: Budget) -> bool:
    """A larger share than vLLM's own that may leave no room for what is outside of it; or its own,
    where the release does not charge graphs to it, and capturing them may run out (0.8.5 with
    experts on four A10: vllm-project/vllm issue 17469)."""
    left = budget.usable.low - asked
    larger = utilization > r.own.at.rules.utilization
    uncharged = bool(r.own.at.captures) and not r.own.charged.expected
    return (larger or uncharged) and left < r.outside.high


def refused(r: RankReserve, asked: int, budget: Budget, by: int = EXPECTED) -> bool:
    """`request_memory`: a share that is not free when the worker starts."""
    return r.given is None and asked > at_start(r, budget, by)


def at_start(r: RankReserve, budget: Budget, by: int = EXPECTED) -> int:
    """Free once the context and the first communicators are there."""
    return max(0, budget.usable[by] - r.own.before[2 - by])
