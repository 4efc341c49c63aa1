"""Renderers: a report in, a string out. Nothing here prints, computes or opens a file.

    json, quiet             of the report itself
    human, markdown, html   of its screen (weighbridge.view), which holds all words

`RENDERERS` names the module of each format; a renderer is imported when it is asked for.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from weighbridge.report import Report
    from weighbridge.view.records import Screen

RENDERERS = {
    "human": "weighbridge.render.terminal:human",
    "json": "weighbridge.render.as_json:as_json",
    "markdown": "weighbridge.render.markdown:markdown",
    "html": "weighbridge.render.html:html",
    "quiet": "weighbridge.render.quiet:quiet",
}
DATA = ("json", "quiet")  # forms that have no screen


class RenderOptions(NamedTuple):
    """What is shown of an answer, and on what."""

    unit: str | None = None
    details: bool = False
    explain: bool = False
    lang: str = "en"
    width: int = 80
    color: bool = False
    plain: bool = False  # a terminal that has no signs but those of ASCII


def renderer(name: str) -> Callable[..., str]:
    module, function = RENDERERS[name].split(":")
    found: Callable[..., str] = getattr(import_module(module), function)
    return found


def render(report: "Report", form: str, look: RenderOptions = RenderOptions()) -> str:  # noqa: B008
    """A report in one of the forms."""
    if form in DATA:
        return renderer(form)(report)
    from weighbridge.view import screen

    told = screen(
        report, lang=look.lang, unit=look.unit, details=look.details, explain=look.explain
    )
    return draw(told, form, look)


def draw(screen: "Screen", form: str, look: RenderOptions = RenderOptions()) -> str:  # noqa: B008
    """A screen in one of the forms that people read."""
    return renderer(form)(screen, look)
