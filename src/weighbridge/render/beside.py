"""Several answers in one of the forms; in JSON a list of what each alone would be."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.render import RenderOptions, draw
from weighbridge.render.as_json import json_text
from weighbridge.report.fit import Fit

if TYPE_CHECKING:
    from weighbridge.view.records import Screen


def render(answers: Sequence[Any], labels: Sequence[str], form: str, look: RenderOptions) -> str:
    """All of them: reports of one command, or answers of `fit`."""
    if form == "json":
        listed = [answer.to_dict() for answer in answers]
        return json_text(listed)
    if form == "quiet":
        return "".join(_quiet(answer) for answer in answers)
    return draw(_screen(answers, labels, look), form, look)


def _quiet(answer: Any) -> str:
    return f"{answer.fits if isinstance(answer, Fit) else answer.peak.expected}\n"


def _screen(answers: Sequence[Any], labels: Sequence[str], look: RenderOptions) -> "Screen":
    from weighbridge.view import beside

    if isinstance(answers[0], Fit):
        return beside.fits(answers, labels, lang=look.lang, unit=look.unit)
    return beside.reports(answers, labels, lang=look.lang, unit=look.unit)
