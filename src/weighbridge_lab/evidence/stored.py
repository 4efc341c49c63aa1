"""Predictions of all figures, kept in the user's cache folder by what they follow from.

    outcomes(figures)      these figures; with `apart`, each by margins of all other sources

The file's name holds a hash of every file of this package: another version, rule, record or margin
has another name, and a stale file is replaced. A folder that cannot be read or written counts as
none.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from weighbridge.answers import bounds
from weighbridge.base.memory import Bytes
from weighbridge_lab import cache as cache_folder
from weighbridge_lab.evidence.margins import left_out
from weighbridge_lab.evidence.predict import outcomes as predicted
from weighbridge_lab.evidence.records import (
    Outcome,
    Prediction,
    PublishedFigure,
    Skip,
    records,
    sources,
)

PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))  # weighbridge itself
MADE_OF = (".py", ".json", ".jsonl")
Progress = Callable[[int, int], None]


def outcomes(
    figures: Sequence[PublishedFigure],
    *,
    apart: bool = False,
    progress: Progress = lambda done, total: None,
) -> list[Outcome]:
    """Return the predictions of figures that need no torch; `progress` receives (done, all).

    If nothing is stored yet, a mere part of all figures is predicted without storing it.

    If nothing is stored yet, a mere part of all figures is predicted without storing it.
    """
    path = _path("apart" if apart else "all")
    stored = _read(path)
    if stored is None and not apart and len(figures) < len(records()):
        return predicted(figures, progress=_counting(progress, len(figures)))
    if stored is None:
        stored = _apart(progress) if apart else _all_outcomes(progress)
        _write(path, stored)
    wanted = {figure.id for figure in figures}
    return [outcome for outcome in stored if outcome.record.id in wanted]


def _all_outcomes(progress: Progress) -> list[Outcome]:
    return predicted(records(), progress=_counting(progress, len(records())))


def _apart(progress: Progress) -> list[Outcome]:
    def ask(table: bounds.MarginTable) -> list[Outcome]:
        return predicted(records(), table=table)

    counted = _counting(progress, len(sources()))

    def reported() -> Iterator[str]:
        for source in sources():
            counted()
            yield source

    left = left_out(ask, reported())
    order = {figure.id: number for number, figure in enumerate(records())}
    return sorted(left, key=lambda outcome: order[outcome.record.id])


def _counting(progress: Progress, total: int) -> Callable[[], None]:
    done = iter(range(1, total + 1))
    return lambda: progress(next(done, total), total)


# ---- the file


def _read(path: str) -> list[Outcome] | None:
    try:
        with open(path, encoding="utf-8") as file:
            lines = json.load(file)
        known = {r.id: r for r in records()}
        return [_outcome(known, line) for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _outcome(known: Mapping[str, PublishedFigure], line: Mapping[str, Any]) -> Outcome:
    record = known[line["id"]]
    if "reason" in line:
        return Skip(record, line["quantity"], line["reason"], line["detail"])
    kind = None if line["kind"] is None else bounds.RunGroup(**line["kind"])
    return Prediction(record, line["quantity"], Bytes(*line["bytes"]), line["resolution"], kind)


def _write(path: str, outcomes: Iterable[Outcome]) -> None:
    """Write the predictions to a file, and remove files of other versions."""
    folder, name = os.path.split(path)
    start = name.rpartition("-")[0]
    with suppress(OSError):
        cache_folder.write(path, json.dumps([_line(outcome) for outcome in outcomes]))
        for other in os.listdir(folder):
            if other.startswith(f"{start}-") and other != name:
                os.remove(os.path.join(folder, other))


def _line(outcome: Outcome) -> dict[str, Any]:
    line = {"id": outcome.record.id, "quantity": outcome.quantity}
    if isinstance(outcome, Skip):
        return {**line, "reason": outcome.reason, "detail": outcome.detail}
    kind = None if outcome.kind is None else outcome.kind._asdict()
    return {**line, "bytes": list(outcome.bytes), "resolution": outcome.resolution, "kind": kind}


def _path(what: str) -> str:
    return cache_folder.path(f"accuracy-{what}-{made_of(PACKAGE)[:16]}.json")


@cache
def made_of(folder: str) -> str:
    """Return a hash of all files that the predictions depend on."""
    digest = hashlib.sha256()
    for path in sorted(_files(folder)):
        digest.update(os.path.relpath(path, folder).encode())
        with open(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def _files(folder: str) -> Iterator[str]:
    for here, _, names in os.walk(folder):
        yield from (os.path.join(here, name) for name in names if name.endswith(MADE_OF))
