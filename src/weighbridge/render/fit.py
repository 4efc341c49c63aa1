"""The answer of `fit` as text: a line for each question."""

import json

from weighbridge.fitted import Fit
from weighbridge.render import Look, draw
from weighbridge.view.fit import screen
from weighbridge.wording import safe_json


def as_json(found: Fit) -> str:
    return safe_json(json.dumps(found.to_dict(), indent=2, ensure_ascii=False)) + "\n"


def quiet(found: Fit) -> str:
    """The verdict that the exit code is about: yes, no or unknown."""
    return f"{found.fits}\n"


def human(found: Fit, look: Look = Look()) -> str:  # noqa: B008
    return draw(screen(found, lang=look.lang, unit=look.unit), "human", look)


def markdown(found: Fit, look: Look = Look()) -> str:  # noqa: B008
    return draw(screen(found, lang=look.lang, unit=look.unit), "markdown", look)


def html(found: Fit, look: Look = Look()) -> str:  # noqa: B008
    return draw(screen(found, lang=look.lang, unit=look.unit), "html", look)
