"""Renderers: a report in, a string out. Nothing here prints, computes or opens a file.

`RENDERERS` names the module of each format; a renderer is imported when it is asked for.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weighbridge.report import Report

RENDERERS = {
    "human": "weighbridge.render.human:human",
    "json": "weighbridge.render.as_json:as_json",
    "markdown": "weighbridge.render.markdown:markdown",
    "quiet": "weighbridge.render.quiet:quiet",
}


def renderer(name: str) -> Callable[..., str]:
    module, function = RENDERERS[name].split(":")
    found: Callable[..., str] = getattr(import_module(module), function)
    return found


def render(report: "Report", form: str, **options: object) -> str:
    return renderer(form)(report, **options)
