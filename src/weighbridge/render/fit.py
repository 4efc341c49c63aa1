"""The answer of `fit` as text: a line for each question."""

import json

from weighbridge.fitted import Fit
from weighbridge.render import Look, draw
from weighbridge.view.fit import screen
from weighbridge.view.records import Screen
from weighbridge.wording import safe_json


def _screen(found: Fit, look: Look) -> Screen:
    return screen(found, lang=look.lang, unit=look.unit, details=look.details)


def as_json(found: Fit) -> str:
    return safe_json(json.dumps(found.to_dict(), indent=2, ensure_ascii=False)) + "\n"


def quiet(found: Fit) -> str:
    """The verdict that the exit code is about: yes, no or unknown."""
    return f"{found.fits}\n"


def human(found: Fit, look: Look = Look()) -> str:  # noqa: B008
    return draw(_screen(found, look), "human", look)


def markdown(found: Fit, look: Look = Look()) -> str:  # noqa: B008
    return draw(_screen(found, look), "markdown", look)


def html(found: Fit, look: Look = Look()) -> str:  # noqa: B008
    return draw(_screen(found, look), "html", look)
