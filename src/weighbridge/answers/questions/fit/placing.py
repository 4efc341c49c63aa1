"""`fit --layouts --engine llama.cpp`: placements of a model's layers and experts, as rows.

    cards      split by layers, by rows, or one card only; if they differ, layer counts per card
    host       experts of as few layers as possible, or as few whole layers; if none of that fits,
               experts matrix by matrix
    caches     keys and values in 16, 8 and 4 bits, unless the user sets a type
    contexts   the requested one; unless it is set also eight times that, and the model's maximum

Each row is the answer of `infer` with its flags. A placement is listed unless another one that fits
has as many KV cache bits and as long a context, reads as little of host memory and of cards in turn
per token, and sends as little between cards.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.answers.estimate.divided import RAM_SPEED
from weighbridge.answers.estimate.layouts import FEW, ranking, unbeaten
from weighbridge.answers.questions.fit.answers import Asker
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.units import coarse
from weighbridge.engines.interface import LENGTHS, PlacedWay
from weighbridge.engines.subject import subject
from weighbridge.engines.table import version
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Ranking
from weighbridge.workload import Infer
from weighbridge.workload.flags import flags

if TYPE_CHECKING:
    from weighbridge.engines.engine import Engine
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.parts import Part

LONGER = 8  # times the requested context
CACHES = ("kv_cache_dtype", "cache_type_k", "cache_type_v")


class PlacedLayout(NamedTuple):
    """One placement of a model. `change` are its settings; `bits` is the index of its cache type in
    the list of types, most bits first."""

    change: Mapping[str, Any]
    bits: int
    way: PlacedWay
    report: Report
    speeds: tuple[float, ...]  # GB/s of each card

    @property
    def fits(self) -> str:
        return "unknown" if self.report.verdict is None else self.report.verdict.fits

    @property
    def context(self) -> int:
        return int(self.report.workload["context"])

    @property
    def turn(self) -> int:
        """Return the bytes of weights that cards read one after another per token."""
        return round(self._in_turn(self.way.read[:-1]))

    def _in_turn(self, cards: Sequence[float]) -> float:
        """Return the bytes read one after another: the sum, or with row split the largest."""
        by_rows = self.report.workload["split_mode"] == "row"
        return max(cards, default=0) if by_rows else sum(cards)

    @property
    def price(self) -> tuple[int, ...]:
        """Return the costs in which placements compete, to two digits: cache bits, context, bytes
        of host memory read per token, those plus what cards read, scaled by their speed against the
        fastest and slowest host memory, and bytes sent between cards."""
        *cards, host = self.way.read
        beside = (
            self._in_turn([n * ram / speed for n, speed in zip(cards, self.speeds, strict=True)])
            for ram in RAM_SPEED
        )
        more = (coarse(round(host + each)) for each in beside)
        return self.bits, -self.context, coarse(host), *more, coarse(self.way.sent)


def placing(
    asker: Asker, w: Infer, kind: "Engine", settings: Mapping[str, Any], *, every: bool = False
) -> Ranking:
    """Return the ranking of placements over cards and host memory, fullest caches and shortest
    context first. `settings` are those that the user set. Raises UsageError without a card."""
    budget = w.budget()
    if budget is None:
        raise UsageError(sentence("layouts.places"))
    layouts = list(_placed(asker, w, kind, budget))
    fitting = [one for one in layouts if one.fits == "yes"]
    shown = fitting if every else unbeaten(fitting)
    shown.sort(key=lambda one: (one.bits, one.context, one.way.read[-1], one.turn))
    rows = (_row(one, budget, settings, kind.name) for one in shown or layouts[:FEW])
    return ranking("infer", rows, asker.model().name, budget, kind.title)


def _placed(asker: Asker, w: Infer, kind: "Engine", budget: "Budget") -> Iterator[PlacedLayout]:
    """Yield the placements for every cache type and every context."""
    number, _ = version(kind, w.engine_version)
    speeds = tuple(map(_speed, _parts(budget)))

    def fits(moved: Infer) -> bool | None:
        verdict = asker.briefly(moved).verdict
        assert verdict is not None  # the user named a card
        if verdict.host is not None and verdict.host.fits == "no":
            return None
        return verdict.fits == "yes"

    assert kind.places is not None  # the engine supports placement
    for context in _contexts(asker, w, kind):
        for bits, cache in enumerate(_caches(w, kind, context)):
            change = {**context, **cache}
            asked = w.but(**change)
            about = subject(asker.model(), asked, kind, number)
            try:
                ways = list(kind.places(about, asked, budget, fits))
            except UsageError as error:
                if not cache or isinstance(error, UnsupportedError):
                    raise
                continue  # V cache types of few bits need flash attention
            for way in ways:
                report = asker.briefly(asked.but(**way.change))
                yield PlacedLayout({**way.change, **change}, bits, way, report, speeds)


def _parts(budget: "Budget") -> list["Part"]:
    choice = budget.choice
    return [card.part for card in choice.cards] if budget.mixed else [choice.part] * choice.count


def _speed(part: "Part") -> float:
    """Return a card's memory bandwidth in GB/s, at least; of an unknown card the fastest host's."""
    return RAM_SPEED[1] if part.bandwidth is None else part.bandwidth[0]


def _contexts(asker: Asker, w: Infer, kind: "Engine") -> Iterator[dict[str, int]]:
    """Yield the context settings that are tried, the requested one first."""
    yield {}
    if any(getattr(w, name) is not None for name in LENGTHS):
        return
    number, _ = version(kind, w.engine_version)
    about = subject(asker.model(), w, kind, number)
    if about.longest is None or about.longest <= about.context:
        return
    if LONGER * about.context < about.longest:
        yield {"context": LONGER * about.context}
    yield {"context": about.longest}


def _caches(w: Infer, kind: "Engine", context: Mapping[str, int]) -> Iterator[Mapping[str, str]]:
    """Yield the types of keys and values, most bits first; four bits only for longer contexts."""
    yield {}
    if all(getattr(w, name) is None for name in CACHES):
        yield kind.small_cache
        if context:
            yield kind.least_cache


def _row(
    one: PlacedLayout, budget: "Budget", settings: Mapping[str, Any], name: str
) -> dict[str, Any]:
    effective, report = one.report.workload, one.report
    cards = [_card(report, d, part, budget) for d, part in enumerate(_parts(budget))]
    fullest = max(cards, key=lambda card: card["needs_bytes"] - card["usable_bytes"])
    host = next(d for d in report.devices if d.kind == "host")
    return {
        "id": flags(one.change, name) or f"-c {one.context}",
        "fits": one.fits,
        "usable_bytes": fullest["usable_bytes"],
        "peak_bytes": fullest["needs_bytes"],
        "margin_bytes": fullest["usable_bytes"] - fullest["needs_bytes"],
        "cards": [
            {**card, "layers": n, "guests": guests}
            for card, n, guests in zip(cards, one.way.layers[:-1], one.way.guests, strict=True)
        ],
        "host_layers": one.way.layers[-1],
        "host_experts": one.way.experts,
        "host_bytes": host.phases[-1].at("driver").expected,
        "context": one.context,
        "cache_types": [effective["cache_type_k"], effective["cache_type_v"]],
        "cached_tokens": int(report.derived.get("kv_cache_tokens") or 0),
        "read_from_host_bytes": one.way.read[-1],
        "read_in_turn_bytes": one.turn,
        "near_bytes": one.way.sent,
        "placed": flags(one.way.change, name),
        "launch": report.derived.get("launch", ""),
        "flags": flags({**settings, "engine": name, **one.change}, ""),
    }


def _card(report: Report, device: int, part: "Part", budget: "Budget") -> dict[str, Any]:
    """Return a card's name, needed and usable bytes; it needs 0 if it has no part of the model."""
    of_card = next((d for d in report.devices if d.kind == "gpu" and d.index == device), None)
    needs = 0 if of_card is None else of_card.peak("driver").expected
    return {"name": part.name, "needs_bytes": needs, "usable_bytes": budget.of(device).low}
