"""Screens as JSON: each block is an object with the field names of view/records.py."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.requests import failed
from weighbridge.base.errors import UsageError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.base.words import words_in
from weighbridge.faces.view.beside import column_heads, screen
from weighbridge.faces.view.records import Block, Screen
from weighbridge.memory.report.fit import Fit
from weighbridge.workload import MOST_BESIDE

if TYPE_CHECKING:
    from weighbridge.faces.web.asks import AnswerView
    from weighbridge.faces.web.protocol import One
    from weighbridge.memory.report import Report


def prices(answer: "Report | Fit", lang: str) -> list[list[str]]:
    """Return the costs of each remedy in a few words, a list per question of `fit`; [] for other
    answers."""
    from weighbridge.faces.view.changes import few

    if not isinstance(answer, Fit):
        return []
    return [[few(words_in(lang, page=True), r) for r in q.remedies] for q in answer.questions]


def as_json(screen: Screen) -> dict[str, Any]:
    """Return a screen as JSON: sections are lists of blocks, and the key "block" has the kind of a
    block."""
    return {
        "title": screen.title,
        "sections": [[_block_as_json(b) for b in section] for section in screen.sections],
        "footer": list(screen.footer),
        "warnings": list(screen.warnings),
        "lang": screen.lang,
    }


def _block_as_json(block: Block) -> dict[str, Any]:
    return {"block": type(block).__name__.lower(), **_plain(block)}


def _plain(value: Any) -> Any:
    """Return a value for JSON: records become objects, other tuples become lists."""
    if hasattr(value, "_asdict"):
        return {name: _plain(inner) for name, inner in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return value


# Several requests side by side


def asks_in(ask: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the requests of a comparison, without their views. Raises UsageError if there are too
    many or none."""
    asks = ask.get("asks")
    if not isinstance(asks, list) or not 1 <= len(asks) <= MOST_BESIDE:
        raise UsageError(sentence("compare.asks", most=MOST_BESIDE))
    for request in asks:
        if not isinstance(request, dict):
            raise UsageError(sentence("compare.request", value=shown(request)))
    return [{name: value for name, value in request.items() if name != "view"} for request in asks]


def beside(answers: "Sequence[One | WeighbridgeError]", view: "AnswerView") -> dict[str, Any]:
    """Return the reports or errors in order, with their labels and one screen of the reports.
    Raises the first error if nothing was answered."""
    reports = [answer for answer in answers if not isinstance(answer, WeighbridgeError)]
    if not reports:
        raise next(answer for answer in answers if isinstance(answer, WeighbridgeError))
    return {
        "reports": [
            failed(str(answer), answer.code)
            if isinstance(answer, WeighbridgeError)
            else answer.found.to_dict()
            for answer in answers
        ],
        "labels": named(reports),
        "screen": as_json(screen_of(reports, view)),
    }


def screen_of(answers: "Sequence[One]", view: "AnswerView") -> Any:
    """Return one screen of several answers. Raises UsageError if they cannot be compared."""
    reports = [answer.found for answer in answers]
    heads = named(answers)
    if len({isinstance(answer, Fit) for answer in reports}) > 1:
        raise UsageError(sentence("compare.fit"))
    return screen(reports, heads, lang=view.lang, unit=view.unit, page=True)


def named(answers: "Sequence[One]") -> list[str]:
    """Return one label per answer, made of the values in which it differs."""
    requests = [answer.request for answer in answers]
    tasks = {request["task"] for request in requests}
    models = [answer.found.model.reference for answer in answers]
    apart = [
        {**({"task": a["task"]} if len(tasks) > 1 else {}), **(a.get("workload") or {})}
        for a in requests
    ]
    return column_heads(models, apart)
