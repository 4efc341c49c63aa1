"""Answers as data: JSON, in which bytes stay integers for programs, and --quiet."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.base.wording import safe_json

if TYPE_CHECKING:
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit
    from weighbridge.memory.report.together import Services


def as_json(answer: "Report | Fit | Services") -> str:
    """Return an answer as a JSON document."""
    return json_text(answer.to_dict())


def json_text(body: Any) -> str:
    """Return a JSON document as every command prints one: indented, without control characters."""
    return safe_json(json.dumps(body, indent=2, ensure_ascii=False)) + "\n"


def quiet(answer: "Report | Fit | Services") -> str:
    """Return one line: the peak of a report in expected bytes; for other answers the verdict: yes,
    no or unknown."""
    from weighbridge.memory.report import Report

    if isinstance(answer, Report):
        return f"{answer.peak.expected}\n"
    return f"{answer.fits}\n"


def several(answers: "Sequence[Report | Fit]", form: str) -> str:
    """Return several answers in one form; in JSON as a list."""
    if form == "json":
        return json_text([answer.to_dict() for answer in answers])
    return "".join(quiet(answer) for answer in answers)
