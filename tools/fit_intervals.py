"""Write how far published runs lay from what the rules say: in src/weighbridge/bounds margins.jsonl
and, of what is new, seen.json, novelty.jsonl and forward.json.

    python tools/fit_intervals.py            writes them, and prints how well they hold
    python tools/fit_intervals.py --check    writes nothing; exit code 1 where one is stale

Run it after every change of a rule or of a record: two to four minutes, since each answer is made
once. Peaks of re-run programs are those of tests/traced.jsonl.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from weighbridge.answers.bounds.accuracy import HELD
from weighbridge.answers.bounds.margin import PATH, MarginTable, written
from weighbridge.answers.bounds.novelty import EARNED, SEEN, written_earned, written_seen
from weighbridge_lab.evidence import forward, traced
from weighbridge_lab.evidence.accuracy import Coverage, coverage
from weighbridge_lab.evidence.margins import fit, left_out
from weighbridge_lab.evidence.predict import outcomes
from weighbridge_lab.evidence.records import Outcome, PublishedFigure, records, sources

TRACED = Path(__file__).parent.parent / "tests" / "traced.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether one is stale")
    parser.add_argument("--apart", action="store_true", help="also each source without itself")
    asked = parser.parse_args()
    found = traced.complete(traced.read(str(TRACED)), records())

    def ask(figures: Sequence[PublishedFigure], table: MarginTable) -> list[Outcome]:
        return outcomes(figures, found, table=table)

    def every(table: MarginTable) -> list[Outcome]:
        return ask(records(), table)

    rows, walk = fit(every), forward.walked(ask, records())
    novelty = forward.novelty(walk, every(rows))
    told = every(MarginTable(rows, novelty=novelty))
    held = forward.rows(walk.wide, forward.now(told, novelty))
    files = {
        PATH: "".join(written(rows)),
        SEEN: written_seen(novelty.seen),
        EARNED: written_earned(novelty.earned),
        HELD: "[\n" + ",\n".join(map(json.dumps, held)) + "\n]\n",
    }
    if asked.check:
        sys.exit(any(text != Path(path).read_text() for path, text in files.items()))
    for path, text in files.items():
        Path(path).write_text(text)
    for row in held:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    shown("all figures", coverage(told))
    if asked.apart:
        apart = left_out(every, sources())
        shown("each source by margins of the others", coverage(apart))
        shown("the same by source", coverage(apart, by_source=True))


def shown(title: str, found: list[Coverage]) -> None:
    print(title)
    for one in found:
        shares = f"inside {one.inside:.3f}  above {one.above:.3f}  width {one.width:.3f}"
        print(f"  {one.source or '':24} {one.level:10} {one.n:5}  {shares}")


if __name__ == "__main__":
    main()
