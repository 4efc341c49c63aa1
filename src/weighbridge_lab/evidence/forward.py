"""Intervals held against what was published later: margins of records before a date, figures after.

    walked(ask, records)   every figure from the first cut on, each by what was known before it
    novelty(walk, ...)     what was published until now, and the widths that new answers need
    rows(...)              coverage forward in time and in sample, by axis of novelty

Each month with figures is a cut. At a cut, margins are fitted to the records before it, and the
widths of new answers to the figures of earlier months: no figure is judged by one of its own time.
A figure that is new on several axes counts only for the first of AXES.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from weighbridge.answers import bounds
from weighbridge.answers.bounds import Margin, MarginTable
from weighbridge.answers.bounds.accuracy import FORWARD, NOW
from weighbridge.answers.bounds.novelty import AXES, NovelGroup, Novelty, groups
from weighbridge.base.records import NamedTuple
from weighbridge_lab.evidence.accuracy import percentile
from weighbridge_lab.evidence.dates import month
from weighbridge_lab.evidence.margins import (
    DIGITS,
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
from weighbridge_lab.evidence.records import Outcome, Prediction, PublishedFigure

FIRST = "2025-01"  # first cut: too few had published before
BELOW = 0.9  # share of an axis's figures that its width covers below; above it is LEAST
FEW = 3  # fewer figures give no width
Ask = Callable[[Sequence[PublishedFigure], MarginTable], Sequence[Outcome]]


class Later(NamedTuple):
    """A figure as predicted from what was known before it, and the axes on which it was new."""

    prediction: Prediction
    axes: tuple[str, ...]


class ForwardWalk(NamedTuple):
    """Figures predicted with additional widths for what is new, and the same figures without them,
    in the same order."""

    wide: tuple[Later, ...]
    plain: tuple[Later, ...]


def walked(ask: Ask, records: Sequence[PublishedFigure]) -> ForwardWalk:
    """Predict each dated figure only from figures published before it, starting at the first
    cut-off month. `ask` predicts figures with given margins; undated figures are skipped."""
    predictions = [o for o in ask(records, bounds.NOTHING) if isinstance(o, Prediction)]
    dated = {one.record.id: month(one.record) for one in predictions}
    figures = [record for record in records if record.id in dated]
    wide: list[Later] = []
    plain: list[Later] = []
    for cut in sorted({one for one in dated.values() if one >= FIRST}):
        earlier = [record for record in figures if dated[record.id] < cut]
        later = [record for record in figures if dated[record.id] == cut]
        rows = fit(partial(ask, earlier))
        known = seen(one for one in predictions if dated[one.record.id] < cut)
        before = Novelty(known, earned(plain))
        plain += _judged(ask(later, rows), before)
        wide += _judged(ask(later, MarginTable(rows, novelty=before)), before)
    return ForwardWalk(tuple(wide), tuple(plain))


def _judged(outcomes: Iterable[Outcome], before: Novelty) -> Iterator[Later]:
    for outcome in outcomes:
        if isinstance(outcome, Prediction):
            like = outcome.like
            yield Later(outcome, before.axes(like, asked(outcome, like)) if like else ())


def rows(figures: Sequence[Later], today: Sequence[Later]) -> list[dict[str, Any]]:
    """Return rows of coverage, forward in time and in sample: of all figures, of those new on each
    axis, and of serving and training separately."""
    axes = [None, "", *AXES]
    return [
        {"way": way, "task": task, "axis": axis, **_figures(chosen)}
        for way, all_figures in ((FORWARD, figures), (NOW, today))
        for task in (None, "serve", "train")
        for axis in (axes if task is None else axes[:1])
        for chosen in [[one for one in all_figures if _is(one, task, axis)]]
        if chosen
    ]


def _is(one: Later, task: str | None, axis: str | None) -> bool:
    """Return whether a figure is of a task and new on an axis; None matches any, axis "" one that
    is new on no axis."""
    of_task = {"serve": ("infer", "load"), "train": ("train", "trace")}
    on_axis = axis is None or (axis in one.axes if axis else not one.axes)
    return on_axis and (task is None or one.prediction.record.task in of_task[task])


def _figures(chosen: Sequence[Later]) -> dict[str, Any]:
    predictions = [one.prediction for one in chosen]
    return {
        "n": len(predictions),
        "inside": round(sum(one.inside for one in predictions) / len(predictions), DIGITS),
        "above": round(sum(one.above for one in predictions) / len(predictions), DIGITS),
        "p95": round(percentile(sorted(abs(one.error) for one in predictions), 95), DIGITS),
        "width": round(percentile(sorted(one.width for one in predictions), 50), DIGITS),
    }


def now(outcomes: Iterable[Outcome], known: Novelty) -> tuple[Later, ...]:
    """Return every figure as predicted from what is known today."""
    return tuple(_judged(outcomes, known))


def novelty(walk: ForwardWalk, outcomes: Iterable[Outcome]) -> Novelty:
    """Return what was published so far, and the widths that new answers need."""
    return Novelty(seen(outcomes), earned(walk.plain))


def earned(figures: Iterable[Later]) -> Mapping[NovelGroup, Margin]:
    """Return the margin per group: how far figures that were new lay outside their intervals."""
    by_group: dict[NovelGroup, list[Prediction]] = defaultdict(list)
    for prediction, axes in figures:
        if axes and prediction.kind is not None and sure(prediction):
            for group in groups(min(axes, key=AXES.index), prediction.kind):
                by_group[group].append(prediction)
    return {group: _width(chosen) for group, chosen in by_group.items() if len(chosen) >= FEW}


def _width(chosen: Sequence[Prediction]) -> Margin:
    """Return the margin that most figures stayed within, as fractions of the expected value; 0 if
    they were inside their intervals."""
    return Margin(
        low=max(0.0, quantile([below(one) for one in chosen], BELOW)),
        high=max(0.0, *(quantile([how(one) for one in chosen], LEAST) for how in (above, beyond))),
        runs=len(chosen),
        sources=tuple(sorted({one.record.source for one in chosen})),
    )
