"""Axes on which few published runs resemble an answer, and the extra width of such answers, as
found forward in time.

    engine     that loads and serves, or framework that trains
    platform   vendors of cards, and of machines whose memory cards share
    mode       how devices share the model, what is offloaded, drafted or compiled
    family     the model type
    format     of the weights
    release    of the engine, newer or older than any that was published

A value is known if a sample of figures, from several runs, was published with it: seen.json has
those of each engine, quantity and axis. novelty.jsonl has, for each axis, how far figures lay
outside intervals fitted before their date, as a share of the expected bytes. An answer that is new
on several axes has the widest. tools/fit_intervals.py writes both files.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from weighbridge.answers.bounds.margin import (
    ANY,
    PATH,
    Margin,
    MarginTable,
    RunForm,
    RunGroup,
    json_line,
    read,
)
from weighbridge.base.records import NamedTuple

HERE = os.path.dirname(__file__)
SEEN, EARNED = (os.path.join(HERE, name) for name in ("seen.json", "novelty.jsonl"))
AXES = ("engine", "platform", "mode", "family", "format", "release")  # the most explanatory first
RELEASE = "release"
Seen = Mapping[str, Mapping[str, frozenset[str]]]  # engine and quantity: place() -> axis -> values


class NovelGroup(NamedTuple):
    """Answers that are new on an axis. `engine` may be ANY, for all of the task."""

    axis: str
    task: str
    engine: str
    quantity: str
    level: str


class Novelty(NamedTuple):
    """The published settings, and the extra width of answers with other ones."""

    seen: Seen
    earned: Mapping[NovelGroup, Margin]

    def axes(self, runs: RunForm, asked: RunGroup) -> tuple[str, ...]:
        """Return the axes on which an answer is new; empty if its traits are unknown."""
        if not runs.traits:
            return ()
        known = self.seen.get(place(asked))
        if known is None:
            return AXES[:1]
        new = {a for a, value in runs.traits if not _within(a, value, known.get(a, frozenset()))}
        return tuple(axis for axis in AXES if axis in new)

    def wider(self, margin: Margin, asked: RunGroup, runs: RunForm) -> Margin:
        """Return the margin, wider by the worst of the axes on which an answer is new."""
        axes = self.axes(runs, asked)
        rows = [row for axis in axes for row in self._row(axis, asked)]
        low = max((row.low for row in rows), default=0.0)
        high = max((row.high for row in rows), default=0.0)
        return margin._replace(low=margin.low + low, high=margin.high + high, new=axes, earned=high)

    def _row(self, axis: str, asked: RunGroup) -> Iterator[Margin]:
        """Yield the nearest row of an axis, if there is one: for the engine, else for its task."""
        for like in groups(axis, asked):
            if like in self.earned:
                yield self.earned[like]
                return


def place(asked: RunGroup) -> str:
    """Return the key in `seen` for an engine's quantity at a level."""
    return f"{asked.engine} {asked.quantity} {asked.level}"


def groups(axis: str, asked: RunGroup) -> Iterator[NovelGroup]:
    """Yield the groups that a figure belongs to, the nearest first."""
    for engine in (asked.engine, ANY):
        yield NovelGroup(axis, asked.task, engine, asked.quantity, asked.level)


def _within(axis: str, value: str, known: Iterable[str]) -> bool:
    """Return whether a value was published; of releases, one as old and one as new."""
    if axis != RELEASE:
        return value in known
    numbers = [_number(release) for release in known]
    return bool(numbers) and min(numbers) <= _number(value) <= max(numbers)


def _number(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


@cache
def fitted() -> MarginTable:
    """Return the margins that come with the package."""
    with open(PATH, encoding="utf-8") as lines:
        rows = read(lines)
    return MarginTable(rows, novelty=_bundled())


def _bundled() -> Novelty:
    with open(SEEN, encoding="utf-8") as file:
        rows = json.load(file)
    seen = {
        engine: {axis: frozenset(values) for axis, values in axes.items()}
        for engine, axes in rows.items()
    }
    with open(EARNED, encoding="utf-8") as lines:
        return Novelty(seen, dict(map(_row, map(json.loads, lines))))


def _row(line: Mapping[str, Any]) -> tuple[NovelGroup, Margin]:
    group = NovelGroup(*(line[name] for name in NovelGroup._fields))
    margin = Margin(line["low"], line["high"], runs=line["runs"], sources=tuple(line["sources"]))
    return group, margin


def written_seen(seen: Seen) -> str:
    """Return a line of JSON for each engine, in a fixed order."""
    lines = (
        f" {json.dumps(engine)}: {json.dumps({a: sorted(v) for a, v in sorted(axes.items())})}"
        for engine, axes in sorted(seen.items())
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def written_earned(earned: Mapping[NovelGroup, Margin]) -> str:
    """Return a line of JSON for each group, in a fixed order."""
    return "".join(
        json_line(group, earned[group], "low", "high", "runs") for group in sorted(earned)
    )
