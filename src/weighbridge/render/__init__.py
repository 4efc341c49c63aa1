"""Renderers: a report in, a string out. Nothing here prints, computes or opens a file.

    json, quiet             of the answer itself (data.py)
    human, markdown, html   of its screen (weighbridge.view), which holds all words
    bounded.py              the whole answer within so many characters, for agents

`RENDERERS` names the module of each format; a renderer is imported when it is asked for.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from weighbridge.records import NamedTuple

if TYPE_CHECKING:
    from weighbridge.report import Report
    from weighbridge.report.fit import Fit
    from weighbridge.report.together import Services
    from weighbridge.view.records import Screen
    from weighbridge.view.shown import ShownPage

RENDERERS = {
    "human": "weighbridge.render.terminal:human",
    "json": "weighbridge.render.data:as_json",
    "markdown": "weighbridge.render.markdown:markdown",
    "html": "weighbridge.render.html:html",
    "quiet": "weighbridge.render.data:quiet",
}
DATA = ("json", "quiet")  # forms that have no screen


class RenderOptions(NamedTuple):
    """The choices of who reads an answer: what is shown, and on what."""

    unit: str | None = None
    details: bool = False
    explain: bool = False
    lang: str = "en"
    width: int = 80
    color: bool = False
    plain: bool = False  # a terminal that has no signs but those of ASCII


def renderer(name: str) -> Callable[..., str]:
    """Return the function that writes one form."""
    module, function = RENDERERS[name].split(":")
    found: Callable[..., str] = getattr(import_module(module), function)
    return found


def render(
    answer: "Report | Fit | Services",
    form: str,
    look: RenderOptions = RenderOptions(),  # noqa: B008
) -> str:
    """Return a report, or an answer of `fit` or about several models at once, in one of the
    forms."""
    if form in DATA:
        return renderer(form)(answer)
    return draw(screen_of(answer, look), form, look)


def beside(
    answers: "Sequence[Report | Fit]",
    labels: Sequence[str],
    form: str,
    look: RenderOptions = RenderOptions(),  # noqa: B008
) -> str:
    """Return several answers of one command in one of the forms, each under its label."""
    if form in DATA:
        from weighbridge.render.data import several

        return several(answers, form)
    from weighbridge.view import beside as view

    return draw(view.screen(answers, labels, lang=look.lang, unit=look.unit), form, look)


def screen_of(
    answer: "Report | Fit | Services", look: RenderOptions, page: "ShownPage | None" = None
) -> "Screen":
    """Return the screen of an answer; without `page` that of the command line."""
    from weighbridge.report import Report

    if isinstance(answer, Report):
        from weighbridge.view import screen

        explain, lang = look.explain, look.lang
        return screen(
            answer, lang=lang, unit=look.unit, details=look.details, explain=explain, page=page
        )
    from weighbridge.report.together import Services

    if isinstance(answer, Services):
        from weighbridge.view import together

        return together.screen(answer, lang=look.lang, unit=look.unit)
    from weighbridge.view import fit

    return fit.screen(
        answer, lang=look.lang, unit=look.unit, details=look.details, page=page is not None
    )


def draw(screen: "Screen", form: str, look: RenderOptions = RenderOptions()) -> str:  # noqa: B008
    """Return a screen in one of the forms that people read."""
    return renderer(form)(screen, look)
