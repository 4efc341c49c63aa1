"""Solve for a number: the largest that still fits, put back into the same question.

    fits(n)   the question's verdict with n as the setting is "yes"
    found     fits(n), and not fits(n + 1)

Peaks grow with the number, but not everywhere: sliding-window caches stop growing, and engines
switch kernels and prompt chunks. The search keeps one end that fits and one that does not until
they are neighbours, so its result has that property even if other numbers do, too: a larger number
that fits after one that does not is not looked for. `searched_to` is the upper end of the search.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

from weighbridge.answers.estimate.limits import searched
from weighbridge.answers.questions.fit.answers import (
    REFUSED,
    Asker,
    inference,
    judged,
    reads_text,
)
from weighbridge.answers.questions.fit.request import MAX, FitRequest, workload
from weighbridge.base.errors import UsageError
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Fit, Question, Solved, question_of
from weighbridge.workload import TRAIN

OF_TEXT = ("context", "seq-len", "users")  # numbers that only a text model has
UNBOUNDED = 1 << 20  # tokens: the end if the model has no maximum, as for the limits of a report
REQUESTS = 1 << 16  # concurrent requests, or sequences per batch
RANKS = 1 << 12  # LoRA rank: more than the width of any layer it adapts
DERIVED: Mapping[str, Literal["largest_context", "largest_batch_size"]] = {
    "context": "largest_context",
    "batch_size": "largest_batch_size",
}
TENTHS = 10**8  # parameters per step of the model's size: 0.1 B
LARGEST = 10**5  # steps: a model of 10,000 B

Margin = Callable[[int], int | None]  # bytes to spare if it surely fits, else a negative number


@dataclass(frozen=True, slots=True)
class SearchBounds:
    """The upper end of a search, its start, and a guess of the result."""

    most: int
    near: int = 1
    guess: int | None = None


def solved(asker: Asker, request: FitRequest, answer: Fit, sized: Callable[[str], Asker]) -> Solved:
    """Return the largest value that fits. Raises UsageError if the question does not have that
    setting."""
    assert request.most is not None
    setting, questions = MAX[request.most]
    if request.about not in questions:
        raise UsageError(
            sentence(
                "max.about", name=request.most, known=" or ".join(questions), task=request.about
            )
        )
    if request.most in OF_TEXT and not reads_text(asker.model()):
        raise UsageError(sentence("max.no_text", name=request.most, model=answer.model.name))
    if setting in request.settings:
        flag = f"--{setting.replace('_', '-')}"
        raise UsageError(sentence("max.asked", name=request.most, flag=flag))
    if request.most == "model-size":
        return _size(request, sized)
    return _setting(asker, request, answer, setting)


def _setting(asker: Asker, request: FitRequest, answer: Fit, setting: str) -> Solved:
    """Return the largest value for an answer's plan."""
    assert request.most is not None
    question, plan = answer.asked, answer.plan
    if plan.here and plan.report is not None:
        question = replace(question, report=plan.report)
    report = question.report
    reason = _unsayable(question)
    if report is None or reason:
        return Solved(unknown=request.most, value=None, question=question.name, note=reason)
    whole = "layers_on_card" not in report.derived
    margin = cache(
        lambda n: margin_of(_asked(asker, request, question.name, {setting: n}), whole=whole)
    )
    bounds = _bounds(report, request, setting)
    value = largest(margin, bounds)
    return Solved(
        unknown=request.most,
        value=value,
        question=question.name,
        searched_to=bounds.most,
        workload={**plan.settings, setting: value} if value else None,
        note="" if value else f"not even 1 of --{setting.replace('_', '-')} fits",
    )


def _unsayable(question: Question) -> str:
    """Return why nothing can be solved for; "" if something can."""
    if question.report is None:
        return question.reason
    missing = question.report.derived.get("not_counted")
    return sentence("not_counted", what=clauses(*missing)) if missing else ""


def _asked(
    asker: Asker, request: FitRequest, name: str, change: Mapping[str, Any]
) -> Report | None:
    """Return the report with a setting changed; None if the model or the engine refuses it."""
    changed = replace(request, settings={**request.settings, **change})
    try:
        return judged(asker, workload(name, changed, inference(asker, changed)))
    except REFUSED:
        return None


def margin_of(report: Report | None, *, whole: bool = False) -> int | None:
    """Return the bytes to spare by the high estimate; negative if it does not surely fit, or with
    `whole` if part of it is in RAM."""
    if report is None or report.verdict is None:
        return None
    verdict = report.verdict
    spare = verdict.usable.low - verdict.per_device.high
    if verdict.fits == "yes" and not (whole and "layers_on_card" in report.derived):
        return max(spare, 0)
    return spare if spare < 0 else -1


def _bounds(report: Report, request: FitRequest, setting: str) -> SearchBounds:
    longest = report.derived.get("longest_context") or UNBOUNDED
    most = {
        "context": longest,
        "seq_len": longest,
        "batch_size": request.settings.get("max_num_seqs") or REQUESTS,
        "lora_r": min(RANKS, int(TRAIN["lora_r"].most)),
    }[setting]
    searched = report.derived.get("searched_to") or {}
    near = int(report.setting(setting) or 1)
    return SearchBounds(
        most=searched.get(setting, most),
        near=min(near, most),
        guess=report.derived.get(DERIVED[setting]) if setting in DERIVED else None,
    )


def largest(margin: Margin, bounds: SearchBounds) -> int:
    """Return an n that fits while n + 1 does not; `most` if that fits; 0 if 1 does not."""

    def holds(n: int) -> bool:
        spare = margin(n)
        return spare is not None and spare >= 0

    n = bounds.guess
    if n is not None and (n == 0 or holds(n)) and (n >= bounds.most or not holds(n + 1)):
        return n
    return searched(holds, bounds.most, bounds.near, margin)


def _size(request: FitRequest, sized: Callable[[str], Asker]) -> Solved:
    """Return the largest dense model of usual shape that fits: a bare size, estimated roughly."""
    if question_of(request.about)[0] == "train":
        note = "a bare size has no layers to train: --for load or infer"
        return Solved(unknown="model-size", value=None, question=request.about, note=note)

    @cache
    def margin(n: int) -> int | None:
        return margin_of(_asked(sized(bare(n)), request, request.about, {}))

    n = largest(margin, SearchBounds(most=LARGEST, near=70))
    return Solved(
        unknown="model-size",
        value=n * TENTHS,
        question=request.about,
        searched_to=LARGEST * TENTHS,
        note=sentence("rough", size=bare(n)) if n else "",
    )


def bare(tenths: int) -> str:
    """Return a size as a model reference: 7B, 13.5B."""
    return f"{tenths / 10:g}B" if tenths < 10**6 else f"{tenths // 10}B"
