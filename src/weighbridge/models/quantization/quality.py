"""Quality that formats of weights cost: published figures, each with the page that prints it.

    published("llama-3.1-8b", 8.03e9, "Q4_K_M") -> Finding, or None: no published figure is known

    quality.jsonl   a line a page, then its tables: one model, metric, text and way of making

Only a value and the baseline of the same table are ever compared. Figures without a baseline on
their page are left out, and so are medians, shares of alike tokens and losses without a unit.

The nearest model of the same family answers, and the finding names it. A name tells a family and a
generation ("Llama-3.1-8B": llama, 3.1); the size is counted. Families are those that the tables of
figures have; a distilled model is of the family that it was made from, of no known generation.

    generation   0 the same, 1 the same before the point, 5 another   (assumed, as all below)
    size         1 for each doubling; beyond ten times it says nothing
    kind         2 where one sees, hears or embeds and the other does not; 1 where one has experts

Of figures that are as near, perplexity goes before KL divergence and that before accuracy, reviewed
pages before posts, files made without an importance matrix before others (the plain way to make
one). Tasks on which a score swings by points from run to run are left out.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import log2
from operator import itemgetter
from typing import Any, Literal

from weighbridge.base.records import NamedTuple

# ---- the tables of quality.jsonl
#
#     {"page": URL}                         the first lines: pages, by number from 0
#     {"family": ..., "page": 0, "on": MODEL, "metric": ..., ...}      the others: one table each
#         family     first word of the model's name; "" where no format of ours has a figure
#         b          billions of parameters; "experts" where only some of them are used for a token
#         of         "kv cache" where it is not weights that are quantized
#         text       what the model was run on; "under": how the files were made
#         caution    why it is weak: see WEAK
#         baseline   the value of the same table for "from"; of KL the noise of its method
#         rows       [label of the page, our format or formats or "", value, line of the page]
#
# Metrics as written there: `perplexity`, by token; `increase`, of perplexity, printed in percent;
# `word`, perplexity by word, another scale; `kl`, mean KL divergence from the unquantized model;
# `accuracy`, a score; `recovery`, percent of a score.

Metric = Literal["perplexity", "word_perplexity", "kl_divergence", "accuracy"]
METRICS: Mapping[str, Metric] = {
    "perplexity": "perplexity",
    "increase": "perplexity",
    "word": "word_perplexity",
    "kl": "kl_divergence",
    "accuracy": "accuracy",
    "recovery": "accuracy",
}
WEAK = ("community post", "private corpus", "small sample", "outdated")  # shown, after others
# Not what a file of that format would lose
NEVER = ("simulated", "trained further", "contradicts itself", "quantized baseline")


class QualityRow(NamedTuple):
    """One figure of a table: the page's label, our formats, the value and its line."""

    label: str
    formats: tuple[str, ...]
    value: float
    line: int | None


class QualityTable(NamedTuple):
    """Comparable figures: from one page, for one model, text and quantizer."""

    page: str
    family: str
    model: str
    billions: float | None
    experts: bool
    of: str
    metric: str
    text: str
    under: str
    caution: str
    baseline: float | None
    baseline_name: str
    rows: tuple[QualityRow, ...]

    def change(self, row: QualityRow) -> float:
        """Return the loss: percent by which perplexity rises or accuracy falls, or the KL
        divergence. Better than the baseline counts as 0, since it is noise or a tuned model."""
        return max(0.0, self._change(row.value))

    def _change(self, value: float) -> float:
        if self.metric == "increase":
            return value
        if self.metric == "recovery":
            return 100 - value
        if self.metric == "kl":
            return 0.0 if value <= (self.baseline or 0) else value
        assert self.baseline
        ratio = value / self.baseline
        return 100 * (1 - ratio) if self.metric == "accuracy" else 100 * (ratio - 1)

    def source(self, row: QualityRow) -> str:
        """Return the page's address, with the line if the page has lines."""
        return f"{self.page}#L{row.line}" if row.line else self.page


@cache
def _pages_and_tables() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the pages, and the lines of the tables, not yet parsed."""
    with open(os.path.join(os.path.dirname(__file__), "quality.jsonl"), encoding="utf-8") as lines:
        all_lines = lines.readlines()
    pages = [json.loads(line)["page"] for line in all_lines if line.startswith('{"page"')]
    return tuple(pages), tuple(all_lines[len(pages) :])


@cache
def families() -> frozenset[str]:
    """Return the model families with tables, from each line's first value."""
    return frozenset(filter(None, (line.split('"', 4)[3] for line in _pages_and_tables()[1])))


@cache
def tables(family: str | None = None) -> tuple[QualityTable, ...]:
    """Return the tables of `family`, or of all families, in file order."""
    pages, lines = _pages_and_tables()
    start = "" if family is None else f'{{"family":"{family}"'
    read = map(json.loads, (line for line in lines if line.startswith(start)))
    return tuple(_table(pages[record["page"]], record) for record in read)


def _table(page: str, record: Mapping[str, Any]) -> QualityTable:
    return QualityTable(
        page=page,
        family=record["family"],
        model=record["on"],
        billions=record["b"],
        experts=record.get("experts", False),
        of=record.get("of", "weights"),
        metric=record["metric"],
        text=record["text"],
        under=record.get("under", ""),
        caution=record.get("caution", ""),
        baseline=record.get("baseline"),
        baseline_name=record.get("from", ""),
        rows=tuple(_row(*row) for row in record["rows"]),
    )


def _row(label: str, form: str | list[str], value: float, line: int | None = None) -> QualityRow:
    forms = (form,) if isinstance(form, str) else tuple(form)
    return QualityRow(label, tuple(filter(None, forms)), value, line)


# ---- How near one model is to another, for figures that were measured on the other

Near = Literal["model", "generation", "family"]
NAMED = re.compile(
    r"(?<![a-z])(?P<word>[a-z]+)[-_. ]?(?:[vkr](?=\d))?"
    r"(?P<generation>\d{1,2}(?:\.\d+)?(?![\d.]*[bmx]))?"
)
KINDS = frozenset(("vl", "omni", "vision", "audio", "embedding", "reranker", "guard", "tts"))
OTHER, EXPERTS, KIND = 5.0, 1.0, 2.0
FURTHEST = log2(10)
SAME = 0.15  # of a doubling: stated sizes are rounded


class NamedModel(NamedTuple):
    """A model's name, taken apart for comparison with others."""

    name: str  # without its owner, in small letters
    family: str
    generation: str
    billions: float | None
    experts: bool
    kinds: frozenset[str]


def words(name: str) -> list[re.Match[str]]:
    """Return the words of a model name without owner; for a distilled model, of its base."""
    return list(NAMED.finditer(bare(name).rpartition("distill-")[2]))


def bare(name: str) -> str:
    return name.rpartition("/")[2].lower()


def family(name: str) -> tuple[str, str] | None:
    """Return (family, generation): the first word that is a family and the number next to it, "?"
    for a distilled model; None without a family."""
    for match in words(name):
        if match["word"] in families():
            lost = "distill-" in name.lower()
            return match["word"], "?" if lost else (match["generation"] or "")
    return None


def named(name: str, billions: float | None, *, experts: bool) -> NamedModel | None:
    """Return a parsed model name; None if its family has no tables."""
    known = family(name)
    if known is None:
        return None
    parts = re.split(r"[^a-z]+", name.lower())
    return NamedModel(bare(name), *known, billions, experts, KINDS.intersection(parts))


def distance(a: NamedModel, b: NamedModel) -> float | None:
    """Return the distance of two models, in doublings of size; None if one's figures do not apply
    to the other."""
    if a.family != b.family:
        return None
    doublings = 0.0 if a.billions is None or b.billions is None else size(a.billions, b.billions)
    if doublings > FURTHEST:
        return None
    further = EXPERTS * (a.experts != b.experts) + KIND * (a.kinds != b.kinds)
    generations_apart = 0.0 if a.name == b.name else generations(a.generation, b.generation)
    return generations_apart + doublings + further


def size(a: float, b: float) -> float:
    """Return how many doublings lie between two parameter counts."""
    doublings = abs(log2(a / b))
    return 0.0 if doublings < SAME else doublings


def generations(a: str, b: str) -> float:
    if "?" in (a, b):
        return OTHER
    if a == b:
        return 0.0
    return 1.0 if a.partition(".")[0] == b.partition(".")[0] else OTHER


def nearness(a: NamedModel, b: NamedModel) -> Near:
    """Return how near two models are: the same "model", "generation" or "family"."""
    if distance(a, b) == 0:
        return "model"
    return "generation" if generations(a.generation, b.generation) < OTHER else "family"


# ---- The figure to show

# In doublings of size, which is what `distance` counts in (assumed)
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
    """A loss against the baseline of the same table. `least` is below `change` if several makers'
    files on the page have the same name."""

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
        """Return the loss as text, with about two digits."""
        places = 3 if self.metric == "kl_divergence" else 2 if self.change < SMALL else 1
        return f"{self.change:.{0 if self.change >= LARGE else places}f}"

    @property
    def task(self) -> str:
        """Return the name of the text or benchmark without brackets."""
        return self.text.partition(" (")[0]

    def to_dict(self) -> dict[str, Any]:
        fields = self._asdict()
        return {**fields, "unit": UNITS[self.metric]}


class _TableEntry(NamedTuple):
    table: QualityTable
    model: NamedModel
    rows: tuple[QualityRow, ...]


def published(
    name: str, parameters: int, form: str, *, experts: bool = False, of: str = "weights"
) -> Finding | None:
    """Return the published loss of the format `form` for this model, else for the nearest of its
    family; None if there is none."""
    asked = named(name, parameters / 1e9, experts=experts)
    if asked is None:
        return None
    near = (
        (distance(asked, entry.model), entry) for entry in entries(asked.family).get((of, form), ())
    )
    ranked = [
        (_rank(d, entry.table), index, entry)
        for index, (d, entry) in enumerate(near)
        if d is not None
    ]
    return _finding(asked, min(ranked)[2], form) if ranked else None


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
    """Return whether a table's figures show a format's loss: no noisy task, no cautioned page."""
    noisy = METRICS[table.metric] == "accuracy" and table.text.lower().startswith(NOISY)
    return table.caution not in NEVER and not noisy


@cache
def entries(family: str) -> Mapping[tuple[str, str], Sequence[_TableEntry]]:
    """Return a family's tables with their rows, by (what is quantized, format)."""
    entries_by_format: dict[tuple[str, str], list[_TableEntry]] = {}
    for table in filter(usable, tables(family)):
        model = named(table.model, table.billions, experts=table.experts)
        for form in dict.fromkeys(form for row in table.rows for form in row.formats):
            assert model is not None
            rows = tuple(row for row in table.rows if form in row.formats)
            entries_by_format.setdefault((table.of, form), []).append(
                _TableEntry(table, model, rows)
            )
    return entries_by_format


def scoreboards(
    name: str, parameters: int, *, experts: bool = False, same: bool = False
) -> Iterator[QualityTable]:
    """Yield tables of quantized weights, those of the nearest models first; with `same`, only of
    the model itself."""
    asked = named(name, parameters / 1e9, experts=experts)
    if asked is None:
        return
    ranked = []
    for table in tables(asked.family):
        other = named(table.model, table.billions, experts=table.experts)
        apart = distance(asked, other) if other else None
        if apart is None or (same and apart > 0):
            continue
        if table.of == "weights" and usable(table):
            ranked.append((apart, table))
    yield from map(itemgetter(1), sorted(ranked, key=itemgetter(0)))
