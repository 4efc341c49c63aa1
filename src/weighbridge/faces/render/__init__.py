"""Renderers: a report in, a string out. They print nothing, compute nothing and open no file.

    json, quiet             from the answer itself (data.py)
    human, markdown, html   from its screen (weighbridge.faces.view), which holds all words
    bounded.py              the complete answer within 40,000 characters, for agents

`RENDERERS` names the module of each format; a renderer is imported when it is first used.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from weighbridge.faces.view.records import RenderOptions

if TYPE_CHECKING:
    from weighbridge.faces.view.records import Screen
    from weighbridge.faces.view.shown import ShownPage
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit
    from weighbridge.memory.report.together import Services

RENDERERS = {
    "human": "weighbridge.faces.render.terminal:human",
    "json": "weighbridge.faces.render.data:as_json",
    "markdown": "weighbridge.faces.render.markdown:markdown",
    "html": "weighbridge.faces.render.html:html",
    "quiet": "weighbridge.faces.render.data:quiet",
}
DATA = ("json", "quiet")  # forms that have no screen


def renderer(name: str) -> Callable[..., str]:
    """Return the function that writes the output form `name`."""
    module, function = RENDERERS[name].split(":")
    render: Callable[..., str] = getattr(import_module(module), function)
    return render


def render(
    answer: "Report | Fit | Services",
    form: str,
    look: RenderOptions = RenderOptions(),  # noqa: B008
) -> str:
    """Return an answer as text in one of the forms: a report, an answer of `fit`, or one about
    several models together."""
    if form in DATA:
        return renderer(form)(answer)
    return draw(screen_of(answer, look), form, look)


def beside(
    answers: "Sequence[Report | Fit]",
    labels: Sequence[str],
    form: str,
    look: RenderOptions = RenderOptions(),  # noqa: B008
) -> str:
    """Return several answers of one command as text in one of the forms, each under its label."""
    if form in DATA:
        from weighbridge.faces.render.data import several

        return several(answers, form)
    from weighbridge.faces.view import beside as view

    return draw(view.screen(answers, labels, lang=look.lang, unit=look.unit), form, look)


def screen_of(
    answer: "Report | Fit | Services", look: RenderOptions, page: "ShownPage | None" = None
) -> "Screen":
    """Return the screen of an answer; that of the command line without a `page`."""
    from weighbridge.memory.report.together import Services

    if isinstance(answer, Services):
        from weighbridge.faces.view import together

        return together.screen(answer, lang=look.lang, unit=look.unit)
    from weighbridge.memory.report.fit import Fit

    details, lang = look.details, look.lang
    if isinstance(answer, Fit) and not answer.pictures:
        from weighbridge.faces.view import fit

        return fit.screen(answer, lang=lang, unit=look.unit, details=details, page=page is not None)
    from weighbridge.faces.view import screen

    return screen(
        answer, lang=lang, unit=look.unit, details=details, explain=look.explain, page=page
    )


def draw(screen: "Screen", form: str, look: RenderOptions = RenderOptions()) -> str:  # noqa: B008
    """Return a screen as text in one of the forms that people read."""
    return renderer(form)(screen, look)
