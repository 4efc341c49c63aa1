"""A screen as JSON: blocks as objects, everything in them under the names of view/records.py."""

from typing import TYPE_CHECKING, Any

from weighbridge.view.records import Block, Screen
from weighbridge.view.shown import ShownPage

if TYPE_CHECKING:
    from weighbridge.report import Report
    from weighbridge.report.fit import Fit
    from weighbridge.web.asks import AnswerView


def screen_of(found: "Report | Fit", view: "AnswerView", page: ShownPage | None) -> Screen:
    """The screen of one answer; without `page` that of the command line."""
    told: dict[str, Any] = {"lang": view.lang, "unit": view.unit, "details": view.details}
    from weighbridge.report.fit import Fit

    if isinstance(found, Fit):
        from weighbridge.view import fit

        return fit.screen(found, **told, page=page is not None)
    from weighbridge.view import screen

    return screen(found, **told, explain=view.explain, page=page)


def prices(found: "Report | Fit", lang: str) -> list[list[str]]:
    """What each remedy of each question of `fit` costs, in a few words."""
    from weighbridge.report.fit import Fit
    from weighbridge.view.changes import few
    from weighbridge.words import words_in

    if not isinstance(found, Fit):
        return []
    return [[few(words_in(lang, page=True), r) for r in q.remedies] for q in found.questions]


def as_json(screen: Screen) -> dict[str, Any]:
    """Sections are lists of blocks; each block names its kind under "block"."""
    return {
        "title": screen.title,
        "sections": [[_block(b) for b in section] for section in screen.sections],
        "footer": list(screen.footer),
        "warnings": list(screen.warnings),
        "lang": screen.lang,
        "brief": [_block(b) for b in screen.brief],
    }


def _block(block: Block) -> dict[str, Any]:
    return {"block": type(block).__name__.lower(), **_plain(block)}


def _plain(value: Any) -> Any:
    """Records as objects, other tuples as lists."""
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value
