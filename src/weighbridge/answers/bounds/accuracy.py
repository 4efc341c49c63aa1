"""Accuracy of predictions as it was found when this version was made: for who has no time to
predict every figure again, which takes half a minute here and minutes in a browser.

accuracy.json is written by tools/pin_accuracy.py, programs that were traced included; forward.json,
of intervals forward in time and in sample, by tools/fit_intervals.py. Tests hold both to the
evidence.
"""

import json
import os
from functools import cache
from typing import Any

from weighbridge.base.errors import NotFoundError
from weighbridge.base.sentences import sentence

FILE, HELD = (
    os.path.join(os.path.dirname(__file__), name) for name in ("accuracy.json", "forward.json")
)
FORWARD, NOW = "forward", "in sample"


@cache
def _rows() -> tuple[dict[str, Any], ...]:
    """Read the rows as `weighbridge accuracy --json` has them: of all sources, then of each."""
    with open(FILE, encoding="utf-8") as file:
        return tuple(json.load(file))


def names(key: str) -> list[str]:
    """Return every "engine", or every "source", that has figures."""
    return sorted({row[key] for row in _rows() if row[key] is not None})


def rows(
    *, engine: str | None = None, source: str | None = None, by_source: bool = False
) -> list[dict[str, Any]]:
    """Return the rows of an engine or of a source. Raises NotFoundError for a name that has no
    figures."""
    for key, name in (("engine", engine), ("source", source)):
        if name is not None and name not in names(key):
            raise NotFoundError(
                sentence("no_figures", key=key, name=name, names=", ".join(names(key)))
            )
    each = by_source or source is not None
    return [
        row
        for row in _rows()
        if (row["source"] is not None) == each
        and engine in (None, row["engine"])
        and source in (None, row["source"])
    ]


@cache
def coverage() -> tuple[dict[str, Any], ...]:
    """Read how intervals hold: `way`, `task` and `axis` of novelty; None is all of them, and axis
    "" what is new on none."""
    with open(HELD, encoding="utf-8") as file:
        return tuple(json.load(file))


def holding(way: str, *, task: str | None = None, axis: str | None = None) -> dict[str, Any]:
    """Return one row of it."""
    return next(r for r in coverage() if (r["way"], r["task"], r["axis"]) == (way, task, axis))
