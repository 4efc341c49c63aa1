"""JSON: bytes stay integers, since whoever reads this is a program."""

import json
from typing import TYPE_CHECKING, Any

from weighbridge.wording import safe_json

if TYPE_CHECKING:
    from weighbridge.report import Report


def as_json(report: "Report") -> str:
    return json_text(report.to_dict())


def json_text(body: Any) -> str:
    """Write a JSON document as every command prints one: indented, without control characters."""
    return safe_json(json.dumps(body, indent=2, ensure_ascii=False)) + "\n"
