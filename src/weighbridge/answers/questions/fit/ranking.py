"""Rankings: the catalogue's cards for a model, and its models for a card.

A model is estimated in the best format that can fit, best first. To serve a text model that is one
of the formats in which people with that card run it (ladder.py): as published by a server, then 8
and 4 bits. For other models, with a named engine, or if that engine has no answer, it is as
published and then what the engine loads it in (remedies/formats.py). A format whose nominal bits
exceed the card is skipped. The context is the longest that fits on the card in that format, which
takes longest to find: if a screen shows only the first rows, it is searched for only there.

    models    those that fit first; text models before others; of each family the largest first,
              new and much downloaded families before others (catalogue/popularity.py)
    cards     those that fit first, smallest memory first
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from weighbridge.answers.estimate.uncounted import beside_weights
from weighbridge.answers.questions.fit.answers import REFUSED, Asker, inference, judged, reads_text
from weighbridge.answers.questions.fit.hardware import cards
from weighbridge.answers.questions.fit.ladder import (
    NAMED,
    WIDTHS,
    engine_of,
    least_weights,
    loss,
    of_width,
    plain,
    planned_or_none,
)
from weighbridge.answers.questions.fit.request import (
    DEVICE,
    FitRequest,
    asked,
    workload,
)
from weighbridge.base.records import replace
from weighbridge.base.units import parse_count
from weighbridge.base.watching import kept_so_far, stopped, trying
from weighbridge.engines.table import record, usual, version
from weighbridge.engines.weight_formats import offered
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Ranking
from weighbridge.models import catalogue
from weighbridge.models.catalogue.popularity import family, family_of, of
from weighbridge.models.catalogue.uses import OF_WORDS, purpose
from weighbridge.models.checkpoint.gather import GatherOptions

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.parts import Part

Row = Mapping[str, Any]
Ranked = TypeVar("Ranked")
RANK = {"yes": 0, "unknown": 1, "no": 2}
PLAIN, PACKED = 16, 2  # bits per weight as published, at least
BARE = frozenset((*DEVICE, "context"))  # settings that keep all weights on the card
LEAST = {"lora": 16, "train": 64}  # bits per parameter: weights; with gradients and Adam's states


def gpus(asker: Asker, request: FitRequest) -> Ranking:
    """Return the ranking of the catalogue's cards for one model, by the user's question."""
    from weighbridge.machines.accelerators.parts import parts

    bare = _judged(
        asker,
        replace(
            request,
            settings=(
                {
                    name: value
                    for name, value in request.settings.items()
                    if name not in ("gpu", "gpu_memory", "headroom")
                }
            ),
        ),
    )
    least = 0 if bare is None else least_weights(request, bare)
    every = tuple(cards(parts().values()))
    rows = _rows(every, lambda part: part.name, lambda part: _card(asker, request, part, least))
    rows.sort(key=lambda row: (RANK[row["fits"]], row["usable_bytes"], row["id"]))
    return Ranking(about=request.about, of="gpus", rows=tuple(rows), model=asker.model().name)


def _rows(
    every: Sequence[Ranked], named: Callable[[Ranked], str], row: Callable[[Ranked], Row]
) -> list[Row]:
    """Return the rows of all items, in order; only those so far if the user stops it."""
    rows: list[Row] = []
    with kept_so_far():
        for number, one in enumerate(every, 1):
            trying(partial(named, one), number, len(every))
            rows.append(row(one))
    if stopped() and not rows:
        raise KeyboardInterrupt
    return rows


def _card(asker: Asker, request: FitRequest, part: "Part", least: int) -> Row:
    usable = part.room
    row = {
        "id": part.id,
        "name": part.name,
        "marketed_gb": part.marketed_gb,
        "fits": "no",
        "usable_bytes": usable.low,
        "peak_bytes": None,
        "margin_bytes": None,
        "format": None,
        "engine": None,
        "context": None,
    }
    if usable.high < least:
        return row
    named = request.planned({"gpu": part.id})
    plan = planned_or_none(asker, named)
    if plan is None or plan.rung is None:  # refused on this card, or no format fits
        return row | _verdict(None if plan is None else _judged(asker, named))
    row |= _verdict(plan.report) | {"fits": plan.fits}
    if request.about == "infer":
        row |= {"format": plan.rung.format, "engine": plan.rung.engine}
    if plan.why == "divided":
        row["fits"] = "no"  # the rest is in RAM
    context = _context(asker, named.planned(plan.settings)) if row["fits"] == "yes" else None
    return {**row, "context": context}


def _judged(asker: Asker, request: FitRequest) -> Report | None:
    try:
        return judged(asker, workload(request.about, request, inference(asker, request)))
    except REFUSED:
        return None


def _verdict(report: Report | None) -> dict[str, Any]:
    """Return verdict, peak and margin of a report, "unknown" without one."""
    if report is None or report.verdict is None:
        return {"fits": "unknown"}
    verdict = report.verdict
    return {
        "fits": verdict.fits,
        "usable_bytes": verdict.usable_bytes,
        "peak_bytes": verdict.per_device.expected,
        "margin_bytes": verdict.margin_bytes,
    }


def _context(asker: Asker, request: FitRequest) -> int | None:
    """Return the longest context in tokens that fits on the card; None for other questions."""
    if request.about != "infer" or not reads_text(asker.model()):
        return None
    asked = workload("infer", request, inference(asker, request))
    return asker.briefly(asked, "context").derived.get("largest_context") or None


def models_for(
    names: list[str], asked_for: Mapping[str, Any], *, shown: int | None = None
) -> Ranking:
    """Return the ranking of the catalogue's models for a card, by settings as the user gave them:
    `min_context` and those of `fit`. `shown`: as for `models`."""
    from weighbridge.answers.questions.prepared import opened

    least = asked_for.get("min_context")
    settings = {name: value for name, value in asked_for.items() if name != "min_context"}
    return models(
        names,
        lambda name: opened(name, GatherOptions()),
        asked(settings),
        least=None if least is None else parse_count(str(least)),
        shown=shown,
    )


def models(
    names: "list[str]",
    opened: Callable[[str], Asker],
    request: FitRequest,
    *,
    least: int | None = None,
    shown: int | None = None,
) -> Ranking:
    """Return the ranking of the catalogue's models for one card.

    Args:
        least: only models with a context of this many tokens.
        shown: how many models that fit to find and give in full; None: all, also those that do not
            fit; 0: only which models fit.
    """
    from weighbridge.machines.accelerators.budget import budget

    settings = request.settings
    room = budget(settings.get("gpu"), settings.get("gpu_memory"), settings.get("headroom"))
    assert room is not None
    if least is not None and request.about == "infer":
        request = replace(request, settings={**settings, "context": least})
    shelf = _Shelf(opened, request, room, shown)
    rows = chosen(_rows(names, str, shelf.row) if not shown else shelf.first_rows(names, shown))
    if shown is not None and not stopped():
        shelf.add_contexts(rows)
    return Ranking(
        about=request.about,
        of="models",
        rows=tuple(rows),
        accelerator=room.choice.part.name,
        count=room.choice.count,
        among=len(names),
    )


def chosen(rows: Sequence[Row]) -> list[Row]:
    """Return the rows in the order in which people choose: what fits, then text models, then the
    largest of each family before its others, popular families first."""
    rows = sorted(rows, key=lambda row: (RANK[row["fits"]], -row["parameters"], row["name"]))
    seen: dict[tuple[str, str], int] = {}
    keys = {}
    for row in rows:
        kind = row["fits"], row["family"]
        seen[kind] = seen.get(kind, -1) + 1
        words = row["task"] not in OF_WORDS
        keys[row["name"]] = RANK[row["fits"]], words, seen[kind], family(row["family"])
    return sorted(rows, key=lambda row: keys[row["name"]])


def _families(names: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield (family, its models, largest first), popular families first."""
    counts, members = catalogue.parameters(), dict[str, list[str]]()
    for name in sorted(names, key=lambda name: (-counts.get(name, 0), name)):
        members.setdefault(family_of(name), []).append(name)
    yield from sorted(members.items(), key=lambda each: family(each[0]))


class _Shelf:
    """The models of one ranking, of which the first `shown` that fit get a full row; all if
    None."""

    def __init__(
        self,
        opened: Callable[[str], Asker],
        request: FitRequest,
        room: "Budget",
        shown: int | None,
    ) -> None:
        self.opened, self.request, self.room, self.shown = opened, request, room, shown
        # First models that fit so far: row, model, and the question of the row
        self.first: dict[str, tuple[Row, Asker, FitRequest]] = {}

    def first_rows(self, names: list[str], shown: int) -> list[Row]:
        """Return rows until `shown` text models fit, in the order of `chosen`: of each family the
        largest that fits, popular families first, then the next of each."""
        rows: list[Row] = []
        families = {of: iter(members) for of, members in _families(names)}
        fitting = 0
        with kept_so_far():
            while families and fitting < shown:
                for of, members in [*families.items()]:
                    for name in members:
                        trying(partial(str, name), len(rows) + 1, len(names))
                        rows.append(row := self.row(name))
                        if row["fits"] == "yes":
                            fitting += row["task"] in OF_WORDS
                            break
                    else:
                        del families[of]
                    if fitting == shown:
                        break
        return rows

    def row(self, name: str) -> Row:
        """Return the row of a model, by the first format that fits the card."""
        asker = self.opened(name)
        model = asker.model()
        parameters = sum(part.blueprint.parameters for part in model.parts)
        known = of(name)
        row = {
            "name": name,
            "family": family_of(name),
            "released": known.released,
            "downloads": known.downloads,
            "task": purpose(model.parts[0].blueprint.cls),
            "parameters": parameters,
            "format": None,
            "quality": None,
            "engine": None,
            "fits": "no",
            "usable_bytes": self.room.usable.low,
            "peak_bytes": None,
            "margin_bytes": None,
            "context": None,
        }
        usual = [*_usual_formats(asker, self.request, parameters, self.room)]
        forms: Iterable[Mapping[str, Any]] = _formats(asker, self.request, parameters, self.room)
        if self.shown is not None:  # a model that does not surely fit gets no details
            if self.request.about == "infer" and beside_weights(model):
                return row | {"fits": "unknown"}
            forms = [form for form in forms if self._may_hold(asker, parameters, form)]
            if not forms and not any(self._may_hold(asker, parameters, form) for form in usual):
                return row
        best, tried = self._best(asker, usual)
        if not best:
            best, tried = self._best(asker, forms)
        row |= best
        if tried is not None and self.shown is None:
            return row | {"context": _context(asker, tried)}
        if tried is not None:
            self._keep(row, asker, tried)
        return row

    def _keep(self, row: Row, asker: Asker, tried: FitRequest) -> None:
        """Keep a model that fits while it is among the first `shown`; a later one cannot bring it
        back."""
        self.first[row["name"]] = row, asker, tried
        first = chosen([row for row, _, _ in self.first.values()])[: self.shown]
        self.first = {row["name"]: self.first[row["name"]] for row in first}

    def _may_hold(self, asker: Asker, parameters: int, form: Mapping[str, Any]) -> bool:
        """Return whether a model's nominal weights fit on the card; True if the engine converts
        them by itself, or other settings may move some of them."""
        if self.request.about not in ("load", "infer") or not self.request.settings.keys() <= BARE:
            return True
        packed = any(part.packed for part in asker.model().parts)
        kind = record(form.get("engine") or inference(asker, self.request))
        if "quantization" in form or (kind.reads == "gguf" and not packed):
            return True
        bits = PACKED if packed else PLAIN
        return parameters * bits <= 8 * self.room.usable.high * self.room.choice.count

    def _best(
        self, asker: Asker, forms: Iterable[Mapping[str, Any]]
    ) -> tuple[dict[str, Any], FitRequest | None]:
        """Return (facts, question) of the first format that fits; else the facts of the last format
        with an answer, and None."""
        best: dict[str, Any] = {}
        for form in forms:
            tried = self.request.planned(self.request.sized(form))
            report = _judged(asker, tried)
            if report is None:
                continue
            best = {**_told(report), **_verdict(report)}
            longest = report.derived["longest_context"] or 0
            too_long = 0 < longest < (self.request.settings.get("context") or 0)
            if too_long or report.derived.get("layers_on_card") is not None:  # the rest is in RAM
                best["fits"] = "no"
            if best["fits"] == "yes":
                return best, tried
            if report.derived.get("not_counted"):
                break  # smaller formats leave it out, too
        return best, None

    def add_contexts(self, rows: list[Row]) -> None:
        """Add the longest context to the first rows that fit, until the user stops it."""
        with kept_so_far():
            for number, name in enumerate(self.first):
                trying(partial(str, name), number + 1, len(self.first))
                _, asker, tried = self.first[name]
                rows[number] = {**rows[number], "context": _context(asker, tried)}


def _told(report: Report) -> dict[str, Any]:
    effective, quality = report.workload, loss(report)
    return {
        "format": effective["quantization"] or effective["dtype"],
        "quality": None if quality is None else quality.to_dict(),
        "engine": effective["engine"],
    }


def _usual_formats(
    asker: Asker, request: FitRequest, parameters: int, room: "Budget"
) -> Iterator[Mapping[str, Any]]:
    """Yield the formats in which people with that card serve a model, best first; none if the
    question or the weights fix the format."""
    from weighbridge.answers.remedies.formats import BITS

    free = request.inference is None and request.settings.keys().isdisjoint(NAMED)
    model = asker.model()
    words = purpose(model.parts[0].blueprint.cls) in OF_WORDS
    if request.about != "infer" or not free or not words or model.parts[0].library == "gguf":
        return
    card = room.choice.part
    kind = engine_of(card)
    have = 8 * room.usable.high * room.choice.count
    floats = plain(model, kind)
    if kind.server or not floats:
        yield {"engine": kind.name}
    if not floats:
        return
    forms = offered(kind, version(kind, None)[0], card)
    for form in (form for bits in WIDTHS for form in of_width(forms, bits)):
        if parameters * BITS[form] <= have:
            yield {"engine": kind.name, "quantization": kind.written.get(form, form)}


def _formats(
    asker: Asker, request: FitRequest, parameters: int, room: "Budget"
) -> Iterator[Mapping[str, Any]]:
    """Yield the settings of each format that can fit, best first."""
    from weighbridge.answers.remedies.formats import BITS, compiled

    have = 8 * room.usable.high * room.choice.count
    if parameters * LEAST.get(request.about, 0) > have:
        return
    yield {}
    if (
        request.about not in ("load", "infer")
        or {"quantization", "dtype"} & request.settings.keys()
    ):
        return
    engine = inference(asker, request)
    without_kernels = room.choice.part.vendor == "Apple" and not compiled(room.choice.part)
    elsewhere = (
        {"engine": usual(gguf=True).name} if without_kernels and request.inference is None else {}
    )
    kind = record(elsewhere.get("engine", engine))
    number, _ = version(kind, None if elsewhere else request.settings.get("engine_version"))
    for form in offered(kind, number, room.choice.part):
        if parameters * BITS[form] <= have and (not without_kernels or form.startswith("Q")):
            yield {"quantization": form, **elsewhere}
