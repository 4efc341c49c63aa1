"""`fit --layouts --framework torchtitan`: layouts of training by FSDP, ZeRO or DDP, as rows.

    sharding                ddp, zero1 to zero3, fsdp2, hsdp: those that the framework has. litgpt's
                            recipes shard in one way, with activation checkpointing of their own
    ranks                   tensor, context and pipeline 1 to 8, expert: those that the framework
                            has, only with FSDP2; the rest are data ranks
    micro-batches           1 to 16 sequences: larger ones send fewer parameters per step
    checkpoints             none, torchtitan's selective ones, of whole layers

Each row is the answer of `train` with its flags: of all that fit at least as cheaply the one with
the largest micro-batch. A step has 4 Mi tokens unless micro-batches are named.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from weighbridge.answers.estimate.layouts import (
    FEW,
    MOST_EXPERT,
    beats,
    cuts,
    divisors,
    micro_batches,
    ranking,
    several,
)
from weighbridge.answers.estimate.train import subject_for
from weighbridge.answers.questions.fit.answers import REFUSED, Asker
from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.base.watching import go_on
from weighbridge.engines.table import usual, version
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Ranking
from weighbridge.memory.report.verdict import HostVerdict
from weighbridge.models.arch.mixers import Attention, Latent
from weighbridge.models.arch.parts import Experts
from weighbridge.settings.ranks import SHAPE, SIZES, Ranks, arranged
from weighbridge.training.frameworks import Framework, framework
from weighbridge.training.plan import stages, usual_checkpointing
from weighbridge.training.sharding.costs import LayoutCost, SharedRun, cost
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.workload import Train
from weighbridge.workload.flags import flags

if TYPE_CHECKING:
    from weighbridge.engines.interface import Subject

SHARDS = ("ddp", "zero1", "zero2", "zero3", "fsdp2", "hsdp")
BESIDE = ("fsdp2", "hsdp")  # shardings that allow tensor, context and expert ranks
POWERS = (1, 2, 4, 8)
BATCHES = (1, 2, 4, 8, 16)
KEEPS = ("none", "selective", "full")  # what is recomputed, in increasing order
MORE = 1.1  # times the cheapest layout's work: costlier ones are not listed
MANY, NEAR = 2, 0.95  # sequences tried first; share of an extrapolation that must fit


class SharedLayout(NamedTuple):
    """A parallel layout of a run: its settings and costs. `report` is None if it was not
    estimated."""

    change: Mapping[str, Any]
    sharding: Sharding
    cost: LayoutCost
    report: Report | None = None

    @property
    def price(self) -> tuple[float, int, int]:
        return self.cost.price

    @property
    def fits(self) -> str:
        verdict = None if self.report is None else self.report.verdict
        return "unknown" if verdict is None else verdict.fits

    @property
    def shape(self) -> tuple[Any, ...]:
        """Return all but micro-batch and recomputation."""
        return (self.sharding.kind, *(self.change.get(SIZES[kind], 1) for kind in SHAPE))


def sharded(asker: Asker, w: Train, settings: Mapping[str, Any], *, every: bool = False) -> Ranking:
    """Return the ranking of layouts by the framework that the user named, cheapest first;
    `settings` are the user's. Raises UsageError without several cards, and if the framework does
    not shard."""
    budget, by = several(w.budget()), framework(w.framework, w.framework_version)
    if by.shards == ("none", "ddp"):
        raise UsageError(sentence("layouts.framework", name=by.name), where="--layouts")
    layouts = _SharedSearch(asker, w, by, budget.usable.high).found(
        budget.choice.count, every=every
    )
    fitting = [one for one in layouts if one.fits == "yes"]
    asked = (one for one in layouts if one.report is not None)
    least = sorted(asked, key=lambda one: one.report.peak.low if one.report else 0)[:FEW]
    room = budget.usable.low
    rows = (_row(one, room, settings) for one in fitting or least)
    return ranking("train", rows, asker.model().name, budget, by.name)


class _SharedSearch:
    def __init__(self, asker: Asker, w: Train, by: Framework, room: int) -> None:
        self.asker, self.w, self.by, self.room = asker, w, by, room
        number, _ = version(usual(), w.engine_version)
        self.subject: Subject = subject_for(asker.model(), w, number)
        self._known: dict[tuple[Any, ...], int] = {}
        self._batches = self._named("batch_size", BATCHES)
        self._kept = self._named("checkpointing", self._keeps())
        feeds = (feed for block in self.subject.body.blocks for feed in block.feeds)
        self.experts = max((f.count for f in feeds if isinstance(f, Experts)), default=1)

    def found(self, count: int, *, every: bool) -> list[SharedLayout]:
        """Return the layouts that fit, cheapest first: none that another one beats, or with a tenth
        more work (`every`: one per shape). If none fits, return those with the least memory."""
        fitting: list[SharedLayout] = []
        least: list[SharedLayout] = []
        for one in sorted(self._layouts(count), key=_order):
            if fitting and one.cost.work > MORE * fitting[0].cost.work and not every:
                break
            beaten = any(beats(other, one) for other in fitting)
            done = any(other.shape == one.shape for other in fitting)
            if done or (beaten and not every) or not self._may(one):
                continue
            go_on()
            answered = self._asked(one)
            if answered.fits == "yes":
                fitting.append(answered)
            elif self._is_least(one):
                least.append(answered)
        return fitting or least

    def _is_least(self, one: SharedLayout) -> bool:
        """Return whether no layout of its shape needs less memory."""
        batch, keeps = self._batches[0], self._kept[-1]
        return bool((one.change["batch_size"], one.change["checkpointing"]) == (batch, keeps))

    def _may(self, one: SharedLayout) -> bool:
        """Return whether a layout may fit, by lower bounds: it is skipped if it does not fit with
        full recompute, or with one sequence. The bytes per sequence are known from two; larger
        micro-batches that are far from fitting are not estimated."""
        if self._is_least(one):
            return True  # it is listed if nothing fits
        first, keeps = {"batch_size": self._batches[0]}, {"checkpointing": self._kept[-1]}
        if not (
            self._holds({**one.change, **first, **keeps}) and self._holds({**one.change, **first})
        ):
            return False
        batch = int(one.change["batch_size"])
        if batch > MANY and self.w.batch_size is None:
            one_takes, two_take = (self._least({**one.change, "batch_size": n}) for n in (1, 2))
            far = NEAR * (one_takes + (batch - 1) * (two_take - one_takes))
            return bool(max(two_take, far) <= self.room)
        return self._holds(one.change)

    def _holds(self, change: Mapping[str, Any]) -> bool:
        return self._least(change) <= self.room

    def _least(self, change: Mapping[str, Any]) -> int:
        """Return a lower bound of the fullest device's bytes; more than there are if the layout is
        refused."""
        key = tuple(change[name] for name in sorted(change) if name != "gradient_accumulation")
        if key not in self._known:
            go_on()
            try:
                report = self.asker.least(self.w.but(**change))
                self._known[key] = report.peak.low
            except REFUSED:
                self._known[key] = self.room + 1
        return self._known[key]

    def _asked(self, one: SharedLayout) -> SharedLayout:
        try:
            return one._replace(report=self.asker.train(self.w.but(**one.change), remedies=False))
        except REFUSED:
            return one

    def _layouts(self, count: int) -> Iterator[SharedLayout]:
        """Yield every layout of `count` devices, with its cost, before it is estimated."""
        for ranks, kind in product(self._arranged(count), self._named("shard", self._shards())):
            by = Sharding(**ranks.numbers, kind=kind, whole_experts=ranks.expert > 1)
            if not _goes(by):
                continue
            try:
                layers = stages(self.w, self.by, by, len(self.subject.body.blocks))
            except UsageError:
                continue
            by = replace(by, layers=layers)
            for batch, keeps in product(self._batches, self._kept):
                steps = self.w.gradient_accumulation or micro_batches(
                    self.subject.context, by.data, batch
                )
                change = {
                    "framework": self.by.name,
                    "shard": kind,
                    **{name: n for name, n in ranks.settings(*SHAPE).items() if n > 1},
                    "batch_size": batch,
                    "gradient_accumulation": steps,
                    "checkpointing": keeps,
                }
                yield SharedLayout(change, by, cost(self._run(by, batch, steps, keeps)))

    def _run(self, by: Sharding, batch: int, steps: int, keeps: str) -> SharedRun:
        dense, experts = self._parameters
        tokens = ceil_div(batch * self.subject.context, by.context)
        return SharedRun(
            by, self.subject.body, tokens, steps, dense, experts, self._keys, checkpointing=keeps
        )

    @cached_property
    def _parameters(self) -> tuple[int, int]:
        """Return the parameters (outside of routed experts, of routed experts)."""
        plan = self.subject.part.blueprint
        return plan.parameters - plan.experts, plan.experts

    @cached_property
    def _keys(self) -> int:
        """Return the elements of keys and values per token, in the layer with most."""
        mixers = (x for layer in self.subject.layers for x in layer.mixers)
        known = (x.expanded if isinstance(x, Latent) else x for x in mixers)
        sizes = (x.kv_heads * (x.key_dim + x.value_dim) for x in known if isinstance(x, Attention))
        return max(sizes, default=2 * self.subject.body.hidden)

    def _arranged(self, count: int) -> Iterator[Ranks]:
        """Yield the rank counts that divide the devices and the sequence."""
        choices = {kind: self._named(SIZES[kind], self._ranks(kind)) for kind in SHAPE}
        length, base = self.subject.context, Ranks.of(self.w.said)
        return (x for x in arranged(base, count, choices) if cuts(length, x.context))

    def _ranks(self, kind: str) -> tuple[int, ...]:
        if kind not in self.by.ranks:
            return (1,)
        if kind == "expert":
            return tuple(n for n in divisors(self.experts) if n <= MOST_EXPERT)
        most = len(self.subject.body.blocks) if kind == "pipeline" else max(POWERS)
        return tuple(n for n in POWERS if n <= most)

    def _shards(self) -> tuple[str, ...]:
        if self.by.sharded_checkpointing:
            return "none", self.by.spreads
        has = self.by.shards or SHARDS
        return ("none", *(kind for kind in SHARDS if kind in has))

    def _keeps(self) -> tuple[str, ...]:
        if self.by.sharded_checkpointing:
            return (usual_checkpointing(self.w, self.by, Sharding(kind=self.by.spreads)),)
        return KEEPS if "pipeline" in self.by.ranks else ("none", "full")

    def _named(self, name: str, choices: tuple[Any, ...]) -> tuple[Any, ...]:
        typed = getattr(self.w, name)
        return choices if typed is None else (typed,)


def _goes(by: Sharding) -> bool:
    """Return whether these ranks can be combined: only FSDP2 goes with other kinds, and shards over
    several ranks."""
    shares = by.among
    if by.kind == "none":
        return shares == 1
    if by.kind == "hsdp" and by.shares == shares:
        return False
    return shares > 1 and (by.kind in BESIDE or set(by.settings(*SHAPE).values()) == {1})


def _order(one: SharedLayout) -> tuple[Any, ...]:
    """Return the sort key: price, then the largest micro-batch first."""
    return (*one.price, -one.change["batch_size"], KEEPS.index(one.change["checkpointing"]))


def _row(one: SharedLayout, room: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    assert one.report is not None  # it was estimated
    verdict = one.report.verdict
    peak, shares, price = one.report.peak, one.sharding, one.cost
    sizes = shares.settings(*SHAPE, "data")
    short = zip(("tp", "pp", "cp", "ep", "dp"), sizes.values(), strict=True)
    others = {name: value for name, value in settings.items() if name != "method"}
    kind = () if shares.kind == "none" else (shares.kind,)
    parts = [*kind, *(f"{name}{n}" for name, n in short if n > 1)]
    return {
        "id": " ".join([*parts, f"mb{one.change['batch_size']}"]),
        "fits": one.fits,
        "usable_bytes": room,
        "peak_bytes": peak.expected,
        "margin_bytes": room - peak.expected,
        **on_machine(None if verdict is None else verdict.host),
        **sizes,
        "shard": shares.kind,
        "batch_size": one.change["batch_size"],
        "micro_batches": one.change["gradient_accumulation"],
        "recompute": one.change["checkpointing"],
        "computed_again": round(price.again, 4),
        "bubble": round(price.bubble, 4),
        "near_bytes": price.near,
        "far_bytes": price.far,
        "flags": flags({**others, **one.change}, ""),
    }


def on_machine(host: HostVerdict | None) -> dict[str, Any]:
    """Return the host memory that a machine of a layout needs and has; empty unless judged."""
    if host is None or host.available is None:
        return {}
    return {"host_bytes": host.needed.expected, "host_usable_bytes": host.available}
