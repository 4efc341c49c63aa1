"""Margins from the evidence: how wide an interval must be, by the runs that are like an answer.

    fit(ask)                 -> MarginTable    of all figures
    left_out(ask, sources)   -> outcomes, each source with margins that were fitted without it

Conformal quantiles of how far figures lie beyond the rules' own interval, as a share of the
expected value: a share MOST of the figures is at most a hundredth above, LEAST is not above and
LEAST not below, counted so that the next figure of the kind is within as often. Levels nest, so
they are fitted from low to high, each with the margins of those below. A kind with fewer than NEAR
figures has no row: its kin has. A row narrows the rules' interval only where `narrowing` says so.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil

from weighbridge.answers import bounds
from weighbridge.answers.bounds import Margin, MarginTable, Novelty, RunForm, RunGroup
from weighbridge.answers.bounds.margin import ENOUGH, WITHIN, kin
from weighbridge.answers.bounds.novelty import RELEASE, Seen, place
from weighbridge.answers.bounds.phases import base
from weighbridge_lab.evidence.records import ABOVE, Outcome, Prediction

MOST, LEAST = 0.983, WITHIN  # shares of figures within
NEAR = 8  # figures below which a kind is no sample
APART = "platform"  # axis with too few figures to decide more than the width of what is new
DIGITS = 5
ORDER = (("component", "allocated"), ("reserved",), ("driver",))  # of levels
Ask = Callable[[MarginTable], Sequence[Outcome]]


def fit(ask: Ask) -> MarginTable:
    """Return margins fitted to all figures. `ask` predicts every figure with given margins."""
    rows: dict[RunGroup, Margin] = {}
    for number, levels in enumerate(ORDER):
        unsaid = [level for group in ORDER[number:] for level in group]
        figures = sample(ask(MarginTable(rows, unsaid)))
        known = Novelty(seen(one for one, _ in figures), {})
        rows |= table(
            one
            for one, kind in figures
            if kind.level in levels and not (one.like and APART in known.axes(one.like, kind))
        )
    return MarginTable(rows)


def sample(outcomes: Iterable[Outcome]) -> list[tuple[Prediction, RunGroup]]:
    """Return (figure, kind) for the figures that decide widths."""
    return [
        (one, one.kind)
        for one in outcomes
        if isinstance(one, Prediction) and one.kind is not None and sure(one)
    ]


def seen(outcomes: Iterable[Outcome]) -> Seen:
    """Return the known values of each engine's quantities, by axis: those with NEAR figures in
    ENOUGH runs; of releases all values."""
    by_place: dict[str, list[Prediction]] = defaultdict(list)
    for one in outcomes:
        if isinstance(one, Prediction) and one.like is not None:
            by_place[place(asked(one, one.like))].append(one)
    return {where: _values(figures) for where, figures in by_place.items() if _enough(figures)}


def _values(figures: Iterable[Prediction]) -> Mapping[str, frozenset[str]]:
    """Return the known values on each axis."""
    by_value: dict[tuple[str, str], list[Prediction]] = defaultdict(list)
    for one in figures:
        for trait in () if one.like is None else one.like.traits:
            by_value[trait].append(one)
    known = [t for t, each in by_value.items() if t[0] == RELEASE or _enough(each)]
    return {axis: frozenset(value for a, value in known if a == axis) for axis, _ in known}


def _enough(figures: Sequence[Prediction]) -> bool:
    """Return whether figures are a sample: at least NEAR, from ENOUGH models on cards."""
    runs = {(o.record.model, o.record.version, o.record.accelerator) for o in figures}
    return len(figures) >= NEAR and len(runs) >= ENOUGH


def asked(one: Prediction, like: RunForm) -> RunGroup:
    """Return the kind of runs that a figure belongs to, even if that has no margin."""
    level = one.record.level
    return one.kind or bounds.kind(like, one.record.quantity, level, several=False)


def sure(prediction: Prediction) -> bool:
    """Return whether a figure and its prediction are both numbers. A figure of low confidence is a
    range, and a prediction that leaves nothing is a verdict."""
    return prediction.record.confidence != "low" and prediction.bytes.expected != 0


def table(predictions: Iterable[Prediction]) -> Mapping[RunGroup, Margin]:
    """Return the margin of each kind with enough figures, and of each group of related kinds."""
    groups: dict[RunGroup, list[Prediction]] = defaultdict(list)
    for one in predictions:
        for like in () if one.kind is None else kin(one.kind):
            groups[like].append(one)
    return {like: margin(like, group) for like, group in groups.items() if len(group) >= NEAR}


def margin(like: RunGroup, group: Sequence[Prediction]) -> Margin:
    """Return the margin of one group. For related kinds, it is that of the worst member: one kind
    of runs from one source."""
    members: dict[object, list[Prediction]] = defaultdict(list)
    for one in group:
        members[like if one.kind == like else (one.kind, one.record.source)].append(one)
    errors = sorted(share(o, o.record.measured - o.bytes.expected) for o in group)
    return Margin(
        low=max(quantile([below(o) for o in each], LEAST) for each in members.values()),
        high=max(
            quantile([excess(o) for o in each], wanted)
            for each in members.values()
            for excess, wanted in ((beyond, LEAST), (above, MOST))
        ),
        middle=round(errors[len(errors) // 2], DIGITS),
        runs=len(group),
        sources=tuple(sorted({o.record.source for o in group})),
    ).lawful


def above(prediction: Prediction) -> float:
    """Return how far a figure lies above 1.01 times the upper bound, as a fraction of the expected
    value."""
    return share(
        prediction,
        (prediction.record.measured - prediction.resolution) / ABOVE - prediction.bytes.high,
    )


def beyond(prediction: Prediction) -> float:
    return share(
        prediction, prediction.record.measured - prediction.resolution - prediction.bytes.high
    )


def below(prediction: Prediction) -> float:
    return share(
        prediction, prediction.bytes.low - prediction.record.measured - prediction.resolution
    )


def share(prediction: Prediction, nbytes: float) -> float:
    """Return `nbytes` as a fraction of the expected value, or of its level's base."""
    level = prediction.record.level if prediction.kind is None else prediction.kind.level
    return nbytes / max(1, base(prediction.bytes.expected, level))


def quantile(values: Sequence[float], wanted: float) -> float:
    """Return the conformal quantile of n values: the ceil((n + 1) x wanted)-th, or the last if
    there are too few; rounded up."""
    ordered = sorted(values)
    rank = min(len(ordered), ceil((len(ordered) + 1) * wanted))
    whole: int = 10**DIGITS
    return ceil(ordered[rank - 1] * whole) / whole


def left_out(ask: Ask, sources: Iterable[str]) -> list[Outcome]:
    """Return the predictions of all figures, each with margins from all other sources."""
    return [o for source in sources for o in _without(ask, source)]


def _without(ask: Ask, source: str) -> list[Outcome]:
    def others(rows: MarginTable) -> list[Outcome]:
        return [o for o in ask(rows) if o.record.source != source]

    return [o for o in ask(fit(others)) if o.record.source == source]
