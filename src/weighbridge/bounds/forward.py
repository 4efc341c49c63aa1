"""Coverage of intervals forward in time and in sample, as it was found for this version.

forward.json is written by tools/fit_intervals.py; a test holds it to the evidence.
"""

import json
import os
from functools import cache
from typing import Any

FILE = os.path.join(os.path.dirname(__file__), "forward.json")
FORWARD, NOW = "forward", "in sample"


@cache
def rows() -> tuple[dict[str, Any], ...]:
    """Read the rows: `way`, `task` and `axis`; None is all of them, and axis "" what is new on
    none."""
    with open(FILE, encoding="utf-8") as file:
        return tuple(json.load(file))


def row(way: str, *, task: str | None = None, axis: str | None = None) -> dict[str, Any]:
    """Return one row."""
    return next(r for r in rows() if (r["way"], r["task"], r["axis"]) == (way, task, axis))
