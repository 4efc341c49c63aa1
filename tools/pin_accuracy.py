"""Write tests/accuracy.json: how near predictions come today, by source, engine and quantity; with
--trace re-run programs first and keep their peaks in tests/traced.jsonl (all, or of --source NAME).
The page has the same rows from src/weighbridge/answers/bounds/accuracy.json.

tests/evidence/test_accuracy.py fails when a row gets worse than it is there. Look at the difference
before it is committed: a row that got worse needs a reason.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from weighbridge.answers.bounds import accuracy
from weighbridge_lab.evidence import traced
from weighbridge_lab.evidence.accuracy import rows
from weighbridge_lab.evidence.predict import outcomes
from weighbridge_lab.evidence.records import Outcome, chosen, records
from weighbridge_lab.evidence.traced import Failure, peaks

TESTS = Path(__file__).parent.parent / "tests"
PINS, TRACED = TESTS / "accuracy.json", TESTS / "traced.jsonl"
KEPT = ("n", "p50", "p95", "max", "under", "inside", "exact", "width_median")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", action="store_true", help="re-run programs: needs torch")
    parser.add_argument("--source", help="programs of this source only")
    asked = parser.parse_args()
    if asked.trace:
        trace(asked.source)
    lines = []
    found = traced.complete(traced.read(str(TRACED)), records())
    told = outcomes(records(), found)
    write_rows(told)
    for row in rows(told, by_source=True):
        facts = row.to_dict()
        name = f"{row.source} | {row.engine} | {row.quantity} | {row.level}"
        values = {key: facts[key] if key == "n" else round(facts[key], 5) for key in KEPT}
        lines.append(f" {json.dumps(name)}: {json.dumps(values)}")
    PINS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def write_rows(told: Sequence[Outcome]) -> None:
    """Rows of all sources, then those of each."""
    every = [row.to_dict() for each in (False, True) for row in rows(told, by_source=each)]
    plain = [{k: round(v, 5) if isinstance(v, float) else v for k, v in r.items()} for r in every]
    Path(accuracy.FILE).write_text("[\n" + ",\n".join(map(json.dumps, plain)) + "\n]\n")


def trace(source: str | None) -> None:
    """A run that fails keeps the peaks it had."""
    found = peaks(chosen(source=source))
    for run, told in found.items():
        if isinstance(told, Failure):
            print(f"{run.program} {run.setting}: {told.reason} ({told.detail})")
    before = traced.read(str(TRACED)) if TRACED.exists() else {}
    wanted = traced.complete({**before, **known(found)}, records())
    traced.write(str(TRACED), wanted)


def known(found: traced.Found) -> traced.Found:
    return {run: told for run, told in found.items() if not isinstance(told, Failure)}


if __name__ == "__main__":
    main()
