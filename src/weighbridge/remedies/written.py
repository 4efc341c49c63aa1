"""A change as flags, and the line to paste for it."""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from weighbridge.engines.llama_cpp.settings import Ggml
from weighbridge.engines.table import record
from weighbridge.quantization.on_load import arguments as config_arguments
from weighbridge.quantization.on_load import written
from weighbridge.remedies.case import RemedyCase
from weighbridge.training.launching import TrainerRun, TrainingLine
from weighbridge.training.scripts import line

# What llama.cpp calls them, and this program too
OF_GGML = (
    *(Ggml.n_gpu_layers, Ggml.n_cpu_moe, Ggml.override_tensor),
    *(Ggml.cache_type_k, Ggml.cache_type_v),
    *(Ggml.split_mode, Ggml.tensor_split, Ggml.main_gpu),
)
SHELL = re.compile(r"[\s|&;<>()$`*?'\"\\~!#]")  # what a shell reads otherwise
SHORT = {setting.name: setting.written for setting in OF_GGML}


def flags(change: Mapping[str, Any], engine: str) -> str:
    """Write a change in the engine's own flags where this program has the same, else in its own."""
    return " ".join(_flag(name, value, engine) for name, value in change.items())


def _flag(name: str, value: Any, engine: str) -> str:
    flag = SHORT.get(name) or f"--{name.replace('_', '-')}"
    if name == "context":
        flag = record(engine).length or flag
    if value is True:
        return flag
    if value is False:
        return f"--no-{flag.removeprefix('--')}"
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{flag} {shlex.quote(text) if SHELL.search(text) else text}"


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
        return TrainingLine(why="no line to paste: transformers does not load this by a name")
    if form is not None and config is None:
        return TrainingLine(why=f"no line to paste: name a repository that is published in {form}")
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
