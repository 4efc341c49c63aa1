"""One config and all questions: rows of a table. Whatever goes wrong is a row."""

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
# What differs between two messages that say the same: values, names, numbers
OWN = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\b[\w./-]*\d[\w.,/-]*")
DEFECT = "this is a defect of weighbridge: "


def rows(config: str, questions: Sequence[ScanQuestion]) -> Iterator[AnswerRow]:
    """Yield the answers about a config, given as JSON, or about the weights whose path that is:
    first whether it is read at all, and only where it is one row for each question. Nothing is
    raised."""
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
        yield _row(model, asked)


def _row(model: "Prepared", asked: ScanQuestion) -> AnswerRow:
    from weighbridge.workload import read

    try:
        report = model.briefly(read(asked.task, asked.settings))
        return {"question": asked.name, "code": 0, **report.columns()}
    except Exception as error:
        return refused(asked.name, asked.task, error)


def refused(question: str, task: str, error: Exception) -> AnswerRow:
    """Return the row of a question that has no answer: the exit code that the command would have,
    what it would say, and what many such messages have in common."""
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
    """Return the one row of a config whose process did not live to answer."""
    return [refused(MODEL, MODEL, UnsupportedError(reason))]


def each_refused(rows: list[AnswerRow], asked: Sequence[ScanQuestion]) -> list[AnswerRow]:
    """Return one row for each question where the config was not answered at all, and whether it is
    read was known before."""
    first = rows[0]
    if not first.get("code"):
        return rows
    return [{**first, "question": q.name, "task": q.task} for q in asked]


def settled(rows: Iterable[AnswerRow], asked: Sequence[ScanQuestion]) -> Iterator[AnswerRow]:
    """Yield rows with the settings of their question, where no report says them."""
    by_name = {q.name: q for q in asked}
    for row in rows:
        one = by_name.get(str(row["question"]))
        if one is None:
            yield {**row, "family": MODEL}
            continue
        typed = {"engine": one.settings.get("engine"), "method": one.settings.get("method")}
        yield {**typed, **row, "family": one.family}
