"""Flags that make vLLM serve a workload on a card, where those that were asked for do not.

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

from weighbridge.base.memory import total
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import human
from weighbridge.engines.interface import BEST, EXPECTED, WORST
from weighbridge.engines.servers.paged import StepLimits
from weighbridge.engines.vllm import caches, hardware
from weighbridge.engines.vllm.cases import VllmLaunched
from weighbridge.engines.vllm.host import beside
from weighbridge.engines.vllm.reserve import RankReserve, share
from weighbridge.machines.accelerators.budget import Budget

STEPS = 1000  # a share is written in thousandths
BATCHES = (2048, 512)


def serves(launched: VllmLaunched, by: int = EXPECTED) -> bool:
    """`by`: the estimates that are believed."""
    return all(_serves(r, launched.utilization, launched.on_cards, by) for r in launched.kinds)


def others(asked: VllmLaunched, _: int) -> Iterator[VllmLaunched]:
    """Yield other launches, the nearest first."""
    for batch in _smaller(asked):
        launched = asked.by(batch)
        yield _widened(launched)
        yield from _narrowed(launched)


def hopeless(asked: VllmLaunched) -> bool:
    """Tell whether weights and blocks are more than the card, or what is there while they load."""
    budget = asked.on_cards
    if not all(loads(r, budget, BEST) for r in asked.kinds):
        return True
    return any(
        r.standing.resident.loaded.allocated + r.blocks.nbytes > r.own(budget).usable.expected
        for r in asked.kinds
    )


def _smaller(asked: VllmLaunched) -> Iterator[StepLimits]:
    launch, requests = asked.kinds[0].standing.launch, asked.kinds[0].requests
    fewer = requests if requests < launch.sequences else None
    sequences = asked.batch.sequences or fewer or launch.sequences
    least = max(sequences, 1 if launch.chunked else asked.kinds[0].context)
    sizes = (max(tokens, least) for tokens in BATCHES)
    return asked.batch.less(fewer, (tokens for tokens in sizes if tokens < launch.tokens))


def _widened(launched: VllmLaunched) -> VllmLaunched:
    """The same with the share that it needs, where that is more than vLLM's default."""
    if _given(launched):
        return launched
    wanted = utilization(launched.kinds, launched.on_cards)
    if wanted is None or wanted <= launched.utilization:
        return launched
    return replace(launched, share=wanted)


def _narrowed(launched: VllmLaunched) -> Iterator[VllmLaunched]:
    """The same with a share that is less than vLLM's default: the largest that surely leaves all
    that is outside of it, then the largest that is surely free when it starts."""
    if _given(launched):
        return
    cards = [(r, r.own(launched.on_cards)) for r in launched.kinds]
    start = min(_down(at_start(r, b, WORST), hardware.total(b)) for r, b in cards)
    leaves = [min(b.usable.low, beside_processes(r, b)) - r.outside.high for r, b in cards]
    whole = min(_down(n, hardware.total(b)) for n, (_, b) in zip(leaves, cards, strict=True))
    for wanted in (min(start, whole), start):
        if 0 < wanted < launched.utilization:
            yield replace(launched, share=wanted)


def beside_processes(reserve: RankReserve, budget: Budget) -> float:
    """Return the bytes that a device surely has beside the processes of the server, where they
    share one memory; no bound where they do not."""
    return math.inf if budget.pool is None else budget.pool.low - beside(reserve)


def _given(launched: VllmLaunched) -> bool:
    """Tell whether the user has said how much the engine may take."""
    share_given = launched.asked.gpu_memory_utilization is not None
    return share_given or any(r.given is not None for r in launched.kinds)


def utilization(reserves: Sequence[RankReserve], budget: Budget) -> float | None:
    """The share to ask for; None where no share does."""
    cards = [(r, r.own(budget).usable.expected, hardware.total(r.own(budget))) for r in reserves]
    least = max(_up(r.inside.expected + r.blocks.nbytes, total) for r, _, total in cards)
    wanted = max(_up(r.inside.high + r.blocks.nbytes, total) for r, _, total in cards)
    leaves = min(_down(free - r.outside.expected, total) for r, free, total in cards)
    most = min(_down(free - r.outside.low, total) for r, free, total in cards)
    if least > min(most, 1.0):
        return None
    return max(least, min(wanted, leaves))


def _up(nbytes: int, total: int) -> float:
    return math.ceil(STEPS * nbytes / total) / STEPS


def _down(nbytes: float, total: int) -> float:
    return math.floor(STEPS * nbytes / total) / STEPS


def loads(reserve: RankReserve, budget: Budget, by: int = EXPECTED) -> bool:
    """Tell whether the card has room for all that is there while weights are read and packed."""
    return reserve.standing.sums.loading[2 - by] <= reserve.own(budget).usable[by]


def _serves(reserve: RankReserve, utilization: float, budget: Budget, by: int) -> bool:
    budget = reserve.own(budget)
    if not loads(reserve, budget, by):
        return False
    if reserve.given is not None:
        taken = reserve.inside[2 - by] + reserve.given + reserve.outside[2 - by]
        return taken <= budget.usable[by] and reserve.given >= reserve.blocks.nbytes
    share_bytes = share(reserve.standing.launch.rules, utilization, budget)
    if by == WORST and _overdrawn(reserve, utilization, share_bytes, budget):
        return False
    if by == WORST and share_bytes + reserve.outside.high > beside_processes(reserve, budget):
        return False
    room = share_bytes - reserve.inside[2 - by]
    return room >= reserve.blocks.nbytes and not refused(reserve, share_bytes, budget, by)


def _overdrawn(reserve: RankReserve, utilization: float, share_bytes: int, budget: Budget) -> bool:
    """A larger share than vLLM's own that may leave no room for what is outside of it; or its own,
    where the release does not charge graphs to it, and capturing them may run out (0.8.5 with
    experts on four A10: vllm-project/vllm issue 17469)."""
    left = budget.usable.low - share_bytes
    larger = utilization > reserve.standing.launch.rules.utilization
    uncharged = (
        bool(reserve.standing.launch.captures) and not reserve.standing.sums.charged.expected
    )
    return (larger or uncharged) and left < reserve.outside.high


def refused(reserve: RankReserve, share_bytes: int, budget: Budget, by: int = EXPECTED) -> bool:
    """`request_memory`: a share that is not free when the worker starts."""
    return reserve.given is None and share_bytes > at_start(reserve, budget, by)


def at_start(reserve: RankReserve, budget: Budget, by: int = EXPECTED) -> int:
    """Free once the context and the first communicators are there."""
    return max(0, reserve.own(budget).usable[by] - reserve.standing.sums.before[2 - by])


def asks(launched: VllmLaunched, reserve: RankReserve) -> int:
    """Return the bytes that vLLM asks for of the card of a rank."""
    card = reserve.own(launched.on_cards)
    return share(reserve.standing.launch.rules, launched.utilization, card)


def takes(launched: VllmLaunched, reserve: RankReserve) -> int:
    """Return the bytes that a rank takes at start, which are no more than a process can have. Where
    share and what is outside of it are, it starts with what torch gives back of the profile
    (gpu_worker.py, memory_profiling: empty_cache), or dies while graphs are captured."""
    most = reserve.own(launched.on_cards).usable.high
    return min(reserve.taken(asks(launched, reserve)), most)


def scarcest(launched: VllmLaunched) -> RankReserve:
    """Return the rank with room for the fewest blocks, which decides for all of a replica."""

    def blocks(reserve: RankReserve) -> float:
        available = max(0, reserve.available(asks(launched, reserve)))
        return reserve.blocks.pool.count(available) if reserve.blocks.pool.groups else available

    return min(launched.kinds, key=blocks)


def concurrency(reserve: RankReserve, available: int) -> float:
    return reserve.blocks.pool.concurrency(available, reserve.blocks.setting.load)


def lacks(asked: VllmLaunched) -> str:
    """Say what the flags as they were asked leave no room for; "" where they surely serve."""
    least = scarcest(asked)
    reasons = (_loading, _refusal, _room, _nearly)
    return next((reason for tell in reasons if (reason := tell(asked, least))), "")


def _loading(asked: VllmLaunched, least: RankReserve) -> str:
    """Say what is there while weights load, where the card has not room for it; else ""."""
    kinds = sorted((*asked.kinds, least), key=lambda r: -r.standing.sums.loading.expected)
    r = next((r for r in kinds if not loads(r, asked.on_cards)), None)
    if r is None:
        return ""
    arriving = total(c.bytes for c in r.standing.resident.arriving).expected
    needs, has = (
        human(r.standing.sums.loading.expected),
        human(r.own(asked.on_cards).usable.expected),
    )
    if arriving:
        return sentence("vllm_load.packing", needs=needs, packing=human(arriving), has=has)
    return sentence("vllm_load", needs=needs, has=has)


def _nearly(asked: VllmLaunched, reserve: RankReserve) -> str:
    """Describe a launch that is expected to serve, and may not; "" where it surely does."""
    if serves(asked, WORST):
        return ""
    if reserve.given is not None:
        most = reserve.inside.high + reserve.given + reserve.outside.high
        return sentence("cache_up_to", size=human(reserve.given), most=human(most))
    low, _, high = reserve.available_interval(asks(asked, reserve))
    return sentence(
        "vllm_may",
        share=asked.utilization,
        low=human(low),
        high=human(high),
        needed=human(reserve.blocks.nbytes),
        least=human(reserve.outside.low),
        most=human(reserve.outside.high),
    )


def _room(asked: VllmLaunched, reserve: RankReserve) -> str:
    """Say what there is no room for: the profile run, the cache that was asked for, or the blocks
    of all requests; else ""."""
    share_bytes = asks(asked, reserve)
    usable = reserve.own(asked.on_cards).usable.expected
    room = max(0, reserve.available(share_bytes))
    if reserve.available(share_bytes) < 0:
        needs, share = human(reserve.inside.expected), human(share_bytes)
        return sentence("vllm_share", needs=needs, part=asked.utilization, share=share)
    if reserve.given is not None and reserve.taken(share_bytes) > usable:
        needs = human(reserve.taken(share_bytes))
        return sentence("cache_asked", size=human(reserve.given), needs=needs, has=human(usable))
    if room >= reserve.blocks.nbytes:
        return ""
    if room < reserve.blocks.request * reserve.blocks.pool.block:
        return sentence(
            "vllm_blocks",
            tokens=reserve.context,
            needs=human(reserve.blocks.request * reserve.blocks.pool.block),
            left=human(room),
        )
    together = caches.together(reserve.blocks.pool, reserve.blocks.setting, room)
    return sentence("not_at_once", requests=reserve.requests, tokens=reserve.context, room=together)


def _refusal(asked: VllmLaunched, reserve: RankReserve) -> str:
    share_bytes = asks(asked, reserve)
    if not refused(reserve, share_bytes, asked.on_cards):
        return ""
    surely = refused(reserve, share_bytes, asked.on_cards, BEST)
    return sentence(
        "utilization_refused" if surely else "utilization_unsure",
        share=asked.utilization,
        size=human(share_bytes),
        free=human(at_start(reserve, asked.on_cards)),
    )
