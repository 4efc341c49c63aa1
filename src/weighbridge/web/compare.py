"""Several requests beside each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.errors import UsageError, WeighbridgeError
from weighbridge.questions.requests import failed
from weighbridge.report.fit import Fit
from weighbridge.settings import MOST_BESIDE
from weighbridge.view import beside as columns
from weighbridge.view.beside import column_heads
from weighbridge.web.screens import as_json
from weighbridge.wording import shown

if TYPE_CHECKING:
    from weighbridge.web.asks import AnswerView
    from weighbridge.web.protocol import One


def asks_in(ask: dict[str, Any]) -> list[dict[str, Any]]:
    """The requests of a comparison, without a view of their own. Raises UsageError."""
    asks = ask.get("asks")
    if not isinstance(asks, list) or not 1 <= len(asks) <= MOST_BESIDE:
        raise UsageError(f'compare takes "asks": a list of 1 to {MOST_BESIDE} requests')
    for one in asks:
        if not isinstance(one, dict):
            raise UsageError(f"a request is an object with task and model, not {shown(one)}")
    return [{name: value for name, value in one.items() if name != "view"} for one in asks]


def beside(answers: "Sequence[One | WeighbridgeError]", view: "AnswerView") -> dict[str, Any]:
    """Every report or error in its place, and one screen of the reports. Raises the first error
    where nothing was answered."""
    told = [one for one in answers if not isinstance(one, WeighbridgeError)]
    if not told:
        raise next(one for one in answers if isinstance(one, WeighbridgeError))
    return {
        "reports": [
            failed(str(one), one.code) if isinstance(one, WeighbridgeError) else one.found.to_dict()
            for one in answers
        ],
        "labels": named(told),
        "screen": as_json(screen_of(told, view)),
    }


def screen_of(told: "Sequence[One]", view: "AnswerView") -> Any:
    """The screen of several answers. Raises UsageError where they cannot stand together."""
    found = [one.found for one in told]
    heads = named(told)
    fits = [one for one in found if isinstance(one, Fit)]
    reports = [one for one in found if not isinstance(one, Fit)]
    if fits and reports:
        raise UsageError("answers of fit stand beside answers of fit: compare one or the other")
    if fits:
        return columns.fits(fits, heads, lang=view.lang, unit=view.unit)
    return columns.reports(reports, heads, lang=view.lang, unit=view.unit)


def named(told: "Sequence[One]") -> list[str]:
    """What tells each answer from the others."""
    asked = [one.request for one in told]
    tasks = {one["task"] for one in asked}
    models = [one.found.model.reference for one in told]
    apart = [
        {**({"task": a["task"]} if len(tasks) > 1 else {}), **(a.get("workload") or {})}
        for a in asked
    ]
    return column_heads(models, apart)
