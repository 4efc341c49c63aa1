"""Every parallel layout of a Megatron training run over the available devices.

    tensor 1 to 8, pipeline, chunks per stage, context, expert ranks, and the rest for data;
    if the stages do not divide the layers, the last stage has the remainder

For each layout the least recompute that surely fits is taken: none, of norms, of the MLP as well
(of MoE layers its activation), of whole layers. A micro-batch has one sequence unless its size is
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
CHUNKS = 8  # virtual chunks per stage, at most
TOKENS = 4 * 2**20  # tokens per step
SHORTEST = 4096  # tokens of a sequence per context rank, at least: shorter pieces are not tried
MOST_EXPERT = 64  # expert-parallel ranks, at most
MOST = 100_000  # devices, at most
LOSS = ("cross_entropy_loss_fusion", "cross_entropy_fusion_impl=te")
UNMASKED = "no_create_attention_mask_in_dataloader"  # as recipes for long sequences set it
ROUTING = ("moe_token_dispatcher_type=alltoall", "moe_grouped_gemm", "moe_permute_fusion")
KEEPS = ("none", "norms", "selective", "full")  # what is recomputed, in increasing order
FEWEST_TOKENS, _, MOST_TOKENS = range(3)  # indices of token counts at the experts
FEW = 3  # layouts that are listed if none fits
VIRTUAL = "num_virtual_stages_per_pipeline_rank"
PARTED = (VIRTUAL, "num_layers_per_virtual_pipeline_stage")  # arguments that set it
AGAIN = ("recompute_granularity", "recompute_activations")  # arguments that set recomputation
Change = Mapping[str, Any]
P = TypeVar("P", bound="PricedLayout")


class RankLayout(NamedTuple):
    """A parallel layout of a run. `change` are its settings; `peak` is the fullest device's memory
    at driver level, or a lower bound of it if the layout was not run."""

    change: Change
    run: MegatronRun
    keeps: str  # one of KEEPS: what is recomputed
    cost: LayoutCost
    peak: Bytes = Bytes(0, 0, 0)
    fits: str = "unknown"
    host: HostVerdict | None = None  # None unless the machine's memory was judged

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        run = self.run
        return run.tensor, run.pipeline, run.chunks, run.context, run.expert

    @property
    def price(self) -> tuple[float, int, int]:
        return self.cost.price


def layouts(model: Model, workload: Train, *, every: bool = False) -> tuple[RankLayout, ...]:
    """Return the layouts that surely fit and that no other beats, cheapest first (`every`: all that
    fit, each with the least recompute). If none fits, return those with the smallest peaks. Raises
    UsageError without several cards."""
    budget = several(workload.budget())
    number, _ = version(usual(), workload.engine_version)
    search = _Search(subject_for(model, workload, number), workload, budget)
    fitting: list[RankLayout] = []
    others: list[RankLayout] = []
    shapes: set[tuple[int, ...]] = set()  # shapes that fit with less recompute
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
    """Return the budget of the devices that share a run. Raises UsageError unless there are
    several."""
    if budget is None or not 1 < budget.choice.count <= MOST:
        raise UsageError(sentence("layouts.devices", most=MOST))
    return budget


class PricedLayout(Protocol):
    """A parallel layout: its settings and its costs, as numbers of which less is better."""

    @property
    def change(self) -> Change:
        """Return the layout's settings."""

    @property
    def price(self) -> tuple[float, ...]:
        """Return the layout's costs, rounded to steps below which differences do not count."""


def beats(one: PricedLayout, other: PricedLayout) -> bool:
    """Return whether `one`, which comes first, costs no more than `other` in anything."""
    return all(a <= b for a, b in zip(one.price, other.price, strict=True))


def unbeaten(layouts: Sequence[P]) -> list[P]:
    """Return the layouts that no other layout beats: none costs no more in any respect and less in
    one, or as much with fewer flags."""

    def worse(one: P, other: P) -> bool:
        dearer = one.price != other.price or len(other.change) < len(one.change)
        return one is not other and beats(other, one) and dearer

    return [one for one in layouts if not any(worse(one, other) for other in layouts)]


def micro_batches(length: int, data: int, batch: int) -> int:
    """Return the micro-batches per step and data rank if the user sets none, at least 1."""
    return max(1, ceil_div(TOKENS, length) // (data * batch))


def ranking(about: str, rows: Iterable[Change], model: str, budget: "Budget", by: str) -> Ranking:
    """Return the table of layouts for the cards of a budget; `by` names the program that shards."""
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
        self.refused: UsageError | None = None  # the first error for a layout that Megatron rejects
        self.least: dict[tuple[tuple[int, ...], str, int, int], int] = {}

    def candidates(self) -> Iterator[RankLayout]:
        """Yield every layout that Megatron accepts, with its cost but not yet its memory."""
        for ranks in self._ranks():
            steps = self.w.gradient_accumulation or micro_batches(
                self.asked.context, ranks.data, self.w.batch_size or 1
            )
            for chunks in self._chunks(ranks.pipeline):
                if chunks > 1 and steps % ranks.pipeline and GROUP not in self.told:
                    continue  # the plan handles micro-batch groups of other sizes
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
        """Return the numbers of chunks that a stage may have: those that divide its layers; only 1
        if the user sets it."""
        if pipeline == 1 or not self.told.isdisjoint(PARTED):
            return (1,)
        whole = ceil_div(self.model.layers, pipeline)
        return tuple(n for n in range(1, CHUNKS + 1) if whole % n == 0)

    def _ranks(self) -> Iterator[Ranks]:
        """Yield the rank counts that divide the model and the devices."""
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
        """Return the layout as not surely fitting if a stage exceeds the card between steps, or by
        its lower bound; None if it may fit. The bound with whole layers recomputed is tried
        first."""
        room = self.budget.usable
        between = max(self._held(layout, stage) for stage in self._stages(layout.run))
        if between > room.high:
            return layout._replace(peak=Bytes(between, between, between), fits="no")
        for keeps in (layout.keeps,) if self.kept == ("",) else (KEEPS[-1], layout.keeps):
            if self._at_least(layout, keeps, MOST_TOKENS) > room.low:
                return layout._replace(peak=Bytes(between, between, between))
        return None

    def _stages(self, run: MegatronRun) -> list[int]:
        """Return the stages of which one is the fullest: dense layers may be in the first."""
        last = run.pipeline - 1
        return sorted({0, last} | ({min(1, last)} if self.model.experts else set()))

    def _held(self, layout: RankLayout, stage: int) -> int:
        return held(self.model, layout.run, stage)

    def _at_least(self, layout: RankLayout, keeps: str, tokens: int, stage: int = 0) -> int:
        """Return a lower bound of a stage's bytes, with unchunked layers and `keeps` recomputed:
        one micro-batch runs while the others in flight have saved their activations. Experts
        process the fewest or the most `tokens`."""
        key = (*layout.shape[:2], 1, *layout.shape[3:]), keeps, tokens, stage
        if key not in self.least:
            steps = layout.run.accumulation
            try:
                made = self._plan(self._change(layout.run, 1, steps, keeps))
            except UsageError:  # the user's arguments forbid it
                self.least[key] = 0
                return 0
            flying = min(steps, made.run.pipeline - stage)
            if tokens == FEWEST_TOKENS:  # with margins of published runs
                short = replace(made, run=replace(made.run, accumulation=flying))
                self.least[key] = self._peak(short, run_stage(made.model, short.run, stage)).low
            else:
                found = run_stage(
                    made.model, replace(made.run, accumulation=1, uneven=made.uneven[tokens]), stage
                )
                self.least[key] = found.peak + (flying - 1) * found.saved
        return self.least[key]

    def _bounded(self, layout: RankLayout) -> RankLayout:
        """Return the layout with a lower bound of its peak, from the first stage and the one that
        holds most between steps."""
        fullest = max(self._stages(layout.run), key=partial(self._held, layout))
        least = max(
            self._at_least(layout, layout.keeps, FEWEST_TOKENS, stage) for stage in {0, fullest}
        )
        return layout._replace(peak=Bytes(least, least, least))

    def nearest(self, others: Sequence[RankLayout]) -> list[RankLayout]:
        """Return the FEW layouts with the smallest peaks, if none fits. Of each shape only the
        unchunked variant with the most recompute is considered, and the lower bounds decide which
        is estimated next."""
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
        """Return a layout of several chunks as not fitting if the unchunked one, which holds less
        and runs sooner, does not fit; None if that fits or the layout has one chunk."""
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
        """Return the layout with its peak, from the stages that may be the fullest; stop at the
        first stage that does not surely fit unless `thorough`. Uneven routing to experts is tried
        only if the stage fits with the expected one."""
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
        peak = most(peaks)  # as in a verdict
        fits = "yes" if peak.high <= room.low else "no" if peak.low > room.high else "unknown"
        if fits != "yes" or self.memory is None:
            return layout._replace(peak=peak, fits=fits)
        host = self._on_host(made, runs)
        return layout._replace(peak=peak, fits=host.fits or fits, host=host)

    def _on_host(self, made: MegatronPlan, runs: Sequence[StageRun]) -> HostVerdict:
        """Return the verdict on the machine's memory, which checkpoints pass, by these stages."""
        *_, host = answer.devices(made, runs)
        return on_host.judged(host, self.memory)

    def _peak(self, made: MegatronPlan, run: StageRun) -> Bytes:
        """Return the driver-level peak of a device that runs this stage, with margins."""
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
    """Return whether each of `ranks` context ranks gets enough tokens, in two pieces each."""
    return ranks == 1 or (length >= SHORTEST * ranks and length % (2 * ranks) == 0)


def divisors(whole: int) -> tuple[int, ...]:
    """Return the divisors of `whole`, up to the most devices that are supported."""
    return tuple(n for n in range(1, min(whole, MOST) + 1) if whole % n == 0)
