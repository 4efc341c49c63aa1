"""Sets of changes as remedies, with their price, their flags and a line to paste."""

import json

from weighbridge.answers.remedies import prices
from weighbridge.answers.remedies.case import Move, RemedyCase
from weighbridge.answers.remedies.sets import TO_HOST, MoveSet, asked
from weighbridge.base.memory import Bytes
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import human
from weighbridge.engines.table import record
from weighbridge.memory.report.verdict import Remedy
from weighbridge.models.quantization.on_load import arguments as config_arguments
from weighbridge.models.quantization.on_load import written
from weighbridge.training.launching import TrainerRun, TrainingLine, start
from weighbridge.training.scripts import line
from weighbridge.workload.flags import flags


def flagged(case: RemedyCase) -> tuple[Remedy, ...]:
    """Return the flags that a command lacks by its engine's rules, each with its estimate."""
    return tuple(_flagged(case, each) for each in case.report.remedies) if case.commanded else ()


def _flagged(case: RemedyCase, lacking: Remedy) -> Remedy:
    cost = prices.CHANGES["flags"]
    move = Move(kind="flags", change=lacking.change, cost=cost)
    known = all(hasattr(case.workload, name) for name in lacking.change)
    node = asked(MoveSet((), case), (move,)) if known else None
    line = str(case.report.derived.get("launch") or "")
    if node is None:  # an environment variable
        paste = f"{lacking.flags} {line}" if line else ""
        return replace(lacking, paste=paste, price=cost.price, kind=move.kind)
    remedy = told(node)
    return replace(
        remedy, fits=lacking.fits, cost=lacking.cost, flags=lacking.flags, source=cost.source
    )


def told(node: MoveSet) -> Remedy:
    """Return a set of changes as a remedy."""
    verdict, cost, line = node.case.verdict, node.cost, paste(node.case)
    return Remedy(
        change=dict(node.change),
        peak_bytes=node.peak,
        fits=node.fits,
        cost=cost.words,
        source=cost.source,
        price=cost.price,
        margin_bytes=verdict.margin_bytes,
        per_device=Bytes(*verdict.per_device),
        kind=node.moves[0].kind,
        flags=flags(node.change, node.case.engine if node.case.commanded else ""),
        paste=line.text,
        note=_note(node, line.why),
        host=None if verdict.host is None else verdict.host.needed,
    )


def _note(node: MoveSet, why: str) -> str:
    """Return what to do besides the line, or why there is none."""
    trained = node.case.task == "train" and not why
    started = f"start it with {start(node.case.count)}" if node.case.count > 1 else ""
    launch_note = started if trained else _same_memory(node)
    return clauses(
        *dict.fromkeys(filter(None, (*(move.note for move in node.moves), why, launch_note)))
    )


def _same_memory(node: MoveSet) -> str:
    """Return a note on moving weights off a device that shares the host's memory; else ""."""
    host = node.case.verdict.host
    if host is None or not host.shared or host.available is None or TO_HOST.isdisjoint(node.change):
        return ""
    whole = human(host.available)
    return f"both halves stay in the same memory: {human(host.needed.expected)} of {whole} in all"


# The line to paste


def paste(case: RemedyCase) -> TrainingLine:
    """Return the launch line of the estimated settings, or why there is none."""
    if case.task == "train":
        about, cls = case.report.workload, case.report.model.architecture
        return line(TrainerRun(about, case.workload, case.loads, cls, *case.packed))
    if case.task == "load":
        return _loading(case)
    derived = case.report.derived
    return TrainingLine(derived.get("launch") or "", derived.get("launch_note") or "")


def _loading(case: RemedyCase) -> TrainingLine:
    """Return Python lines that load a model in the estimated format."""
    effective, cls = case.effective, case.report.model.architecture
    form, dtype = effective.get("quantization"), str(effective["dtype"])
    config = None if form is None else written(form, dtype)
    if (
        record(effective.get("engine", "")).reads != "any"
        or not cls.isidentifier()
        or not case.loads
    ):
        return TrainingLine(why=sentence("no_line", reason=sentence("not_by_name")))
    if form is not None and config is None:
        published = sentence("name_published", form=form)
        return TrainingLine(why=sentence("no_line", reason=published))
    names = sorted([cls, *([config.name] if config is not None else [])])
    passed = [json.dumps(case.loads), f"dtype=torch.{dtype}"]
    if config is not None:
        passed.append(f"quantization_config={config.name}({', '.join(config_arguments(config))})")
    passed += [f'device_map="{effective["device_map"]}"'] if effective.get("device_map") else []
    device = case.budget.choice.part.torch_device if case.budget is not None else "cuda"
    moved = "" if config is not None or effective.get("device_map") else f'.to("{device}")'
    lines = ["import torch", f"from transformers import {', '.join(names)}"]
    if config is not None and config.inner is not None:
        lines += [f"from torchao.quantization import {config.inner.name}"]
    lines.append(f"model = {cls}.from_pretrained({', '.join(passed)}){moved}")
    return TrainingLine("\n".join(lines))
