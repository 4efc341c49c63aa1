"""Errors of predictions against what was measured, by engine and quantity.

    error = (predicted - measured) / measured

`inside` and `exact` allow what the figure's own digits leave open; `width` is that of our interval,
as a share of what we expect.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from weighbridge.answers.bounds import accuracy
from weighbridge.base._version import __version__
from weighbridge.base.records import frozen_record
from weighbridge_lab.evidence.records import LEVELS, Outcome, Prediction, Skip

SCHEMA = "weighbridge.accuracy/1"


@frozen_record
class AccuracyRow:
    """Errors of one engine and quantity; shares and errors are fractions."""

    source: str | None  # None: of all sources
    engine: str
    quantity: str
    level: str
    n: int
    p50: float  # of |error|
    p95: float
    signed: float  # median
    worst: float  # signed, of the largest |error|
    under: float  # share that we predict too low
    inside: float  # share within our interval
    above: float  # share more than a hundredth above our upper bound
    exact: float  # share within the figure's own rounding
    width: float  # median

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "engine": self.engine,
            "quantity": self.quantity,
            "level": self.level,
            "n": self.n,
            "p50": self.p50,
            "p95": self.p95,
            "signed_median": self.signed,
            "max": self.worst,
            "under": self.under,
            "inside": self.inside,
            "above": self.above,
            "exact": self.exact,
            "width_median": self.width,
        }


@frozen_record
class Coverage:
    """How often figures are within the intervals of one level, for one source or all. Shares are
    fractions."""

    source: str | None
    level: str
    n: int
    inside: float
    above: float  # share more than a hundredth above the upper bound
    width: float  # median

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def coverage(outcomes: Iterable[Outcome], *, by_source: bool = False) -> list[Coverage]:
    """Return how often figures are within their intervals: a row per level, or with `by_source` per
    level and source."""

    def key(prediction: Prediction) -> tuple[int, str]:
        return LEVELS.index(prediction.record.level), prediction.record.source if by_source else ""

    predicted = sorted((o for o in outcomes if isinstance(o, Prediction)), key=key)
    return [_coverage(source, list(group)) for (_, source), group in groupby(predicted, key=key)]


def _coverage(source: str, predictions: Sequence[Prediction]) -> Coverage:
    return Coverage(
        source=source or None,
        level=predictions[0].record.level,
        n=len(predictions),
        inside=sum(p.inside for p in predictions) / len(predictions),
        above=sum(p.above for p in predictions) / len(predictions),
        width=percentile(sorted(p.width for p in predictions), 50),
    )


def rows(outcomes: Iterable[Outcome], *, by_source: bool = False) -> list[AccuracyRow]:
    """Return a row for each engine, quantity and level, and with `by_source` for each source."""

    def key(prediction: Prediction) -> tuple[str, str, str, str]:
        record = prediction.record
        return (
            record.source if by_source else "",
            record.engine,
            prediction.quantity,
            record.level,
        )

    predicted = sorted((o for o in outcomes if isinstance(o, Prediction)), key=key)
    return [_row(*named, tuple(group)) for named, group in groupby(predicted, key=key)]


def _row(
    source: str, engine: str, quantity: str, level: str, predictions: Sequence[Prediction]
) -> AccuracyRow:
    sizes = sorted(abs(p.error) for p in predictions)
    return AccuracyRow(
        source=source or None,
        engine=engine,
        quantity=quantity,
        level=level,
        n=len(predictions),
        p50=percentile(sizes, 50),
        p95=percentile(sizes, 95),
        signed=percentile(sorted(p.error for p in predictions), 50),
        worst=max((p.error for p in predictions), key=abs),
        under=sum(p.under for p in predictions) / len(predictions),
        inside=sum(p.inside for p in predictions) / len(predictions),
        above=sum(p.above for p in predictions) / len(predictions),
        exact=sum(p.exact for p in predictions) / len(predictions),
        width=percentile(sorted(p.width for p in predictions), 50),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return a percentile, interpolated between the two nearest values."""
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def skipped(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Return the number of figures without a prediction, by source and reason."""
    counts = Counter((o.record.source, o.reason) for o in outcomes if isinstance(o, Skip))
    result: dict[str, dict[str, int]] = {}
    for (source, reason), count in sorted(counts.items()):
        result.setdefault(source, {})[reason] = count
    return result


def worst(outcomes: Iterable[Outcome], count: int) -> list[Prediction]:
    predicted = [o for o in outcomes if isinstance(o, Prediction)]
    return sorted(predicted, key=lambda p: -abs(p.error))[:count]


def to_dict(
    outcomes: Sequence[Outcome],
    apart: Sequence[Outcome] | None = None,
    *,
    by_source: bool,
    worst_count: int,
    all_records: bool,
) -> dict[str, Any]:
    """Return the JSON output of `weighbridge accuracy`: docs/accuracy.md."""
    return {
        "schema": SCHEMA,
        "version": __version__,
        "held": list(accuracy.coverage()),
        "rows": [row.to_dict() for row in rows(outcomes, by_source=by_source)],
        "coverage": None if apart is None else _coverages(outcomes, apart),
        "skipped": skipped(outcomes),
        "worst": [record(p) for p in worst(outcomes, worst_count)],
        "records": [record(o) for o in outcomes] if all_records else [],
    }


def _coverages(outcomes: Sequence[Outcome], apart: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "all": [c.to_dict() for c in coverage(outcomes)],
        "left_out": [c.to_dict() for c in (*coverage(apart), *coverage(apart, by_source=True))],
    }


def record(outcome: Outcome) -> dict[str, Any]:
    """Return one figure and our prediction as JSON."""
    published = outcome.record
    facts = {
        "id": published.id,
        "source": published.source,
        "engine": published.engine,
        "engine_version": published.version,
        "model": published.model,
        "quantity": outcome.quantity,
        "level": published.level,
        "unit": published.unit,
        "measured": published.measured,
        "resolution": published.resolution,
        "citation": dict(published.citation),
        "confidence": published.confidence,
        "caveat": published.caveat,
    }
    if isinstance(outcome, Skip):
        return {**facts, "predicted": None, "skipped": outcome.reason, "detail": outcome.detail}
    return {**facts, "predicted": outcome.bytes._asdict(), "error": outcome.error, "skipped": None}
