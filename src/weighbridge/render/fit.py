"""The answer of `fit` as text: a line for each question."""

from weighbridge.render import RenderOptions, draw
from weighbridge.render.as_json import json_text
from weighbridge.report.fit import Fit
from weighbridge.view.fit import screen


def as_json(found: Fit) -> str:
    return json_text(found.to_dict())


def quiet(found: Fit) -> str:
    """The verdict that the exit code is about: yes, no or unknown."""
    return f"{found.fits}\n"


def drawn(found: Fit, form: str, look: RenderOptions = RenderOptions()) -> str:  # noqa: B008
    """Draw the answer of `fit` in one of the forms that people read."""
    told = screen(found, lang=look.lang, unit=look.unit, details=look.details)
    return draw(told, form, look)


DATA = {"json": as_json, "quiet": quiet}
