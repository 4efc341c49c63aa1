"""How far predictions are from what was measured, by engine and quantity.

    error = (predicted - measured) / measured

`inside` and `exact` allow what the figure's own digits leave open; `width` is that of our interval,
as a share of what we expect.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from weighbridge._version import __version__
from weighbridge.lab.evidence.predict import Outcome, Prediction, Skip
from weighbridge.lab.evidence.records import LEVELS

SCHEMA = "weighbridge.accuracy/1"
INCOMPLETE = (  # the source's, not ours
    "setting incomplete",
    "quantization recipe unknown",
    "not modelled: the program is not published",
    "a bound, not a figure",
    "its offset is not known",
    "within the scatter of its offset",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyRow:
    """One engine and quantity; shares and errors are fractions."""

    source: str | None  # None: of all sources
    engine: str
    quantity: str
    level: str
    n: int
    p50: float  # of |error|
    p95: float
    signed: float  # median
    worst: float  # signed, of the largest |error|
    under: float  # share that we put too low
    inside: float  # share within our interval
    above: float  # share more than a hundredth above our upper bound
    exact: float  # share that the figure's digits cannot tell from ours
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How well the intervals of one level hold; of one source, or of all. Shares are fractions."""

    source: str | None
    level: str
    n: int
    inside: float
    above: float  # share more than a hundredth above the upper bound
    width: float  # median

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def coverage(found: Iterable[Outcome], *, by_source: bool = False) -> list[Coverage]:
    def key(p: Prediction) -> tuple[int, str]:
        return LEVELS.index(p.record.level), p.record.source if by_source else ""

    predicted = sorted((o for o in found if isinstance(o, Prediction)), key=key)
    return [_coverage(source, list(group)) for (_, source), group in groupby(predicted, key=key)]


def _coverage(source: str, found: Sequence[Prediction]) -> Coverage:
    return Coverage(
        source=source or None,
        level=found[0].record.level,
        n=len(found),
        inside=sum(p.inside for p in found) / len(found),
        above=sum(p.above for p in found) / len(found),
        width=percentile(sorted(p.width for p in found), 50),
    )


def rows(found: Iterable[Outcome], *, by_source: bool = False) -> list[AccuracyRow]:
    def key(p: Prediction) -> tuple[str, str, str, str]:
        r = p.record
        return (r.source if by_source else "", r.engine, p.quantity, r.level)

    predicted = sorted((o for o in found if isinstance(o, Prediction)), key=key)
    return [_row(*named, tuple(group)) for named, group in groupby(predicted, key=key)]


def _row(
    source: str, engine: str, quantity: str, level: str, found: Sequence[Prediction]
) -> AccuracyRow:
    sizes = sorted(abs(p.error) for p in found)
    return AccuracyRow(
        source=source or None,
        engine=engine,
        quantity=quantity,
        level=level,
        n=len(found),
        p50=percentile(sizes, 50),
        p95=percentile(sizes, 95),
        signed=percentile(sorted(p.error for p in found), 50),
        worst=max((p.error for p in found), key=abs),
        under=sum(p.under for p in found) / len(found),
        inside=sum(p.inside for p in found) / len(found),
        above=sum(p.above for p in found) / len(found),
        exact=sum(p.exact for p in found) / len(found),
        width=percentile(sorted(p.width for p in found), 50),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Interpolate between the two nearest values, in proportion."""
    at = (len(ordered) - 1) * percent / 100
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def skipped(found: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Figures that were not predicted, by source and reason."""
    counts = Counter((o.record.source, o.reason) for o in found if isinstance(o, Skip))
    result: dict[str, dict[str, int]] = {}
    for (source, reason), count in sorted(counts.items()):
        result.setdefault(source, {})[reason] = count
    return result


def share_skipped(found: Iterable[Outcome], source: str) -> float:
    """Return the share of a source's figures that were skipped, among those with complete
    settings."""
    mine = [o for o in found if o.record.source == source]
    complete = [o for o in mine if not (isinstance(o, Skip) and o.reason in INCOMPLETE)]
    missed = sum(isinstance(o, Skip) for o in complete)
    return missed / len(complete) if complete else 0.0


def worst(found: Iterable[Outcome], count: int) -> list[Prediction]:
    predicted = [o for o in found if isinstance(o, Prediction)]
    return sorted(predicted, key=lambda p: -abs(p.error))[:count]


def to_dict(
    found: Sequence[Outcome],
    apart: Sequence[Outcome] | None = None,
    *,
    by_source: bool,
    worst_count: int,
    all_records: bool,
) -> dict[str, Any]:
    """The JSON of `weighbridge accuracy`: docs/accuracy.md."""
    return {
        "schema": SCHEMA,
        "version": __version__,
        "rows": [row.to_dict() for row in rows(found, by_source=by_source)],
        "coverage": None if apart is None else _held(found, apart),
        "skipped": skipped(found),
        "worst": [record(p) for p in worst(found, worst_count)],
        "records": [record(o) for o in found] if all_records else [],
    }


def _held(found: Sequence[Outcome], apart: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "all": [c.to_dict() for c in coverage(found)],
        "left_out": [c.to_dict() for c in (*coverage(apart), *coverage(apart, by_source=True))],
    }


def record(o: Outcome) -> dict[str, Any]:
    """One figure beside what we predict for it."""
    r = o.record
    facts = {
        "id": r.id,
        "source": r.source,
        "engine": r.engine,
        "engine_version": r.version,
        "model": r.model,
        "quantity": o.quantity,
        "level": r.level,
        "unit": r.unit,
        "measured": r.measured,
        "resolution": r.resolution,
        "citation": dict(r.citation),
        "confidence": r.confidence,
        "caveat": r.caveat,
    }
    if isinstance(o, Skip):
        return {**facts, "predicted": None, "skipped": o.reason, "detail": o.detail}
    return {**facts, "predicted": o.bytes._asdict(), "error": o.error, "skipped": None}
