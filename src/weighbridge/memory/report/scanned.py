"""Answers about many models side by side: the part of a scan that a screen shows."""

from collections.abc import Mapping
from typing import Any

from weighbridge.base.memory import Bytes
from weighbridge.base.records import NamedTuple

SCHEMA = "weighbridge.scan-table/1"
ORDER = ("yes", "unknown", "no")  # verdicts, the best first


class ScanCell(NamedTuple):
    """An answer: the card, whether the model fits it, and the bytes that it needs there."""

    gpu: str | None
    fits: str | None
    need: Bytes
    usable: int | None


class ScanLine(NamedTuple):
    """A model. `answers`: question -> its answers by card, smallest card first."""

    id: str
    parameters: int | None
    reason: str | None  # why it has no answer at all
    answers: Mapping[str, tuple[ScanCell, ...]]

    def best(self, question: str) -> ScanCell | None:
        """Return the answer for the smallest card with the best verdict; if that is "no", for the
        largest card."""
        cells = self.answers.get(question, ())
        surest = min((ORDER.index(c.fits) for c in cells if c.fits), default=None)
        if surest is None:
            return cells[0] if cells else None
        fitting = [c for c in cells if c.fits == ORDER[surest]]
        return fitting[-1] if ORDER[surest] == "no" else fitting[0]


class Unweighed(NamedTuple):
    """The models without any answer: their number, and the first of them, each with the reason."""

    models: int
    first: tuple[tuple[str, str], ...]


class ScanSummary(NamedTuple):
    """Some models of a scan, and the total number. `questions` are named without their card."""

    source: str
    counts: Mapping[str, int]  # models, keys, unread
    cards: tuple[str, ...]
    questions: tuple[str, ...]
    lines: tuple[ScanLine, ...]
    unweighed: Unweighed
    place: str | None = None  # where the dataset is stored

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "source": self.source,
            "counts": {**self.counts, "unweighed": self.unweighed.models},
            "models": [
                {
                    "id": line.id,
                    "parameters": line.parameters,
                    "reason": line.reason,
                    "answers": {
                        name: [
                            (
                                {
                                    "gpu": c.gpu,
                                    "fits": c.fits,
                                    "need": c.need._asdict(),
                                    "usable_bytes": c.usable,
                                }
                            )
                            for c in cs
                        ]
                        for name, cs in line.answers.items()
                    },
                }
                for line in self.lines
            ],
        }
