"""JSON: bytes stay integers, since whoever reads this is a program."""

import json
from typing import Any

from weighbridge.report import Report
from weighbridge.wording import safe_json


def as_json(report: Report, **_: Any) -> str:
    return safe_json(json.dumps(report.to_dict(), indent=2, ensure_ascii=False)) + "\n"
