"""litgpt's YAML, read into the settings of the run that it starts.

Sources: litgpt @ 26857050: finetune/lora.py (rank 8, query and value, micro_batch_size 1, one
device; FSDP over several, activation checkpointing off, on under FSDP), finetune/full.py,
pretrain.py (compiled; micro_batch_size 4), args.py.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.paths import model_of
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun
from weighbridge.files.runfiles.tables import phrased
from weighbridge.settings.ranks import SETTINGS

KEYS = text_beside(__file__, "litgpt.txt")
MODULES = ("query", "key", "value", "projection", "mlp", "head")
OWN_ADAPTED = ("query", "value")  # finetune_lora's default


def tells(document: Document) -> bool:
    """Return whether a document is litgpt's."""
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("train"), dict):
        return False
    named = "checkpoint_dir" in data or "model_name" in data
    return named and ("micro_batch_size" in data["train"] or "out_dir" in data)


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a config starts."""
    keys = reading(document, KEYS)
    keys.settings["framework"] = "litgpt"
    model = _model(keys)
    rules.decide(keys, "litgpt")
    if keys.settings["method"] != "full":
        _adapters(keys)
    _accumulated(keys)
    _ranks(keys)
    keys.used.update(f"model_config.{name}" for name in keys.value("model_config") or {})
    keys.plain()
    yield keys.run(model)


def _model(keys: KeyReading) -> str:
    folder = keys.text("checkpoint_dir")
    if folder:
        keys.take("checkpoint_dir", "model")
        return model_of(folder.removeprefix("checkpoints/"))
    if keys.value("model_config"):
        keys.leave("model_config", "the model is made by its sizes")
        keys.used.add("model_name")
        return ""
    keys.take("model_name", "model")
    return keys.text("model_name")


def _accumulated(keys: KeyReading) -> None:
    whole, devices = keys.value("train.global_batch_size"), keys.value("devices", 1)
    micro = keys.settings["batch_size"]
    nodes = keys.value("num_nodes", 1) or 1
    if all(isinstance(one, int) for one in (whole, devices, nodes)) and whole:
        steps = max(1, whole // (devices * nodes) // micro)
        keys.set("gradient_accumulation", steps, "train.global_batch_size")


def _adapters(keys: KeyReading) -> None:
    targets = []
    for name in MODULES:
        key = f"lora_{name}"
        if keys.value(key, name in OWN_ADAPTED) is True:
            targets.append(name)
        if keys.on(key):
            keys.knows(key, "lora_targets")
    keys.settings["lora_targets"] = targets


def _ranks(keys: KeyReading) -> None:
    """Read the ranks; several devices use FSDP."""
    devices, nodes = keys.value("devices"), keys.value("num_nodes", 1)
    if isinstance(devices, int) and isinstance(nodes, int) and devices * nodes > 1:
        keys.settings["shard"] = "fsdp1"
        keys.set(SETTINGS["data"], devices * nodes, "devices")
        if nodes > 1:
            keys.set(SETTINGS["per_machine"], devices, "num_nodes")


WRITTEN: Mapping[str, str] = {
    "batch_size": "train.micro_batch_size",
    "seq_len": "train.max_seq_length",
    "lora_r": "lora_r",
}


KIND = Kind(
    name="litgpt",
    title=sentence("title.config", program="litgpt"),
    syntaxes=("yaml",),
    source="https://github.com/Lightning-AI/litgpt @ 26857050",
    tells=tells,
    read=read,
    written=partial(phrased, names=WRITTEN, phrases={}),
)
