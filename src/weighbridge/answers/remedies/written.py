"""The line to paste for a change."""

import json

from weighbridge.answers.remedies.case import RemedyCase
from weighbridge.base.sentences import sentence
from weighbridge.engines.table import record
from weighbridge.models.quantization.on_load import arguments as config_arguments
from weighbridge.models.quantization.on_load import written
from weighbridge.training.launching import TrainerRun, TrainingLine
from weighbridge.training.scripts import line


def paste(case: RemedyCase) -> TrainingLine:
    """Write the whole line that does what was sized, or say why there is none."""
    if case.task == "train":
        about, cls = case.report.workload, case.report.model.architecture
        return line(TrainerRun(about, case.workload, case.loads, cls, *case.packed))
    if case.task == "load":
        return _loading(case)
    derived = case.report.derived
    return TrainingLine(derived.get("launch") or "", derived.get("launch_note") or "")


def _loading(case: RemedyCase) -> TrainingLine:
    """Write the lines of Python that load a model in the format that was sized."""
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
        why = sentence("no_line", reason=sentence("name_published", form=form))
        return TrainingLine(why=why)
    names = sorted([cls, *([config.name] if config is not None else [])])
    given = [json.dumps(case.loads), f"dtype=torch.{dtype}"]
    if config is not None:
        given.append(f"quantization_config={config.name}({', '.join(config_arguments(config))})")
    given += [f'device_map="{effective["device_map"]}"'] if effective.get("device_map") else []
    device = case.budget.choice.part.torch_device if case.budget is not None else "cuda"
    moved = "" if config is not None or effective.get("device_map") else f'.to("{device}")'
    lines = ["import torch", f"from transformers import {', '.join(names)}"]
    if config is not None and config.inner is not None:
        lines.append(f"from torchao.quantization import {config.inner.name}")
    lines.append(f"model = {cls}.from_pretrained({', '.join(given)}){moved}")
    return TrainingLine("\n".join(lines))
