"""What changed between two scans of the same models: verdicts, and the reasons that they have.

A verdict is yes, no or unknown; `answered` where no card was named; `read` of the question `model`;
and `refused`. WHYS are all reasons that an answer may have to differ.
"""

from collections.abc import Mapping
from typing import Any, Literal

from weighbridge.base.records import NamedTuple

SCHEMA = "weighbridge.scan-diff/1"
ScanWhy = Literal["config", "question", "engine", "rules", "limits"]
# config: the model has another one; question: the name stands for other settings; engine: another
# release of it; rules: those of the family; limits: none of these, so what a run was given
WHYS: tuple[ScanWhy, ...] = ("config", "question", "engine", "rules", "limits")
LOST = ("no", "refused")  # of what was a yes: --check ends with 1


class ScanTurn(NamedTuple):
    """A verdict that became another one for the same reasons, and of how many models."""

    question: str
    was: str
    now: str
    why: tuple[ScanWhy, ...]
    versions: tuple[str | None, str | None]  # of the engine
    models: int


class ScanChange(NamedTuple):
    """One verdict of one model. Needs are bytes; shas are those of its revision or config."""

    id: str
    question: str
    was: str
    now: str
    why: tuple[ScanWhy, ...]
    needs: tuple[int | None, int | None]
    shas: tuple[str | None, str | None]
    reason: str | None  # why it is refused now


class ScanNames(NamedTuple):
    """How names of one kind differ: those that NEW alone has, OLD alone, and that mean something
    else."""

    new: tuple[str, ...]
    gone: tuple[str, ...]
    other: tuple[str, ...] = ()


class ScanDiff(NamedTuple):
    """Two scans, compared. Pairs are (OLD, NEW)."""

    sources: tuple[str, str]
    models: tuple[int, int, int]  # in both, in NEW alone, in OLD alone
    questions: ScanNames
    rules: Mapping[str, tuple[str, str]]  # of families whose rules differ
    left: tuple[int, int]  # parts that are not wholly answered
    moved: Mapping[str, int]  # by family: other numbers, the same verdict; each key once
    turns: tuple[ScanTurn, ...]
    changes: tuple[ScanChange, ...]  # the first of them

    @property
    def total(self) -> int:
        """Count the verdicts that changed."""
        return sum(turn.models for turn in self.turns)

    @property
    def code(self) -> int:
        """Return the exit code of --check: 1 where something that fitted, or was read, does so no
        more; 4 where it is open now; else 0."""
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
            "turns": [_told(turn) for turn in self.turns],
            "changes": [_told(change) for change in self.changes],
        }


def _told(one: ScanTurn | ScanChange) -> dict[str, Any]:
    return {n: list(v) if isinstance(v, tuple) else v for n, v in one._asdict().items()}
