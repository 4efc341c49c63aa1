"""Remedies: changes of a question's settings with which it fits, each estimated in full.

    search(RemedyCase(task="infer", workload=w, report=report, ask=ask, pinned=said(w)))
    -> the cheapest changes after which the verdict is "yes"

No setting of the user's is changed, except what takes host memory if that is short, and one setting
that by itself prevents fitting: undoing it comes first (typed.py). A candidate is estimated like
any other question, so a remedy's numbers are those of the changed question. Changes come cheapest
first (prices.py). If no single cheap change fits, sets of two and then of three are tried.
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

LENGTH = "context"  # a shorter context is listed even if flags suffice: the engine chose the length
ALL = -1  # all layers, in llama.cpp's notation
MOST = 6  # remedies per answer


def search(
    case: RemedyCase,
    *,
    most: int = MOST,
    hears: Callable[[tuple[Remedy, ...]], None] | None = None,
) -> tuple[Remedy, ...]:
    """Return changes that make a question fit, cheapest first; empty without a device, or if it
    fits and runs as asked. `hears` is called with all known remedies each time one is found; some
    of those may not be among the result."""
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
    """Return the remedies that undo one typed setting that by itself prevents fitting, cheapest
    first. What was typed is read from `asked`: layer placement is no setting of it."""
    from weighbridge.answers.remedies.told import told
    from weighbridge.answers.remedies.typed import typed, undone

    with kept_so_far():
        return tuple(map(told, sorted(undone(case, typed(asked)), key=lambda node: node.place)))
    return ()


def _whole(case: RemedyCase) -> RemedyCase:
    """Return the question with all layers on the card, for an engine that splits a model by itself:
    the search is for changes that make it fit whole."""
    workload = case.workload.but(n_gpu_layers=ALL)
    pinned = case.pinned | {"n_gpu_layers", "n_cpu_moe"}
    return replace(case, workload=workload, report=case.ask(workload), pinned=pinned)
