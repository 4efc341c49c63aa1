"""A model, settings and cards as SGLang meets them: prepared once for any context and batch.

    case(subject, workload, budget, version)   kept by the model, the settings and the card
What is there before weights is context and communicators; drafts and adapters are loaded with the
weights. Source: sglang 0.5.23 srt/distributed/bootstrap.py (measure_pre_model_load_memory),
srt/managers/scheduler.py (init_model_worker).
"""

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING

from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes, Component, total
from weighbridge.base.records import NamedTuple, dataclass, replace
from weighbridge.engines.engine import Version
from weighbridge.engines.interface import Subject, case_key
from weighbridge.engines.parallel.rules import SpreadArgs
from weighbridge.engines.servers import lora_and_speculation, shards
from weighbridge.engines.servers.communication import Collectives, communication
from weighbridge.engines.servers.pinned import PinnedWeights
from weighbridge.engines.sglang import ENGINE, caches, card_defaults, step, weights
from weighbridge.engines.sglang.effective import Effective, effective, remembered
from weighbridge.engines.sglang.rules import rules
from weighbridge.engines.sglang.weights import split_rules
from weighbridge.memory.components import device
from weighbridge.memory.components.weights import PlacedTensor

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.workload import Infer

HOPPER = 9  # its layouts where no card is named
COLLECTIVES = Collectives(  # MiB, beyond a look at free memory before all communicators
    engine=ENGINE.name,
    switched={2: (900, 1350, 2300), 4: (900, 1450, 2600), 8: (900, 1700, 3400)},
    plain=(60, 380, 700),
    groups=3,  # torch's, its own, and that of attention: 1.40 GiB at four H100 are three
)
# Formats that a whole model in 16 bits is packed into (model_runner.py of 0.5.14, load_model:
# apply_torchao_config_to_model comes last)
WHOLE = ("fp8", "torchao")
SCALE = 4  # bytes, in float32
MIXED, ROUTED = "experts mxfp4", ".experts."
LAUNCHES = 16  # settings of steps that are kept of a case


class StepLimits(NamedTuple):
    """Limits of a step that were given; None where it is SGLang's to choose."""

    running: int | None  # --max-running-requests
    chunk: int | None  # --chunked-prefill-size
    without_graphs: bool


def said(w: "Infer") -> StepLimits:
    return StepLimits(w.max_running_requests, w.chunked_prefill_size, w.disable_cuda_graph)


def saying(w: "Infer", limits: StepLimits) -> "Infer":
    """The workload with that said."""
    return w.but(
        max_running_requests=limits.running,
        chunked_prefill_size=limits.chunk,
        disable_cuda_graph=limits.without_graphs,
    )


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what was made of it
class RankResidents:
    """Bytes that ranks of one kind hold whatever is asked of them."""

    rank: shards.Rank
    weights: tuple[Component, ...]
    extra: tuple[Component, ...]  # adapters, and the weights of what drafts
    arriving: tuple[Component, ...]  # while it loads, and no longer
    held: Bytes  # weights, extra, and what was there before them
    loaded: Bytes  # bytes that come off what pools are made of
    cells: caches.Cells
    offloaded: PinnedWeights  # weights in host memory
    runs: caches.Runs
    split: step.RankSplit
    widest: step.Chunk


@dataclass(frozen=True, slots=True, kw_only=True)
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

    replica = _Replica(subject, w, settled(said(w)), budget)
    ranks = shards.ranks(subject, rules=replica.rules, **replica.sizes)
    firsts = _firsts(ranks)
    extra = {i: replica.extra(ranks[i]) for i in sorted(set(firsts))}
    beside, unpacked, before = (
        replica.beside(),
        replica.arriving(ranks),
        total(c.bytes for c in replica.driver),
    )
    kinds = {i: replica.kind(ranks[i], more, unpacked[i], before) for i, more in extra.items()}
    return SglangCase(
        subject=subject,
        budget=budget,
        kinds=kinds,
        firsts=firsts,
        driver=replica.driver,
        before=before,
        beside=beside,
        settled=settled,
    )


@dataclass(frozen=True)  # not slotted: it keeps what it has computed
class _Replica:
    """The spread of one replica, of which a case is made; all other replicas are the same."""

    subject: Subject
    w: "Infer"
    settings: Effective
    budget: "Budget | None"

    @property
    def rules(self) -> shards.SplitRules:
        major = card_defaults.major(self.budget.choice.part.capability if self.budget else None)
        return split_rules(
            self.settings.version, towers=not self.w.language_model_only, major=major
        )

    @cached_property
    def sizes(self) -> SpreadArgs:
        compute = self.budget.choice.part.capability if self.budget else None
        return {
            "tensor": self.settings.tensor,
            "pipeline": self.settings.pipeline,
            "partition": self.w.pp_layer_partition or (),
            "expert_parallel": self.settings.experts,
            "groups": self.settings.groups,
            "capability": card_defaults.major(compute) or HOPPER,
        }

    @cached_property
    def driver(self) -> tuple[Component, ...]:
        sizes: SpreadArgs = {**self.sizes, "data": self.settings.pools_of}
        talk = communication(COLLECTIVES, body=self.subject.body, budget=self.budget, **sizes)
        part = self.budget.choice.part if self.budget else None
        return (device.context(part), *talk)

    def arriving(self, ranks: tuple[shards.Rank, ...]) -> tuple[tuple[Component, ...], ...]:
        """Estimate what each rank has beside its weights while it loads."""
        plain = shards.plain(self.subject, ENGINE, self.w.quantization)
        form = self.subject.choice.scheme
        if plain is None or form is None:
            return ((),) * len(ranks)
        pairs = zip(ranks, shards.ranks(plain, rules=self.rules, **self.sizes), strict=True)
        at_once = partial(_at_once, form.name)
        return tuple((shards.arriving(*p, at_once),) for p in pairs)

    def beside(self) -> int:
        one = self.settings.pools(1)
        if self.subject.draft is not None:
            # the draft's windows have no second pool of their own
            c = caches.cells(remembered(self.subject.draft), replace(one, model_type="draft"))
            return c.full + c.sliding
        if self.settings.algorithm not in ("NEXTN", "EAGLE", "EAGLE3"):
            return 0
        layers = remembered(self.subject)
        raw = self.subject.config.raw if self.subject.config is not None else {}
        drafts = int(raw.get("num_nextn_predict_layers") or 1)
        c = caches.cells(layers, one)
        return (c.full + c.sliding) * drafts // max(1, len(layers))

    def extra(self, rank: shards.Rank) -> tuple[Component, ...]:
        components: tuple[Component, ...] = ()
        if self.settings.loras:
            components += lora_and_speculation.lora(
                self.subject,
                rank,
                slots=self.settings.loras,
                lora_rank=self.settings.lora_rank,
                rules=self.rules,
                **self.sizes,
            )
        if self.settings.algorithm is not None:
            components += lora_and_speculation.draft(
                self.subject,
                method=self.w.speculative_method or "draft",
                tokens=self.settings.drafted,
                rules=self.rules,
                **self.sizes,
            )
        return components

    def remade(self, rank: shards.Rank) -> tuple[Component, ...]:
        """Blocks' scales in bytes beside the float32 that they are made of, which torch keeps. A
        log of DeepSeek-V4-Pro (0.5.14, TP 8 on Hopper) has 125.65 GiB where all tensors are 118.
        No log is of Hopper since they are loaded in bytes: as much may be there."""
        form, size = self.subject.choice.scheme, self.rules.mixed_scale
        hopper = self.sizes["capability"] == HOPPER
        if form is None or not form.name.endswith(MIXED) or not (hopper or size > 1):
            return ()
        experts = sum(t.nbytes * t.copies for t in rank.tensors if ROUTED in f".{t.module}.")
        scales = experts // (16 + size)  # half a byte a weight, a scale for 32
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

    def kind(
        self,
        rank: shards.Rank,
        extra: tuple[Component, ...],
        unpacked: tuple[Component, ...],
        before: Bytes,
    ) -> RankResidents:
        kept_here, away, moved = weights.shared_out(rank, self.w.cpu_offload_gb)
        loaded, drafts = (
            _loaded(kept_here, self.subject.choice.as_stored),
            rules(self.settings.version).draft_first,
        )
        extra += self.remade(rank)
        counted = [c for c in extra if c.name in ("adapters", "fragmentation") or drafts]
        extra += moved  # not counted: there is none of it while free memory is looked at
        layers = remembered(self.subject, rank.layers if self.subject.layers else None)
        one, body = self.settings.pools(1), self.subject.body
        split = step.RankSplit(
            tensor=self.settings.tensor,
            expert_parallel=self.settings.experts,
            groups=self.settings.groups,
        )
        return RankResidents(
            rank=rank,
            weights=loaded,
            extra=extra,
            arriving=unpacked,
            held=total(c.bytes for c in (*loaded, *extra)).plus(before),
            loaded=total(c.bytes for c in (*loaded, *counted)),
            cells=caches.cells(layers, one),
            offloaded=away,
            runs=caches.runs(layers, one),
            split=split,
            widest=step.chunk(rank.blocks, body.hidden, split, body.blocks),
        )


def _firsts(ranks: tuple[shards.Rank, ...]) -> tuple[int, ...]:
    """Return, for each rank, the number of the first rank that holds the same."""
    seen: dict[tuple[int, int], int] = {}
    return tuple(seen.setdefault((r.pipeline, id(r.tensors)), i) for i, r in enumerate(ranks))


def _at_once(form: str, packed: int, whole: int, layer: int) -> Bytes:
    """Bytes of 16-bit weights that are there at once, of which `layer` are one layer's."""
    saved = max(0, whole - packed)
    least = saved if form.startswith(WHOLE) else min(saved, layer)
    return Bytes(least, saved, saved + layer)


@lru_cache(maxsize=64)
def _loaded(tensors: tuple[PlacedTensor, ...], stored: bool) -> tuple[Component, ...]:
    """Weights in the allocator, one tensor after the other; the context apart."""
    phase = device.loaded(
        device.settled(tensors, lambda pairs: (t for _, t in pairs)),
        formula="the tensors of this rank",
        basis="read" if stored else "computed",
    )
    return tuple(c for c in phase.components if c.name != "context")
