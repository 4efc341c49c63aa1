"""What would make it fit: changes of a question's own settings, each answered by the estimator.

    search(Case(task="infer", workload=w, report=report, ask=ask, pinned=said(w)))
    -> the cheapest changes after which the verdict is yes

Nothing that the user pinned is touched. A candidate is answered like any other question, so a
remedy's numbers are those that the changed question gives. Changes come cheapest first (prices.py).
Where no single cheap change fits, sets of two and then of three are tried.
"""

from weighbridge.judged import Remedy
from weighbridge.remedies.case import Case, said

__all__ = ["Case", "said", "search"]

MOST = 6  # remedies of one answer


def search(case: Case, *, most: int = MOST) -> tuple[Remedy, ...]:
    """Changes that make a question fit, the cheapest first; none where it fits, or where no device
    was named."""
    report = case.report
    if report.verdict is None or report.verdict.fits == "yes":
        return ()
    from weighbridge.remedies.sets import Search, flagged

    lacking = flagged(case)
    if case.refused or any(r.fits == "yes" for r in lacking):
        return lacking
    told = {r.flags for r in lacking}
    return (*lacking, *(r for r in Search(case, most).run() if r.flags not in told))
