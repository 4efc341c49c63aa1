"""Which flags make vLLM serve a workload on a card, where those that were asked for do not.

    serves     every rank has room for the blocks of all requests, and vLLM accepts the share
    share      what is inside and the blocks, by the high estimate; no more than leaves the expected
               bytes outside, unless the expected ones inside do not do with less
    then       as many sequences as requests, batches of 2,048 and of 512 tokens, no CUDA graphs:
               one after the other, until it serves

What the user has said is never changed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from weighbridge.accelerators.budget import Budget
from weighbridge.engines.serving import Subject
from weighbridge.engines.vllm import hardware, setting
from weighbridge.engines.vllm.reserve import Reserve, reserves
from weighbridge.engines.vllm.rules import Rules
from weighbridge.engines.vllm.setting import Launch
from weighbridge.workload import Infer

STEPS = 1000  # a share is written in thousandths
BATCHES = (2048, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A launch and what it reserves; `w` says what differs from vLLM's defaults."""

    w: Infer
    at: Launch
    found: Sequence[Reserve]

    def serves(self, budget: Budget) -> bool:
        return all(_serves(r, budget) for r in self.found)


def launched(subject: Subject, w: Infer, budget: Budget | None, rules: Rules) -> Launched:
    at = setting.launch(subject, w, budget, rules)
    return Launched(w=w, at=at, found=reserves(subject, at, w, budget))


def able(subject: Subject, own: Launched, budget: Budget) -> Launched | None:
    """The nearest launch that serves; None where none does."""
    if own.serves(budget):
        return own
    if any(r.loaded.allocated + r.blocks.nbytes > budget.usable.expected for r in own.found):
        return None
    for w in _ladder(own):
        made = own if w == own.w else launched(subject, w, budget, own.at.rules)
        wider = _widened(made, budget)
        if wider.serves(budget):
            return wider
    return None


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
    given = made.w.gpu_memory_utilization is not None or any(
        r.given is not None for r in made.found
    )
    if given or share is None or share <= made.at.utilization:
        return made
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


def _serves(r: Reserve, budget: Budget) -> bool:
    room = r.available(budget)
    if r.given is not None and r.taken(budget) > budget.usable.expected:
        return False
    return not refused(r, budget) and room >= r.blocks.nbytes


def refused(r: Reserve, budget: Budget) -> bool:
    """`request_memory`: a share that is not free when the worker starts."""
    return r.given is None and r.requested(budget) > at_start(r, budget)


def at_start(r: Reserve, budget: Budget) -> int:
    """Free once the context and the first communicators are there."""
    return max(0, budget.usable.expected - r.context.bytes.expected - r.talk_outside.expected)
