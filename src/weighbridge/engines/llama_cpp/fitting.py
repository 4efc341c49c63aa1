"""What a budget leaves room for: tokens of cache, layers on GPUs, experts that stay there.

tokens     what is left beside the largest GPU's buffers, by the bytes of one more token
layers     from the last one down, as long as the budget holds them beside what is fixed
experts    layers whose experts go to the host until the rest fits
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from weighbridge.accelerators.budget import Budget
from weighbridge.arch.mixers import Attention
from weighbridge.engines.llama_cpp.caches import CELLS
from weighbridge.engines.llama_cpp.held import DeviceHoldings
from weighbridge.engines.llama_cpp.parts import CONTEXT
from weighbridge.engines.llama_cpp.pool import pool
from weighbridge.report.keys import DerivedFacts


def marginal(h: DeviceHoldings, context: int) -> int:
    """Bytes of one more token of the cache, over all devices. Sliding layers add nothing once
    their window is full: the spare cells of other slots and of a step are not a token's."""
    longer = replace(h, launch=replace(h.launch, n_ctx=h.launch.n_ctx + CELLS * h.launch.streams))
    grown = ("", "sliding") if h.launch.swa_full or context < window(h) else ("",)
    more = sum(
        longer.caches[d][name].kv - h.caches[d][name].kv
        for d in range(h.launch.gpus + 1)
        for name in grown
    )
    proposing = 0 if h.draft is None else marginal(h.draft.held, context)
    return more // (CELLS * h.launch.streams) + proposing


def window(h: DeviceHoldings) -> int:
    """The widest of sliding layers."""
    widths = (m.reach or 0 for la in h.net.layers for m in la.mixers if isinstance(m, Attention))
    return max(widths, default=0)


def fixed(h: DeviceHoldings, device: int) -> int:
    beside = h.compute[device] + h.state(device) + h.drafting(device) - _proposed(h, device)
    return CONTEXT.high + pool(h, device).high + beside


def _proposed(h: DeviceHoldings, device: int) -> int:
    """Bytes of the cache of what proposes tokens, which grows as the model's own."""
    return 0 if h.draft is None else h.draft.held.kv(device)


def fitting(h: DeviceHoldings, budget: Budget) -> DerivedFacts:
    rooms = [budget.of(d).low for d in range(h.launch.gpus)]
    facts: DerivedFacts = {"kv_cache_tokens": tokens(h, rooms)}
    if any(
        h.weights[d] + h.kv(d) + _proposed(h, d) + fixed(h, d) > room
        for d, room in enumerate(rooms)
    ):
        facts["n_gpu_layers_that_fit"] = layers(h, rooms)
        if any("_exps." in name for name in h.net.weights):
            facts["n_cpu_moe_that_fits"] = experts(h, rooms)
    return facts


def tokens(h: DeviceHoldings, rooms: Sequence[int]) -> int:
    """Return how many cached tokens fit, in whole cells: those of the GPU that is full first.
    `rooms` are bytes by GPU."""
    counts = []
    for d, room in enumerate(rooms):
        each = (h.kv(d) + _proposed(h, d)) / h.launch.n_ctx
        left = room - h.weights[d] - fixed(h, d)
        if each:
            counts.append(max(0, int(left / each)) // CELLS * CELLS)
    return min(counts, default=0)


def layers(h: DeviceHoldings, rooms: Sequence[int]) -> int:
    """The largest -ngl whose layers every GPU holds, as they are dealt out."""

    worst = _worst(h)
    left = [room - worst for room in rooms]

    def too_many(count: int) -> bool:
        return not _holds(replace(h, launch=replace(h.launch, gpu_layers=count)), left)

    return bisect_left(range(1, h.launch.layers + 1), True, key=too_many)


def experts(h: DeviceHoldings, rooms: Sequence[int]) -> int | None:
    """The smallest -ncmoe with which all layers are on GPUs; None where none is enough."""

    beside = _worst(h) + _copy(h)
    left = [room - beside for room in rooms]

    def enough(count: int) -> bool:
        launch = replace(h.launch, gpu_layers=h.launch.layers, cpu_moe=count)
        return _holds(replace(h, launch=launch), left)

    count = len(h.net.layers)
    least = bisect_left(range(count + 1), True, key=enough)
    return least if least <= count else None


def _copy(h: DeviceHoldings) -> int:
    """Experts on the host are brought to the GPU one tensor at a time."""
    sizes = (t.nbytes for name, t in h.net.weights.items() if "_exps." in name)
    return max(sizes, default=0)


def _worst(h: DeviceHoldings) -> int:
    """Return the most bytes that a GPU needs besides its layers; one more layer does not change
    it."""
    return max(fixed(h, d) for d in range(h.launch.gpus))


def _holds(h: DeviceHoldings, left: Sequence[int]) -> bool:
    return all(h.weights[d] + h.kv(d) + _proposed(h, d) <= room for d, room in enumerate(left))
