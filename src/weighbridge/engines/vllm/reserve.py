"""Memory of one rank, inside and outside vLLM's budget (gpu_memory_utilization x total).

    inside      weights, non-torch increase, profile peak; since 0.20 CUDA graphs, except those of
                runner V2 before 0.29; since 0.27 all buffers, and torch's reserved bytes
    outside     CUDA context; NCCL, which starts before the first free-memory snapshot, and between
                pipeline stages with the first request; buffers made after profiling, and (before
                0.27) before the weights; images if not profiled; what sleep mode frees

    available   budget - inside                       for KV cache blocks
    needed      inside + outside + the workload's blocks
    taken       budget + outside                      whatever the workload

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

# Allocated after profiling, outside the budget, and not logged. NVML read 0.45 to 0.65 GiB beyond
# context and budget in 207 windows of AgileRL's rig (vLLM 0.23, 0.26; A100, L4), where a trainer
# sleeps in the same process. In seven engines of 0.26 on an H100 (our own runs) non-torch memory
# grew by 2 MiB beside CUDA graphs, so this is hardly kernels but torch's reserved segments, where
# the budget counts allocated bytes: 0.2 to 2.0 GiB more when the engine was ready, up to 4.3 after
# batches of several sizes. torch frees them before an allocation fails, so no more is needed.
LATER = Bytes(48 * MIB, 448 * MIB, 704 * MIB)
FLASHINFER = 394 * MIB  # workspace: v1/attention/backends/flashinfer.py, the default on Blackwell
TABLE = 4  # bytes of a block table entry


@frozen_record
class Resident:
    """Memory that one rank holds independently of batch, context and requests."""

    rank: Rank
    number: int  # of the first rank like this, and of its card
    loaded: weights.RankWeights
    imported: int  # kernel workspaces allocated on import, counted with the weights
    adapters: tuple[Component, ...]
    draft: tuple[Component, ...]
    cached: pool.Cached
    talk_before: Bytes  # communication buffers from before the first free-memory snapshot
    asleep: tuple[Component, ...]  # memory that sleep mode keeps outside the budget
    arriving: tuple[Component, ...]  # only while loading


@dataclass(frozen=True, kw_only=True)  # not slotted: cached_property needs a __dict__
class Standing:
    """One rank at given batch limits, for any context and number of requests."""

    subject: Subject
    w: "Infer"  # device settings removed
    launch: VllmLaunch  # its `context` and `requests` are not of this question
    resident: Resident
    widths: forward.Widths
    captured: graphs.CapturedGraphs
    growth: Bytes
    processes: Bytes  # host processes, where GPU and host share memory
    batch: int  # bytes of input buffers for a batch
    talk_after: tuple[Component, ...]
    peak: Callable[[int, bool, int], profile.ProfiledMoment]  # (tokens, items?, context)
    blackwell: bool  # FlashInfer is the default attention backend
    context: Component  # CUDA context of the rank

    @cached_property
    def sums(self) -> "Sums":
        rules, r = self.launch.rules, self.resident
        loaded = self.batch + r.loaded.allocated  # the log's "Model loading took": rounded tensors
        torch = self.batch + (r.loaded.reserved if rules.consumed else r.loaded.allocated)
        spread = r.loaded.reserved - r.loaded.allocated  # unused space in segments of weights

        # before 0.29, runner V2 estimated no CUDA graph memory
        tried = rules.second_charged or not self.launch.second_runner
        estimated = self.captured.charged if tried else graphs.NONE
        charged = estimated if rules.graphs_inside else graphs.NONE
        beyond = Bytes(*(max(0, t - c) for t, c in zip(self.captured.taken, charged, strict=True)))

        # pipeline stages first communicate at the first request, not in the profile run
        first_request = total(c.bytes for c in self.talk_after if c.detail == STAGES)
        inside_talk = total(c.bytes for c in self.talk_after if c.detail != STAGES)
        outside_talk = r.talk_before.plus(first_request)
        if rules.communication_inside:  # before 0.11 NCCL started after the snapshot
            inside_talk, outside_talk = inside_talk.plus(outside_talk), exactly(0)
        of_torch = total(c.bytes for c in self.talk_after if c.name != "communication")

        grown = self.growth.plus(self.processes).plus(inside_talk)  # non-torch, while profiling
        before = self.context.bytes.plus(outside_talk)  # at the first free-memory snapshot
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
            # 16-bit weights awaiting quantization are freed before the budget is computed
            loading=before.plus(reserved).plus(total(c.bytes for c in r.arriving)),
            inside=doubt("weights", exactly(torch)).plus(grown).plus(doubt("cuda_graphs", charged)),
            outside=outside if rules.consumed else outside.plus(exactly(spread)),
            never_at_once=total(apart).high - total_apart(apart).high,
        )


class Sums(NamedTuple):
    """Memory of a rank at given batch limits, without profile peak, requests and their buffers."""

    loaded: int
    spread: int
    estimated: Bytes  # CUDA graphs, by vLLM's own estimate
    charged: Bytes  # CUDA graphs, as deducted from the KV cache
    received: Bytes  # torch's receive buffers between pipeline stages
    non_torch: Bytes  # as vLLM logs it
    before: Bytes
    loading: Bytes
    inside: Bytes
    outside: Bytes
    never_at_once: int  # high ends of context, later memory and graphs that never meet


@dataclass(frozen=True, kw_only=True)  # not slotted: cached_property needs a __dict__
class RankReserve:
    """Memory of one rank with its requests, on any card with equal facts."""

    standing: Standing
    context: int
    requests: int
    prompts: int  # prompt tokens of the workload, all requests together

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
        """Return the torch peak increase as vLLM logs it; later pipeline stages receive buffers in
        the first step."""
        return self.profiled.total.plus(self.standing.sums.received)

    @property
    def decoding(self) -> profile.ProfiledMoment:
        launch = self.standing.launch
        return self.standing.peak(launch.sequences * (1 + launch.speculative), False, self.context)

    def asked(self, budget: Budget, *, most: bool = False) -> profile.ProfiledMoment:
        """Return the peak moment under this workload. With sliding windows, preempted requests may
        be recomputed in one step (`most`), which eight published runs did not show."""
        again = self._again(self.own(budget)) if most or not self.blocks.windows else 0
        return self.standing.peak(again or self.prompts, False, self.context)

    def _again(self, budget: Budget) -> int:
        """Return the tokens of a step that recomputes preempted requests, 0 if all requests fit:
        prompt and output are prefilled again, up to what the cache holds
        (v1/core/sched/scheduler.py, _preempt_request)."""
        launch = self.standing.launch
        room = max(0, self.available(share(launch.rules, launch.utilization, budget)))
        if not self.blocks.pool.groups or self.requests < 2 or room >= self.blocks.admitted:
            return 0
        tokens = self.blocks.logged(room)
        return tokens if self.prompts < min(tokens, launch.tokens) else 0

    @cached_property
    def images(self) -> int:
        """Return the least bytes that encoding adds to a profile peak that left it out."""
        s = self.standing
        if s.launch.items_profiled or s.w.images == 0:
            return 0
        items = s.peak(s.launch.tokens, True, self.context)
        return max(0, items.total.low - self.profiled.total.low)

    @cached_property
    def persistent(self) -> int:
        """Return the bytes of buffers allocated before the weights: block tables, input embeddings
        (in runner V2 only of multimodal models), sampling state of runner V2."""
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
        """Return the bytes of buffers made after profiling: MLA's latents, Blackwell workspaces."""
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
        """Return the bytes held outside the budget at any one moment, at most.

        With runner V2 on one card, at its default budget: the profile's memory is free while graphs
        are captured (gpu_worker.py, memory_profiling: empty_cache); torch frees cached segments
        before a later step fails (CUDACachingAllocator, malloc: cached blocks are released unless
        graphs are being captured); and the high ends of independent ranges are not reached at once.
        NVML read 0.6 to 0.8 GiB beyond budget and context of 0.26 (Qwen2.5-7B, AgileRL), of which
        this says up to 1.2. Elsewhere runs died of less: four A10 with 0.8.5 (vllm-project/vllm
        issue 17469), 0.97 of an H100 with 0.14.1 (issue 33155).
        """
        launch, sums = self.standing.launch, self.standing.sums
        alone = launch.tensor == launch.pipeline == 1 and launch.second_runner
        if not alone or utilization > launch.rules.utilization:
            return self.outside.high
        given_back = min(self.profiled.total.low, LATER.high - LATER.low)
        return self.outside.high - given_back - sums.never_at_once

    def own(self, budget: Budget) -> Budget:
        """Return this rank's own card, where the cards of `budget` differ."""
        return budget.like(self.standing.resident.number)

    @property
    def given(self) -> int | None:
        """Return the KV cache bytes the user fixed, None if vLLM sizes it."""
        blocks = self.standing.launch.blocks
        if blocks is not None and self.blocks.pool.groups:
            return blocks * self.blocks.pool.block
        return self.standing.launch.kv_cache_bytes

    def available(self, share: int) -> int:
        """Return the bytes left for blocks of a budget; negative if not even the weights fit."""
        return share - self.inside.expected if self.given is None else self.given

    def available_interval(self, share: int) -> Bytes:
        """Return the same as an interval: low if memory inside the budget is high."""
        middle = self.available(share)
        if self.given is not None:
            return self.given_room
        ends = self.room(share, WORST), middle, self.room(share, BEST)
        return Bytes(*(max(0, end) for end in ends))

    @property
    def given_room(self) -> Bytes:
        """Return the KV cache bytes that the user fixed, as an interval if an unknown flag changes
        what they hold."""
        return self.standing.subject.doubt.around("kv_cache", exactly(self.given or 0))

    def room(self, share: int, by: int) -> int:
        """Return the bytes left for blocks, at bound `by` (WORST or BEST) of the estimates."""
        left = exactly(share - self.inside[2 - by])
        return self.standing.subject.doubt.around("kv_cache", left)[by]

    def taken(self, share: int) -> int:
        return self.inside.expected + self.available(share) + self.outside.expected

    def serving(self, share: int, budget: Budget) -> Bytes:
        """Return the device memory the driver shows under this workload. The profile peak was
        freed; the budget is exact, memory outside it is not."""
        less = self.taken(share) - self.profiled.total.expected - self.outside.expected
        asked = (self.asked(budget, most=most).total.expected for most in (False, False, True))
        return Bytes(*(less + out + step for out, step in zip(self.outside, asked, strict=True)))


def share(rules: VllmRules, utilization: float, budget: Budget) -> int:
    """Return vLLM's budget on this card in bytes (its "requested memory")."""
    wanted = hardware.total(budget) * utilization
    return math.ceil(wanted) if rules.rounds_up else int(wanted)
