"""The published figure to show for a model and a format.

    published("llama-3.1-8b", 8.03e9, "Q4_K_M") -> Finding, or None: no published figure is known

The nearest model of the same family answers (kinship.py), and the finding names it. Of figures
that are as near, perplexity goes before KL divergence and that before accuracy, reviewed pages
before posts, files made without an importance matrix before others (the plain way to make one).
Tasks on which a score swings by points from run to run are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from weighbridge.quantization.quality.kinship import (
    NamedModel,
    Near,
    distance,
    named,
    nearness,
)
from weighbridge.quantization.quality.records import (
    METRICS,
    NEVER,
    WEAK,
    Metric,
    QualityRow,
    QualityTable,
    tables,
)

# In doublings of size, which is what kinship counts in (assumed)
LATER: Mapping[Metric, float] = {
    "perplexity": 0.0,
    "word_perplexity": 0.5,
    "kl_divergence": 1.0,
    "accuracy": 2.0,
}
WEAKER, MATRIX = 1.0, 0.1
SINGLE = {"average": 0.0, "openllm": 0.0, "mmlu": 0.5}  # one task says less than many
TASK = 0.6
SMALL, LARGE = 0.1, 10  # percent: two decimals below, none above
NOISY = ("gsm8k", "humaneval", "aime", "gpqa", "mbpp", "math-500", "arena-hard")
UNITS: Mapping[Metric, str] = {
    "perplexity": "percent",
    "word_perplexity": "percent",
    "kl_divergence": "nats",
    "accuracy": "percent",
}


class Finding(NamedTuple):
    """A loss against the baseline of the same table. `least` is lower than `change` where files of
    one name, from several makers, are on the page."""

    metric: Metric
    change: float  # percent by which perplexity rises or accuracy falls; nats of divergence
    least: float
    measured_on: str
    near: Near
    format: str
    label: str  # the page's own name of the format
    text: str
    under: str
    caution: str
    value: float
    baseline: float | None
    source: str

    @property
    def amount(self) -> str:
        """The change to two figures or so."""
        places = 3 if self.metric == "kl_divergence" else 2 if self.change < SMALL else 1
        return f"{self.change:.{0 if self.change >= LARGE else places}f}"

    @property
    def task(self) -> str:
        """The text without what stands beside it in brackets."""
        return self.text.partition(" (")[0]

    def to_dict(self) -> dict[str, Any]:
        found = self._asdict()
        return {**found, "unit": UNITS[self.metric]}


class _TableEntry(NamedTuple):
    table: QualityTable
    model: NamedModel
    rows: tuple[QualityRow, ...]


def published(
    name: str, parameters: int, form: str, *, experts: bool = False, of: str = "weights"
) -> Finding | None:
    """What is published about `form` on this model, or on the nearest of its family."""
    asked = named(name, parameters / 1e9, experts=experts)
    if asked is None:
        return None
    near = ((distance(asked, e.model), e) for e in entries(asked.family).get((of, form), ()))
    told = [(_rank(d, e.table), i, e) for i, (d, e) in enumerate(near) if d is not None]
    return _finding(asked, min(told)[2], form) if told else None


def _rank(apart: float, table: QualityTable) -> float:
    metric = METRICS[table.metric]
    weak = WEAKER * (table.caution in WEAK)
    return (
        apart + LATER[metric] + weak + _single(table) + MATRIX * table.under.startswith("imatrix")
    )


def _single(table: QualityTable) -> float:
    if METRICS[table.metric] != "accuracy":
        return 0.0
    text = table.text.lower()
    return next((late for word, late in SINGLE.items() if word in text), TASK)


def _finding(asked: NamedModel, entry: _TableEntry, form: str) -> Finding:
    table = entry.table
    worst = max(entry.rows, key=table.change)
    return Finding(
        metric=METRICS[table.metric],
        change=table.change(worst),
        least=min(map(table.change, entry.rows)),
        measured_on=table.model.rpartition("/")[2],
        near=nearness(asked, entry.model),
        format=form,
        label=worst.label,
        text=table.text,
        under=table.under,
        caution=table.caution,
        value=worst.value,
        baseline=table.baseline,
        source=table.source(worst),
    )


def usable(table: QualityTable) -> bool:
    """Whether it says what a format costs."""
    noisy = METRICS[table.metric] == "accuracy" and table.text.lower().startswith(NOISY)
    return table.caution not in NEVER and not noisy


@cache
def entries(family: str) -> Mapping[tuple[str, str], Sequence[_TableEntry]]:
    """Tables of a family by what they quantize and the format, with their rows of it."""
    found: dict[tuple[str, str], list[_TableEntry]] = {}
    for table in filter(usable, tables(family)):
        model = named(table.model, table.billions, experts=table.experts)
        for form in dict.fromkeys(form for row in table.rows for form in row.formats):
            assert model is not None
            rows = tuple(row for row in table.rows if form in row.formats)
            found.setdefault((table.of, form), []).append(_TableEntry(table, model, rows))
    return found


def scoreboards(name: str, parameters: int, *, experts: bool = False) -> Iterator[QualityTable]:
    """Tables of weights, those of the nearest models first."""
    asked = named(name, parameters / 1e9, experts=experts)
    kept = []
    for i, table in enumerate(tables(asked.family) if asked else ()):
        other = named(table.model, table.billions, experts=table.experts)
        apart = distance(asked, other) if asked and other else None
        if apart is not None and table.of == "weights" and usable(table):
            kept.append((apart, i, table))
    yield from (table for _, _, table in sorted(kept, key=lambda k: k[:2]))
