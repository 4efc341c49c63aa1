"""Write tests/accuracy.json: how near predictions come today, by source, engine and quantity.

tests/test_accuracy.py fails when a row gets worse than it is there. Look at the difference before
it is committed: a row that got worse needs a reason.
"""

import json
from pathlib import Path

from weighbridge.evidence.accuracy import rows
from weighbridge.evidence.predict import outcomes
from weighbridge.evidence.records import records

PINS = Path(__file__).parent.parent / "tests" / "accuracy.json"
KEPT = ("n", "p50", "p95", "max", "under", "inside", "exact", "width_median")


def main() -> None:
    lines = []
    for row in rows(outcomes(records()), by_source=True):
        found = row.to_dict()
        name = f"{row.source} | {row.engine} | {row.quantity} | {row.level}"
        values = {key: found[key] if key == "n" else round(found[key], 5) for key in KEPT}
        lines.append(f" {json.dumps(name)}: {json.dumps(values)}")
    PINS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
