"""Intervals held against what was published later: margins of records before a date, figures after.

    walked(ask)     -> Walk     every figure from the first cut on, each by what was known before
    novelty(walk)   -> Novelty  what was published until now, and what new answers earned

Each month with figures is a cut. At it, margins are fitted to the records before it, and the
widths of what is new to the figures of earlier months: no figure is judged by one of its own time.
A figure that is new on several axes counts to the first of AXES alone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from weighbridge import bounds
from weighbridge.bounds import Margin, MarginTable
from weighbridge.bounds.novelty import AXES, NovelGroup, Novelty, groups
from weighbridge.lab.evidence.dates import month
from weighbridge.lab.evidence.margins import (
    LEAST,
    above,
    asked,
    below,
    beyond,
    fit,
    quantile,
    seen,
    sure,
)
from weighbridge.lab.evidence.records import Outcome, Prediction, PublishedFigure
from weighbridge.records import NamedTuple

FIRST = "2025-01"  # before it too few had published
BELOW = 0.9  # of figures of an axis, that its width covers; above it is LEAST
FEW = 3  # figures that are no width
Ask = Callable[[Sequence[PublishedFigure], MarginTable], Sequence[Outcome]]


class Later(NamedTuple):
    """A figure by what was known before it, and the axes on which it was new."""

    prediction: Prediction
    axes: tuple[str, ...]


class Walk(NamedTuple):
    """Figures with the widths of the new, and the same without them, in one order."""

    figures: tuple[Later, ...]
    plain: tuple[Later, ...]


def walked(ask: Ask, records: Sequence[PublishedFigure]) -> Walk:
    """Predict each figure from the first cut on. `ask` predicts figures with the margins that it is
    given; those that it skips have no date."""
    told = [o.record for o in ask(records, bounds.NOTHING) if isinstance(o, Prediction)]
    dated = {record.id: month(record) for record in told}
    figures = [record for record in records if record.id in dated]
    figured: list[Later] = []
    plain: list[Later] = []
    steps = sorted({one for one in dated.values() if one >= FIRST})
    for cut, end in zip(steps, (*steps[1:], "9999"), strict=True):
        known = [record for record in figures if dated[record.id] < cut]
        later = [record for record in figures if cut <= dated[record.id] < end]
        rows = fit(lambda table, known=known: ask(known, table))  # type: ignore[misc]
        before = Novelty(seen(ask(known, bounds.NOTHING)), earned(plain))
        plain += _judged(ask(later, rows), before)
        wide = MarginTable(rows, novelty=before)
        figured += _judged(ask(later, wide), before)
    return Walk(tuple(figured), tuple(plain))


def _judged(outcomes: Iterable[Outcome], before: Novelty) -> Iterator[Later]:
    for outcome in outcomes:
        if isinstance(outcome, Prediction):
            like = outcome.like
            yield Later(outcome, before.axes(like, asked(outcome, like)) if like else ())


def novelty(walk: Walk, outcomes: Iterable[Outcome]) -> Novelty:
    """Return what was published, and the widths that answers earned which were new."""
    return Novelty(seen(outcomes), earned(walk.plain))


def earned(figures: Iterable[Later]) -> Mapping[NovelGroup, Margin]:
    """Return how far figures that were new lay beyond their intervals, by group."""
    by_group: dict[NovelGroup, list[Prediction]] = defaultdict(list)
    for prediction, axes in figures:
        if axes and prediction.kind is not None and sure(prediction):
            for group in groups(min(axes, key=AXES.index), prediction.kind):
                by_group[group].append(prediction)
    return {group: _width(found) for group, found in by_group.items() if len(found) >= FEW}


def _width(found: Sequence[Prediction]) -> Margin:
    """Return the shares of what is expected by which most figures lay outside; nothing where they
    were inside."""
    return Margin(
        low=max(0.0, quantile([below(one) for one in found], BELOW)),
        high=max(0.0, *(quantile([how(one) for one in found], LEAST) for how in (above, beyond))),
        runs=len(found),
        sources=tuple(sorted({one.record.source for one in found})),
    )
