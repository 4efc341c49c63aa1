"""Is what people ran a row of our search of layouts, and what died none?

    python -m benchmarks.layouts

Published training runs on several cards (`weighbridge accuracy --outcomes --records` has their
sources): the search is told the model, the cards and all that is no layout, and the run's own
layout is looked for among the rows that fit. Five minutes; half of them are 256 cards.
"""

from tests.evidence.searched import Searched, runs, searched


def main() -> None:
    print("| run | cards | went | `train` says | its row of the search | rows that fit |")
    print("| --- | --- | --- | --- | --- | ---: |")
    found = []
    for case in runs():
        found.append(searched(case))
        print(_row(found[-1]), flush=True)
    for outcome in ("runs", "out of memory"):
        told = [each for each in found if each.case.outcome == outcome]
        right = sum(each.right for each in told)
        print(f"{outcome}: {right} of {len(told)} right")


def _row(found: Searched) -> str:
    case, row = found.case, found.row
    cells = (
        *(case.id, f"{case.count} x {case.accelerator}", case.outcome, found.fits),
        *("none" if row is None else row["id"], str(found.fitting)),
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
