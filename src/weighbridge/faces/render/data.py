"""Answers as data: JSON, whose bytes stay integers since a program reads it, and --quiet."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.base.wording import safe_json

if TYPE_CHECKING:
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit
    from weighbridge.memory.report.together import Services


def as_json(answer: "Report | Fit | Services") -> str:
    """Return the JSON form of a report or of an answer of `fit`."""
    return json_text(answer.to_dict())


def json_text(body: Any) -> str:
    """Write a JSON document as every command prints one: indented, without control characters."""
    return safe_json(json.dumps(body, indent=2, ensure_ascii=False)) + "\n"


def quiet(answer: "Report | Fit | Services") -> str:
    """Return one line: the expected bytes of a report's peak; for `fit` the verdict that the exit
    code is about: yes, no or unknown."""
    from weighbridge.memory.report import Report

    if isinstance(answer, Report):
        return f"{answer.peak.expected}\n"
    return f"{answer.fits}\n"


def several(answers: "Sequence[Report | Fit]", form: str) -> str:
    """Return several answers in one form; in JSON as a list of their reports."""
    if form == "json":
        return json_text([answer.to_dict() for answer in answers])
    return "".join(quiet(answer) for answer in answers)
