"""A model, settings and cards as SGLang meets them: prepared once for any context and batch.

    case(subject, workload, budget, version)   kept by the model, the settings and the card
What is there before weights is context and communicators; drafts and adapters are loaded with the
weights. Source: sglang 0.5.23 srt/distributed/bootstrap.py (measure_pre_model_load_memory),
srt/managers/scheduler.py (init_model_worker).
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes, Component, total
from weighbridge.base.records import dataclass, frozen_record, replace
from weighbridge.engines.engine import Version
from weighbridge.engines.interface import Subject, case_key
from weighbridge.engines.parallel.rules import SpreadArgs
from weighbridge.engines.servers import shards
from weighbridge.engines.servers.communication import Collectives
from weighbridge.engines.servers.host import PinnedWeights
from weighbridge.engines.servers.paged import StepLimits
from weighbridge.engines.servers.replica import Replica
from weighbridge.engines.sglang import ENGINE, caches, card_defaults, step, weights
from weighbridge.engines.sglang.effective import Effective, effective, remembered
from weighbridge.engines.sglang.rules import rules
from weighbridge.engines.sglang.weights import split_rules
from weighbridge.memory.components import device
from weighbridge.memory.components.weights import PlacedTensor

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.workload import Infer

HOPPER = 9  # its weight layouts if no card is named
COLLECTIVES = Collectives(  # MiB, beyond a free-memory snapshot before all communicators
    engine=ENGINE.name,
    switched={2: (900, 1350, 2300), 4: (900, 1450, 2600), 8: (900, 1700, 3400)},
    plain=(60, 380, 700),
    groups=3,  # torch's, its own, and that of attention: 1.40 GiB at four H100 are three
)
# Formats for which a whole 16-bit model is loaded, then quantized (model_runner.py of 0.5.14,
# load_model: apply_torchao_config_to_model comes last)
WHOLE = ("fp8", "torchao")
SCALE = 4  # bytes, in float32
MIXED, ROUTED = "experts mxfp4", ".experts."
LAUNCHES = 16  # step limits cached per case


def said(w: "Infer") -> StepLimits:
    return StepLimits(w.max_running_requests, w.chunked_prefill_size, w.disable_cuda_graph or None)


def saying(w: "Infer", limits: StepLimits) -> "Infer":
    """Return the workload with these step limits."""
    return w.but(
        max_running_requests=limits.sequences,
        chunked_prefill_size=limits.tokens,
        disable_cuda_graph=bool(limits.eager),
    )


@dataclass(frozen=True, kw_only=True)  # not slotted: values made of it are cached on it
class RankResidents:
    """Memory that ranks of one kind hold, whatever the requests."""

    rank: shards.Rank
    weights: tuple[Component, ...]
    extra: tuple[Component, ...]  # LoRA slots, and draft weights
    arriving: tuple[Component, ...]  # only while loading
    held: Bytes  # weights, extra, and memory from before them
    loaded: Bytes  # bytes deducted from the memory for pools
    cells: caches.Cells
    offloaded: PinnedWeights  # weights in host memory
    runs: caches.Runs
    split: step.RankSplit
    widest: step.Chunk


@frozen_record
class SglangCase:
    subject: Subject  # its context is that of the first question
    budget: "Budget | None"
    kinds: Mapping[int, RankResidents]  # by the first rank that holds it
    firsts: tuple[int, ...]  # of each rank of a replica
    driver: tuple[Component, ...]  # what is there before weights
    before: Bytes  # the same in all
    beside: int  # bytes of a token in the draft model's own cache
    settled: Callable[[StepLimits], Effective]  # its context is that of the first question

    @property
    def compute(self) -> tuple[int, int] | None:
        return self.budget.choice.part.capability if self.budget else None


def case(subject: Subject, w: "Infer", budget: "Budget | None", version: Version) -> SglangCase:
    return memo(
        subject.model,
        case_key("sglang case", subject, w, budget),
        lambda: _case(subject, w, budget, version),
    )


def _case(subject: Subject, w: "Infer", budget: "Budget | None", version: Version) -> SglangCase:
    @lru_cache(maxsize=LAUNCHES)
    def settled(limits: StepLimits) -> Effective:
        return effective(subject, saying(w, limits), budget, version)

    settings = settled(said(w))
    major = card_defaults.major(budget.choice.part.capability if budget else None)
    split = split_rules(version, towers=not w.language_model_only, major=major)
    sizes: SpreadArgs = {
        "tensor": settings.tensor,
        "pipeline": settings.pipeline,
        "partition": w.pp_layer_partition or (),
        "expert_parallel": settings.experts,
        "groups": settings.groups,
        "capability": major or HOPPER,
    }
    replica = Replica(ENGINE, subject, w, split, sizes)
    form = "" if subject.choice.scheme is None else subject.choice.scheme.name
    ranks = replica.ranks()
    firsts, unpacked = replica.firsts(ranks), replica.arriving(ranks, partial(_at_once, form))
    talk = replica.talk(COLLECTIVES, budget, settings.pools_of)
    driver = (device.context(budget.choice.part if budget else None), *talk)
    before = total(c.bytes for c in driver)
    kinds = {
        i: _kind(replica, settings, ranks[i], before, unpacked[i] if unpacked else ())
        for i in dict.fromkeys(firsts)
    }
    return SglangCase(
        subject=subject,
        budget=budget,
        kinds=kinds,
        firsts=firsts,
        driver=driver,
        before=before,
        beside=_beside(subject, settings),
        settled=settled,
    )


def _beside(subject: Subject, settings: Effective) -> int:
    """Return the bytes per token in the KV cache of speculative decoding."""
    one = settings.pools(1)
    if subject.draft is not None:
        # the draft's windows have no second pool of their own
        c = caches.cells(remembered(subject.draft), replace(one, model_type="draft"))
        return c.full + c.sliding
    if settings.algorithm not in ("NEXTN", "EAGLE", "EAGLE3"):
        return 0
    layers = remembered(subject)
    drafts = int(subject.raw.get("num_nextn_predict_layers") or 1)
    c = caches.cells(layers, one)
    return (c.full + c.sliding) * drafts // max(1, len(layers))


def remade(replica: Replica, rank: shards.Rank) -> tuple[Component, ...]:
    """Return the scales of expert blocks in bytes, beside the float32 they are made of, which torch
    keeps. A log of DeepSeek-V4-Pro (0.5.14, TP 8 on Hopper) has 125.65 GiB where all tensors are
    118. No log is of Hopper since they are loaded in bytes: as much may be there."""
    form, size = replica.subject.choice.scheme, replica.rules.mixed_scale
    hopper = replica.sizes["capability"] == HOPPER
    if form is None or not form.name.endswith(MIXED) or not (hopper or size > 1):
        return ()
    experts = sum(t.nbytes * t.copies for t in rank.tensors if ROUTED in f".{t.module}.")
    scales = experts // (16 + size)  # half a byte per weight, a scale for 32
    layer = experts // max(1, len(rank.blocks), len(rank.layers))
    component = Component(
        name="fragmentation",
        bytes=Bytes(0, scales * (size > 1), scales * (1 + SCALE - size) + layer),
        basis="assumed",
        detail="scales of experts, made anew",
        formula="a byte for 32 weights, where freed float32 holds none; at most one layer more",
        source="sglang 0.5.14 srt/layers/quantization/marlin_utils_fp4.py",
    )
    return (component,)


def _kind(
    replica: Replica,
    settings: Effective,
    rank: shards.Rank,
    before: Bytes,
    unpacked: tuple[Component, ...],
) -> RankResidents:
    subject, w = replica.subject, replica.w
    kept_here, away, moved = weights.shared_out(rank, w.cpu_offload_gb)
    loaded = _loaded(kept_here, subject.choice.as_stored)
    drafts = rules(settings.version).draft_first
    extra = replica.adapters(rank, settings.loras, settings.lora_rank)
    if settings.algorithm is not None:
        extra += replica.draft(w.speculative_method or "draft", settings.drafted)
    extra += remade(replica, rank)
    counted = [c for c in extra if c.name in ("adapters", "fragmentation") or drafts]
    extra += moved  # not counted: it does not exist at the free-memory snapshots
    layers = remembered(subject, rank.layers if subject.layers else None)
    one, body = settings.pools(1), subject.body
    split = step.RankSplit(
        tensor=settings.tensor, expert_parallel=settings.experts, groups=settings.groups
    )
    doubt = partial(subject.doubt.around, "weights")
    return RankResidents(
        rank=rank,
        weights=loaded,
        extra=extra,
        arriving=unpacked,
        held=doubt(total(c.bytes for c in (*loaded, *extra))).plus(before),
        loaded=doubt(total(c.bytes for c in (*loaded, *counted))),
        cells=caches.cells(layers, one),
        offloaded=away,
        runs=caches.runs(layers, one),
        split=split,
        widest=step.chunk(rank.blocks, body.hidden, split, body.blocks),
    )


def _at_once(form: str, packed: int, whole: int, layer: int) -> Bytes:
    """Return the bytes of 16-bit weights in memory at once; `layer` are one layer's."""
    saved = max(0, whole - packed)
    least = saved if form.startswith(WHOLE) else min(saved, layer)
    return Bytes(least, saved, saved + layer)


@lru_cache(maxsize=64)
def _loaded(tensors: tuple[PlacedTensor, ...], stored: bool) -> tuple[Component, ...]:
    """Return the components of weights in the allocator, without the CUDA context."""
    phase = device.loaded(
        device.settled(tensors, lambda pairs: (t for _, t in pairs)),
        formula="the tensors of this rank",
        basis="read" if stored else "computed",
    )
    return tuple(c for c in phase.components if c.name != "context")
