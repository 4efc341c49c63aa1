"""Remedies: changes of a question's own settings with which it fits, each answered by the
estimator.

    search(RemedyCase(task="infer", workload=w, report=report, ask=ask, pinned=said(w)))
    -> the cheapest changes after which the verdict is yes

Nothing that the user pinned is touched, but what host memory holds where that is short, and one
typed setting where it alone is what does not fit: taking that back is told first (typed.py). A
candidate is answered like any other question, so a remedy's numbers are those that the changed
question gives. Changes come cheapest first (prices.py). Where no single cheap change fits, sets of
two and then of three are tried.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from weighbridge.answers.remedies.case import RemedyCase, said
from weighbridge.base.records import replace
from weighbridge.base.watching import kept_so_far
from weighbridge.memory.report.verdict import Remedy

if TYPE_CHECKING:
    from weighbridge.answers.remedies.sets import MoveSet

__all__ = ["RemedyCase", "said", "search"]

LENGTH = "context"  # what is told beside flags that are enough: the length was left to the engine
ALL = -1  # layers, as llama.cpp counts them
MOST = 6  # remedies of one answer


def search(
    case: RemedyCase,
    *,
    most: int = MOST,
    hears: Callable[[tuple[Remedy, ...]], None] | None = None,
) -> tuple[Remedy, ...]:
    """Find changes that make a question fit, the cheapest first; none where no device was named, or
    where it fits and runs as asked. `hears` is told all that are known each time that one more is:
    some of them may not be among those that are returned."""
    report = case.report
    if report.verdict is None:
        return ()
    asked = case
    if "layers_on_card" in report.derived:
        case = _whole(case)
    elif report.verdict.fits == "yes" and not report.derived.get("runs_only"):
        return ()
    from weighbridge.answers.remedies.searching import Search
    from weighbridge.answers.remedies.sets import needed
    from weighbridge.answers.remedies.told import flagged, told

    first = next(iter(needed(case)), None)
    if case.verdict.fits == "yes" or (first and first.case.verdict.fits == "yes"):
        return () if first is None else (told(first),)
    lacking = flagged(case)
    if case.refused:
        return lacking
    enough = any(remedy.fits == "yes" for remedy in lacking)
    lacking = (*_undone(case, asked), *lacking)
    known = {remedy.flags for remedy in lacking}

    def joined(sets: "Iterable[MoveSet]") -> tuple[Remedy, ...]:
        others = (remedy for remedy in map(told, sets) if remedy.flags not in known)
        return tuple(sorted((*lacking, *others), key=lambda remedy: remedy.fits != "yes"))

    looking = Search(case, most, only=LENGTH if enough else None, root=first)
    if hears is not None:
        looking.hears = lambda good: hears(joined(good))
    return joined(looking.run())


def _undone(case: RemedyCase, asked: RemedyCase) -> tuple[Remedy, ...]:
    """Find the typed settings of which one alone is what does not fit, the cheapest first. What was
    typed says the question as it was `asked`: where all layers lie is no setting of it."""
    from weighbridge.answers.remedies.told import told
    from weighbridge.answers.remedies.typed import typed, undone

    with kept_so_far():
        return tuple(map(told, sorted(undone(case, typed(asked)), key=lambda node: node.place)))
    return ()


def _whole(case: RemedyCase) -> RemedyCase:
    """Return the question with all layers on the card, of an engine that divides a model by itself:
    what is looked for is what makes it fit whole."""
    workload = case.workload.but(n_gpu_layers=ALL)
    pinned = case.pinned | {"n_gpu_layers", "n_cpu_moe"}
    return replace(case, workload=workload, report=case.ask(workload), pinned=pinned)
