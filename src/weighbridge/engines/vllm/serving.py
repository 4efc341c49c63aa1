"""Flags that make vLLM serve a workload on a card, if the user's flags do not.

    serves     every rank has room for the blocks of all requests, and vLLM accepts the budget and
               the sequences, by expected values; `surely` if also by the widest bounds
    share      what is inside the budget and the blocks, by the high estimate; no more than leaves
               the expected bytes outside, unless the expected ones inside need more
    less       if the default is not surely free: the largest share that leaves what is outside,
               else the largest that is free at the start
    then       as many sequences as have a state block, as many as requests, batches of 2,048 and
               of 512 tokens, no CUDA graphs: one after the other, until it serves

Flags that the user set are never changed.
"""

import math
from collections.abc import Iterator, Sequence

from weighbridge.base.memory import Bytes, exactly, total
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
from weighbridge.memory.report.verdict import Condition

STEPS = 1000  # the share is rounded to thousandths
STATES = (  # config/compilation.py (resolve_cudagraph_mode_and_sizes)
    "vllm-project/recipes 551, vllm 0.22.1: max_num_seqs (1024) exceeds available Mamba cache "
    "blocks (856). Each decode "
    "sequence requires one Mamba cache block, so CUDA graph capture cannot proceed"
)
BATCHES = (2048, 512)


LACKING = {  # condition in bytes -> sentence if it does not hold
    "loading": "vllm_load",
    "loading_and_packing": "vllm_load.packing",
    "cache_given": "cache_asked",
    "share_free": "utilization_refused",
}


def serves(launched: VllmLaunched, by: int = EXPECTED) -> bool:
    """Return whether all conditions hold; `by`: WORST, EXPECTED or BEST estimates."""
    return all(one.stands(by) for one in conditions(launched))


def others(asked: VllmLaunched, _: int) -> Iterator[VllmLaunched]:
    """Yield other launches, the nearest first."""
    for batch in (*_with_states(asked), *_smaller(asked)):
        launched = asked.by(batch)
        yield _widened(launched)
        yield from _narrowed(launched)


def _with_states(asked: VllmLaunched) -> Iterator[StepLimits]:
    """Yield the limits with as many sequences as have a state block, if only those are missing;
    less an eighth, since the pool's estimate errs by some percent (assumed)."""
    lacking = [c for c in conditions(asked) if c.source == STATES and not c.stands(WORST)]
    least = min((c.available.low for c in lacking if c.available), default=0)
    if asked.batch.sequences is None and least - least // 8 >= asked.kinds[0].requests:
        yield asked.batch._replace(sequences=max(least - least // 8, 1))


def hopeless(asked: VllmLaunched) -> bool:
    """Return whether weights and blocks, or what loading needs, exceed the card."""
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
    """Return the launch with the share that it needs, if that is above vLLM's default."""
    if _given(launched):
        return launched
    wanted = utilization(launched.kinds, launched.on_cards)
    if wanted is None or wanted <= launched.utilization:
        return launched
    return replace(launched, share=wanted)


def _narrowed(launched: VllmLaunched) -> Iterator[VllmLaunched]:
    """Yield the launch with a share below vLLM's default: the largest that surely leaves all that
    is outside of it, then the largest that is surely free at the start."""
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
    """Return the bytes that a device surely has besides the server's processes, if they share one
    memory; infinity if not."""
    return math.inf if budget.pool is None else budget.pool.low - beside(reserve)


def _given(launched: VllmLaunched) -> bool:
    """Return whether the user fixed the budget or the KV cache."""
    share_given = launched.asked.gpu_memory_utilization is not None
    return share_given or any(r.given is not None for r in launched.kinds)


def utilization(reserves: Sequence[RankReserve], budget: Budget) -> float | None:
    """Return the gpu_memory_utilization to set; None if none serves."""
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
    """Return whether the card has room for all that loading and quantizing the weights needs."""
    return reserve.standing.sums.loading[2 - by] <= reserve.own(budget).usable[by]


def conditions(launched: VllmLaunched) -> Iterator[Condition]:
    """Yield the conditions of every distinct rank."""
    for reserve in launched.kinds:
        yield from _conditions(launched, reserve, reserve.own(launched.on_cards))


def _conditions(
    launched: VllmLaunched, reserve: RankReserve, budget: Budget
) -> Iterator[Condition]:
    utilization = launched.utilization
    packs = any(c.bytes.expected for c in reserve.standing.resident.arriving)
    yield Condition(
        "loading_and_packing" if packs else "loading", reserve.standing.sums.loading, budget.usable
    )
    inside, outside = reserve.inside, reserve.outside
    if reserve.given is not None:
        room = reserve.given_room
        taken = total((inside, exactly(reserve.given), outside))
        yield Condition("cache_given", taken, budget.usable)
    else:
        share_bytes = share(reserve.standing.launch.rules, utilization, budget)
        free = Bytes(*(at_start(reserve, budget, by) for by in (WORST, EXPECTED, BEST)))
        yield Condition("share_free", exactly(share_bytes), free)
        beside = Bytes(share_bytes, share_bytes, share_bytes + outside.high)
        if _draws_more(reserve, utilization):
            held = beside._replace(high=share_bytes + reserve.beside_share(utilization))
            yield Condition("outside_share", held, budget.usable)
        if budget.pool is not None:
            least = int(beside_processes(reserve, budget))
            yield Condition("shared_memory", beside, Bytes(least, *[max(least, share_bytes)] * 2))
        room = Bytes(*(reserve.room(share_bytes, by) for by in (WORST, EXPECTED, BEST)))
    yield Condition("kv_cache", exactly(reserve.blocks.nbytes), room)
    launch = reserve.standing.launch
    whole = launch.captures and launch.decoding != "pieces"
    if launch.rules.state_each and whole and "state" in reserve.blocks.kinds:
        blocks = Bytes(*(reserve.blocks.pool.count(max(0, n)) for n in room))
        sure = launched.asked.engine_version and launch.decoding == "whole"
        least = launch.sequences if sure else 0  # before 0.20, and for piecewise graphs: none
        yield Condition(
            "state_blocks",
            Bytes(least, launch.sequences, launch.sequences),
            blocks,
            "blocks",
            ground="tried",
            source=STATES,
        )


def _draws_more(reserve: RankReserve, utilization: float) -> bool:
    """Return whether the share is above vLLM's default, which may leave no room for what is outside
    of it; or whether this release does not deduct CUDA graphs, so that capturing may run out (0.8.5
    with experts on four A10: vllm-project/vllm issue 17469)."""
    standing = reserve.standing
    uncharged = bool(standing.launch.captures) and not standing.sums.charged.expected
    return uncharged or utilization > standing.launch.rules.utilization


def at_start(reserve: RankReserve, budget: Budget, by: int = EXPECTED) -> int:
    """Return the bytes free after the CUDA context and the first communicators."""
    return max(0, reserve.own(budget).usable[by] - reserve.standing.sums.before[2 - by])


def asks(launched: VllmLaunched, reserve: RankReserve) -> int:
    """Return the budget of a rank's card, in bytes."""
    card = reserve.own(launched.on_cards)
    return share(reserve.standing.launch.rules, launched.utilization, card)


def takes(launched: VllmLaunched, reserve: RankReserve) -> int:
    """Return the bytes that a rank holds at the start, at most what a process can have. If budget
    and what is outside of it exceed that, it starts with what torch frees of the profile
    (gpu_worker.py, memory_profiling: empty_cache), or dies while graphs are captured."""
    most = reserve.own(launched.on_cards).usable.high
    return min(reserve.taken(asks(launched, reserve)), most)


def scarcest(launched: VllmLaunched) -> RankReserve:
    """Return the rank with room for the fewest blocks, which decides for a replica."""

    def blocks(reserve: RankReserve) -> float:
        available = max(0, reserve.available(asks(launched, reserve)))
        return reserve.blocks.pool.count(available) if reserve.blocks.pool.groups else available

    return min(launched.kinds, key=blocks)


def concurrency(reserve: RankReserve, available: int) -> float:
    return reserve.blocks.pool.concurrency(available, reserve.blocks.setting.load)


def lacks(asked: VllmLaunched) -> str:
    """Return what the user's flags leave no room for; "" if they surely serve."""
    broken = next((one for one in conditions(asked) if not one.stands(EXPECTED)), None)
    if broken is None:
        return "" if serves(asked, WORST) else _nearly(asked, scarcest(asked))
    if broken.name == "kv_cache":
        return _blocks(asked, scarcest(asked))
    needs, has = (size.expected for size in (broken.needed, broken.available) if size)
    if broken.unit != "bytes":
        key = "state_blocks" if broken.holds == "no" else "state_blocks_unsure"
        return sentence(key, needs=needs, has=has)
    unsure = broken.name == "share_free" and broken.holds == "unknown"
    key = "utilization_unsure" if unsure else LACKING[broken.name]
    return sentence(key, share=asked.utilization, needs=human(needs), has=human(has))


def _nearly(asked: VllmLaunched, reserve: RankReserve) -> str:
    """Return a sentence about a launch that is expected to serve, but may not."""
    if reserve.given is not None:
        size, low = human(reserve.given), reserve.given_room.low
        if low < reserve.blocks.nbytes:
            need = human(reserve.blocks.nbytes)
            return sentence("cache_holds", size=size, low=human(low), need=need)
        most = reserve.inside.high + reserve.given + reserve.outside.high
        return sentence("cache_up_to", size=size, most=human(most))
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


def _blocks(asked: VllmLaunched, reserve: RankReserve) -> str:
    """Return what has no room: the profile run, a request, or all of them together."""
    share_bytes, request = asks(asked, reserve), reserve.blocks.request * reserve.blocks.pool.block
    room = reserve.available(share_bytes)
    if room < 0:
        needs, has = human(reserve.inside.expected), human(share_bytes)
        return sentence("vllm_share", needs=needs, share=asked.utilization, has=has)
    if room < request:
        return sentence(
            "vllm_blocks", tokens=reserve.context, needs=human(request), has=human(room)
        )
    together = caches.together(reserve.blocks.pool, reserve.blocks.setting, room)
    key = "not_at_once" if reserve.given is not None else "not_at_once.share"
    values = {"requests": reserve.requests, "tokens": reserve.context, "room": together}
    return sentence(key, **values, share=asked.utilization)
