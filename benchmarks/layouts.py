"""Is what people ran a row of our search of layouts, and what died none?

    python -m benchmarks.layouts [--figures]

Published training runs on several cards (`weighbridge accuracy --outcomes --records` has their
sources): the search is told the model, the cards and all that is no layout, and the run's own
layout is looked for among the rows that fit. Five minutes; half of them are 256 cards. `--figures`:
runs of Megatron of which a figure is published instead, which all went; those that are no row are
told.
"""

import argparse

from tests.evidence.searched import Searched, measured, runs, searched, searched_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", action="store_true")
    if parser.parse_args().figures:
        _figures()
        return
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


def _figures() -> None:
    found = [searched_figure(record) for record in measured()]
    for each in found:
        if not each.right:
            print(
                f"{each.case.id}: `train` says {each.fits}, and it is none of {each.fitting} rows"
            )
    print(f"{sum(each.right for each in found)} of {len(found)} are rows that fit")


def _row(found: Searched) -> str:
    case, row = found.case, found.row
    cells = (
        *(case.id, f"{case.count} x {case.accelerator}", case.outcome, found.fits),
        *("none" if row is None else row["id"], str(found.fitting)),
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
