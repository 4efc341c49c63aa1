"""What changed between two scans of the same models: the verdicts, and why they differ.

A verdict is yes, no or unknown; `answered` if no card was named; `read` for the question `model`;
or `refused`. WHYS are all reasons for a difference.
"""

from collections.abc import Mapping
from typing import Any, Literal

from weighbridge.base.records import NamedTuple

SCHEMA = "weighbridge.scan-diff/1"
ScanWhy = Literal["config", "question", "engine", "rules", "limits"]
# config: the model's config changed; question: the name stands for other settings; engine: its
# release changed; rules: those of the family changed; limits: else, so the limits of the scan did
WHYS: tuple[ScanWhy, ...] = ("config", "question", "engine", "rules", "limits")
LOST = ("no", "refused")  # verdicts that make --check exit with 1 after a yes


class ScanTurn(NamedTuple):
    """A change of a verdict for the same reasons, and the number of models with it."""

    question: str
    was: str
    now: str
    why: tuple[ScanWhy, ...]
    versions: tuple[str | None, str | None]  # of the engine
    models: int


class ScanChange(NamedTuple):
    """One changed verdict of one model. `needs` are bytes, `shas` of its revision or config."""

    id: str
    question: str
    was: str
    now: str
    why: tuple[ScanWhy, ...]
    needs: tuple[int | None, int | None]
    shas: tuple[str | None, str | None]
    reason: str | None  # why it is refused now


class ScanNames(NamedTuple):
    """Differences between the names of one kind: `new` are in NEW only, `gone` in OLD only, `other`
    mean something else."""

    new: tuple[str, ...]
    gone: tuple[str, ...]
    other: tuple[str, ...] = ()


class ScanDiff(NamedTuple):
    """Two scans, compared. Pairs are (OLD, NEW)."""

    sources: tuple[str, str]
    models: tuple[int, int, int]  # in both, in NEW only, in OLD only
    questions: ScanNames
    rules: Mapping[str, tuple[str, str]]  # family -> its rules, if they differ
    left: tuple[int, int]  # parts of the scan that are not complete
    moved: Mapping[str, int]  # family -> answers with other bytes, same verdict; each key once
    turns: tuple[ScanTurn, ...]
    changes: tuple[ScanChange, ...]  # the first of them

    @property
    def total(self) -> int:
        """Return the number of changed verdicts."""
        return sum(turn.models for turn in self.turns)

    @property
    def code(self) -> int:
        """Return the exit code of --check: 1 if a "yes" or "read" became "no" or "refused", 4 if
        one became another verdict, else 0."""
        lost = [turn for turn in self.turns if turn.was in ("yes", "read")]
        if any(turn.now in LOST for turn in lost):
            return 1
        return 4 if lost else 0

    def to_dict(self) -> dict[str, Any]:
        both, new, gone = self.models
        return {
            "schema": SCHEMA,
            "sources": list(self.sources),
            "models": {"both": both, "new": new, "gone": gone},
            "questions": {name: list(told) for name, told in self.questions._asdict().items()},
            "rules": {family: list(pair) for family, pair in self.rules.items()},
            "parts_left": list(self.left),
            "moved": dict(self.moved),
            "verdicts_changed": self.total,
            "turns": [_as_json(turn) for turn in self.turns],
            "changes": [_as_json(change) for change in self.changes],
        }


def _as_json(one: ScanTurn | ScanChange) -> dict[str, Any]:
    return {n: list(v) if isinstance(v, tuple) else v for n, v in one._asdict().items()}
