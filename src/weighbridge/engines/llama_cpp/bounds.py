"""Does a launch surely fit? Searches ask it of many contexts and batches.

    at least    weights, caches, and the compute buffers of a launch that is smaller in every number
    at most     those of one that is larger in every number

Compute buffers grow with the step and the cache, so that most of a search is decided by those of
launches whose graphs were replayed before.
"""

from collections.abc import Iterable

from weighbridge.accelerators.budget import Budget
from weighbridge.engines.llama_cpp.held import Held
from weighbridge.engines.llama_cpp.parts import CONTEXT
from weighbridge.engines.llama_cpp.pool import pool
from weighbridge.engines.llama_cpp.projector import projector
from weighbridge.engines.serving import Subject
from weighbridge.workload import Infer

Buffers = tuple[int, ...]


def holds(h: Held, s: Subject, w: Infer, budget: Budget) -> bool:
    """Whether all requests run at once and every GPU surely has room for its high estimate."""
    if h.at.requests > h.at.slots:  # the others wait
        return False
    room = [budget.usable.low - size for size in beside(h, s, w)]
    if any(free < 0 for free in room):
        return False
    if "guessed" in h.net.memo:
        sizes = (h.buffer(d).high for d in range(h.at.gpus))
        return all(x <= free for x, free in zip(sizes, room, strict=True))
    least, most = bounds(h)
    if any(x > free for x, free in zip(least, room, strict=False)):
        return False
    if most is not None and all(x <= free for x, free in zip(most, room, strict=False)):
        return True
    return all(x <= free for x, free in zip(h.compute, room, strict=False))


def beside(h: Held, s: Subject, w: Infer) -> list[int]:
    """What each GPU holds without its compute buffer, at most."""
    found = [
        CONTEXT.high + h.weights[d] + h.kv(d) + h.state(d) + pool(h, d).high
        for d in range(h.at.gpus)
    ]
    tower = projector(s, w)
    if tower is not None and found:
        found[h.at.main_gpu] += tower.weights.bytes.high + tower.compute.bytes.high
    return found


def bounds(h: Held) -> tuple[Buffers, Buffers | None]:
    """Between what the buffers are, by launches of the same kind."""
    mine = h.numbers
    known = h.replayed
    below = [sizes for other, sizes in known.items() if _within(other, mine)]
    above = [sizes for other, sizes in known.items() if _within(mine, other)]
    least = tuple(map(max, zip(*below, strict=True))) if below else (0,) * h.at.gpus
    return least, tuple(map(min, zip(*above, strict=True))) if above else None


def _within(small: Iterable[int], large: Iterable[int]) -> bool:
    return all(x <= y for x, y in zip(small, large, strict=True))
