"""One rank's memory, by who counts it: vLLM's budget, or nobody.

    inside      weights, growth of what is not torch's, the profile's peak; since 0.20 CUDA graphs,
                but for those of the newer runner before 0.29; since 0.27 all buffers, and segments
                as they were reserved
    outside     CUDA context; NCCL, which starts before free memory is first looked at, and between
                stages with the first request; buffers made after profiling, and (before 0.27) those
                made before the weights; images where they are not profiled; what sleep mode frees

    available   share of the card - inside            the pool of blocks
    needed      inside + outside + the workload's blocks
    taken       share of the card + outside           whatever the workload

Source: vllm 0.33 and 0.19 v1/worker/gpu_worker.py (init_device, determine_available_memory),
utils/mem_utils.py (memory_profiling).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from weighbridge.accelerators.budget import Budget
from weighbridge.components.device import context
from weighbridge.engines import arriving, extras
from weighbridge.engines.caches import vllm as caches
from weighbridge.engines.communication import STAGES, communication, received
from weighbridge.engines.serving import Subject
from weighbridge.engines.shards import Rank
from weighbridge.engines.vllm import (
    forward,
    graphs,
    growth,
    hardware,
    launching,
    pool,
    profile,
    sampling,
    sleeping,
    talking,
    weights,
)
from weighbridge.engines.vllm.setting import Launch, has_experts
from weighbridge.memory import Bytes, Component, exactly, total
from weighbridge.units import MIB, ceil_div
from weighbridge.workload import Infer

# After profiling, outside the share: kernels of decoding and sampling, handles of streams. No
# log prints it. NVML read 0.45 to 0.65 GiB beyond context and share in 207 windows of AgileRL's
# rig (vLLM 0.23 and 0.26, A100 and L4), where a trainer sleeps in the same process.
LATER = Bytes(64 * MIB, 448 * MIB, 704 * MIB)
FLASHINFER = 394 * MIB  # v1/attention/backends/flashinfer.py: the backend of Blackwell
TABLE = 4  # bytes of a block's number


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """One rank."""

    at: Launch
    loaded: weights.Loaded
    imported: int  # buffers of kernels, counted with the weights
    adapters: tuple[Component, ...]
    draft: tuple[Component, ...]
    blocks: pool.Blocks
    profiled: profile.Moment
    decoding: profile.Moment
    asked: profile.Moment  # the widest moment of this workload
    captured: graphs.Captured
    growth: Bytes
    persistent: int  # buffers made before the weights
    late: int  # buffers made after profiling
    context: Component
    talk_before: Bytes  # ranks to each other, before free memory is first looked at
    talk_after: tuple[Component, ...]
    asleep: tuple[Component, ...] = ()  # what sleep mode puts beyond the share
    images: int = 0  # what they take beyond the profile's peak
    arriving: tuple[Component, ...] = ()  # what is there while it loads alone

    @property
    def torch(self) -> int:
        """Of weights, as the version counts them."""
        consumed = self.at.rules.consumed
        return self.loaded.reserved + self.persistent if consumed else self.loaded.allocated

    @property
    def inside(self) -> Bytes:
        own = exactly(self.torch).plus(self.grown).plus(self.profiled.total)
        return own.plus(self.charged)

    @property
    def estimated(self) -> Bytes:
        """What vLLM expects of graphs: the newer runner's trial returned nothing before 0.29."""
        tried = self.at.rules.second_charged or not self.at.second_runner
        return self.captured.charged if tried else graphs.NONE

    @property
    def charged(self) -> Bytes:
        """Off the cache for graphs."""
        return self.estimated if self.at.rules.graphs_inside else graphs.NONE

    @property
    def outside(self) -> Bytes:
        before = 0 if self.at.rules.consumed else self.persistent + self.spread
        own = self.context.bytes.plus(LATER).plus(exactly(before + self.late))
        own = own.plus(self.talk_outside).plus(Bytes(0, self.images, self.images))
        own = own.plus(total(c.bytes for c in self.asleep))
        return own.plus(self._graphs_outside)

    @property
    def _graphs_outside(self) -> Bytes:
        """What they take beyond what is charged for them."""
        both = zip(self.captured.taken, self.charged, strict=True)
        return Bytes(*(max(0, taken - charged) for taken, charged in both))

    @property
    def spread(self) -> int:
        """Segments beyond the weights in them."""
        return self.loaded.reserved - self.loaded.allocated

    @property
    def talk_inside(self) -> Bytes:
        """NCCL started after the first look before 0.11."""
        if self.at.rules.communication_inside:
            return self._talk_profiled.plus(self._talk_later).plus(self.talk_before)
        return self._talk_profiled

    @property
    def _talk_profiled(self) -> Bytes:
        return total(c.bytes for c in self.talk_after if c.detail != STAGES)

    @property
    def _talk_later(self) -> Bytes:
        """The profile sends nothing from stage to stage: the first request does."""
        return total(c.bytes for c in self.talk_after if c.detail == STAGES)

    @property
    def grown(self) -> Bytes:
        """Outside torch, between the first look and the end of profiling."""
        return self.growth.plus(self.talk_inside)

    @property
    def non_torch(self) -> Bytes:
        """The same as the log prints it: without what torch holds for talking."""
        less = total(c.bytes for c in self.talk_after if c.name != "communication")
        return Bytes(*(a - b for a, b in zip(self.grown, less, strict=True)))

    @property
    def talk_outside(self) -> Bytes:
        if self.at.rules.communication_inside:
            return exactly(0)
        return self.talk_before.plus(self._talk_later)

    @property
    def needed(self) -> Bytes:
        return self.inside.plus(self.outside).plus(exactly(self.blocks.nbytes))

    @property
    def given(self) -> int | None:
        """Bytes for blocks that were asked for, whatever there is room for."""
        if self.at.blocks is not None and self.blocks.pool.groups:
            return self.at.blocks * self.blocks.pool.block
        return self.at.kv_cache_bytes

    def requested(self, budget: Budget) -> int:
        share = hardware.total(budget) * self.at.utilization
        return math.ceil(share) if self.at.rules.rounds_up else int(share)

    def available(self, budget: Budget) -> int:
        """Bytes for blocks; below zero where not even the weights fit."""
        if self.given is not None:
            return self.given
        return self.requested(budget) - self.inside.expected

    def available_interval(self, budget: Budget) -> Bytes:
        """The same from the highest to the lowest of what is inside."""
        middle = self.available(budget)
        if self.given is not None:
            return exactly(middle)
        less, more = self.inside.high - self.inside.expected, self.inside.expected - self.inside.low
        return Bytes(*(max(0, n) for n in (middle - less, middle, middle + more)))

    def taken(self, budget: Budget) -> int:
        inside = self.inside.expected + self.available(budget)
        return inside + self.outside.expected

    def serving(self, budget: Budget) -> int:
        """What the driver shows while this workload runs: the profile's memory was given back."""
        return self.taken(budget) - self.profiled.total.expected + self.asked.total.expected

    def serving_interval(self, budget: Budget) -> Bytes:
        """The same: the share is exact, what is outside of it is not."""
        middle, own = self.serving(budget), self.outside
        return Bytes(*(middle + bound - own.expected for bound in own))


def reserve(subject: Subject, rank: Rank, at: Launch, w: Infer, budget: Budget | None) -> Reserve:
    adapters = _adapters(subject, rank, at, w, budget)
    draft = _draft(subject, rank, at, budget)
    imported = weights.imported(subject, at, budget)
    extra = tuple(c.bytes.expected for c in (*adapters, *draft))
    found = pool.of(subject, rank, at, w)
    seen = at.rules.second_items or not at.second_runner

    def peak(tokens: int, sequences: int, *, items: bool) -> profile.Moment:
        work = profile.Work(
            tokens=max(1, min(tokens, at.tokens)),
            sequences=sequences,
            itemsize=int(subject.choice.dtype.nbytes),
            items=items and rank.first,
            kept=weights.keeps_workspace(subject, budget),
            profiled=at.tokens,
        )
        moments = profile.moments(subject.body, rank.blocks, at, work, budget, last=rank.last)
        return profile.peak(moments)

    rows = at.sequences * (1 + at.speculative)
    profiled = peak(at.tokens, at.sequences, items=seen)
    with_items = profiled if seen or w.images == 0 else peak(at.tokens, at.sequences, items=True)
    made = Reserve(
        at=at,
        loaded=weights.loaded(rank, at, (*extra, imported)),
        imported=imported,
        adapters=adapters,
        draft=draft,
        blocks=found,
        profiled=profiled,
        decoding=peak(rows, at.sequences, items=False),
        asked=peak(_prompts(at, w), at.sequences, items=False),
        captured=_graphs(subject, rank, at, budget),
        growth=growth.growth(at, rank, subject.body.vocab, budget),
        persistent=_persistent(subject, at, found),
        late=_late(subject, rank, at, budget),
        context=context(budget.choice.part if budget else None),
        talk_before=talking.before(at, budget, experts=has_experts(subject)),
        talk_after=_talk(subject, rank, at, budget),
        asleep=sleeping.asleep(subject, rank, at),
        images=max(0, with_items.total.expected - profiled.total.expected),
    )
    again = _again(made, _prompts(at, w), budget)
    return replace(made, asked=peak(again, at.sequences, items=False)) if again else made


def _again(r: Reserve, prompts: int, budget: Budget | None) -> int:
    """Tokens of one step where requests do not all fit: those that gave up their blocks read what
    they have written as a prompt, as many at once as the cache holds (v1/core/sched/scheduler.py,
    _preempt_request). 0 where none does."""
    if budget is None or not r.blocks.pool.groups or r.at.requests < 2:
        return 0
    room = max(0, r.available(budget))
    if room >= r.blocks.nbytes:
        return 0
    held = caches.logged_tokens(r.blocks.layers, r.blocks.setting, room)
    return held if prompts < min(held, r.at.tokens) else 0


def _prompts(at: Launch, w: Infer) -> int:
    """Tokens that this workload brings at once; a shared prefix is computed once."""
    prompt = w.prompt_len or at.context
    shared = min(w.shared_prefix or 0, prompt - 1) if at.prefix_caching else 0
    return shared + at.requests * (prompt - shared)


def _adapters(
    subject: Subject, rank: Rank, at: Launch, w: Infer, budget: Budget | None
) -> tuple[Component, ...]:
    if not w.max_loras:
        return ()
    return extras.lora(
        subject,
        rank,
        slots=w.max_loras,
        lora_rank=w.max_lora_rank or launching.LORA_RANK,
        rules=weights.spread(at),
        **weights.sizes(at, budget),
    )


def _draft(
    subject: Subject, rank: Rank, at: Launch, budget: Budget | None
) -> tuple[Component, ...]:
    if not at.speculative or not rank.last:
        return ()
    return extras.draft(
        subject,
        method=at.method,
        tokens=at.speculative,
        rules=weights.spread(at),
        **weights.sizes(at, budget),
    )


def _talk(subject: Subject, rank: Rank, at: Launch, budget: Budget | None) -> tuple[Component, ...]:
    found = communication(
        "vllm", at.rules.version, body=subject.body, budget=budget, **weights.sizes(at, budget)
    )
    if rank.first:
        return found
    itemsize = int(subject.choice.dtype.nbytes)
    return (*found, received(at.tokens, subject.body.hidden, itemsize))


def _graphs(subject: Subject, rank: Rank, at: Launch, budget: Budget | None) -> graphs.Captured:
    full = at.rules.full_graphs and not at.pooling
    count = graphs.graphs(at.captures, at.sequences, 1 + at.speculative, full=full)
    step = forward.step(
        rank.blocks, subject.body.hidden, forward.Share(tensor=at.tensor), eager=False
    )
    largest = max(at.captures, default=0)
    cut = 0
    if full and hardware.splits_contexts(budget) and _outer(subject) not in graphs.OTHERS:
        decoded = min(largest, at.sequences * (1 + at.speculative))
        cut = graphs.splits(rank.blocks, decoded, at.tensor)
    widest = largest * step.widest * int(subject.choice.dtype.nbytes)
    return graphs.estimate(rank.blocks, _by_adapters(at, count), widest, cut)


def _by_adapters(at: Launch, count: int) -> tuple[int, int]:
    """Graphs without and with slots for adapters."""
    if not at.adapters:
        return count, 0
    return (count, count) if at.rules.adapters_apart else (0, count)


def _outer(subject: Subject) -> str:
    return subject.config.model_type if subject.config is not None else ""


def _persistent(subject: Subject, at: Launch, found: pool.Blocks) -> int:
    """Tables of blocks, inputs as embeddings (of the newer runner where there are towers alone);
    counts of the newer runner."""
    columns = sum(ceil_div(at.context, g.tokens) for g in found.pool.groups)
    tables = TABLE * at.sequences * columns
    embedded = at.tokens * subject.body.hidden * int(subject.choice.dtype.nbytes)
    counted = sampling.counts(at.sequences, subject.body.vocab) if at.second_runner else 0
    return tables + counted + (embedded if subject.body.towers or not at.second_runner else 0)


def _late(subject: Subject, rank: Rank, at: Launch, budget: Budget | None) -> int:
    """What attention keeps: gathered latents, scratch of Blackwell's kernels."""
    rows = forward.kept(rank.blocks, at.context, at.sequences)
    decoding = at.rules.latent_late * weights.LATENT_BUFFER if rows else 0
    scratch = FLASHINFER + decoding if hardware.blackwell(budget) else 0
    return rows * int(subject.choice.dtype.nbytes) + scratch


def reserves(subject: Subject, at: Launch, w: Infer, budget: Budget | None) -> Sequence[Reserve]:
    """Of every rank; those that hold the same are made once."""
    made: dict[tuple[object, ...], Reserve] = {}
    found = []
    own = weights.ranks(subject, at, budget)
    for rank, unpacked in zip(own, _unpacked(subject, at, budget, own), strict=True):
        key = (id(rank.tensors), rank.layers, rank.first, rank.last)
        if key not in made:
            one = reserve(subject, rank, at, w, budget)
            made[key] = replace(one, arriving=unpacked)
        found.append(made[key])
    return found


def _unpacked(
    subject: Subject, at: Launch, budget: Budget | None, packed: Sequence[Rank]
) -> Sequence[tuple[Component, ...]]:
    """What each rank has of 16-bit weights, where the format is made while it loads."""
    plain, form = arriving.plain(subject, "vllm"), subject.choice.scheme
    if plain is None or form is None:
        return [()] * len(packed)
    pairs = zip(packed, weights.ranks(plain, at, budget), strict=True)
    version = at.rules.version
    return [(arriving.arriving("vllm", version, form.name, *pair),) for pair in pairs]
