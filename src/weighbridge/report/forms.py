"""How an answer shows itself: renderers read answers, so an answer finds its renderer by name."""

from importlib import import_module
from typing import Any

RENDERER = "weighbridge.render.forms"


class Shown:
    """An answer that prints itself, and that a notebook shows."""

    __slots__ = ()

    def __str__(self) -> str:
        return _drawn("text", self)

    def _repr_markdown_(self) -> str:
        return _drawn("markdown", self)

    def _repr_html_(self) -> str:
        return _drawn("html", self)


def _drawn(form: str, answer: Any) -> str:
    drawn: str = getattr(import_module(RENDERER), form)(answer)
    return drawn
