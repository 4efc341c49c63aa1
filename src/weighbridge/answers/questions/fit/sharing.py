"""`fit --layouts`: parallel layouts of a training run over several devices, as rows."""

from collections.abc import Mapping
from typing import Any

from weighbridge.answers.estimate.layouts import RankLayout, layouts, ranking
from weighbridge.answers.estimate.train import MEGATRON
from weighbridge.answers.questions.fit.answers import Asker
from weighbridge.answers.questions.fit.sharded import on_machine, sharded
from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.memory.report.fit import Ranking
from weighbridge.settings.ranks import SHAPE
from weighbridge.workload import read
from weighbridge.workload.flags import flags

FULL, NAMED = "full", ("framework", "method")
PARTS = ("tensor", "pipeline", "chunks", "context", "expert", "data")  # in a layout's name
SHORT = ("tp", "pp", "vpp", "cp", "ep", "dp")


def sharing(asker: Asker, settings: Mapping[str, Any], *, every: bool = False) -> Ranking:
    """Return the ranking of a run's layouts, by Megatron unless a framework is named. Raises
    UsageError for adapters, or without several devices."""
    unsaid = read("train", {})
    asked_for = {
        name: value
        for name, value in settings.items()
        if value is not None and value != getattr(unsaid, name, None)
    }
    if asked_for.setdefault("method", FULL) != FULL:
        raise UsageError(sentence("layouts.method", usual=FULL, value=asked_for["method"]))
    asked_for.setdefault("framework", MEGATRON)
    workload, model = read("train", asked_for), asker.model()
    if workload.framework != MEGATRON:
        return sharded(asker, workload, asked_for, every=every)
    ranks = layouts(model, workload, every=every)
    budget = workload.budget()
    assert budget is not None  # layouts() needs it
    room = budget.usable.low
    rows = (_row(each, room, asked_for) for each in ranks)
    return ranking("train", rows, model.name, budget, MEGATRON)


def _row(each: RankLayout, room: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    run, cost = each.run, each.cost
    numbers = [getattr(run, part) for part in PARTS]
    own = {name: value for name, value in settings.items() if name not in NAMED}
    parts = [f"{short}{n}" for short, n in zip(SHORT, numbers, strict=True) if n > 1]
    return {
        "id": " ".join(parts) or "dp1",
        "fits": each.fits,
        "usable_bytes": room,
        "peak_bytes": each.peak.expected,
        "margin_bytes": room - each.peak.expected,
        **on_machine(each.host),
        **run.settings(*SHAPE, "data"),
        "virtual_stages": run.chunks,
        "micro_batches": run.accumulation,
        "recompute": each.keeps,
        "computed_again": round(cost.again, 4),
        "bubble": round(cost.bubble, 4),
        "near_bytes": cost.near,
        "far_bytes": cost.far,
        "flags": flags({"framework": MEGATRON, **own, **_said(each)}, ""),
    }


def _said(each: RankLayout) -> dict[str, Any]:
    """Return the settings of a layout that differ from the defaults."""
    return {
        name: value
        for name, value in each.change.items()
        if value != 1 or not name.endswith("_parallel_size")
    }
