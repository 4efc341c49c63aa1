"""What would make it fit: changes of a question's own settings, each answered by the estimator.

    search("infer", workload, report, ask) -> the cheapest changes after which the verdict is yes

Nothing that the user pinned is touched. A candidate is answered like any other question, so a
remedy's numbers are those that the changed question gives. Changes come cheapest first (prices.py).
Where no single cheap change fits, sets of two and then of three are tried.
"""

from collections.abc import Iterable
from typing import Any

from weighbridge.judged import Remedy
from weighbridge.remedies.case import Case, Estimator, said
from weighbridge.report import Report

__all__ = ["search"]

MOST = 6  # remedies of one answer


def search(
    task: str,
    workload: Any,
    report: Report,
    ask: Estimator,
    *,
    pinned: Iterable[str] | None = None,
    most: int = MOST,
) -> tuple[Remedy, ...]:
    """Changes that make it fit, the cheapest first; none where it fits or no device was named.

    Args:
        task: load, infer or train.
        workload: the question, as a record.
        report: the answer to it.
        ask: answers a changed workload, without remedies of its own.
        pinned: names of settings that stay as they are; None is all that the workload says.
        most: how many are wanted.
    """
    if report.verdict is None or report.verdict.fits == "yes":
        return ()
    from weighbridge.remedies.sets import Search

    kept = said(workload) if pinned is None else frozenset(pinned)
    case = Case(task=task, workload=workload, report=report, pinned=kept, ask=ask)
    own = report.remedies if getattr(workload, "engine_defaults", False) else ()
    told = {frozenset(r.change.items()) for r in own}
    return (*own, *(r for r in Search(case, most).run() if frozenset(r.change.items()) not in told))
