"""What would have made the runs fit that died: changes of what their sources leave open, by kind.

    python -m tools.outcome_remedies                 every such case, then kinds and counts
    python -m tools.outcome_remedies --only litgpt   cases whose id holds this text

Training runs are searched in seconds to minutes each.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator

from weighbridge.memory.report.verdict import Remedy
from weighbridge_lab.evidence.outcomes import AnsweredCase, PublishedCase, cases, judged, remedied


def kinds(found: Iterable[Remedy]) -> set[str]:
    """Kinds of remedies; flags of an engine's own have none, and are told by their names."""
    return {r.kind or ", ".join(sorted(r.change)) for r in found}


def helped(chosen: Iterable[PublishedCase]) -> Iterator[tuple[PublishedCase, tuple[Remedy, ...]]]:
    """Runs that died, with what would have helped: those that are answered, and do not fit."""
    for case in chosen:
        found = judged(case) if case.outcome != "runs" else None
        if isinstance(found, AnsweredCase) and found.fits != "yes":
            yield case, remedied(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose id holds this text")
    only = parser.parse_args().only
    counted: Counter[str] = Counter()
    for case, found in helped(c for c in cases() if only in c.id):
        counted.update(kinds(found))
        told = "; ".join(" ".join(f"{n}={v}" for n, v in r.change.items()) for r in found)
        print(f"{case.id}: {told or 'nothing'}", flush=True)
    for kind, count in counted.most_common():
        print(f"{count:>4} {kind}")


if __name__ == "__main__":
    main()
