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
from weighbridge.arch.model_types import facts
from weighbridge.components.device import context
from weighbridge.engines.interface import SearchPoint, Subject
from weighbridge.engines.servers import loading_peak, lora_and_speculation
from weighbridge.engines.servers.communication import RECEIVED, STAGES, communication, received
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.vllm import (
    ENGINE,
    forward,
    graphs,
    hardware,
    launching,
    outside_torch,
    pool,
    profile,
    sampling,
    setting,
    sleep_mode,
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
    launch: VllmLaunch  # its context and requests are those of another question
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
        return self.batch + (loaded.reserved if self.launch.rules.consumed else loaded.allocated)

    @property
    def loaded(self) -> int:
        """Return what the log calls "Model loading took": tensors, and what the allocator rounds
        them up by."""
        return self.resident.loaded.allocated + self.batch

    @cached_property
    def estimated(self) -> Bytes:
        """Return the bytes of graphs that vLLM expects: the newer runner's trial returned nothing
        before 0.29."""
        tried = self.launch.rules.second_charged or not self.launch.second_runner
        return self.captured.charged if tried else graphs.NONE

    @cached_property
    def charged(self) -> Bytes:
        """Off the cache for graphs."""
        return self.estimated if self.launch.rules.graphs_inside else graphs.NONE

    @cached_property
    def inside(self) -> Bytes:
        """Return the bytes inside the share, without the profile's peak and the buffers of
        requests."""
        return exactly(self.torch).plus(self.grown).plus(self.charged)

    @cached_property
    def outside(self) -> Bytes:
        """Return the bytes outside the share, without buffers and images."""
        outside_bytes = self.resident.context.bytes.plus(LATER).plus(self.talk_outside)
        outside_bytes = outside_bytes.plus(total(c.bytes for c in self.resident.asleep)).plus(
            self._graphs_outside
        )
        return (
            outside_bytes
            if self.launch.rules.consumed
            else outside_bytes.plus(exactly(self.spread))
        )

    @property
    def _graphs_outside(self) -> Bytes:
        """Return the bytes that graphs take beyond what is charged for them."""
        both = zip(self.captured.taken, self.charged, strict=True)
        return Bytes(*(max(0, taken - charged) for taken, charged in both))

    @property
    def spread(self) -> int:
        """Return the bytes of segments, reserved while loading, that the weights do not fill."""
        return self.resident.loaded.reserved - self.resident.loaded.allocated

    @property
    def talk_inside(self) -> Bytes:
        """NCCL started after the first look before 0.11."""
        if self.launch.rules.communication_inside:
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
        """Return the bytes that torch holds for talking from stage to stage."""
        return total(c.bytes for c in self.talk_after if c.detail == RECEIVED)

    @property
    def non_torch(self) -> Bytes:
        """The same as the log prints it: without what torch holds for talking."""
        less = total(c.bytes for c in self.talk_after if c.name != "communication")
        return Bytes(*(a - b for a, b in zip(self.grown, less, strict=True)))

    @cached_property
    def talk_outside(self) -> Bytes:
        if self.launch.rules.communication_inside:
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

    standing: Standing
    context: int
    requests: int
    prompts: int  # tokens that the workload brings at once

    @cached_property
    def blocks(self) -> pool.Blocks:
        standing = self.standing
        return pool.drawn(
            standing.subject,
            standing.resident.cached,
            standing.launch,
            self.context,
            self.requests,
            standing.w.shared_prefix or 0,
        )

    @property
    def _seen(self) -> bool:
        """Tell whether images and sounds are profiled."""
        return self.standing.launch.rules.second_items or not self.standing.launch.second_runner

    @cached_property
    def profiled(self) -> profile.ProfiledMoment:
        return self.standing.peak(self.standing.launch.tokens, self._seen, self.context)

    @cached_property
    def peak(self) -> Bytes:
        """Return the growth of torch's peak in the profile, as the log of this rank prints it: what
        a stage is sent is made by the first step."""
        return self.profiled.total.plus(self.standing.received)

    @property
    def decoding(self) -> profile.ProfiledMoment:
        launch = self.standing.launch
        return self.standing.peak(launch.sequences * (1 + launch.speculative), False, self.context)

    @cached_property
    def asked(self) -> profile.ProfiledMoment:
        """The widest moment of this workload."""
        again = _again(self)
        return self.standing.peak(again or self.prompts, False, self.context)

    @cached_property
    def images(self) -> int:
        """Return the bytes that images and sounds take beyond the profile's peak."""
        if self._seen or self.standing.w.images == 0:
            return 0
        items = self.standing.peak(self.standing.launch.tokens, True, self.context)
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
        inside_bytes = self.standing.inside.plus(self.profiled.total)
        return (
            inside_bytes.plus(exactly(self.persistent))
            if self.standing.launch.rules.consumed
            else inside_bytes
        )

    @cached_property
    def outside(self) -> Bytes:
        before = 0 if self.standing.launch.rules.consumed else self.persistent
        low, expected, high = self.standing.outside.plus(exactly(before + self.late))
        return Bytes(low, expected + self.images, high + self.images)

    @property
    def given(self) -> int | None:
        """Bytes for blocks that were asked for, whatever there is room for."""
        if self.standing.launch.blocks is not None and self.blocks.pool.groups:
            return self.standing.launch.blocks * self.blocks.pool.block
        return self.standing.launch.kv_cache_bytes

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
        """Return the bytes that the driver shows while this workload runs: the profile's memory was
        given back."""
        return self.taken(share) - self.profiled.total.expected + self.asked.total.expected

    def serving_interval(self, share: int) -> Bytes:
        """The same: the share is exact, what is outside of it is not."""
        middle, outside_bytes = self.serving(share), self.outside
        return Bytes(*(middle + bound - outside_bytes.expected for bound in outside_bytes))


def share(rules: VllmRules, utilization: float, budget: Budget) -> int:
    """Bytes of the card that vLLM asks for."""
    wanted = hardware.total(budget) * utilization
    return math.ceil(wanted) if rules.rounds_up else int(wanted)


def resident(
    subject: Subject, rank: Rank, launch: VllmLaunch, w: Infer, budget: Budget | None
) -> Resident:
    adapters = _adapters(subject, rank, launch, w, budget)
    draft = _draft(subject, rank, launch, budget)
    imported = weights.imported(subject, launch, budget)
    extra = tuple(c.bytes.expected for c in (*adapters, *draft))
    return Resident(
        rank=rank,
        loaded=weights.loaded(rank, launch, (*extra, imported)),
        imported=imported,
        adapters=adapters,
        draft=draft,
        cached=pool.cached(subject, rank, launch, w),
        context=context(budget.choice.part if budget else None),
        talk_before=outside_torch.first_communicators(launch, budget, experts=has_experts(subject)),
        asleep=sleep_mode.asleep(subject, rank, launch),
        arriving=(),
    )


def standing(
    subject: Subject, resident_of: Resident, launch: VllmLaunch, w: Infer, budget: Budget | None
) -> Standing:
    rank = resident_of.rank
    widths = forward.widths(
        rank.blocks,
        subject.body.hidden,
        profile.share(launch),
        eager=launch.eager,
        through=weights.elements_through(subject),
    )
    return Standing(
        subject=subject,
        w=w,
        budget=budget,
        launch=launch,
        resident=resident_of,
        widths=widths,
        captured=_graphs(subject, rank, launch, budget),
        growth=outside_torch.growth(launch, rank, subject.body.vocab, budget),
        batch=sum(weights.batch_buffers(subject, launch.tokens)),
        talk_after=_talk(subject, rank, launch, budget),
        peak=_peaks(subject, rank, launch, widths, budget),
    )


def _peaks(
    subject: Subject, rank: Rank, launch: VllmLaunch, widths: forward.Widths, budget: Budget | None
) -> Callable[[int, bool, int], profile.ProfiledMoment]:
    """The widest moment of so many tokens, with images and sounds or without, of a context."""
    kept_workspace = weights.keeps_workspace(subject, budget)
    seen = launch.rules.second_items or not launch.second_runner
    towers = profile.largest_towers(subject) if seen else subject.body.towers

    @lru_cache(maxsize=PEAKS)
    def widest(tokens: int, items: bool, context: int, rows: int) -> profile.ProfiledMoment:
        work = profile.Work(
            tokens=tokens,
            sequences=launch.sequences,
            context=context,
            rows=rows,
            itemsize=int(subject.choice.dtype.nbytes),
            items=items,
            kept=kept_workspace,
            profiled=launch.tokens,
            towers=towers,
            levels=weights.deepstack_levels(subject),
        )
        moments = profile.moments(subject.body, widths, launch, work, budget, last=rank.last)
        return profile.peak(moments)

    def peak(tokens: int, items: bool, context: int) -> profile.ProfiledMoment:
        """Find the widest moment. Arguments that do not matter are set alike, so that it is found
        again."""
        items = items and rank.first and bool(subject.body.towers)
        rows = forward.expanded_rows(context, launch.sequences) if widths.expanded else 0
        return widest(max(1, min(tokens, launch.tokens)), items, context if items else 0, rows)

    return peak


def _again(reserve: RankReserve) -> int:
    """Tokens of one step where requests do not all fit: those that gave up their blocks read what
    they have written as a prompt, as many at once as the cache holds (v1/core/sched/scheduler.py,
    _preempt_request). 0 where none does."""
    launch, budget = reserve.standing.launch, reserve.standing.budget
    if budget is None or not reserve.blocks.pool.groups or reserve.requests < 2:
        return 0
    room = max(0, reserve.available(share(launch.rules, launch.utilization, budget)))
    if room >= reserve.blocks.nbytes:
        return 0
    tokens = reserve.blocks.logged(room)
    return tokens if reserve.prompts < min(tokens, launch.tokens) else 0


def prompts(launch: VllmLaunch, w: Infer, point: SearchPoint, requests: int) -> int:
    """Tokens that this workload brings at once; a shared prefix is computed once."""
    prompt = point.prompt_len or point.context
    shared = min(w.shared_prefix or 0, prompt - 1) if launch.prefix_caching else 0
    return shared + requests * (prompt - shared)


def _adapters(
    subject: Subject, rank: Rank, launch: VllmLaunch, w: Infer, budget: Budget | None
) -> tuple[Component, ...]:
    if not w.max_loras:
        return ()
    return lora_and_speculation.lora(
        subject,
        rank,
        slots=w.max_loras,
        lora_rank=w.max_lora_rank or launching.LORA_RANK,
        rules=weights.split(launch),
        **weights.sizes(launch, budget),
    )


def _draft(
    subject: Subject, rank: Rank, launch: VllmLaunch, budget: Budget | None
) -> tuple[Component, ...]:
    if not launch.speculative or not rank.last:
        return ()
    return lora_and_speculation.draft(
        subject,
        method=launch.method,
        tokens=launch.speculative,
        rules=weights.split(launch),
        **weights.sizes(launch, budget),
    )


def _talk(
    subject: Subject, rank: Rank, launch: VllmLaunch, budget: Budget | None
) -> tuple[Component, ...]:
    groups = communication(
        outside_torch.collectives(launch.rules),
        body=subject.body,
        budget=budget,
        **weights.sizes(launch, budget),
    )
    if rank.first:
        return groups
    itemsize = int(subject.choice.dtype.nbytes)
    return (*groups, received(launch.tokens, subject.body.hidden, itemsize))


def _graphs(
    subject: Subject, rank: Rank, launch: VllmLaunch, budget: Budget | None
) -> graphs.CapturedGraphs:
    full = launch.rules.full_graphs and not launch.pooling
    count = graphs.graphs(launch.captures, launch.sequences, 1 + launch.speculative, full=full)
    step = forward.step(
        rank.blocks,
        subject.body.hidden,
        forward.RankShare(tensor=launch.tensor),
        eager=False,
        through=weights.elements_through(subject),
    )
    largest = max(launch.captures, default=0)
    cut = 0
    if (
        full
        and hardware.splits_contexts(budget)
        and launch.backend in ("", setting.FLASH_ATTN)
        and not facts(_outer(subject)).vllm.other_kernels
    ):
        decoded = min(largest, launch.sequences * (1 + launch.speculative))
        cut = graphs.splits(rank.blocks, decoded, launch.tensor)
    return graphs.estimate(
        rank.blocks,
        _by_adapters(launch, count),
        graphs.GraphPool(
            widest=largest * step.widest * int(subject.choice.dtype.nbytes),
            cut=cut,
            matrices=_matrices(subject, rank, launch, budget, largest),
        ),
        graphs.GraphKind(
            ranks=launch.tensor,
            sparse=graphs.SPARSE_LESS if launch.rules.sparse_less else graphs.SPARSE,
            fused=launch.rules.fuses,
        ),
    )


def _matrices(
    subject: Subject, rank: Rank, launch: VllmLaunch, budget: Budget | None, largest: int
) -> Bytes:
    """Return the bytes that AWQ's plain kernel unpacks of a layer, and a graph keeps. Cards that
    Marlin runs on take that kernel only if --quantization awq asks for it (awq_marlin.py,
    override_quantization_method; get_min_capability), and since 0.24 not then (auto_awq.py,
    get_quant_method)."""
    scheme = subject.choice.scheme
    if scheme is None or not scheme.name.startswith(AWQ) or largest < UNPACKED_FROM:
        return graphs.NONE
    numbers = graphs.unpacked(rank.blocks, subject.body.hidden, launch.tensor)
    nbytes = numbers * int(subject.choice.dtype.nbytes)
    plain = launch.plain_awq or hardware.capability(budget) < MARLIN_SINCE
    return exactly(nbytes * plain)


def _by_adapters(launch: VllmLaunch, count: int) -> tuple[int, int]:
    """Graphs without and with slots for adapters."""
    if not launch.adapters:
        return count, 0
    return (count, count) if launch.rules.adapters_apart else (0, count)


def _outer(subject: Subject) -> str:
    return subject.config.model_type if subject.config is not None else ""


def _persistent(reserve: RankReserve) -> int:
    """Tables of blocks, inputs as embeddings (of the newer runner where there are towers alone);
    counts of the newer runner."""
    launch, subject = reserve.standing.launch, reserve.standing.subject
    columns = sum(
        ceil_div(reserve.context, g.tokens or reserve.context) for g in reserve.blocks.pool.groups
    )
    tables = TABLE * launch.sequences * columns
    embedded = launch.tokens * subject.body.hidden * int(subject.choice.dtype.nbytes)
    counted = sampling.counts(launch.sequences, subject.body.vocab) if launch.second_runner else 0
    return tables + counted + (embedded if subject.body.towers or not launch.second_runner else 0)


def _late(reserve: RankReserve) -> int:
    """Return the bytes that attention makes after profiling: gathered latents, scratch of
    Blackwell's kernels."""
    launch, latent = reserve.standing.launch, reserve.standing.widths.latent
    rows = latent and latent * forward.expanded_rows(reserve.context, launch.sequences)
    decoding = launch.rules.latent_late * weights.LATENT_BUFFER if rows else 0
    usual = hardware.blackwell(reserve.standing.budget)
    flashinfer = launch.backend == setting.FLASHINFER if launch.backend else usual
    scratch = FLASHINFER * flashinfer + decoding * usual
    return rows * int(reserve.standing.subject.choice.dtype.nbytes) + scratch


def residents(
    subject: Subject, launch: VllmLaunch, w: Infer, budget: Budget | None
) -> tuple[tuple[Resident, ...], tuple[int, ...]]:
    """Return what ranks hold, each kind once; and of each rank, which of these kinds it is."""
    number_of: dict[tuple[object, ...], int] = {}
    kinds: list[Resident] = []
    dealt: list[int] = []
    ranks = weights.ranks(subject, launch, budget)
    for rank, unpacked in zip(ranks, _unpacked(subject, launch, budget, ranks), strict=True):
        key = (id(rank.tensors), rank.layers, rank.first, rank.last)
        if key not in number_of:
            number_of[key] = len(kinds)
            kinds.append(replace(resident(subject, rank, launch, w, budget), arriving=unpacked))
        dealt.append(number_of[key])
    return tuple(kinds), tuple(dealt)


def _unpacked(
    subject: Subject, launch: VllmLaunch, budget: Budget | None, packed: Sequence[Rank]
) -> Sequence[tuple[Component, ...]]:
    """Estimate what each rank has of 16-bit weights, where the format is made while it loads, or of
    packed ones that are laid out anew."""
    plain, form = loading_peak.plain(subject, ENGINE), subject.choice.scheme
    if form is None:
        return [()] * len(packed)
    if plain is None:
        kernel = weights.split(launch).kernel(hardware.capability(budget)[0])
        moved = (loading_peak.laid_out(form.name, kernel, rank) for rank in packed)
        return [() if c is None else (c,) for c in moved]
    pairs = zip(packed, weights.ranks(plain, launch, budget), strict=True)
    at_once = weights.AT_ONCE[launch.rules.arrives]
    return [(loading_peak.arriving(*pair, at_once),) for pair in pairs]
