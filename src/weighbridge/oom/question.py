"""The question that a log is an answer to: which task, which engine, which settings.

What the user says rules. What the log states is added where the task and the engine have it; what
they do not take is left out with a warning.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from weighbridge.catalogue import everyday
from weighbridge.errors import UsageError
from weighbridge.oom.record import OomReading
from weighbridge.questions.prepared import Prepared
from weighbridge.report import Report
from weighbridge.settings import INFER, TRAIN

ENGINES = {"vllm": "vllm", "sglang": "sglang", "llama.cpp": "llama.cpp", "ollama": "llama.cpp"}
OF_A_STEP = ("optimizer", "backward", "saving")
TRAINERS = ("trainer", "deepspeed")
TRAINING = TRAIN.keys() - INFER.keys()
DEVICE = ("gpu", "gpu_memory")
TASKS = ("load", "infer", "train")


class OomQuestion(NamedTuple):
    """`pinned` are the names that the user gave: what no remedy touches."""

    task: str
    settings: Mapping[str, Any]
    pinned: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def question(found: OomReading, given: Mapping[str, Any]) -> OomQuestion:
    """The question about the model of a log. Raises UsageError for a setting that no task has."""
    own = {name: value for name, value in given.items() if value is not None}
    task = own.pop("task", None) or _task(found, own)
    if task not in TASKS:
        raise UsageError(f"task {task!r:.40} is not known; known: {', '.join(TASKS)}")
    known = TRAIN if task == "train" else INFER
    unknown = sorted(own.keys() - INFER.keys() - TRAIN.keys())
    if unknown:
        raise UsageError(f"there is no setting {unknown[0]!r:.40}; see weighbridge infer --help")
    engine = str(own.get("engine") or ENGINES.get(found.engine, "transformers"))
    settings = {**_stated(found, task, engine), **{k: v for k, v in own.items() if k in known}}
    if "gpu_memory" not in own and ("gpu" in own or _ranks(settings) > 1):
        settings.pop("gpu_memory", None)  # a size alone is one device
    if task == "infer":
        settings["engine"] = engine
    pinned = (*own, "engine", *DEVICE)
    return OomQuestion(task, settings, pinned, tuple(_unused(own, known, task)))


def _ranks(settings: Mapping[str, Any]) -> int:
    """How many devices the settings ask for."""
    ranks = 1
    for name in ("tensor", "pipeline", "data"):
        size = str(settings.get(f"{name}_parallel_size", ""))
        ranks *= int(size) if size.isdecimal() else 1
    return ranks


def _task(found: OomReading, own: Mapping[str, Any]) -> str:
    trains = found.place in OF_A_STEP or found.engine in TRAINERS
    return "train" if TRAINING & own.keys() or (trains and "engine" not in own) else "infer"


def _unused(own: Mapping[str, Any], known: Mapping[str, Any], task: str) -> list[str]:
    left = sorted(own.keys() - known.keys())
    return [f"{', '.join(left)}: not a setting of {task}, and not used"] if left else []


def _stated(found: OomReading, task: str, engine: str) -> dict[str, Any]:
    """Settings of the log that this task and engine have."""
    stated = dict(found.stated)
    for name, figure in (("max_model_len", "context"), ("n_ctx", "context"), ("utilization", "")):
        value = found.parsed.get(name)
        if value is not None:
            stated[figure or _share(engine)] = value
    capacity = found.size("allowed" if found.wording == "torch-mps" else "capacity")
    if capacity and found.wording != "ggml-metal":
        stated["gpu_memory"] = capacity
    table = TRAIN if task == "train" else INFER
    engines = {name: getattr(table[name], "engines", ()) for name in stated if name in table}
    return {name: stated[name] for name, of in engines.items() if not of or engine in of}


def _share(engine: str) -> str:
    return "mem_fraction_static" if engine == "sglang" else "gpu_memory_utilization"


def other_model(named: str, model: Prepared) -> tuple[str, ...]:
    """Say that a log names another model than the one that was asked about: of both the shapes, or
    the last word of the name, are known to differ."""
    asked = model.source.repo_id or model.reference
    if not named or not asked or _model(named) == _model(asked):
        return ()
    return (f"the log is of {named}, and {asked} was asked about: the estimate is of the latter",)


def _model(name: str) -> str:
    """What two names of one model have in common: the entry of the catalogue, else the last word
    of the path."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    known = everyday.meaning(last)
    return known.entry.name if known is not None else last


def answered(model: Prepared, asked: OomQuestion) -> tuple[Report, tuple[str, ...]]:
    """The estimate; without the settings of the log where they do not go together."""
    settings = dict(asked.settings)
    ask = getattr(model, asked.task)
    try:
        return ask(pinned=asked.pinned, **settings), ()
    except UsageError as error:
        own = {k: v for k, v in settings.items() if k in asked.pinned}
        if own == settings:
            raise
        return ask(pinned=asked.pinned, **own), (f"settings of the log were not used: {error}",)
