"""The answer of `fit` as text: a line for each question."""

import json
from typing import Any

from weighbridge.fitted import Fit
from weighbridge.render.terminal import terminal
from weighbridge.view.fit import screen
from weighbridge.wording import safe_json


def as_json(found: Fit) -> str:
    return safe_json(json.dumps(found.to_dict(), indent=2, ensure_ascii=False)) + "\n"


def quiet(found: Fit) -> str:
    """The verdict that the exit code is about: yes, no or unknown."""
    return f"{found.fits}\n"


def human(found: Fit, **look: Any) -> str:
    return terminal(screen(found), **look)
