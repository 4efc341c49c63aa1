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
from dataclasses import dataclass, replace
from typing import Any

from weighbridge.accelerators.budget import Budget
from weighbridge.engines.serving import Subject, Surely
from weighbridge.engines.vllm import hardware, setting
from weighbridge.engines.vllm.reserve import Reserve, reserves
from weighbridge.engines.vllm.rules import Rules
from weighbridge.engines.vllm.setting import Launch
from weighbridge.workload import Infer

STEPS = 1000  # a share is written in thousandths
BATCHES = (2048, 512)
WORST, EXPECTED, BEST = range(3)  # of what is free, the bound; of what is taken, the other one


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A launch and what it reserves; `w` says what differs from vLLM's defaults."""

    w: Infer
    at: Launch
    found: Sequence[Reserve]

    def serves(self, budget: Budget) -> bool:
        return all(_serves(r, budget, EXPECTED) for r in self.found)

    def surely(self, budget: Budget) -> Surely:
        """What holds by every estimate, by none, or by some."""
        if all(_serves(r, budget, WORST) for r in self.found):
            return "yes"
        return "unknown" if all(_serves(r, budget, BEST) for r in self.found) else "no"


def launched(subject: Subject, w: Infer, budget: Budget | None, rules: Rules) -> Launched:
    at = setting.launch(subject, w, budget, rules)
    return Launched(w=w, at=at, found=reserves(subject, at, w, budget))


def able(subject: Subject, own: Launched, budget: Budget) -> Launched | None:
    """The nearest launch that surely serves, else one that is expected to; None where none is."""
    if own.surely(budget) == "yes":
        return own
    if any(r.loaded.allocated + r.blocks.nbytes > budget.usable.expected for r in own.found):
        return None
    near = own if own.serves(budget) else None
    for w in _ladder(own):
        made = own if w == own.w else launched(subject, w, budget, own.at.rules)
        for tried in (_widened(made, budget), *_narrowed(made, budget)):
            if tried.surely(budget) == "yes":
                return tried
            near = near or (tried if tried.serves(budget) else None)
    return near


def _ladder(own: Launched) -> Iterator[Infer]:
    w, at = own.w, own.at
    yield w
    changes: dict[str, Any] = {}
    if w.max_num_seqs is None and at.requests < at.sequences:
        changes["max_num_seqs"] = at.requests
        yield replace(w, **changes)
    least = 1 if at.chunked else at.context
    for tokens in BATCHES:
        smaller = max(tokens, least, changes.get("max_num_seqs", at.sequences))
        if w.max_num_batched_tokens is None and smaller < at.tokens:
            changes["max_num_batched_tokens"] = smaller
            yield replace(w, **changes)
    if w.enforce_eager is None:
        yield replace(w, **changes, enforce_eager=True)


def _widened(made: Launched, budget: Budget) -> Launched:
    """The same with the share that it needs, where that is more than vLLM's default."""
    share = utilization(made.found, budget)
    if _given(made) or share is None or share <= made.at.utilization:
        return made
    return _with(made, share)


def _narrowed(made: Launched, budget: Budget) -> Iterator[Launched]:
    """The same with a share that is less than vLLM's default: the largest that surely leaves all
    that is outside of it, then the largest that is surely free when it starts."""
    total = hardware.total(budget)
    start = min(_down(at_start(r, budget, WORST), total) for r in made.found)
    whole = min(_down(budget.usable.low - r.outside.high, total) for r in made.found)
    for share in (min(start, whole), start):
        if not _given(made) and 0 < share < made.at.utilization:
            yield _with(made, share)


def _given(made: Launched) -> bool:
    """Whether the user has said what the engine may take."""
    said = made.w.gpu_memory_utilization is not None
    return said or any(r.given is not None for r in made.found)


def _with(made: Launched, share: float) -> Launched:
    at = replace(made.at, utilization=share)
    return Launched(
        w=replace(made.w, gpu_memory_utilization=share),
        at=at,
        found=[replace(r, at=at) for r in made.found],
    )


def utilization(found: Sequence[Reserve], budget: Budget) -> float | None:
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


def _serves(r: Reserve, budget: Budget, by: int) -> bool:
    """`by`: the estimates that are believed."""
    if r.given is not None:
        taken = r.inside[2 - by] + r.given + r.outside[2 - by]
        return taken <= budget.usable[by] and r.given >= r.blocks.nbytes
    if by == WORST and _overdrawn(r, budget):
        return False
    room = r.requested(budget) - r.inside[2 - by]
    return not refused(r, budget, by) and room >= r.blocks.nbytes


def _overdrawn(r: Reserve, budget: Budget) -> bool:
    """A larger share than vLLM's own that leaves no room for what is expected outside of it."""
    left = budget.usable.high - r.requested(budget)
    return r.at.utilization > r.at.rules.utilization and left < r.outside.expected


def refused(r: Reserve, budget: Budget, by: int = EXPECTED) -> bool:
    """`request_memory`: a share that is not free when the worker starts."""
    return r.given is None and r.requested(budget) > at_start(r, budget, by)


def at_start(r: Reserve, budget: Budget, by: int = EXPECTED) -> int:
    """Free once the context and the first communicators are there."""
    before = r.context.bytes.plus(r.talk_outside)
    return max(0, budget.usable[by] - before[2 - by])
