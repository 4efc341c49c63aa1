"""Whether a pipeline generates images or video on a card, or is trained there, and how.

There is one question, answered as the user asked. Each remedy's change is a rung of the ladder, and
the first rung that gives the same result is the plan (`memory.report.plan`).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.fit.answers import accelerator
from weighbridge.answers.questions.fit.request import OPENS, has_card
from weighbridge.answers.remedies.pictures import sold_cards
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.memory.report.fit import Fit, Question, Solved
from weighbridge.memory.report.plan import Rung
from weighbridge.memory.report.verdict import under_words

if TYPE_CHECKING:
    from weighbridge.answers.questions.prepared import Prepared
    from weighbridge.memory.report import Report

METHODS: Mapping[str, str] = {"lora": "lora", "train": "full"}  # value of --for -> training method
NO_CARD = "no card of the catalogue surely fits it as asked"


def fit_pipeline(pipeline: "Prepared", settings: Mapping[str, Any], *, helped: bool) -> Fit:
    """Return the answer for the card that the user named, or for this machine's; without one, or to
    find the smallest, for the smallest card that fits. With `for` it is about training, on a card.

    `helped`: whether to search for changes that make it fit; with `as_published`, only for changes
    that leave the published weights as they are. Raises UsageError for settings that no pipeline
    has.
    """
    asked_for = {name: value for name, value in settings.items() if value is not None}
    smallest, words = asked_for.pop("smallest", None), asked_for.pop(OPENS, None)
    about = asked_for.pop("for", asked_for.pop("for_", None))
    if "max" in asked_for or about not in (None, *METHODS):
        raise UsageError(sentence("fit.of_pipelines"))
    strictly = bool(asked_for.pop("as_published", None))
    named = not asked_for.keys().isdisjoint(("gpu", "gpu_memory"))
    if smallest not in (None, "gpu") or (smallest is not None and named):
        raise UsageError(sentence("smallest.card", name=smallest))
    if not named and smallest is None and has_card():
        asked_for["gpu"] = "local"
    elif not named and about is not None:
        raise UsageError(sentence("fit_card"))
    elif not named:
        return _on_smallest(pipeline, asked_for, words, helped=helped, strictly=strictly)
    if about is not None:
        asked_for["method"] = METHODS[about]
    ask = pipeline.image if about is None else pipeline.train_image
    return _on_card(ask, asked_for, words, helped=helped, strictly=strictly)


def _on_smallest(
    pipeline: "Prepared",
    asked_for: Mapping[str, Any],
    words: Any,
    *,
    helped: bool,
    strictly: bool,
) -> Fit:
    """Return the answer for the smallest card that holds it as asked, or else one component at a
    time; for the largest card if none does."""
    from weighbridge.machines.accelerators.names import find

    found = pipeline.image(**asked_for).derived.get("smallest_cards") or {}
    name = found.get("") or found.get("model")
    part = find(name).part if name else sold_cards()[-1]
    there = {**asked_for, "gpu": part.id}
    fit = _on_card(pipeline.image, there, words, helped=helped, strictly=strictly)
    solved = Solved(unknown="gpu", value=None, question=fit.about, note=NO_CARD)
    if name and fit.plan.report is not None:
        solved = replace(
            solved,
            value=part.id,
            note=part.name,
            workload={"gpu": part.id, **fit.plan.settings},
            peak_bytes=fit.plan.report.peak.expected,
            launch=fit.plan.report.derived.get("launch"),
        )
    return replace(fit, solved=solved)


def _on_card(
    ask: "Callable[..., Report]",
    asked_for: Mapping[str, Any],
    words: Any,
    *,
    helped: bool,
    strictly: bool,
) -> Fit:
    report = ask(remedies=helped, **asked_for)
    remedies = [r for r in report.remedies if not (strictly and "quantization" in r.change)]
    report = replace(report, remedies=tuple(remedies))
    ladder = tuple(_rungs(ask, asked_for, report))
    about = "video" if report.workload["frames"] > 1 else "image"
    about = "train_image" if report.task == "train" else about
    questions = (Question(name=about, report=under_words(report, words) if words else report),)
    given = {**asked_for, **({OPENS: words} if words else {})}
    return Fit(
        model=report.model,
        accelerator=accelerator(questions),
        questions=questions,
        about=about,
        workload=given,
        ladder=ladder,
        warnings=report.warnings,
    )


def _rungs(
    ask: "Callable[..., Report]", asked_for: Mapping[str, Any], report: "Report"
) -> Iterator[Rung]:
    """Yield the question as it was asked, then with each remedy's change."""
    yield Rung(change={}, report=report)
    for remedy in report.remedies:
        changed = {**asked_for, **remedy.change}
        settings = {name: value for name, value in changed.items() if value is not None}
        yield Rung(change=remedy.change, report=ask(remedies=False, **settings))
