"""The catalogues and the published measurements as tables: the answers of `weighbridge gpus`,
`models` and `accuracy`, each with its screen."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from weighbridge.base._version import __version__
from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.faces.view.records import Screen
from weighbridge.faces.web.asks import AnswerView, one_of
from weighbridge.faces.web.screens import as_json
from weighbridge.machines.accelerators import listing
from weighbridge.models import catalogue
from weighbridge.models.catalogue import listing as models_listing
from weighbridge.models.catalogue import pipelines
from weighbridge.models.catalogue.uses import OF_WORDS, of

Given = Mapping[str, Any]
Answer = tuple[dict[str, Any], Screen]
SCHEMA = "weighbridge.accuracy/1"  # schema of the accuracy table
MOST_RANKED = 60  # most models to rank; each is estimated in several formats
MOST_TEXT = 200  # most characters of a filter

LISTED = {"pattern", "use", "sort"}  # filters of models that need no ranking

TEXTS: Mapping[str, tuple[str, ...]] = {  # task -> its filters that are text
    "gpus": ("pattern", "min_memory", "vendor", "use", "sort"),
    "models": (
        *("pattern", "use", "sort", "gpu", "gpu_memory", "for", "engine", "quantization"),
        "min_context",
    ),
    "accuracy": ("engine", "source"),
}
FLAGS: Mapping[str, tuple[str, ...]] = {
    "gpus": (*listing.TYPES, "nvlink"),
    "models": (),
    "accuracy": ("by_source",),
}


def table(ask: dict[str, Any], view: AnswerView) -> dict[str, Any]:
    """Return the answer to a task of TEXTS: `report` and `screen`, as JSON. Raises UsageError, or
    NotFoundError if nothing matches."""
    report, screen = answered(ask, view)
    return {"report": report, "screen": as_json(screen)}


def answered(ask: Mapping[str, Any], view: AnswerView) -> Answer:
    """Return the report of a task of TEXTS, and its screen as a record."""
    task = str(ask["task"])
    return TASKS[task](_checked_filters(task, ask.get("workload")), view)


def _checked_filters(task: str, workload: Any) -> Given:
    if workload is None:
        return {}
    known = (*TEXTS[task], *FLAGS[task])
    if not isinstance(workload, dict) or not workload.keys() <= set(known):
        raise UsageError(sentence("workload.object", task=task, known=", ".join(known)))
    filters = {name: value for name, value in workload.items() if value is not None and value != ""}
    for name, value in filters.items():
        if name in FLAGS[task] and not isinstance(value, bool):
            raise UsageError(sentence("is_bool", name=f"workload.{name}", value=shown(value)))
        if name in TEXTS[task] and (not isinstance(value, str) or len(value) > MOST_TEXT):
            raise UsageError(sentence("is_text", name=f"workload.{name}", value=shown(value)))
    return filters


def _gpus_table(filters: Given, view: AnswerView) -> Answer:
    from weighbridge.faces.view.lists import gpus

    one_of("sort", filters.get("sort", listing.SORTS[0]), listing.SORTS)
    cards, machines = listing.matching(filters.get("pattern", ""), filters)
    report = listing.to_dict(cards, machines)
    return report, gpus(cards, machines, view.lang, full=view.details, page=True)


def _models(filters: Given, view: AnswerView) -> Answer:
    entries = models_listing.matching(filters.get("pattern", ""), filters)
    makers = [] if "use" in filters else pipelines.search(filters.get("pattern", ""))
    if filters.keys() - LISTED:
        if not filters.keys() & LISTED:
            entries = [entry for entry in entries if of(entry) in OF_WORDS][:MOST_RANKED]
        named = [one.name for one in makers] if not entries else []
        return _ranking_table([entry.name for entry in entries], filters, view, named)
    from weighbridge.faces.view.lists import models

    return catalogue.to_dict(entries, makers), models(entries, view.lang, makers)


def _ranking_table(
    names: list[str], filters: Given, view: AnswerView, makers: Sequence[str] = ()
) -> Answer:
    """Return the ranking of models, or of pipelines without any models, for a card, and its
    screen."""
    if "gpu" not in filters and "gpu_memory" not in filters:
        raise UsageError(sentence("rank_card", how="4090, or a size such as 24GiB"))
    if len(names) > MOST_RANKED:
        raise UsageError(sentence("many_models", count=len(names), most=MOST_RANKED))
    from weighbridge.answers.questions.fit.pipelines import FIRST, with_pipelines
    from weighbridge.answers.questions.fit.ranking import models_for
    from weighbridge.faces.view.ranks import ranking as rank_screen

    settings = {name: value for name, value in filters.items() if name not in LISTED}
    ranking = models_for(names, settings)
    if makers:
        ranking = with_pipelines(ranking, makers, settings, shown=FIRST)
    return ranking.to_dict(), rank_screen(
        ranking, lang=view.lang, unit=view.unit, full=True, page=True
    )


def _accuracy_table(filters: Given, view: AnswerView) -> Answer:
    from weighbridge.answers.bounds.accuracy import rows
    from weighbridge.faces.view.lists import accuracy

    figures = rows(**filters)
    return {"schema": SCHEMA, "version": __version__, "rows": figures}, accuracy(figures, view.lang)


TASKS: Mapping[str, Callable[[Given, AnswerView], Answer]] = {
    "gpus": _gpus_table,
    "models": _models,
    "accuracy": _accuracy_table,
}
