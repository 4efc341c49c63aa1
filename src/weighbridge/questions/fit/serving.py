"""`fit --layouts --for infer`: how a server may be spread over several cards, as rows.

    tensor x pipeline x data ranks, which use all cards; with and without --enable-expert-parallel
    where a model has experts; for SGLang copies of the attention among the tensor ranks as well

Each row is the answer of `infer` with its flags. A layout is told where no other one that fits
reads as few weights one after another for a token, has as much room for tokens and sends as little.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.accelerators.machines import MACHINE, machine
from weighbridge.arch.body import Body
from weighbridge.arch.parts import Experts
from weighbridge.engines.servers.messages import ServerRanks, sent
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, usual, version
from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.estimate.layouts import FEW, beats, coarse, divisors
from weighbridge.questions.fit.answers import Asker
from weighbridge.questions.fit.placing import placing
from weighbridge.records import NamedTuple
from weighbridge.remedies.written import flags
from weighbridge.report import Report
from weighbridge.report.fit import Ranking
from weighbridge.settings.setting import fields
from weighbridge.watching import go_on
from weighbridge.workload import SPREAD, Infer, read

if TYPE_CHECKING:
    from weighbridge.engines.engine import Engine

MOST = 1024  # cards that are shared out
EXPERTS, ATTENTION = "enable_expert_parallel", "enable_dp_attention"


class ServedLayout(NamedTuple):
    """One way to spread a server out. `tokens` are those that all copies keep at once; `weights`
    are bytes of the fullest card; `near` and `far` bytes that a card sends a token. Tensor ranks
    read their weights at the same time, the stages of a pipeline one after another: `turn` are
    bytes of all stages, every expert among them."""

    change: Mapping[str, Any]
    report: Report
    tokens: int
    weights: int
    turn: int
    near: int
    far: int

    @property
    def fits(self) -> str:
        return "unknown" if self.report.verdict is None else self.report.verdict.fits

    @property
    def price(self) -> tuple[int, ...]:
        """Return what no other layout that fits is to have less of, to two digits."""
        return tuple(map(coarse, (self.turn, self.far, -self.tokens, self.near)))


def serving(asker: Asker, settings: Mapping[str, Any], *, every: bool = False) -> Ranking:
    """Rank the ways to spread a server over its cards, those that read least for a token first.
    Raises UsageError for another engine, without several cards, and where the ranks are named."""
    given = {name: value for name, value in settings.items() if value is not None}
    w = read("infer", {"engine": usual(server=True).name, **given})
    kind, budget = engine(w.engine), w.budget()
    if kind.places is not None:
        return placing(asker, w, kind, given, every=every)
    if not kind.server:
        raise UsageError(f"--layouts is about servers that share layers out, not {kind.title}")
    if budget is None or not 1 < budget.choice.count <= MOST:
        raise UsageError(f"--layouts spreads a server over 2 to {MOST:,} cards: --gpu h100:8")
    model = asker.model()
    number, _ = version(kind, w.engine_version)
    body = subject(model, w, kind, number).body
    largest = machine(budget.choice.part)
    devices = MACHINE if largest is None else largest.devices
    found = list(_ServerSearch(asker, w, kind, body, devices).answered(budget.choice.count))
    fitting = sorted((one for one in found if one.fits == "yes"), key=lambda one: one.price)
    if not every:
        fitting = [one for one in fitting if not any(_beats(other, one) for other in fitting)]
    told = fitting or sorted(found, key=lambda one: one.report.peak.low)[:FEW]
    if not told:
        raise UsageError(f"{kind.name} takes no ranks that {budget.choice.count} cards make")
    return Ranking(
        about="infer",
        of="layouts",
        rows=tuple(_row(one, given, kind.name) for one in told),
        model=model.name,
        accelerator=budget.name,
        count=1 if budget.mixed else budget.choice.count,
    )


class _ServerSearch:
    """All layouts of one server. `devices` are those of a machine."""

    def __init__(self, asker: Asker, w: Infer, kind: "Engine", body: Body, devices: int) -> None:
        self.asker, self.w, self.body, self.devices = asker, w, body, devices
        self.copies_attention = ATTENTION in fields(kind.settings)
        self.routed = any(isinstance(f, Experts) for block in body.blocks for f in block.feeds)

    def answered(self, count: int) -> Iterator[ServedLayout]:
        """Yield every layout of so many cards that the engine takes, with its answer."""
        for change in self._changes(count):
            go_on()
            try:
                report = self.asker.briefly(self.w.but(**change))
            except UnsupportedError:
                raise
            except UsageError:  # heads that the ranks do not divide, and the like
                continue
            near, far = sent(self.body, self._ranks(change), self.devices)
            tokens, weights = int(report.derived.get("kv_cache_tokens") or 0), _weights(report)
            turn = weights * change[SPREAD[1]]
            yield ServedLayout(change, report, tokens, weights, turn, near, far)

    def _changes(self, count: int) -> Iterator[dict[str, Any]]:
        """Yield the settings of each layout. What is named stays."""
        for tensor, pipeline in ((t, p) for t in divisors(count) for p in divisors(count // t)):
            data = count // (tensor * pipeline)
            sizes = dict(zip(SPREAD, (tensor, pipeline, data), strict=True))
            ways = [sizes]
            if self.copies_attention and data == 1:
                copies = (n for n in divisors(tensor) if n > 1)
                ways += [{**sizes, SPREAD[2]: n, ATTENTION: True} for n in copies]
            for way in ways:
                shared = self.routed and (tensor > 1 or data > 1)
                for change in (way, {**way, EXPERTS: True}) if shared else (way,):
                    if all(getattr(self.w, n) in (None, False, v) for n, v in change.items()):
                        yield change

    def _ranks(self, change: Mapping[str, Any]) -> ServerRanks:
        """Return the ranks that send each other anything: where attention is copied among tensor
        ranks, copies of the whole share no experts."""
        tensor, pipeline, data = (change[name] for name in SPREAD)
        if change.get(ATTENTION):
            return ServerRanks(tensor, pipeline, 1, data)
        return ServerRanks(tensor, pipeline, 1 if self.copies_attention else data)


def _weights(report: Report) -> int:
    """Return the bytes of weights of the card that has most of them."""
    cards = (device for device in report.devices if device.kind == "gpu")
    return max(
        max(
            sum(c.bytes.expected for c in phase.components if c.name == "weights")
            for phase in card.phases
        )
        for card in cards
    )


def _beats(one: ServedLayout, other: ServedLayout) -> bool:
    """Tell whether a layout costs no more in anything, and less in something or has fewer flags."""
    if one is other or not beats(one, other):
        return False
    return one.price != other.price or len(one.change) < len(other.change)


def _row(one: ServedLayout, given: Mapping[str, Any], name: str) -> dict[str, Any]:
    verdict, change = one.report.verdict, one.change
    assert verdict is not None  # a card was named
    context = int(one.report.workload["context"])
    said = {n: v for n, v in change.items() if v is True or v > 1}
    return {
        "id": _named(change),
        "fits": verdict.fits,
        "usable_bytes": verdict.usable_bytes,
        "peak_bytes": one.report.peak.expected,
        "margin_bytes": verdict.margin_bytes,
        **{size: change[size] for size in SPREAD},
        EXPERTS: EXPERTS in change,
        ATTENTION: ATTENTION in change,
        "cached_tokens": one.tokens,
        "requests": one.tokens // context,
        "weights_bytes": one.weights,
        "read_in_turn_bytes": one.turn,
        "near_bytes": one.near,
        "far_bytes": one.far,
        "flags": flags({**given, "engine": name, **said}, ""),
    }


def _named(change: Mapping[str, Any]) -> str:
    short = ("tp", "pp", "dpa" if ATTENTION in change else "dp")
    told = [f"{s}{change[n]}" for s, n in zip(short, SPREAD, strict=True) if change[n] > 1]
    return " ".join([*told, *(["ep"] if EXPERTS in change else [])])
