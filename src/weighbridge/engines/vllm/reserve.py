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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from weighbridge.accelerators.budget import Budget
from weighbridge.arch.table import column
from weighbridge.components.device import context
from weighbridge.engines.interface import SearchPoint, Subject
from weighbridge.engines.servers import loading_peak, lora_and_speculation
from weighbridge.engines.servers.communication import RECEIVED, STAGES, communication, received
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.vllm import (
    ENGINE,
    batch_buffers,
    encoders,
    forward,
    graphs,
    growth,
    hardware,
    launching,
    pool,
    profile,
    sampling,
    setting,
    sleeping,
    talking,
    weights,
)
from weighbridge.engines.vllm.rules import VllmRules
from weighbridge.engines.vllm.setting import VllmLaunch, has_experts
from weighbridge.memory import Bytes, Component, exactly, total
from weighbridge.units import MIB, ceil_div
from weighbridge.workload import Infer

# After profiling, outside the share: kernels of decoding and sampling, handles of streams. No
# log prints it. NVML read 0.45 to 0.65 GiB beyond context and share in 207 windows of AgileRL's
# rig (vLLM 0.23 and 0.26, A100 and L4), where a trainer sleeps in the same process.
LATER = Bytes(64 * MIB, 448 * MIB, 704 * MIB)
FLASHINFER = 394 * MIB  # v1/attention/backends/flashinfer.py: the backend of Blackwell
TABLE = 4  # bytes of a block's number
AWQ, MARLIN_SINCE = "awq", (8, 0)
UNPACKED_FROM = 256  # tokens: model_executor/layers/quantization/awq.py
PEAKS = 16  # moments that are kept of a launch


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """What one rank holds whatever is asked of it."""

    rank: Rank
    loaded: weights.RankWeights
    imported: int  # buffers of kernels, counted with the weights
    adapters: tuple[Component, ...]
    draft: tuple[Component, ...]
    cached: pool.Cached
    context: Component
    talk_before: Bytes  # ranks to each other, before free memory is first looked at
    asleep: tuple[Component, ...]  # what sleep mode puts beyond the share
    arriving: tuple[Component, ...]  # what is there while it loads alone


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Standing:
    """One rank at a launch of so many tokens and sequences, whatever contexts and requests."""

    subject: Subject
    w: Infer
    budget: Budget | None
    at: VllmLaunch  # its context and requests are those of another question
    resident: Resident
    widths: forward.Widths
    captured: graphs.CapturedGraphs
    growth: Bytes
    batch: int  # buffers for the tokens of a batch, made with the model
    talk_after: tuple[Component, ...]
    peak: Callable[[int, bool, int], profile.ProfiledMoment]  # of tokens, with items, of a context

    @cached_property
    def torch(self) -> int:
        """Return the bytes of weights as this version of vLLM counts them: reserved or
        allocated."""
        loaded = self.resident.loaded
        return self.batch + (loaded.reserved if self.at.rules.consumed else loaded.allocated)

    @property
    def loaded(self) -> int:
        """Return what the log calls "Model loading took": tensors, and what the allocator rounds
        them up by."""
        return self.resident.loaded.allocated + self.batch

    @cached_property
    def estimated(self) -> Bytes:
        """What vLLM expects of graphs: the newer runner's trial returned nothing before 0.29."""
        tried = self.at.rules.second_charged or not self.at.second_runner
        return self.captured.charged if tried else graphs.NONE

    @cached_property
    def charged(self) -> Bytes:
        """Off the cache for graphs."""
        return self.estimated if self.at.rules.graphs_inside else graphs.NONE

    @cached_property
    def inside(self) -> Bytes:
        """Return the bytes inside the share, without the profile's peak and the buffers of
        requests."""
        return exactly(self.torch).plus(self.grown).plus(self.charged)

    @cached_property
    def outside(self) -> Bytes:
        """Return the bytes outside the share, without buffers and images."""
        own = self.resident.context.bytes.plus(LATER).plus(self.talk_outside)
        own = own.plus(total(c.bytes for c in self.resident.asleep)).plus(self._graphs_outside)
        return own if self.at.rules.consumed else own.plus(exactly(self.spread))

    @property
    def _graphs_outside(self) -> Bytes:
        """What they take beyond what is charged for them."""
        both = zip(self.captured.taken, self.charged, strict=True)
        return Bytes(*(max(0, taken - charged) for taken, charged in both))

    @property
    def spread(self) -> int:
        """Return the bytes of segments, reserved while loading, that the weights do not fill."""
        return self.resident.loaded.reserved - self.resident.loaded.allocated

    @property
    def talk_inside(self) -> Bytes:
        """NCCL started after the first look before 0.11."""
        if self.at.rules.communication_inside:
            return self._talk_profiled.plus(self._talk_later).plus(self.resident.talk_before)
        return self._talk_profiled

    @property
    def _talk_profiled(self) -> Bytes:
        return total(c.bytes for c in self.talk_after if c.detail != STAGES)

    @property
    def _talk_later(self) -> Bytes:
        """The profile sends nothing from stage to stage: the first request does."""
        return total(c.bytes for c in self.talk_after if c.detail == STAGES)

    @cached_property
    def grown(self) -> Bytes:
        """Return the bytes that grow outside torch between the first look and the end of
        profiling."""
        return self.growth.plus(self.talk_inside)

    @property
    def received(self) -> Bytes:
        """What torch holds for talking from stage to stage."""
        return total(c.bytes for c in self.talk_after if c.detail == RECEIVED)

    @property
    def non_torch(self) -> Bytes:
        """The same as the log prints it: without what torch holds for talking."""
        less = total(c.bytes for c in self.talk_after if c.name != "communication")
        return Bytes(*(a - b for a, b in zip(self.grown, less, strict=True)))

    @cached_property
    def talk_outside(self) -> Bytes:
        if self.at.rules.communication_inside:
            return exactly(0)
        return self.resident.talk_before.plus(self._talk_later)

    @cached_property
    def loading(self) -> Bytes:
        """Return the bytes of the card that loading takes, whatever the share of it: weights in 16
        bits, until they are packed, are not inside the share that is asked for later."""
        arriving = total(c.bytes for c in self.resident.arriving)
        return self.before.plus(exactly(self.resident.loaded.reserved)).plus(arriving)

    @cached_property
    def before(self) -> Bytes:
        """Return the bytes that are there when vLLM looks at free memory for the first time."""
        return self.resident.context.bytes.plus(self.talk_outside)


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class RankReserve:
    """One rank, with its requests."""

    own: Standing
    context: int
    requests: int
    prompts: int  # tokens that the workload brings at once

    @cached_property
    def blocks(self) -> pool.Blocks:
        own = self.own
        return pool.drawn(
            own.subject,
            own.resident.cached,
            own.at,
            self.context,
            self.requests,
            own.w.shared_prefix or 0,
        )

    @property
    def _seen(self) -> bool:
        """Whether images and sounds are profiled."""
        return self.own.at.rules.second_items or not self.own.at.second_runner

    @cached_property
    def profiled(self) -> profile.ProfiledMoment:
        return self.own.peak(self.own.at.tokens, self._seen, self.context)

    @cached_property
    def peak(self) -> Bytes:
        """Return the growth of torch's peak in the profile, as the log of this rank prints it: what
        a stage is sent is made by the first step."""
        return self.profiled.total.plus(self.own.received)

    @property
    def decoding(self) -> profile.ProfiledMoment:
        at = self.own.at
        return self.own.peak(at.sequences * (1 + at.speculative), False, self.context)

    @cached_property
    def asked(self) -> profile.ProfiledMoment:
        """The widest moment of this workload."""
        again = _again(self)
        return self.own.peak(again or self.prompts, False, self.context)

    @cached_property
    def images(self) -> int:
        """What they take beyond the profile's peak."""
        if self._seen or self.own.w.images == 0:
            return 0
        items = self.own.peak(self.own.at.tokens, True, self.context)
        return max(0, items.total.expected - self.profiled.total.expected)

    @cached_property
    def persistent(self) -> int:
        """Buffers made before the weights."""
        return _persistent(self)

    @cached_property
    def late(self) -> int:
        """Buffers made after profiling."""
        return _late(self)

    @cached_property
    def inside(self) -> Bytes:
        own = self.own.inside.plus(self.profiled.total)
        return own.plus(exactly(self.persistent)) if self.own.at.rules.consumed else own

    @cached_property
    def outside(self) -> Bytes:
        before = 0 if self.own.at.rules.consumed else self.persistent
        low, expected, high = self.own.outside.plus(exactly(before + self.late))
        return Bytes(low, expected + self.images, high + self.images)

    @property
    def given(self) -> int | None:
        """Bytes for blocks that were asked for, whatever there is room for."""
        if self.own.at.blocks is not None and self.blocks.pool.groups:
            return self.own.at.blocks * self.blocks.pool.block
        return self.own.at.kv_cache_bytes

    def available(self, share: int) -> int:
        """Bytes for blocks, of a share of so many; below zero where not even the weights fit."""
        return share - self.inside.expected if self.given is None else self.given

    def available_interval(self, share: int) -> Bytes:
        """The same from the highest to the lowest of what is inside."""
        middle = self.available(share)
        if self.given is not None:
            return exactly(middle)
        less, more = self.inside.high - self.inside.expected, self.inside.expected - self.inside.low
        return Bytes(*(max(0, n) for n in (middle - less, middle, middle + more)))

    def taken(self, share: int) -> int:
        inside = self.inside.expected + self.available(share)
        return inside + self.outside.expected

    def serving(self, share: int) -> int:
        """What the driver shows while this workload runs: the profile's memory was given back."""
        return self.taken(share) - self.profiled.total.expected + self.asked.total.expected

    def serving_interval(self, share: int) -> Bytes:
        """The same: the share is exact, what is outside of it is not."""
        middle, own = self.serving(share), self.outside
        return Bytes(*(middle + bound - own.expected for bound in own))


def share(r: VllmRules, utilization: float, budget: Budget) -> int:
    """Bytes of the card that vLLM asks for."""
    wanted = hardware.total(budget) * utilization
    return math.ceil(wanted) if r.rounds_up else int(wanted)


def resident(
    subject: Subject, rank: Rank, at: VllmLaunch, w: Infer, budget: Budget | None
) -> Resident:
    adapters = _adapters(subject, rank, at, w, budget)
    draft = _draft(subject, rank, at, budget)
    imported = weights.imported(subject, at, budget)
    extra = tuple(c.bytes.expected for c in (*adapters, *draft))
    return Resident(
        rank=rank,
        loaded=weights.loaded(rank, at, (*extra, imported)),
        imported=imported,
        adapters=adapters,
        draft=draft,
        cached=pool.cached(subject, rank, at, w),
        context=context(budget.choice.part if budget else None),
        talk_before=talking.before(at, budget, experts=has_experts(subject)),
        asleep=sleeping.asleep(subject, rank, at),
        arriving=(),
    )


def standing(
    subject: Subject, found: Resident, at: VllmLaunch, w: Infer, budget: Budget | None
) -> Standing:
    rank = found.rank
    widths = forward.widths(
        rank.blocks,
        subject.body.hidden,
        profile.share(at),
        eager=at.eager,
        through=batch_buffers.through(subject),
    )
    return Standing(
        subject=subject,
        w=w,
        budget=budget,
        at=at,
        resident=found,
        widths=widths,
        captured=_graphs(subject, rank, at, budget),
        growth=growth.growth(at, rank, subject.body.vocab, budget),
        batch=sum(batch_buffers.buffers(subject, at.tokens)),
        talk_after=_talk(subject, rank, at, budget),
        peak=_peaks(subject, rank, at, widths, budget),
    )


def _peaks(
    subject: Subject, rank: Rank, at: VllmLaunch, widths: forward.Widths, budget: Budget | None
) -> Callable[[int, bool, int], profile.ProfiledMoment]:
    """The widest moment of so many tokens, with images and sounds or without, of a context."""
    kept = weights.keeps_workspace(subject, budget)
    seen = at.rules.second_items or not at.second_runner
    towers = encoders.largest(subject) if seen else subject.body.towers

    @lru_cache(maxsize=PEAKS)
    def widest(tokens: int, items: bool, context: int, rows: int) -> profile.ProfiledMoment:
        work = profile.Work(
            tokens=tokens,
            sequences=at.sequences,
            context=context,
            rows=rows,
            itemsize=int(subject.choice.dtype.nbytes),
            items=items,
            kept=kept,
            profiled=at.tokens,
            towers=towers,
            levels=batch_buffers.levels(subject),
        )
        moments = profile.moments(subject.body, widths, at, work, budget, last=rank.last)
        return profile.peak(moments)

    def peak(tokens: int, items: bool, context: int) -> profile.ProfiledMoment:
        """What does not matter is not told, so that the same is found again."""
        items = items and rank.first and bool(subject.body.towers)
        rows = forward.expanded_rows(context, at.sequences) if widths.expanded else 0
        return widest(max(1, min(tokens, at.tokens)), items, context if items else 0, rows)

    return peak


def _again(r: RankReserve) -> int:
    """Tokens of one step where requests do not all fit: those that gave up their blocks read what
    they have written as a prompt, as many at once as the cache holds (v1/core/sched/scheduler.py,
    _preempt_request). 0 where none does."""
    at, budget = r.own.at, r.own.budget
    if budget is None or not r.blocks.pool.groups or r.requests < 2:
        return 0
    room = max(0, r.available(share(at.rules, at.utilization, budget)))
    if room >= r.blocks.nbytes:
        return 0
    held = r.blocks.logged(room)
    return held if r.prompts < min(held, at.tokens) else 0


def prompts(at: VllmLaunch, w: Infer, point: SearchPoint, requests: int) -> int:
    """Tokens that this workload brings at once; a shared prefix is computed once."""
    prompt = point.prompt_len or point.context
    shared = min(w.shared_prefix or 0, prompt - 1) if at.prefix_caching else 0
    return shared + requests * (prompt - shared)


def _adapters(
    subject: Subject, rank: Rank, at: VllmLaunch, w: Infer, budget: Budget | None
) -> tuple[Component, ...]:
    if not w.max_loras:
        return ()
    return lora_and_speculation.lora(
        subject,
        rank,
        slots=w.max_loras,
        lora_rank=w.max_lora_rank or launching.LORA_RANK,
        rules=weights.spread(at),
        **weights.sizes(at, budget),
    )


def _draft(
    subject: Subject, rank: Rank, at: VllmLaunch, budget: Budget | None
) -> tuple[Component, ...]:
    if not at.speculative or not rank.last:
        return ()
    return lora_and_speculation.draft(
        subject,
        method=at.method,
        tokens=at.speculative,
        rules=weights.spread(at),
        **weights.sizes(at, budget),
    )


def _talk(
    subject: Subject, rank: Rank, at: VllmLaunch, budget: Budget | None
) -> tuple[Component, ...]:
    found = communication(
        talking.collectives(at.rules), body=subject.body, budget=budget, **weights.sizes(at, budget)
    )
    if rank.first:
        return found
    itemsize = int(subject.choice.dtype.nbytes)
    return (*found, received(at.tokens, subject.body.hidden, itemsize))


def _graphs(
    subject: Subject, rank: Rank, at: VllmLaunch, budget: Budget | None
) -> graphs.CapturedGraphs:
    full = at.rules.full_graphs and not at.pooling
    count = graphs.graphs(at.captures, at.sequences, 1 + at.speculative, full=full)
    step = forward.step(
        rank.blocks,
        subject.body.hidden,
        forward.RankShare(tensor=at.tensor),
        eager=False,
        through=batch_buffers.through(subject),
    )
    largest = max(at.captures, default=0)
    cut = 0
    if (
        full
        and hardware.splits_contexts(budget)
        and at.backend in ("", setting.FLASH_ATTN)
        and _outer(subject) not in column("vllm.other_kernels")
    ):
        decoded = min(largest, at.sequences * (1 + at.speculative))
        cut = graphs.splits(rank.blocks, decoded, at.tensor)
    return graphs.estimate(
        rank.blocks,
        _by_adapters(at, count),
        graphs.GraphPool(
            widest=largest * step.widest * int(subject.choice.dtype.nbytes),
            cut=cut,
            matrices=_matrices(subject, rank, at, budget, largest),
        ),
        graphs.GraphKind(
            ranks=at.tensor,
            sparse=graphs.SPARSE_LESS if at.rules.sparse_less else graphs.SPARSE,
            fused=at.rules.fuses,
        ),
    )


def _matrices(
    subject: Subject, rank: Rank, at: VllmLaunch, budget: Budget | None, largest: int
) -> Bytes:
    """What AWQ's plain kernel unpacks of a layer, and a graph keeps. Cards that Marlin runs on take
    that kernel only if --quantization awq asks for it (awq_marlin.py, override_quantization_method;
    get_min_capability), and since 0.24 not then (auto_awq.py, get_quant_method)."""
    scheme = subject.choice.scheme
    if scheme is None or not scheme.name.startswith(AWQ) or largest < UNPACKED_FROM:
        return graphs.NONE
    numbers = graphs.unpacked(rank.blocks, subject.body.hidden, at.tensor)
    nbytes = numbers * int(subject.choice.dtype.nbytes)
    plain = at.plain_awq or hardware.capability(budget) < MARLIN_SINCE
    return exactly(nbytes * plain)


def _by_adapters(at: VllmLaunch, count: int) -> tuple[int, int]:
    """Graphs without and with slots for adapters."""
    if not at.adapters:
        return count, 0
    return (count, count) if at.rules.adapters_apart else (0, count)


def _outer(subject: Subject) -> str:
    return subject.config.model_type if subject.config is not None else ""


def _persistent(r: RankReserve) -> int:
    """Tables of blocks, inputs as embeddings (of the newer runner where there are towers alone);
    counts of the newer runner."""
    at, subject = r.own.at, r.own.subject
    columns = sum(ceil_div(r.context, g.tokens or r.context) for g in r.blocks.pool.groups)
    tables = TABLE * at.sequences * columns
    embedded = at.tokens * subject.body.hidden * int(subject.choice.dtype.nbytes)
    counted = sampling.counts(at.sequences, subject.body.vocab) if at.second_runner else 0
    return tables + counted + (embedded if subject.body.towers or not at.second_runner else 0)


def _late(r: RankReserve) -> int:
    """What attention keeps: gathered latents, scratch of Blackwell's kernels."""
    at, latent = r.own.at, r.own.widths.latent
    rows = latent and latent * forward.expanded_rows(r.context, at.sequences)
    decoding = at.rules.latent_late * weights.LATENT_BUFFER if rows else 0
    usual = hardware.blackwell(r.own.budget)
    flashinfer = at.backend == setting.FLASHINFER if at.backend else usual
    scratch = FLASHINFER * flashinfer + decoding * usual
    return rows * int(r.own.subject.choice.dtype.nbytes) + scratch


def residents(
    subject: Subject, at: VllmLaunch, w: Infer, budget: Budget | None
) -> tuple[tuple[Resident, ...], tuple[int, ...]]:
    """What ranks hold, each kind once; and of each rank, which of them."""
    made: dict[tuple[object, ...], int] = {}
    kinds: list[Resident] = []
    dealt: list[int] = []
    own = weights.ranks(subject, at, budget)
    for rank, unpacked in zip(own, _unpacked(subject, at, budget, own), strict=True):
        key = (id(rank.tensors), rank.layers, rank.first, rank.last)
        if key not in made:
            made[key] = len(kinds)
            kinds.append(replace(resident(subject, rank, at, w, budget), arriving=unpacked))
        dealt.append(made[key])
    return tuple(kinds), tuple(dealt)


def _unpacked(
    subject: Subject, at: VllmLaunch, budget: Budget | None, packed: Sequence[Rank]
) -> Sequence[tuple[Component, ...]]:
    """What each rank has of 16-bit weights, where the format is made while it loads, or of packed
    ones that are laid out anew."""
    plain, form = loading_peak.plain(subject, ENGINE), subject.choice.scheme
    if form is None:
        return [()] * len(packed)
    if plain is None:
        kernel = weights.spread(at).kernel(hardware.capability(budget)[0])
        moved = (loading_peak.laid_out(form.name, kernel, rank) for rank in packed)
        return [() if c is None else (c,) for c in moved]
    pairs = zip(packed, weights.ranks(plain, at, budget), strict=True)
    at_once = weights.AT_ONCE[at.rules.arrives]
    return [(loading_peak.arriving(*pair, at_once),) for pair in pairs]
