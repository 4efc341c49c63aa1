"""`fit --layouts --for infer`: parallel layouts of a server over several cards, as rows.

    tensor x pipeline x data ranks, which use all cards; with and without --enable-expert-parallel
    for MoE models; for SGLang also data-parallel attention among the tensor ranks; with unequal
    cards also unequal layer counts per stage (VLLM_PP_LAYER_PARTITION)

Each row is the answer of `infer` with its flags. A layout is listed unless another one that fits
reads as few weights in turn per token, has room for as many tokens and sends as little.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

from weighbridge.answers.estimate.layouts import FEW, divisors, ranking, unbeaten
from weighbridge.answers.questions.fit.answers import Asker
from weighbridge.answers.questions.fit.placing import placing
from weighbridge.answers.questions.fit.sharded import on_machine
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.memory import Device
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.units import coarse
from weighbridge.base.watching import go_on
from weighbridge.engines.servers.layouts import ATTENTION, EXPERTS, ServerRanks, sent
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, usual, version
from weighbridge.machines.accelerators.machines import MACHINE, machine
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Ranking
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.parts import Experts
from weighbridge.settings.ranks import Ranks, arranged
from weighbridge.settings.setting import fields
from weighbridge.workload import SPREAD, Infer, read
from weighbridge.workload.flags import flags

if TYPE_CHECKING:
    from weighbridge.engines.engine import Engine
    from weighbridge.machines.accelerators.budget import Budget

MOST = 1024  # cards at most
PARTS = "pp_layer_partition"
STEPS = 16  # moves of a layer between stages, at most


class ServedLayout(NamedTuple):
    """A parallel layout of a server. `tokens` is the KV cache size of all replicas; `weights` are
    bytes on the fullest card; `near` and `far` are bytes that a card sends per token. Tensor ranks
    read their weights at the same time, pipeline stages one after another: `turn` are the bytes of
    all stages, every expert included."""

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
        """Return the costs in which layouts compete, to two digits."""
        return tuple(map(coarse, (self.turn, self.far, -self.tokens, self.near)))


def serving(asker: Asker, settings: Mapping[str, Any], *, every: bool = False) -> Ranking:
    """Return the ranking of a server's layouts, those that read least per token first. Raises
    UsageError for another engine, without several cards, and if no layout is left."""
    given = {name: value for name, value in settings.items() if value is not None}
    w = read("infer", {"engine": usual(server=True).name, **given})
    kind, budget = engine(w.engine), w.budget()
    if kind.places is not None:
        return placing(asker, w, kind, given, every=every)
    if not kind.server:
        raise UsageError(sentence("layouts.servers", engine=kind.title))
    if budget is None or not 1 < budget.choice.count <= MOST:
        raise UsageError(sentence("layouts.spreads", most=MOST))
    model = asker.model()
    number, _ = version(kind, w.engine_version)
    body = subject(model, w, kind, number).body
    largest = machine(budget.choice.part)
    devices = MACHINE if largest is None else largest.devices
    search = _ServerSearch(asker, w, kind, body, devices)
    answers = list(search.answered(budget.choice.count))
    if budget.mixed and kind.stages and w.pp_layer_partition is None:
        answers += [one for each in answers if (one := search.uneven(each, budget)) is not None]
    fitting = sorted((one for one in answers if one.fits == "yes"), key=lambda one: one.price)
    least = sorted(answers, key=lambda one: one.report.peak.low)[:FEW]
    ranked = (fitting if every else unbeaten(fitting)) or least
    if not ranked:
        raise UsageError(sentence("layouts.no_ranks", engine=kind.name, count=budget.choice.count))
    rows = (_row(one, given, kind.name) for one in ranked)
    return ranking("infer", rows, model.name, budget, "")


class _ServerSearch:
    """All layouts of one server. `devices` are the devices per machine."""

    def __init__(self, asker: Asker, w: Infer, kind: "Engine", body: Body, devices: int) -> None:
        self.asker, self.w, self.body, self.devices = asker, w, body, devices
        self.copies_attention = ATTENTION in fields(kind.settings)
        self.routed = any(isinstance(f, Experts) for block in body.blocks for f in block.feeds)

    def answered(self, count: int) -> Iterator[ServedLayout]:
        """Yield every layout of `count` cards that the engine accepts, with its answer."""
        for change in self._changes(count):
            answer = self._asked(change)
            if answer is not None:
                yield answer

    def _asked(self, change: Mapping[str, Any]) -> ServedLayout | None:
        go_on()
        try:
            report = self.asker.briefly(self.w.but(**change))
        except UnsupportedError:
            raise
        except UsageError:  # e.g. ranks that do not divide the heads
            return None
        near, far = sent(self.body, self._ranks(change), self.devices)
        tokens, weights = int(report.derived.get("kv_cache_tokens") or 0), _weights(report)
        turn = _in_turn(report, *(change[name] for name in SPREAD[:2]))
        return ServedLayout(change, report, tokens, weights, turn, near, far)

    def uneven(self, even: ServedLayout, budget: "Budget") -> ServedLayout | None:
        """Return the layout with layers per stage in proportion to the cards' memory; None if the
        stages' cards are alike. Layers are then moved one by one as long as that makes it fit or
        leaves room for more tokens."""
        tensor, stages, _ = (even.change[name] for name in SPREAD)
        rooms = [room.low for room in budget.each]
        each = [
            min(
                rooms[d] for d in range(len(rooms)) if d // tensor % stages == stage
            )  # tensor ranks are adjacent, then come stages, then replicas
            for stage in range(stages)
        ]
        layers = len(self.body.blocks)
        if len(set(each)) < 2 or layers < stages:
            return None
        best = self._parted(even, proportional(layers, each))
        for _ in range(STEPS):
            if best is None:
                return None
            moved = (self._parted(even, parts) for parts in _moved(best.change[PARTS]))
            fullest = max(filter(None, moved), key=_room, default=None)
            if fullest is None or _room(fullest) <= _room(best):
                break
            best = fullest
        return best

    def _parted(self, even: ServedLayout, parts: tuple[int, ...]) -> ServedLayout | None:
        return self._asked({**even.change, PARTS: parts})

    def _changes(self, count: int) -> Iterator[dict[str, Any]]:
        """Yield the settings of each layout. Settings of the user stay."""
        sizes_of = {"tensor": divisors(count), "pipeline": divisors(count)}
        alone = {"context": (1,), "expert": (1,)}
        for ranks in arranged(Ranks(), count, {**sizes_of, **alone}):
            sizes: dict[str, Any] = ranks.settings("tensor", "pipeline", "data")
            tensor, data = ranks.tensor, ranks.data
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
        """Return the ranks that communicate: with data-parallel attention, replicas share no
        experts."""
        tensor, pipeline, data = (change[name] for name in SPREAD)
        if change.get(ATTENTION):
            return ServerRanks(tensor, pipeline, 1, data)
        return ServerRanks(tensor, pipeline, 1 if self.copies_attention else data)


def proportional(layers: int, rooms: Sequence[int]) -> tuple[int, ...]:
    """Return layer counts in proportion to `rooms`, at least one each; layers left by rounding go
    to the largest remainders."""
    left = layers - len(rooms)
    wanted = [left * room / sum(rooms) for room in rooms]
    shares = [int(x) for x in wanted]
    by_loss = sorted(range(len(rooms)), key=lambda i: shares[i] - wanted[i])
    for i in by_loss[: left - sum(shares)]:
        shares[i] += 1
    return tuple(n + 1 for n in shares)


def _moved(parts: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the layer counts with one layer moved from one stage to another."""
    for giver, taker in permutations(range(len(parts)), 2):
        if parts[giver] > 1:
            yield tuple(n - (i == giver) + (i == taker) for i, n in enumerate(parts))


def _room(one: ServedLayout) -> tuple[bool, int, int]:
    """Return a key to rank layouts of the same ranks: fits, more tokens, a smaller peak."""
    return one.fits == "yes", one.tokens, -one.report.peak.expected


def _in_turn(report: Report, tensor: int, stages: int) -> int:
    """Return the bytes of weights that stages read one after another: the sum over stages of their
    fullest card's."""
    cards = [device for device in report.devices if device.kind == "gpu"]
    if len(cards) < tensor * stages:  # identical cards are listed once
        return _weights(report) * stages
    each = [_of_card(card) for card in cards[: tensor * stages]]
    return sum(max(each[i * tensor : (i + 1) * tensor]) for i in range(stages))


def _weights(report: Report) -> int:
    """Return the bytes of weights on the card with most of them."""
    return max(_of_card(device) for device in report.devices if device.kind == "gpu")


def _of_card(card: Device) -> int:
    return max(phase.of("weights").expected for phase in card.phases)


def _row(one: ServedLayout, settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    verdict, change = one.report.verdict, one.change
    assert verdict is not None  # the user named a card
    context = int(one.report.workload["context"])
    named = {n: v for n, v in change.items() if n == PARTS or v is True or v > 1}
    return {
        "id": _named(change),
        "fits": verdict.fits,
        "usable_bytes": verdict.usable_bytes,
        "peak_bytes": one.report.peak.expected,
        "margin_bytes": verdict.margin_bytes,
        **on_machine(verdict.host),
        **{size: change[size] for size in SPREAD},
        EXPERTS: EXPERTS in change,
        ATTENTION: ATTENTION in change,
        PARTS: change.get(PARTS),
        "cached_tokens": one.tokens,
        "requests": one.tokens // context,
        "weights_bytes": one.weights,
        "read_in_turn_bytes": one.turn,
        "near_bytes": one.near,
        "far_bytes": one.far,
        "flags": flags({**settings, "engine": name, **named}, ""),
        "launch": one.report.derived.get("launch", ""),
    }


def _named(change: Mapping[str, Any]) -> str:
    short = ("tp", "pp", "dpa" if ATTENTION in change else "dp")
    words = [f"{s}{change[n]}" for s, n in zip(short, SPREAD, strict=True) if change[n] > 1]
    parts = ["+".join(map(str, change[PARTS]))] if PARTS in change else []
    return " ".join([*words, *parts, *(["ep"] if EXPERTS in change else [])])
