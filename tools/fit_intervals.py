"""Write src/weighbridge/bounds/margins.jsonl: how far published runs lay from what the rules say.

    python tools/fit_intervals.py            writes it, and prints how well it holds
    python tools/fit_intervals.py --check    writes nothing; exit code 1 where the file is stale

Run it after every change of a rule or of a record. Peaks of re-run programs are those of
tests/traced.jsonl.
"""

import argparse
import sys
from pathlib import Path

from weighbridge.bounds.margin import PATH, MarginTable, written
from weighbridge.lab.evidence import traced
from weighbridge.lab.evidence.accuracy import Coverage, coverage
from weighbridge.lab.evidence.margins import fit, left_out
from weighbridge.lab.evidence.predict import outcomes
from weighbridge.lab.evidence.records import Outcome, records, sources

TRACED = Path(__file__).parent.parent / "tests" / "traced.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it is stale")
    asked = parser.parse_args()
    found = traced.complete(traced.read(str(TRACED)), records())

    def ask(table: MarginTable) -> list[Outcome]:
        return outcomes(records(), found, table=table)

    table = fit(ask)
    lines = "".join(written(table))
    if asked.check:
        sys.exit(lines != Path(PATH).read_text())
    Path(PATH).write_text(lines)
    shown("all figures", coverage(ask(table)))
    apart = left_out(ask, sources())
    shown("each source by margins of the others", coverage(apart))
    shown("the same by source", coverage(apart, by_source=True))


def shown(title: str, found: list[Coverage]) -> None:
    print(title)
    for one in found:
        shares = f"inside {one.inside:.3f}  above {one.above:.3f}  width {one.width:.3f}"
        print(f"  {one.source or '':24} {one.level:10} {one.n:5}  {shares}")


if __name__ == "__main__":
    main()
