"""Accuracy of predictions as found when this version was made, since predicting every figure again
takes half a minute here and minutes in a browser.

tools/pin_accuracy.py writes accuracy.json, traced programs included; tools/fit_intervals.py writes
forward.json, of intervals forward in time and in sample. Tests compare both with the evidence.
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
    """Return the rows as `weighbridge accuracy --json` has them: of all sources, then of each."""
    with open(FILE, encoding="utf-8") as file:
        return tuple(json.load(file))


def names(key: str) -> list[str]:
    """Return the sorted values of `key`, "engine" or "source", that have figures."""
    return sorted({row[key] for row in _rows() if row[key] is not None})


def rows(
    *, engine: str | None = None, source: str | None = None, by_source: bool = False
) -> list[dict[str, Any]]:
    """Return the rows of an engine or of a source. Raises NotFoundError for a name without
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
    """Return how often intervals hold, by `way`, `task` and `axis` of novelty; None is all of them,
    and axis "" is for runs that are new on none."""
    with open(HELD, encoding="utf-8") as file:
        return tuple(json.load(file))


def holding(way: str, *, task: str | None = None, axis: str | None = None) -> dict[str, Any]:
    """Return the one row of `coverage` for these keys."""
    return next(r for r in coverage() if (r["way"], r["task"], r["axis"]) == (way, task, axis))
