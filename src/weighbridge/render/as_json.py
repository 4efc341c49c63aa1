"""JSON: bytes stay integers, since whoever reads this is a program."""

import json
from typing import TYPE_CHECKING

from weighbridge.wording import safe_json

if TYPE_CHECKING:
    from weighbridge.report import Report


def as_json(report: "Report") -> str:
    return safe_json(json.dumps(report.to_dict(), indent=2, ensure_ascii=False)) + "\n"
