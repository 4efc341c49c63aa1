"""The answers of one config to all questions as rows of a table. Any failure is a row, too."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import UnsupportedError, WeighbridgeError
from weighbridge.base.wording import one_line
from weighbridge.faces.scan.asking import MODEL, ScanQuestion
from weighbridge.memory.report.columns import FlatValue

if TYPE_CHECKING:
    from weighbridge.answers.questions.prepared import Prepared

AnswerRow = dict[str, FlatValue]
# The values, names and numbers in which two messages with one reason may differ
OWN = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\b[\w./-]*\d[\w.,/-]*")
DEFECT = "this is a defect of weighbridge: "


def rows(config: str, questions: Sequence[ScanQuestion]) -> Iterator[AnswerRow]:
    """Yield the answers about `config`, a config as JSON or the path of weights as a JSON string.

    The first row says whether it can be read; only then one row per question follows. Raises
    nothing.
    """
    from weighbridge.answers.questions.prepared import opened
    from weighbridge.models.checkpoint.gather import GatherOptions

    try:
        model = opened(json.loads(config), GatherOptions(offline=True))
        facts = model.model()
        parameters = facts.parameters
    except Exception as error:
        yield refused(MODEL, MODEL, error)
        return
    yield {"question": MODEL, "task": MODEL, "parameters": parameters, "code": 0}
    for asked in questions:
        yield _answer_row(model, asked)


def _answer_row(model: "Prepared", asked: ScanQuestion) -> AnswerRow:
    from weighbridge.workload import read

    try:
        report = model.briefly(read(asked.task, asked.settings))
        return {"question": asked.name, "code": 0, **report.columns()}
    except Exception as error:
        return refused(asked.name, asked.task, error)


def refused(question: str, task: str, error: Exception) -> AnswerRow:
    """Return the row of a question without an answer: the command's exit code and message. Its
    `reason` is the message without names and numbers."""
    ours = isinstance(error, WeighbridgeError)
    reason = str(error) if ours else one_line(f"{DEFECT}{type(error).__name__}: {error}")
    code: Any = getattr(error, "code", 2) if ours else 2
    return {
        "question": question,
        "task": task,
        "code": code,
        "message": reason,
        "reason": OWN.sub("#", reason),
    }


def failed(reason: str) -> list[AnswerRow]:
    """Return the only row of a config whose process died or was stopped."""
    return [refused(MODEL, MODEL, UnsupportedError(reason))]


def each_refused(rows: list[AnswerRow], asked: Sequence[ScanQuestion]) -> list[AnswerRow]:
    """Return the refusal of a config as one row per question, else `rows`. It is for configs that
    were read when earlier questions were answered."""
    first = rows[0]
    if not first.get("code"):
        return rows
    return [{**first, "question": q.name, "task": q.task} for q in asked]


def settled(rows: Iterable[AnswerRow], asked: Sequence[ScanQuestion]) -> Iterator[AnswerRow]:
    """Yield the rows with their family; engine and method come from the question if a row has
    none."""
    by_name = {q.name: q for q in asked}
    for row in rows:
        one = by_name.get(str(row["question"]))
        if one is None:
            yield {**row, "family": MODEL}
            continue
        typed = {"engine": one.settings.get("engine"), "method": one.settings.get("method")}
        yield {**typed, **row, "family": one.family}
