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
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes, Component, exactly, total
from weighbridge.base.records import dataclass
from weighbridge.base.units import MIB, ceil_div
from weighbridge.engines.interface import Subject
from weighbridge.engines.servers.communication import RECEIVED, STAGES
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.vllm import effective, forward, graphs, hardware, pool, profile, weights
from weighbridge.engines.vllm.effective import VllmLaunch
from weighbridge.engines.vllm.rules import VllmRules
from weighbridge.machines.accelerators.budget import Budget

if TYPE_CHECKING:
    from weighbridge.workload import Infer

# After profiling, outside the share. No log prints it. NVML read 0.45 to 0.65 GiB beyond context
# and share in 207 windows of the rig of AgileRL (vLLM 0.23, 0.26; A100, L4), where a trainer sleeps
# in the same process. Seven engines of 0.26 on an H100 (our own runs): what is not torch's grew by
# 2 MiB beside CUDA graphs, so it is hardly kernels, but torch's segments, of which the share counts
# what was allocated. They were 0.2 to 2.0 GiB beyond it when the engine was ready, and up to 4.3
# after batches of several widths; torch gives them back before a request fails, so no more is
# needed.
LATER = Bytes(48 * MIB, 448 * MIB, 704 * MIB)
FLASHINFER = 394 * MIB  # v1/attention/backends/flashinfer.py: the backend of Blackwell
TABLE = 4  # bytes of a block's number


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Bytes that one rank holds whatever is asked of it."""

    rank: Rank
    number: int  # of the first rank that holds this, and of its card
    loaded: weights.RankWeights
    imported: int  # buffers of kernels, counted with the weights
    adapters: tuple[Component, ...]
    draft: tuple[Component, ...]
    cached: pool.Cached
    talk_before: Bytes  # ranks to each other, before free memory is first looked at
    asleep: tuple[Component, ...]  # what sleep mode puts beyond the share
    arriving: tuple[Component, ...]  # what is there while it loads alone


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Standing:
    """One rank at a launch of so many tokens and sequences, whatever contexts and requests."""

    subject: Subject
    w: "Infer"  # without a card
    launch: VllmLaunch  # its context and requests are those of another question
    resident: Resident
    widths: forward.Widths
    captured: graphs.CapturedGraphs
    growth: Bytes
    processes: Bytes  # of the host, which is the device's memory
    batch: int  # buffers for the tokens of a batch, made with the model
    talk_after: tuple[Component, ...]
    peak: Callable[[int, bool, int], profile.ProfiledMoment]  # of tokens, with items, of a context
    blackwell: bool  # FlashInfer is the usual backend of attention
    context: Component  # of the rank's process

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
        outside_bytes = self.context.bytes.plus(LATER).plus(self.talk_outside)
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
        return self.growth.plus(self.processes).plus(self.talk_inside)

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
        return self.context.bytes.plus(self.talk_outside)


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class RankReserve:
    """One rank, with its requests, on whatever card that is alike."""

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

    @cached_property
    def profiled(self) -> profile.ProfiledMoment:
        launch = self.standing.launch
        return self.standing.peak(launch.tokens, launch.items_profiled, self.context)

    @cached_property
    def peak(self) -> Bytes:
        """Return the growth of torch's peak in the profile, as the log of this rank prints it: what
        a stage is sent is made by the first step."""
        return self.profiled.total.plus(self.standing.received)

    @property
    def decoding(self) -> profile.ProfiledMoment:
        launch = self.standing.launch
        return self.standing.peak(launch.sequences * (1 + launch.speculative), False, self.context)

    def asked(self, budget: Budget, *, most: bool = False) -> profile.ProfiledMoment:
        """The widest moment of this workload. Where layers have windows, requests that gave up
        their blocks may be read again at once (`most`), and were not in eight published runs."""
        again = _again(self, self.own(budget)) if most or not self.blocks.windows else 0
        return self.standing.peak(again or self.prompts, False, self.context)

    @cached_property
    def images(self) -> int:
        """Return the bytes that images and sounds surely take beyond the profile's peak."""
        if self.standing.launch.items_profiled or self.standing.w.images == 0:
            return 0
        items = self.standing.peak(self.standing.launch.tokens, True, self.context)
        return max(0, items.total.low - self.profiled.total.low)

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

    def own(self, budget: Budget) -> Budget:
        """Return the budget of this rank's card, where the cards of `budget` differ."""
        return budget.like(self.standing.resident.number)

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

    def serving(self, share: int, budget: Budget) -> int:
        """Return the bytes that the driver shows while this workload runs: the profile's memory was
        given back."""
        asked = self.asked(budget).total.expected
        return self.taken(share) - self.profiled.total.expected + asked

    def serving_interval(self, share: int, budget: Budget) -> Bytes:
        """The same: the share is exact, what is outside of it is not."""
        less = self.taken(share) - self.profiled.total.expected - self.outside.expected
        asked = (self.asked(budget, most=most).total.expected for most in (False, False, True))
        return Bytes(*(less + out + step for out, step in zip(self.outside, asked, strict=True)))


def share(rules: VllmRules, utilization: float, budget: Budget) -> int:
    """Bytes of the card that vLLM asks for."""
    wanted = hardware.total(budget) * utilization
    return math.ceil(wanted) if rules.rounds_up else int(wanted)


def _again(reserve: RankReserve, budget: Budget) -> int:
    """Tokens of one step where requests do not all fit: those that gave up their blocks read what
    they have written as a prompt, as many at once as the cache holds (v1/core/sched/scheduler.py,
    _preempt_request). 0 where none does."""
    launch = reserve.standing.launch
    if not reserve.blocks.pool.groups or reserve.requests < 2:
        return 0
    room = max(0, reserve.available(share(launch.rules, launch.utilization, budget)))
    if room >= reserve.blocks.admitted:
        return 0
    tokens = reserve.blocks.logged(room)
    return tokens if reserve.prompts < min(tokens, launch.tokens) else 0


def _persistent(reserve: RankReserve) -> int:
    """Tables of blocks, inputs as embeddings (of the newer runner where there are towers alone);
    counts of the newer runner."""
    launch, subject = reserve.standing.launch, reserve.standing.subject
    columns = sum(
        ceil_div(reserve.context, g.tokens or reserve.context) for g in reserve.blocks.pool.groups
    )
    tables = TABLE * launch.sequences * columns
    embedded = launch.tokens * subject.body.hidden * int(subject.choice.dtype.nbytes)
    if not launch.second_runner:
        return tables + embedded
    counted = profile.counts(launch.sequences, subject.body.vocab, launch.speculative)
    return tables + counted + (embedded if subject.body.towers else 0)


def _late(reserve: RankReserve) -> int:
    """Return the bytes that attention makes after profiling: gathered latents, scratch of
    Blackwell's kernels."""
    launch, latent = reserve.standing.launch, reserve.standing.widths.latent
    rows = latent and latent * forward.expanded_rows(reserve.context, launch.sequences)
    decoding = launch.rules.latent_late * weights.LATENT_BUFFER if rows else 0
    usual = reserve.standing.blackwell
    flashinfer = launch.backend == effective.FLASHINFER if launch.backend else usual
    scratch = FLASHINFER * flashinfer + decoding * usual
    return rows * int(reserve.standing.subject.choice.dtype.nbytes) + scratch
