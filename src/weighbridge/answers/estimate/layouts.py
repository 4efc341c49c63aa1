"""Every way to share a training run by Megatron out over the devices that there are.

    tensor 1 to 8, pipeline, chunks of a stage, context, expert ranks, and what is left for data;
    where the stages do not divide the layers, the last one has those that are left

Of each the least recompute that surely fits is taken: none, of norms, of the feed-forward as well
(of experts of its activation), of whole layers. Micro-batches are of one sequence unless a size is
named: a larger one makes the bubble larger and sends as much. A step has 4 Mi tokens unless
micro-batches are named (Llama 3's first, arXiv 2407.21783 section 3.4.1; assumed).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from weighbridge.answers import bounds
from weighbridge.answers.estimate.megatron import form_of
from weighbridge.answers.estimate.train import subject_for
from weighbridge.answers.verdict import on_host
from weighbridge.base.errors import UsageError
from weighbridge.base.memory import Bytes, most
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.base.watching import go_on
from weighbridge.engines.interface import Subject
from weighbridge.engines.table import usual, version
from weighbridge.memory.report.fit import Ranking
from weighbridge.memory.report.verdict import HostVerdict
from weighbridge.models.checkpoint.model import Model
from weighbridge.settings.ranks import SHAPE, SIZES, Ranks, arranged
from weighbridge.training.megatron import answer
from weighbridge.training.megatron.costs import cost
from weighbridge.training.megatron.described import described
from weighbridge.training.megatron.layout import LAST
from weighbridge.training.megatron.model import MegatronModel
from weighbridge.training.megatron.plan import GROUP, MegatronPlan, plan
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.stage import StageRun, held, run_stage
from weighbridge.training.sharding.costs import LayoutCost
from weighbridge.workload import Train

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

TENSOR, CONTEXT = (1, 2, 4, 8), (1, 2, 4, 8)
CHUNKS = 8  # at most, of a stage
TOKENS = 4 * 2**20  # of a step
SHORTEST = 4096  # tokens of a sequence that one context rank has: shorter ones are not walked
MOST_EXPERT = 64  # ranks
MOST = 100_000  # devices that are shared out
LOSS = ("cross_entropy_loss_fusion", "cross_entropy_fusion_impl=te")
UNMASKED = "no_create_attention_mask_in_dataloader"  # as recipes of long sequences have it
ROUTING = ("moe_token_dispatcher_type=alltoall", "moe_grouped_gemm", "moe_permute_fusion")
KEEPS = ("none", "norms", "selective", "full")  # what is computed again, ever more
FEWEST_TOKENS, _, MOST_TOKENS = range(3)  # that experts are given
FEW = 3  # layouts that are told where none fits
VIRTUAL = "num_virtual_stages_per_pipeline_rank"
PARTED = (VIRTUAL, "num_layers_per_virtual_pipeline_stage")  # words that say it
AGAIN = ("recompute_granularity", "recompute_activations")  # words that say what is computed again
Change = Mapping[str, Any]
P = TypeVar("P", bound="PricedLayout")


class RankLayout(NamedTuple):
    """One way to share a run out. `change` are its settings; `peak` is what the fullest device
    holds at the driver, of one that was not run what it takes at least."""

    change: Change
    run: MegatronRun
    keeps: str  # one of KEEPS: what is computed again
    cost: LayoutCost
    peak: Bytes = Bytes(0, 0, 0)
    fits: str = "unknown"
    host: HostVerdict | None = None  # where the memory of a machine was judged

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        run = self.run
        return run.tensor, run.pipeline, run.chunks, run.context, run.expert

    @property
    def price(self) -> tuple[float, int, int]:
        return self.cost.price


def layouts(model: Model, workload: Train, *, every: bool = False) -> tuple[RankLayout, ...]:
    """Return the layouts that surely fit and that no other one beats (`every`: all that fit, with
    the least recompute), the cheapest first; where none fits, those that take least. Raises
    UsageError without several cards."""
    budget = several(workload.budget())
    number, _ = version(usual(), workload.engine_version)
    search = _Search(subject_for(model, workload, number), workload, budget)
    fitting: list[RankLayout] = []
    others: list[RankLayout] = []
    shapes: set[tuple[int, ...]] = set()  # that fit with less that is computed again
    candidates = list(search.candidates())
    if not candidates:
        raise search.refused or UsageError(
            f"--layouts: no ranks that are named divide the model and {search.count:,} devices"
        )
    for each in sorted(candidates, key=lambda one: (one.price, KEEPS.index(one.keeps))):
        beaten = any(beats(other, each) for other in fitting)
        if each.shape in shapes or (beaten and not every):
            continue
        go_on()
        weighed = search.too_large(each) or search.in_one_piece(each) or search.weighed(each)
        if weighed.fits == "yes":
            shapes.add(each.shape)
        (fitting if weighed.fits == "yes" else others).append(weighed)
    return tuple(fitting or search.nearest(others))


def several(budget: "Budget | None") -> "Budget":
    """Return the devices that a run is shared out over. Raises UsageError where there are not
    several."""
    if budget is None or not 1 < budget.choice.count <= MOST:
        raise UsageError(sentence("layouts.devices", most=MOST))
    return budget


class PricedLayout(Protocol):
    """A layout of anything: its settings, and what it costs, in numbers of which less is better."""

    @property
    def change(self) -> Change:
        """Return its settings."""

    @property
    def price(self) -> tuple[float, ...]:
        """Return its costs, as coarse as they are told apart."""


def beats(one: PricedLayout, other: PricedLayout) -> bool:
    """Tell whether a layout, the first of those that cost the same, costs no more in anything."""
    return all(a <= b for a, b in zip(one.price, other.price, strict=True))


def unbeaten(layouts: Sequence[P]) -> list[P]:
    """Return the layouts of which no other one costs no more in anything, and less in something or
    has fewer flags."""

    def worse(one: P, other: P) -> bool:
        dearer = one.price != other.price or len(other.change) < len(one.change)
        return one is not other and beats(other, one) and dearer

    return [one for one in layouts if not any(worse(one, other) for other in layouts)]


def micro_batches(length: int, data: int, batch: int) -> int:
    """Count those of a step on each data rank, where nobody says how many."""
    return max(1, ceil_div(TOKENS, length) // (data * batch))


def ranking(about: str, rows: Iterable[Change], model: str, budget: "Budget", by: str) -> Ranking:
    """Return layouts over the cards of a budget; `by` is who shares out."""
    count = 1 if budget.mixed else budget.choice.count
    return Ranking(
        about=about,
        of="layouts",
        rows=tuple(rows),
        model=model,
        accelerator=budget.name,
        count=count,
        by=by,
    )


class _Search:
    def __init__(self, asked: Subject, workload: Train, budget: "Budget") -> None:
        self.asked, self.w, self.budget = asked, workload, budget
        self.model: MegatronModel = described(asked)
        self.count = budget.choice.count
        self.given = workload.megatron_args or ()
        self.told = {word.partition("=")[0] for word in self.given}
        named = workload.checkpointing is not None or not self.told.isdisjoint(AGAIN)
        self.kept = ("",) if named else KEEPS
        self.memory = workload.host_memory()
        self.wholes: dict[tuple[tuple[int, ...], str], RankLayout] = {}
        self.refused: UsageError | None = None  # why a layout is none of Megatron's
        self.least: dict[tuple[tuple[int, ...], str, int, int], int] = {}

    def candidates(self) -> Iterator[RankLayout]:
        """Yield every layout that Megatron takes, with its cost and before it is weighed."""
        for ranks in self._ranks():
            steps = self.w.gradient_accumulation or micro_batches(
                self.asked.context, ranks.data, self.w.batch_size or 1
            )
            for chunks in self._chunks(ranks.pipeline):
                if chunks > 1 and steps % ranks.pipeline and GROUP not in self.told:
                    continue  # what is left of groups of other sizes is looked at in the plan
                for keeps in self.kept:
                    change = self._change(ranks, chunks, steps, keeps)
                    try:
                        made = self._plan(change)
                    except UsageError as error:
                        self.refused = self.refused or error
                        continue
                    price = cost(made.model, made.run)
                    yield RankLayout(
                        change,
                        made.run,
                        keeps or (made.checkpointing if made.checkpointing in KEEPS else "none"),
                        price,
                    )

    def _plan(self, change: Change) -> MegatronPlan:
        return plan(self.asked, self.w.but(**change), self.budget, self.model)

    def _chunks(self, pipeline: int) -> tuple[int, ...]:
        """Return in how many parts a stage may be: those that divide its layers, unless it is
        named."""
        if pipeline == 1 or not self.told.isdisjoint(PARTED):
            return (1,)
        whole = ceil_div(self.model.layers, pipeline)
        return tuple(n for n in range(1, CHUNKS + 1) if whole % n == 0)

    def _ranks(self) -> Iterator[Ranks]:
        """Yield the ranks that divide model and devices."""
        experts = self.model.experts.count if self.model.experts else 1
        choices = (TENSOR, divisors(self.count), CONTEXT, divisors(experts))
        named = {kind: self._named(kind, some) for kind, some in zip(SHAPE, choices, strict=True)}
        for ranks in arranged(Ranks.of(self.w.said), self.count, named):
            if ranks.expert <= MOST_EXPERT and self._divides(ranks):
                yield ranks

    def _named(self, kind: str, choices: Sequence[int]) -> Sequence[int]:
        given = getattr(self.w, SIZES[kind])
        return choices if given is None else (given,)

    def _divides(self, ranks: Ranks) -> bool:
        model, tensor, stages = self.model, ranks.tensor, ranks.pipeline
        grouped = model.latent is None and model.kv_heads % tensor
        if grouped or model.heads % tensor or model.width % tensor:
            return False
        if model.layers - (stages - 1) * ceil_div(model.layers, stages) < 1:
            return False
        return cuts(self.asked.context, ranks.context)

    def too_large(self, layout: RankLayout) -> RankLayout | None:
        """Return that a layout does not surely fit where what a stage holds between steps is too
        much, or what it takes at least, even if whole layers were computed again; None where it may
        fit."""
        room = self.budget.usable
        between = max(self._held(layout, stage) for stage in self._stages(layout.run))
        if between > room.high:
            return layout._replace(peak=Bytes(between, between, between), fits="no")
        for keeps in (layout.keeps,) if self.kept == ("",) else (KEEPS[-1], layout.keeps):
            if self._at_least(layout, keeps, MOST_TOKENS) > room.low:
                return layout._replace(peak=Bytes(between, between, between))
        return None

    def _stages(self, run: MegatronRun) -> list[int]:
        """List the stages of which one is the fullest: dense layers may be in the first."""
        last = run.pipeline - 1
        return sorted({0, last} | ({min(1, last)} if self.model.experts else set()))

    def _held(self, layout: RankLayout, stage: int) -> int:
        return held(self.model, layout.run, stage)

    def _at_least(self, layout: RankLayout, keeps: str, tokens: int, stage: int = 0) -> int:
        """Return the bytes that a stage takes at least, with its layers in one piece and so much
        computed again: one micro-batch runs while others in flight have saved what it saves.
        Experts are given the fewest or the most `tokens`."""
        key = (*layout.shape[:2], 1, *layout.shape[3:]), keeps, tokens, stage
        if key not in self.least:
            steps = layout.run.accumulation
            try:
                made = self._plan(self._change(layout.run, 1, steps, keeps))
            except UsageError:  # arguments that are named stop it
                self.least[key] = 0
                return 0
            flying = min(steps, made.run.pipeline - stage)
            if tokens == FEWEST_TOKENS:  # with the margins of published runs
                short = replace(made, run=replace(made.run, accumulation=flying))
                self.least[key] = self._peak(short, run_stage(made.model, short.run, stage)).low
            else:
                found = run_stage(
                    made.model, replace(made.run, accumulation=1, uneven=made.uneven[tokens]), stage
                )
                self.least[key] = found.peak + (flying - 1) * found.saved
        return self.least[key]

    def _bounded(self, layout: RankLayout) -> RankLayout:
        """Return a layout with what it takes at least: by the first stage, and by the one that
        holds most between steps."""
        fullest = max(self._stages(layout.run), key=partial(self._held, layout))
        least = max(
            self._at_least(layout, layout.keeps, FEWEST_TOKENS, stage) for stage in {0, fullest}
        )
        return layout._replace(peak=Bytes(least, least, least))

    def nearest(self, others: Sequence[RankLayout]) -> list[RankLayout]:
        """Return the few that take least of layouts of which none fits: of each way to share out,
        in one piece, the one that computes most again. What a layout takes at least tells which one
        is weighed next."""
        plainest: dict[tuple[int, ...], RankLayout] = {}
        for each in sorted(others, key=lambda one: KEEPS.index(one.keeps)):
            if each.run.chunks == 1:
                plainest[each.shape] = each
        found: list[RankLayout] = []
        queue = [(each.peak.low, i, 0, each) for i, each in enumerate(plainest.values())]
        heapify(queue)
        surer = (self._bounded, partial(self.weighed, thorough=True))
        while queue and len(found) < FEW:
            go_on()
            _, i, known, each = heappop(queue)
            if known == len(surer):
                found.append(each)
                continue
            each = surer[known](each)
            heappush(queue, (each.peak.low, i, known + 1, each))
        return found

    def in_one_piece(self, layout: RankLayout) -> RankLayout | None:
        """Return that a layout of several chunks does not fit where stages in one piece, which hold
        less, do not; None where they do, or it has one. They are sooner run."""
        if layout.run.chunks == 1:
            return None
        whole = (*layout.shape[:2], 1, *layout.shape[3:]), layout.keeps
        if whole not in self.wholes:
            change = self._whole(layout.change)
            self.wholes[whole] = self.weighed(layout._replace(change=change))
        found = self.wholes[whole]
        return None if found.fits == "yes" else layout._replace(peak=found.peak, fits=found.fits)

    @staticmethod
    def _whole(change: Change) -> Change:
        return {
            **change,
            "megatron_args": tuple(
                word for word in change["megatron_args"] if not word.startswith(VIRTUAL)
            ),
        }

    def weighed(self, layout: RankLayout, *, thorough: bool = False) -> RankLayout:
        """Run the stages of which one is the fullest, up to one that does not surely fit
        (`thorough`: all of them). What experts are given is looked at where a stage fits with what
        is expected."""
        known = self.wholes.get((layout.shape, layout.keeps))
        if known is not None and not thorough:
            return layout._replace(peak=known.peak, fits=known.fits, host=known.host)
        made = self._plan(layout.change)
        room, expected = self.budget.usable, made.uneven[1]
        even = replace(made, uneven=(expected,) * 3)
        runs: list[StageRun] = []
        peaks: list[Bytes] = []
        for stage in self._stages(made.run):
            runs.append(run_stage(made.model, made.run, stage))
            for each in (made,) if thorough else (even, made):
                peak = self._peak(each, runs[-1])
                if peak.high > room.low and not thorough:
                    return layout._replace(fits="unknown")
            peaks.append(peak)
        peak = most(peaks)  # as a verdict has it
        fits = "yes" if peak.high <= room.low else "no" if peak.low > room.high else "unknown"
        if fits != "yes" or self.memory is None:
            return layout._replace(peak=peak, fits=fits)
        host = self._on_host(made, runs)
        return layout._replace(peak=peak, fits=host.fits or fits, host=host)

    def _on_host(self, made: MegatronPlan, runs: Sequence[StageRun]) -> HostVerdict:
        """Judge the machine's memory, which what is saved passes: of the stages that were run."""
        *_, host = answer.devices(made, runs)
        return on_host.judged(host, self.memory)

    def _peak(self, made: MegatronPlan, run: StageRun) -> Bytes:
        """Return what a device of a stage holds at the driver."""
        devices = bounds.widened(answer.devices(made, [run]), form_of(self.asked, made), None)
        return next(device.peak("driver") for device in devices if device.kind == "gpu")

    def _change(self, ranks: Ranks, chunks: int, steps: int, keeps: str) -> Change:
        tensor, pipeline = ranks.tensor, ranks.pipeline
        experts = self.model.experts is not None
        more = [*LOSS, UNMASKED, *(ROUTING if experts else ())]
        more += ["sequence_parallel"] if tensor > 1 else []
        more += ["expert_tensor_parallel_size=1"] if experts and tensor > 1 else []
        each, left = ceil_div(self.model.layers, pipeline), self.model.layers % pipeline
        if left:
            more.append(f"{LAST}={self.model.layers - (pipeline - 1) * each}")
        if chunks > 1:
            more.append(f"{VIRTUAL}={chunks}")
        if keeps in ("norms", "selective"):
            wide = "moe_act" if experts else "mlp"
            modules = "layernorm" if keeps == "norms" else f"layernorm+{wide}"
            more += ["recompute_granularity=selective", f"recompute_modules={modules}"]
        args = (*self.given, *(word for word in more if word.partition("=")[0] not in self.told))
        return {
            **ranks.settings(*SHAPE),
            "shard": self.w.shard or "zero1",
            "gradient_accumulation": steps,
            **({"checkpointing": "full"} if keeps == "full" else {}),
            "megatron_args": args,
        }


def cuts(length: int, ranks: int) -> bool:
    """Tell whether a sequence is long enough to be cut for so many ranks, of two pieces each."""
    return ranks == 1 or (length >= SHORTEST * ranks and length % (2 * ranks) == 0)


def divisors(whole: int) -> tuple[int, ...]:
    """Return the numbers that divide one, up to as many devices as are shared out."""
    return tuple(n for n in range(1, min(whole, MOST) + 1) if whole % n == 0)
