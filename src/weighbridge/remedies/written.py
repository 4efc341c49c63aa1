"""A change as flags, and what to paste for it."""

import json
from collections.abc import Mapping
from typing import Any

from weighbridge.engines.llama_cpp.settings import Ggml
from weighbridge.engines.table import record
from weighbridge.quantization.on_load import written
from weighbridge.remedies.case import RemedyCase
from weighbridge.training import launching as training
from weighbridge.training.launching import TrainingLine, call

# What llama.cpp calls them, and this program too
OF_GGML = (Ggml.n_gpu_layers, Ggml.n_cpu_moe, Ggml.cache_type_k, Ggml.cache_type_v)
SHORT = {setting.name: setting.written for setting in OF_GGML}


def flags(change: Mapping[str, Any], engine: str) -> str:
    """The change as the engine's own flags where this program has the same, else as its own."""
    return " ".join(_flag(name, value, engine) for name, value in change.items())


def _flag(name: str, value: Any, engine: str) -> str:
    flag = SHORT.get(name) or f"--{name.replace('_', '-')}"
    if name == "context":
        flag = record(engine).length or flag
    if value is True:
        return flag
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{flag} {text}" if " " not in text else f"{flag} '{text}'"


def paste(case: RemedyCase) -> TrainingLine:
    """The whole line that does what was sized, or why there is none."""
    if case.task == "train":
        about, cls = case.report.workload, case.report.model.architecture
        run = training.TrainerRun(about, case.workload, case.loads, cls, *case.packed)
        return training.line(run)
    if case.task == "load":
        return _loading(case)
    derived = case.report.derived
    return TrainingLine(derived.get("launch") or "", derived.get("launch_note") or "")


def _loading(case: RemedyCase) -> TrainingLine:
    """The line of Python that loads a model in the format that was sized."""
    told, cls = case.effective, case.report.model.architecture
    form, dtype = told.get("quantization"), str(told["dtype"])
    config = None if form is None else written(form, dtype)
    if record(told.get("engine", "")).reads != "any" or not cls.isidentifier() or not case.loads:
        return TrainingLine(why="no line to paste: transformers does not load this by a name")
    if form is not None and config is None:
        return TrainingLine(
            why=f"no line to paste: {form} is read from a checkpoint that is stored so"
        )
    names = sorted([cls, *([config.name] if config is not None else [])])
    given = [json.dumps(case.loads), f"dtype=torch.{dtype}"]
    given += [f"quantization_config={call(config)}"] if config is not None else []
    given += [f'device_map="{told["device_map"]}"'] if told.get("device_map") else []
    device = case.budget.choice.part.torch_device if case.budget is not None else "cuda"
    moved = "" if config is not None or told.get("device_map") else f'.to("{device}")'
    made = f"model = {cls}.from_pretrained({', '.join(given)}){moved}"
    return TrainingLine(f"import torch; from transformers import {', '.join(names)}; {made}")
