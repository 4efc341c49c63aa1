"""The catalogues and the evidence as tables: what `weighbridge gpus`, `models` and `accuracy`
answer, and a screen of it."""

from collections.abc import Callable, Mapping
from typing import Any

from weighbridge import catalogue
from weighbridge._version import __version__
from weighbridge.accelerators import listing
from weighbridge.errors import NotFoundError, UsageError
from weighbridge.view.records import Screen
from weighbridge.web.asks import AnswerView
from weighbridge.web.screens import as_json
from weighbridge.wording import shown

Given = Mapping[str, Any]
Answer = tuple[dict[str, Any], Screen]
SCHEMA = "weighbridge.accuracy/1"  # rows alone
MOST_RANKED = 60  # models: each is asked about in several formats
MOST_TEXT = 200  # characters of a filter

TEXTS: Mapping[str, tuple[str, ...]] = {  # task -> its filters that are text
    "gpus": ("pattern", "min_memory", "vendor", "sort"),
    "models": ("pattern", "gpu", "gpu_memory", "for", "engine", "quantization", "min_context"),
    "accuracy": ("engine", "source"),
}
FLAGS: Mapping[str, tuple[str, ...]] = {
    "gpus": (*listing.TYPES, "nvlink"),
    "models": (),
    "accuracy": ("by_source",),
}


def table(ask: dict[str, Any], view: AnswerView) -> dict[str, Any]:
    """The answer to a task of TEXTS. Raises UsageError, or NotFoundError where nothing matches."""
    report, screen = answered(ask, view)
    return {"report": report, "screen": as_json(screen)}


def answered(ask: Mapping[str, Any], view: AnswerView) -> Answer:
    """The same, with the screen as it is drawn."""
    task = str(ask["task"])
    return TASKS[task](_filters(task, ask.get("workload")), view)


def _filters(task: str, given: Any) -> Given:
    if given is None:
        return {}
    known = (*TEXTS[task], *FLAGS[task])
    if not isinstance(given, dict) or not given.keys() <= set(known):
        raise UsageError(f"workload of {task} is an object; known: {', '.join(known)}")
    told = {name: value for name, value in given.items() if value is not None and value != ""}
    for name in told.keys() & set(TEXTS[task]):
        if not isinstance(told[name], str) or len(told[name]) > MOST_TEXT:
            raise UsageError(f"workload.{name} is text, not {shown(told[name])}")
    for name in told.keys() & set(FLAGS[task]):
        if not isinstance(told[name], bool):
            raise UsageError(f"workload.{name} is true or false, not {shown(told[name])}")
    return told


def _gpus(given: Given, view: AnswerView) -> Answer:
    from weighbridge.view.lists import gpus

    if given.get("sort") not in (None, *listing.SORTS):
        raise UsageError(f"sort is one of {', '.join(listing.SORTS)}, not {shown(given['sort'])}")
    cards, machines = listing.matching(given.get("pattern", ""), given)
    report = listing.to_dict(cards, machines)
    return report, gpus(cards, machines, view.lang, full=view.details, page=True)


def _models(given: Given, view: AnswerView) -> Answer:
    pattern = given.get("pattern", "")
    found = catalogue.search(pattern)
    if not found:
        raise NotFoundError(
            f"no model in the catalogue matches {shown(pattern)}: any id of the Hub (org/name) can "
            "be asked about instead"
        )
    if given.keys() - {"pattern"}:
        return _ranked([entry.name for entry in found], given, view)
    from weighbridge.view.lists import models

    return catalogue.to_dict(found), models(found, view.lang)


def _ranked(names: list[str], given: Given, view: AnswerView) -> Answer:
    """Models for a card, as `weighbridge models --gpu` ranks them."""
    if "gpu" not in given and "gpu_memory" not in given:
        raise UsageError("name the card to rank models for: 4090, or a size such as 24GiB")
    if len(names) > MOST_RANKED:
        raise UsageError(
            f"{len(names)} models match: name some of them (qwen3), so that at most {MOST_RANKED} "
            "are ranked, or use `weighbridge models --gpu`"
        )
    from weighbridge.questions.fit.ranking import models_for
    from weighbridge.view.lists import ranking as rank_screen

    own = {name: value for name, value in given.items() if name != "pattern"}
    ranking = models_for(names, own)
    return ranking.to_dict(), rank_screen(
        ranking, lang=view.lang, unit=view.unit, full=True, page=True
    )


def _accuracy(given: Given, view: AnswerView) -> Answer:
    from weighbridge.bounds.accuracy import rows
    from weighbridge.view.lists import accuracy

    found = rows(**given)
    return {"schema": SCHEMA, "version": __version__, "rows": found}, accuracy(found, view.lang)


TASKS: Mapping[str, Callable[[Given, AnswerView], Answer]] = {
    "gpus": _gpus,
    "models": _models,
    "accuracy": _accuracy,
}
