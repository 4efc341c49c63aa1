"""Ranks: the cards of the catalogue for a model, and its models for a card.

A model is asked about in the best format that can fit, best first: as it is published, then what
its engine loads it in (remedies/formats.py). A format whose bare bits are more than the card has is
passed over without being asked. The context is the longest that fits in that format, to 256 tokens.

    models    what fits first, the most parameters first
    cards     what fits first, the least memory first
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from weighbridge.engines.reads import offered
from weighbridge.engines.table import record, usual, version
from weighbridge.fitting.answers import REFUSED, Asker, inference, judged, reads_text
from weighbridge.fitting.hardware import cards, weights
from weighbridge.fitting.request import FitRequest, asked, workload
from weighbridge.fitting.search import UNBOUNDED, SearchBounds, largest, margin_of
from weighbridge.report import Report
from weighbridge.report.fit import Ranking
from weighbridge.units import ceil_div, parse_count

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget
    from weighbridge.accelerators.parts import Part

Row = Mapping[str, Any]
RANK = {"yes": 0, "unknown": 1, "no": 2}
LEAST = {"lora": 16, "train": 64}  # bits of a parameter: weights; with gradients and Adam's states
STEP = 256  # tokens: contexts of a rank are found to so many
TASKS = {  # end of a class's name -> what it is for
    "ForCausalLM": "text",
    "LMHeadModel": "text",
    "ForMaskedLM": "encoder",
    "ForImageClassification": "images",
    "ForSpeechSeq2Seq": "speech",
    "ForCTC": "speech",
    "ForConditionalGeneration": "text from text, images or sound",
}


def gpus(asker: Asker, a: FitRequest) -> Ranking:
    """Every card of the catalogue for one model, by the question that was asked."""
    from weighbridge.accelerators.parts import parts

    bare = _judged(asker, replace(a, settings=_without_device(a.settings)))
    least = 0 if bare is None else weights(bare)
    rows = [_card(asker, a, part, least) for part in cards(parts().values())]
    rows.sort(key=lambda r: (RANK[r["fits"]], r["usable_bytes"], r["id"]))
    return Ranking(about=a.about, of="gpus", rows=tuple(rows), model=asker.model().name)


def _without_device(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in settings.items() if n not in ("gpu", "gpu_memory", "headroom")}


def _card(asker: Asker, a: FitRequest, part: "Part", least: int) -> Row:
    usable = part.visible.bytes
    row = {
        "id": part.id,
        "name": part.name,
        "marketed_gb": part.marketed_gb,
        "fits": "no",
        "usable_bytes": usable.low,
        "peak_bytes": None,
        "margin_bytes": None,
        "context": None,
    }
    if usable.high < least:
        return row
    named = replace(a, settings={**a.settings, "gpu": part.id})
    return {**row, **_measures(asker, named, _judged(asker, named))}


def _judged(asker: Asker, a: FitRequest) -> Report | None:
    try:
        return judged(asker, workload(a.about, a, inference(asker, a)))
    except REFUSED:
        return None


def _measures(asker: Asker, a: FitRequest, report: Report | None) -> dict[str, Any]:
    """Verdict, peak, margin, and the context that fits."""
    if report is None or report.verdict is None:
        return {"fits": "unknown"}
    v = report.verdict
    return {
        "fits": v.fits,
        "usable_bytes": v.usable_bytes,
        "peak_bytes": v.per_device.expected,
        "margin_bytes": v.margin_bytes,
        "context": _context(asker, a, report) if v.fits == "yes" else None,
    }


def _context(asker: Asker, a: FitRequest, report: Report) -> int | None:
    """The longest context that fits, where the question has one."""
    if a.about != "infer" or not reads_text(asker.model()):
        return None
    given = int(report.workload.get("context") or 1)
    most = max(report.derived.get("longest_context") or UNBOUNDED, given)

    @cache
    def margin(steps: int) -> int | None:
        n = min(given + (steps - 1) * STEP, most)
        if n == given:
            return margin_of(report)
        return margin_of(_judged(asker, replace(a, settings={**a.settings, "context": n})))

    last = 1 + ceil_div(most - given, STEP)
    end = margin(last)
    if end is not None and end >= 0:
        return most
    return given + (largest(margin, SearchBounds(most=last, fails=last)) - 1) * STEP


def models_for(
    names: list[str], opened: Callable[[str], Asker], given: Mapping[str, Any]
) -> Ranking:
    """Models for a card, by settings as they were given: `min_context` and those of `fit`."""
    least = given.get("min_context")
    own = {name: value for name, value in given.items() if name != "min_context"}
    return models(
        names, opened, asked(own), least=None if least is None else parse_count(str(least))
    )


def models(
    names: "list[str]", opened: Callable[[str], Asker], a: FitRequest, *, least: int | None = None
) -> Ranking:
    """Models of the catalogue for one card. `least`: those with a context of so many tokens."""
    from weighbridge.accelerators.budget import budget

    given = a.settings
    room = budget(given.get("gpu"), given.get("gpu_memory"), given.get("headroom"))
    assert room is not None
    if least is not None and a.about == "infer":
        a = replace(a, settings={**given, "context": least})
    rows = [_model(opened(name), a, room, name) for name in names]
    rows.sort(key=lambda r: (RANK[r["fits"]], -r["parameters"], r["name"]))
    return Ranking(
        about=a.about,
        of="models",
        rows=tuple(rows),
        accelerator=room.choice.part.name,
        count=room.choice.count,
    )


def _model(asker: Asker, a: FitRequest, room: "Budget", name: str) -> Row:
    model = asker.model()
    parameters = sum(part.blueprint.parameters for part in model.parts)
    row = {
        "name": name,
        "task": purpose(model.parts[0].blueprint.cls),
        "parameters": parameters,
        "format": None,
        "engine": None,
        "fits": "no",
        "usable_bytes": room.usable.low,
        "peak_bytes": None,
        "margin_bytes": None,
        "context": None,
    }
    best: dict[str, Any] = {}
    for form in _formats(asker, a, parameters, room):
        named = form.get("engine", a.inference)
        tried = replace(a, settings={**a.settings, **form}, inference=named)
        report = _judged(asker, tried)
        if report is None:
            continue
        best = {**_told(report), **_measures(asker, tried, report)}
        if best["fits"] == "yes" or report.derived.get("not_counted"):
            break  # what is not counted is not counted in smaller formats, either
    return {**row, **best}


def _told(report: Report) -> dict[str, Any]:
    w = report.workload
    return {"format": w["quantization"] or w["dtype"], "engine": w["engine"]}


def _formats(
    asker: Asker, a: FitRequest, parameters: int, room: "Budget"
) -> Iterator[Mapping[str, Any]]:
    """Settings of each format that can fit, best first."""
    from weighbridge.remedies.formats import BITS, compiled

    have = 8 * room.usable.high * room.choice.count
    if parameters * LEAST.get(a.about, 0) > have:
        return
    yield {}
    if a.about not in ("load", "infer") or {"quantization", "dtype"} & a.settings.keys():
        return
    engine = inference(asker, a)
    own = room.choice.part.vendor == "Apple" and not compiled(room.choice.part)
    elsewhere = {"engine": usual(gguf=True).name} if own and a.inference is None else {}
    kind = record(elsewhere.get("engine", engine))
    number, _ = version(kind, None if elsewhere else a.settings.get("engine_version"))
    for form in offered(kind, number, room.choice.part):
        if parameters * BITS[form] <= have and (not own or form.startswith("Q")):
            yield {"quantization": form, **elsewhere}


def purpose(cls: str) -> str:
    """What a class is for, in a word or two."""
    return next((told for end, told in TASKS.items() if cls.endswith(end)), "features")
