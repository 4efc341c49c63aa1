"""From a pasted message to its cause and what to change: the composition."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weighbridge.checkpoint.gather import GatherOptions
from weighbridge.errors import NotFoundError
from weighbridge.oom.causes import judge
from weighbridge.oom.changes import changes
from weighbridge.oom.figures import contradictions
from weighbridge.oom.reading import read
from weighbridge.oom.record import Change, Judged, Match, Oom, OomReading
from weighbridge.oom.text import MOST, decoded
from weighbridge.questions.prepared import Prepared, opened
from weighbridge.report.verdict import Remedy

SEARCHED = 3  # changes that were computed; rows of the table come behind them
TOLD = 5
OUTSIDE = (  # causes that no setting of the model changes: its own changes come first
    "other_process",
    "fragmentation",
    "memory_fraction_cap",
    "device_limit",
    "host_memory",
    "shared_memory",
    "request_slots",
)


Text = str | bytes | os.PathLike[str]


def explained(text: Text, model: Any, options: GatherOptions, settings: Mapping[str, Any]) -> Oom:
    """The answer about a log, as text, as bytes or in a file; with a model or without."""
    found = read(_text(text), _name(text))
    judged = judge(found, settings)
    if model is None:
        rows = changes(found, judged, settings)
        return Oom(found=found, judged=judged, remedies=rows, warnings=contradictions(found))
    prepared = model if isinstance(model, Prepared) else opened(model, options)
    return _beside(prepared, found, judged, settings)


def _beside(model: Prepared, found: OomReading, judged: Judged, settings: Mapping[str, Any]) -> Oom:
    """The answer with the estimate of the model."""
    from weighbridge.oom.question import answered, other_model, question
    from weighbridge.oom.reconcile import matches, mismatch, rejudged

    asked = question(found, settings)
    report, warnings = answered(model, asked)
    told: tuple[Match, ...] = matches(found, report, model.model())
    final = rejudged(found, judged, report, told)
    return Oom(
        found=found,
        judged=final,
        remedies=_together(report.remedies, changes(found, final, settings), final),
        estimate=report,
        explained=told,
        warnings=(
            *contradictions(found),
            *other_model(found.model, model),
            *asked.warnings,
            *warnings,
            *mismatch(found, report),
        ),
    )


def _together(
    searched: tuple[Remedy, ...], rows: tuple[Change, ...], judged: Judged
) -> tuple[Change, ...]:
    """Changes that were computed for this model, and those of the table."""
    computed = tuple(_computed(r, rows) for r in searched[:SEARCHED])
    if judged.cause in OUTSIDE:
        return (*rows, *computed)[:TOLD]
    own, rest = (rows[:1], rows[1:]) if judged.sure == "said" else ((), rows)
    named = {name for change in computed for name in change.change}
    return (*own, *computed, *(row for row in rest if not named & row.change.keys()))[:TOLD]


def _computed(r: Remedy, rows: tuple[Change, ...]) -> Change:
    """Return the change with its own line to paste, or that of the row that changes the same."""
    alike = (row.paste for row in rows if row.change.keys() == r.change.keys())
    return Change(r.change, r.cost, r.paste or next(alike, ""), r.peak_bytes, r.fits)


def _text(text: Text) -> str:
    if isinstance(text, bytes):
        return decoded(text)
    if isinstance(text, str):
        return decoded(text.encode(errors="surrogatepass"))
    return decoded(from_file(text), _name(text))


def _name(text: Text) -> str:
    return "the text" if isinstance(text, str | bytes) else os.fspath(text)


def from_file(path: str | os.PathLike[str]) -> bytes:
    """What a file holds, and no more of it than we read: of a longer one the end, where the
    message is."""
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST:  # of what is no file of its own, a pipe, it is 0
                file.seek(size - MOST)
                end = file.read(MOST)
                return end.partition(b"\n")[2] or end
            return file.read(MOST + 1)
    except OSError as error:
        raise NotFoundError(
            f"{os.fspath(path)}: {error.strerror}; name a log, or - for stdin"
        ) from None
