"""The tables of published figures, as typed records.

    {"page": URL}                         the first lines: pages, by number from 0
    {"family": ..., "page": 0, "on": MODEL, "metric": ..., ...}      the others: one table each
        family     first word of the model's name; "" where no format of ours has a figure
        b          billions of parameters; "experts" where only some of them are used for a token
        of         "kv cache" where it is not weights that are quantized
        text       what the model was run on; "under": how the files were made
        caution    why it is weak: see WEAK
        baseline   the value of the same table for "from"; of KL the noise of its method
        rows       [label of the page, our format or formats or "", value, line of the page]

Metrics as written there: `perplexity`, by token; `increase`, of perplexity, printed in percent;
`word`, perplexity by word, another scale; `kl`, mean KL divergence from the unquantized model;
`accuracy`, a score; `recovery`, percent of a score.
"""

import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

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
    """One figure of a table."""

    label: str
    formats: tuple[str, ...]
    value: float
    line: int | None


class QualityTable(NamedTuple):
    """Figures that may be compared: one page, model, text and way of making."""

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
        """Percent by which perplexity rises or accuracy falls, or the divergence. A result better
        than its baseline is noise or a tuned model: nothing."""
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
        """Address of the page, and the line of it where it has lines."""
        return f"{self.page}#L{row.line}" if row.line else self.page


@cache
def _lines() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the file into pages, and tables that are not read yet."""
    with open(os.path.join(os.path.dirname(__file__), "figures.jsonl"), encoding="utf-8") as lines:
        all_lines = lines.readlines()
    pages = [json.loads(line)["page"] for line in all_lines if line.startswith('{"page"')]
    return tuple(pages), tuple(all_lines[len(pages) :])


@cache
def families() -> frozenset[str]:
    """Families of the tables: the first value of each."""
    return frozenset(filter(None, (line.split('"', 4)[3] for line in _lines()[1])))


@cache
def tables(family: str | None = None) -> tuple[QualityTable, ...]:
    """Return the tables of a family, or all, in the order of the file."""
    pages, lines = _lines()
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
    named = (form,) if isinstance(form, str) else tuple(form)
    return QualityRow(label, tuple(filter(None, named)), value, line)
