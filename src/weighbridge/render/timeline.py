"""A timeline as one page that needs nothing else, or as JSON."""

import json
import os
from collections.abc import Mapping
from typing import Any

from weighbridge.wording import safe_json

PLACE = "{{timeline}}"


def as_json(timeline: Mapping[str, Any]) -> str:
    return safe_json(json.dumps(timeline, ensure_ascii=False)) + "\n"


def html(timeline: Mapping[str, Any]) -> str:
    """Names come from strangers' code: none of them may end the script they stand in."""
    path = os.path.join(os.path.dirname(__file__), "timeline.html")
    with open(path, encoding="utf-8") as file:
        page = file.read()
    data = json.dumps(timeline, ensure_ascii=True).replace("<", "\\u003c")
    return page.replace(PLACE, data)


FORMS = {".html": html, ".json": as_json}
