"""Published training runs on several cards, beside the search of layouts.

The search is told the model, the cards and what else is no layout (lengths, micro-batches, what is
computed again, precision, offload), and not how the run was shared out: ranks, chunks of a stage,
what data ranks share. Then the row of the run's own layout is looked for.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from weighbridge.answers.questions.prepared import Prepared
from weighbridge.memory.report import Report
from weighbridge.workload import Train, read
from weighbridge_lab.evidence.outcomes import PublishedCase, _prepared, _training, cases
from weighbridge_lab.evidence.records import PublishedFigure, chosen, origins

RANKS = ("tensor", "pipeline", "context", "expert")
SIZES = tuple(f"{kind}_parallel_size" for kind in RANKS)
OF_LAYOUT = (*SIZES, "data_parallel_size", "shard")
WORDS = (  # of Megatron's arguments
    *("num_virtual_stages_per_pipeline_rank", "num_layers_per_virtual_pipeline_stage"),
    "sequence_parallel",
)


class Searched(NamedTuple):
    """A published run, what `train` says of it, and its own row of the search: None where the
    search, which has that many rows that fit, does not call it fitting."""

    case: PublishedCase | PublishedFigure
    fits: str
    row: Mapping[str, Any] | None
    fitting: int

    @property
    def right(self) -> bool:
        """Whoever printed a figure of a run had one that went."""
        went = getattr(self.case, "outcome", "runs") == "runs"
        return (self.row is not None) == went


def runs() -> Iterator[PublishedCase]:
    """Yield the runs that the search can take: full training on several cards, of those that we
    answer."""
    for case in cases():
        full = case.task == "train" and case.setting.get("method") == "full"
        if full and case.count > 1 and case.skip is None:
            yield case


def searched(case: PublishedCase, *, named: Collection[str] = ()) -> Searched:
    """Ask the search about a run; `named` are settings of its layout that are told, too."""
    (card,) = case.cards
    w = _training(case, case.setting, card)
    return _looked_for(case, _prepared(case.model), w, named)


def measured() -> list[PublishedFigure]:
    """Return runs of Megatron on several cards of which a figure is published, each once."""
    found: dict[Any, PublishedFigure] = {}
    for record in chosen(source="megatron"):
        if record.skip or record.count < 2 or record.model not in origins():
            continue
        setting = repr(sorted(record.setting.items()))
        found.setdefault(
            (record.model, setting, record.accelerator, record.count, record.version), record
        )
    return list(found.values())


def searched_figure(record: PublishedFigure) -> Searched:
    """Ask the search about a run of which a figure is published."""
    named = {n: tuple(v) if isinstance(v, list) else v for n, v in record.setting.items()}
    beside = {"framework": "megatron", "framework_version": record.version}
    w = read("train", {**named, **beside, "gpu": f"{record.accelerator}:{record.count}"})
    return _looked_for(record, _prepared(record.model), w, ())


def _looked_for(
    case: PublishedCase | PublishedFigure, model: Prepared, w: Train, named: Collection[str]
) -> Searched:
    report = model.train(w, remedies=False)
    found = model.layouts(for_="train", every=True, **_open(w, named))
    own = layout(w, report)
    row = next((row for row in found.fitting if _is(row, own)), None)
    assert report.verdict is not None
    return Searched(case, report.verdict.fits, row, len(found.fitting))


def _open(w: Train, named: Collection[str]) -> dict[str, Any]:
    """Return what is said of a run but for its layout."""
    kept_open = {*OF_LAYOUT} - {*named}
    said = {n: v for n, v in w.said.items() if v is not None and n not in kept_open}
    words = said.get("megatron_args") or ()
    kept = tuple(word for word in words if word.partition("=")[0] not in WORDS)
    return {**said, "megatron_args": kept} if kept else said


def layout(w: Train, report: Report) -> dict[str, Any]:
    """Return a run's own layout, as rows have it."""
    effective = report.workload
    sizes = {size: effective.get(size) or 1 for size in SIZES}
    if w.framework != "megatron":
        return {**sizes, "shard": effective["shard"], "batch_size": effective["batch_size"]}
    parts = len(report.derived["layers_by_part"])
    return {**sizes, "virtual_stages": parts // sizes["pipeline_parallel_size"]}


def _is(row: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    return all(row[name] == value for name, value in own.items())
