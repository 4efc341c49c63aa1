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

from weighbridge.base.memory import Bytes, Component, exactly, total, total_apart
from weighbridge.base.records import NamedTuple, dataclass, frozen_record
from weighbridge.base.units import MIB, ceil_div
from weighbridge.engines.interface import BEST, WORST, Subject
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


@frozen_record
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
    def sums(self) -> "Sums":
        rules, r = self.launch.rules, self.resident
        loaded = self.batch + r.loaded.allocated  # the log's "Model loading took": rounded tensors
        torch = self.batch + (r.loaded.reserved if rules.consumed else r.loaded.allocated)
        spread = r.loaded.reserved - r.loaded.allocated  # segments that weights do not fill

        # the newer runner's trial of graphs returned nothing before 0.29
        tried = rules.second_charged or not self.launch.second_runner
        estimated = self.captured.charged if tried else graphs.NONE
        charged = estimated if rules.graphs_inside else graphs.NONE
        beyond = Bytes(*(max(0, t - c) for t, c in zip(self.captured.taken, charged, strict=True)))

        # the profile sends nothing from stage to stage: the first request does
        first_request = total(c.bytes for c in self.talk_after if c.detail == STAGES)
        inside_talk = total(c.bytes for c in self.talk_after if c.detail != STAGES)
        outside_talk = r.talk_before.plus(first_request)
        if rules.communication_inside:  # NCCL started after the first look before 0.11
            inside_talk, outside_talk = inside_talk.plus(outside_talk), exactly(0)
        of_torch = total(c.bytes for c in self.talk_after if c.name != "communication")

        grown = self.growth.plus(self.processes).plus(inside_talk)  # beside torch, while profiling
        before = self.context.bytes.plus(outside_talk)  # at the first look at free memory
        doubt = self.subject.doubt.around
        reserved = doubt("weights", exactly(r.loaded.reserved))
        outside = before.plus(LATER).plus(total(c.bytes for c in r.asleep)).plus(beyond)
        apart = self.context.bytes, LATER, beyond
        return Sums(
            loaded=loaded,
            spread=spread,
            estimated=estimated,
            charged=charged,
            received=total(c.bytes for c in self.talk_after if c.detail == RECEIVED),
            non_torch=Bytes(*(a - b for a, b in zip(grown, of_torch, strict=True))),
            before=before,
            # weights in 16 bits, until they are packed, are in no share that is asked for later
            loading=before.plus(reserved).plus(total(c.bytes for c in r.arriving)),
            inside=doubt("weights", exactly(torch)).plus(grown).plus(doubt("cuda_graphs", charged)),
            outside=outside if rules.consumed else outside.plus(exactly(spread)),
            never_at_once=total(apart).high - total_apart(apart).high,
        )


class Sums(NamedTuple):
    """Memory of a rank at a launch, but for the profile, requests and their buffers."""

    loaded: int
    spread: int
    estimated: Bytes  # of graphs, by vLLM's own trial
    charged: Bytes  # off the cache for graphs
    received: Bytes  # held by torch for talk from stage to stage
    non_torch: Bytes  # as the log prints it
    before: Bytes
    loading: Bytes
    inside: Bytes
    outside: Bytes
    never_at_once: int  # of the far ends of the context, of what comes later and of graphs


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class RankReserve:
    """One rank, with its requests, on whatever card that is alike."""

    standing: Standing
    context: int
    requests: int
    prompts: int  # tokens that the workload brings at once

    @cached_property
    def blocks(self) -> pool.Blocks:
        s = self.standing
        cached, prefix = s.resident.cached, s.w.shared_prefix or 0
        return pool.drawn(s.subject, cached, s.launch, self.context, self.requests, prefix)

    @cached_property
    def profiled(self) -> profile.ProfiledMoment:
        launch = self.standing.launch
        return self.standing.peak(launch.tokens, launch.items_profiled, self.context)

    @cached_property
    def peak(self) -> Bytes:
        """Growth of torch's peak in the profile, as the log has it; the first step makes what a
        stage is sent."""
        return self.profiled.total.plus(self.standing.sums.received)

    @property
    def decoding(self) -> profile.ProfiledMoment:
        launch = self.standing.launch
        return self.standing.peak(launch.sequences * (1 + launch.speculative), False, self.context)

    def asked(self, budget: Budget, *, most: bool = False) -> profile.ProfiledMoment:
        """The widest moment of this workload. Where layers have windows, requests that gave up
        their blocks may be read again at once (`most`), and were not in eight published runs."""
        again = self._again(self.own(budget)) if most or not self.blocks.windows else 0
        return self.standing.peak(again or self.prompts, False, self.context)

    def _again(self, budget: Budget) -> int:
        """Tokens of one step where requests do not all fit: those that gave up their blocks read
        what they have written as a prompt, as many at once as the cache holds
        (v1/core/sched/scheduler.py, _preempt_request). 0 where none does."""
        launch = self.standing.launch
        room = max(0, self.available(share(launch.rules, launch.utilization, budget)))
        if not self.blocks.pool.groups or self.requests < 2 or room >= self.blocks.admitted:
            return 0
        tokens = self.blocks.logged(room)
        return tokens if self.prompts < min(tokens, launch.tokens) else 0

    @cached_property
    def images(self) -> int:
        """Bytes that images and sounds surely take beyond the profile's peak."""
        s = self.standing
        if s.launch.items_profiled or s.w.images == 0:
            return 0
        items = s.peak(s.launch.tokens, True, self.context)
        return max(0, items.total.low - self.profiled.total.low)

    @cached_property
    def persistent(self) -> int:
        """Buffers made before the weights: tables of blocks, inputs as embeddings (of the newer
        runner where there are towers alone), counts of the newer runner."""
        launch, subject = self.standing.launch, self.standing.subject
        groups = self.blocks.pool.groups
        columns = sum(ceil_div(self.context, g.tokens or self.context) for g in groups)
        tables = TABLE * launch.sequences * columns
        embedded = launch.tokens * subject.body.hidden * int(subject.choice.dtype.nbytes)
        if not launch.second_runner:
            return tables + embedded
        counted = profile.counts(launch.sequences, subject.body.vocab, launch.speculative)
        return tables + counted + (embedded if subject.body.towers else 0)

    @cached_property
    def late(self) -> int:
        """Buffers made after profiling: gathered latents, scratch of Blackwell's kernels."""
        s, launch = self.standing, self.standing.launch
        latent = s.widths.latent
        rows = latent and latent * forward.expanded_rows(self.context, launch.sequences)
        decoding = launch.rules.latent_late * weights.LATENT_BUFFER if rows else 0
        by_name = launch.backend == effective.FLASHINFER
        scratch = FLASHINFER * (by_name if launch.backend else s.blackwell)
        return rows * int(s.subject.choice.dtype.nbytes) + scratch + decoding * s.blackwell

    @cached_property
    def inside(self) -> Bytes:
        buffers = self.persistent if self.standing.launch.rules.consumed else 0
        profiled = self.standing.subject.doubt.around("activations", self.profiled.total)
        return self.standing.sums.inside.plus(profiled).plus(exactly(buffers))

    @cached_property
    def outside(self) -> Bytes:
        buffers = self.late + (0 if self.standing.launch.rules.consumed else self.persistent)
        low, expected, high = self.standing.sums.outside.plus(exactly(buffers))
        return Bytes(low, expected + self.images, high + self.images)

    def beside_share(self, utilization: float) -> int:
        """Bytes that are held outside the share at most, at any one moment.

        Of the newer runner on one card, at its own share: the profile's memory is free while graphs
        are captured (gpu_worker.py, memory_profiling: empty_cache); segments that torch keeps go
        back before a later step fails (CUDACachingAllocator, malloc: cached blocks are released
        unless graphs are being captured); and the far ends of ranges that are independent are not
        reached at once. NVML read 0.6 to 0.8 GiB beyond share and context of 0.26 (Qwen2.5-7B,
        AgileRL), of which this says up to 1.2. Elsewhere runs died of less: four A10 with 0.8.5
        (vllm-project/vllm issue 17469), 0.97 of an H100 with 0.14.1 (issue 33155).
        """
        launch, sums = self.standing.launch, self.standing.sums
        alone = launch.tensor == launch.pipeline == 1 and launch.second_runner
        if not alone or utilization > launch.rules.utilization:
            return self.outside.high
        given_back = min(self.profiled.total.low, LATER.high - LATER.low)
        return self.outside.high - given_back - sums.never_at_once

    def own(self, budget: Budget) -> Budget:
        """The budget of this rank's card, where the cards of `budget` differ."""
        return budget.like(self.standing.resident.number)

    @property
    def given(self) -> int | None:
        """Bytes for blocks that were asked for, whatever there is room for."""
        blocks = self.standing.launch.blocks
        if blocks is not None and self.blocks.pool.groups:
            return blocks * self.blocks.pool.block
        return self.standing.launch.kv_cache_bytes

    def available(self, share: int) -> int:
        """Bytes for blocks, of a share of so many; below zero where not even the weights fit."""
        return share - self.inside.expected if self.given is None else self.given

    def available_interval(self, share: int) -> Bytes:
        """The same from the highest to the lowest of what is inside."""
        middle = self.available(share)
        if self.given is not None:
            return self.given_room
        ends = self.room(share, WORST), middle, self.room(share, BEST)
        return Bytes(*(max(0, end) for end in ends))

    @property
    def given_room(self) -> Bytes:
        """Bytes for blocks that were asked for: of those nobody knows what they hold where a flag
        changes that."""
        return self.standing.subject.doubt.around("kv_cache", exactly(self.given or 0))

    def room(self, share: int, by: int) -> int:
        """Bytes for blocks that a share leaves, by the estimates that are believed."""
        left = exactly(share - self.inside[2 - by])
        return self.standing.subject.doubt.around("kv_cache", left)[by]

    def taken(self, share: int) -> int:
        return self.inside.expected + self.available(share) + self.outside.expected

    def serving(self, share: int, budget: Budget) -> Bytes:
        """Return what the driver shows under this workload: the profile's memory was given back.
        The share is exact, what is outside of it is not."""
        less = self.taken(share) - self.profiled.total.expected - self.outside.expected
        asked = (self.asked(budget, most=most).total.expected for most in (False, False, True))
        return Bytes(*(less + out + step for out, step in zip(self.outside, asked, strict=True)))


def share(rules: VllmRules, utilization: float, budget: Budget) -> int:
    """Bytes of the card that vLLM asks for."""
    wanted = hardware.total(budget) * utilization
    return math.ceil(wanted) if rules.rounds_up else int(wanted)
