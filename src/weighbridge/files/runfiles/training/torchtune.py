"""torchtune's recipe files, read into the settings of the run that they start.

A recipe file states all: the library has no defaults. The model's name is its folder's.

Sources: torchtune @ bd2a0fc7: recipes/configs/, models/*/_component_builders.py (lora_attn_modules,
apply_lora_to_mlp), modules/loss/ (chunked losses), recipes/lora_finetune_distributed.py (FSDP2).
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial

from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.paths import model_of
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import (
    KeyReading,
    phrased,
    reading,
    table,
)
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value
from weighbridge.models.catalogue import everyday

KEYS = text_beside(__file__, "torchtune.txt")
NAMESPACE = "torchtune."
# An underscore between the digits of a release: llama3_1_8b
BUILDER = re.compile(r"(?<=[a-z]\d)_(?=\d_\d|\d_[a-z])")
LOSSES: Mapping[str, str] = {
    "CEWithChunkedOutputLoss": "chunked",
    "LinearCrossEntropyLoss": "chunked",
    "CrossEntropyLoss": "standard",
}
PRECISION = {"bf16": "bf16", "fp32": "fp32", "fp16": "fp16"}
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
FEED_FORWARD = ["gate_proj", "down_proj", "up_proj"]  # apply_lora_to_mlp
# Our names of its projections: output_proj stands in attention, output is the head
PROJECTIONS = {"output_proj": "o_proj"}
# recipes/configs: files that train Llama 3, 3.1 and 3.3 whole; those of 3.2, whose head is the
# embedding, name none
OWN_UNITS = ("llama3", "llama3_1", "llama3_3")
UNITS = ("tok_embeddings", "output")
EVERY_LAYER = ("0", "1")  # training/activations.py (checkpoint_wrapper)
OTHER = {  # keys of recipes whose step is another one
    "policy_model": "PPO holds four models",
    "ref_policy_checkpointer": "PPO holds four models",
    "reward_functions": "GRPO generates while it trains",
    "orchestration": "GRPO generates while it trains",
    "teacher_model": "distillation holds a teacher",
    "ref_checkpointer": "its loss needs a reference model",
    "grpo_samples": "GRPO generates while it trains",
}


def tells(document: Document) -> bool:
    """Tell whether a document is torchtune's: a component of it."""
    data = document.data
    return isinstance(data, dict) and any(
        isinstance(part, dict) and str(part.get("_component_", "")).startswith(NAMESPACE)
        for part in data.values()
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a recipe starts."""
    keys = reading(document, KEYS)
    keys.settings["framework"] = "torchtune"
    model = _model(keys)
    other = next((name for name in OTHER if name in keys.data), "")
    refused = f"{other}: {OTHER[other]}, which is not answered yet" if other else ""
    if other:
        keys.used.update(_all(keys.data, ""))
        keys.used.update(keys.data)
    loss = str(keys.value("loss._component_") or "").rpartition(".")[2]
    if "DPO" in loss and not refused:
        refused = f"loss: {loss:.60} is not answered yet: its step holds more than one model's"
    length = keys.value("tokenizer.max_seq_len")
    if keys.take("tokenizer.max_seq_len", "seq_len") is None and length is None and not refused:
        keys.notes.append(sentence("tune.length"))
    keys.take("dtype", "precision", lambda name: PRECISION.get(str(name)))
    keys.used.add("model._component_")
    _method(keys)
    _optimizer(keys)
    _loss(keys, loss)
    _checkpoints(keys)
    _ranks(keys)
    _units(keys)
    keys.plain()
    yield keys.run(model, refused=refused)


def _all(data: object, above: str) -> Iterator[str]:
    """Yield the dotted keys of a mapping, those within too."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield f"{above}{name}"
            yield from _all(value, f"{above}{name}.")


def _model(keys: KeyReading) -> str:
    """Return the model by the folder of its checkpoint; `${name}` is another key of the file."""
    folder = keys.value("checkpointer.checkpoint_dir")
    folder = folder if folder is not None else keys.value("training.checkpointer.checkpoint_dir")
    text = str(folder or "").rstrip("/")
    if text.startswith("${") and text.endswith("}"):
        text = str(keys.value(text[2:-1]) or "").rstrip("/")
    if "$" in text or not text:
        return _built(keys)
    keys.take("checkpointer.checkpoint_dir", "model")
    return model_of(text)


def _built(keys: KeyReading) -> str:
    """Return the model that a builder's name says: lora_llama3_1_8b is llama3.1-8b; "" where the
    catalogue has none of that name."""
    name = str(keys.value("model._component_") or "").rpartition(".")[2]
    plain = BUILDER.sub(".", re.sub(r"^(?:q?lora|dora)_", "", name)).replace("_", "-")
    if not plain or everyday.meaning(plain) is None:
        return ""
    keys.knows("model._component_", "model")
    keys.notes.append(sentence("tune.builder"))
    return plain


def _modules(keys: KeyReading, key: str) -> list[str]:
    """Return the names in a list; none where it is none."""
    named = keys.value(key)
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        return named
    if named is not None:
        keys.leave(key, "it is no list of modules")
    return []


def _by_sizes(keys: KeyReading) -> None:
    """Say that a model that is made by its sizes is not read."""
    if keys.value("model.vocab_size") is not None:
        keys.leave("model.vocab_size", "the model is made by its sizes, not by its name")
        keys.used.update(f"model.{name}" for name in keys.value("model"))


def _method(keys: KeyReading) -> None:
    _by_sizes(keys)
    component = str(keys.value("model._component_") or "").rpartition(".")[2]
    if not component.startswith(("lora_", "qlora_", "dora_")):
        keys.settings["method"] = "full"
        if keys.value("model._component_") is not None:
            keys.knows("model._component_", "method")
        return
    packed = component.startswith("qlora") or keys.on("model.quantize_base")
    dora = component.startswith("dora") or keys.on("model.use_dora")
    keys.set("method", "dora" if dora else "qlora" if packed else "lora", "model._component_")
    if packed and dora:
        keys.settings["quantization"] = "nf4"
    _targets(keys)


def _targets(keys: KeyReading) -> None:
    """Take the modules that have adapters."""
    named = _modules(keys, "model.lora_attn_modules")
    modules = [PROJECTIONS.get(name, name) for name in named]
    if keys.on("model.apply_lora_to_mlp"):
        modules += FEED_FORWARD
        keys.knows("model.apply_lora_to_mlp", "lora_targets")
    if keys.on("model.apply_lora_to_output"):
        keys.leave("model.apply_lora_to_output", "+ an adapter of the head is not counted")
    if named:
        keys.set("lora_targets", modules, "model.lora_attn_modules")


def _optimizer(keys: KeyReading) -> None:
    named = keys.value("optimizer._component_")
    if named is None:
        return
    known = keys.keys.values["optimizer._component_"].get(str(named).lower())
    if known is None:
        keys.leave("optimizer._component_", f"{named!s:.60} is not counted")
        return
    if known == "adamw_torch" and keys.on("optimizer.fused"):
        known = "adamw_torch_fused"
    keys.set("optimizer", known, "optimizer._component_")
    if keys.on("optimizer_in_bwd"):
        keys.set("optimizer_in_backward", True, "optimizer_in_bwd")


def _loss(keys: KeyReading, name: str) -> None:
    if name in LOSSES:
        keys.set("loss", LOSSES[name], "loss._component_")
    elif name:
        keys.leave("loss._component_", f"{name:.60} is not counted")


def _checkpoints(keys: KeyReading) -> None:
    """Read what is recomputed. Recipes that train all of a model on several devices have a mode
    besides: with both, nothing is, and a selective mode recomputes every so many layers, whole."""
    asked, mode = keys.value("enable_activation_checkpointing"), keys.value("ac_mode")
    option = str(keys.value("ac_option", ""))
    mode = mode if keys.settings.get("method") == "full" and _several(keys) else None
    if isinstance(asked, bool):
        meant = "full" if asked and mode is None else "none"
        keys.set("checkpointing", meant, "enable_activation_checkpointing")
    if mode is not None and not asked:
        _by_mode(keys, mode, option)
    if keys.settings.get("method") != "full" and "checkpointing" not in keys.settings:
        keys.default(
            "checkpointing",
            "none",
            sentence("own_names", framework="its recipes", name="enable_activation_checkpointing"),
        )
    if keys.on("dataset.packed"):
        keys.knows("dataset.packed", "seq_len")


def _by_mode(keys: KeyReading, mode: Value, option: str) -> None:
    """Take what a mode recomputes: all layers, or a part of them that is not counted."""
    some = mode == "selective"
    whole = mode == "full" or (some and option in EVERY_LAYER)
    keys.set("checkpointing", "full" if whole else "none", "ac_mode")
    if some and not whole:
        keys.leave("ac_option", "- it recomputes every so many layers, which is not counted")


def _units(keys: KeyReading) -> None:
    """Read which layers FSDP2 gathers by themselves: of Llama 3 that is trained whole, embedding
    and head are counted so, as in torchtune's own files."""
    named = keys.value("custom_sharded_layers") or []
    family = str(keys.value("model._component_") or "").split(".")[2:3]
    counted = keys.settings.get("method") == "full" and set(family) <= set(OWN_UNITS)
    if not family or not _several(keys) or set(named) == (set(UNITS) if counted else set()):
        return
    why = "- these layers are units of their own"
    if counted:
        why = "+ embedding and head are counted as units of their own, and it does not name them"
    keys.leave("custom_sharded_layers", why)


def _several(keys: KeyReading) -> bool:
    """Tell whether FSDP2 shares out: of its keys, recipes of one device have none."""
    return any(name in keys.data for name in ("data_parallel_shard_dim", "fsdp_cpu_offload"))


def _ranks(keys: KeyReading) -> None:
    """FSDP2 shares out where a recipe is one of several devices, which its keys alone tell."""
    replicas = keys.value("data_parallel_replicate_dim", 1)
    keys.used.add("data_parallel_shard_dim")
    if _several(keys):
        keys.settings["shard"] = "fsdp2"
        if isinstance(replicas, int) and replicas > 1:
            keys.settings["shard"] = "hsdp"
            keys.take("data_parallel_replicate_dim", "data_parallel_replicas")
    if keys.on("fsdp_cpu_offload"):
        keys.set("offload", "params", "fsdp_cpu_offload")


WRITTEN: Mapping[str, str] = {
    "batch_size": "batch_size",
    "gradient_accumulation": "gradient_accumulation_steps",
    "seq_len": "tokenizer.max_seq_len",
    "lora_r": "model.lora_rank",
}
SAID = table(KEYS).phrases


# A new recipe


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new recipe that starts a run. Raises UsageError for what no recipe
    starts with."""
    from weighbridge.files.runfiles.training.torchtune_new import recipe

    return recipe(run)


def starts(settings: Mapping[str, Value]) -> str:
    """Return the command that starts a new recipe."""
    from weighbridge.files.runfiles.training.torchtune_new import command

    return command(settings)


def fetches(repository: str) -> str:
    """Return the command that brings a model to the folder that a new recipe reads."""
    folder = repository.rpartition("/")[2]
    left = "--ignore-patterns 'original/*consolidated*'"
    return f"tune download {repository} --output-dir ./{folder} {left}"


KIND = Kind(
    name="torchtune",
    title=sentence("title.recipe"),
    syntaxes=("yaml",),
    source="https://github.com/pytorch/torchtune @ bd2a0fc7",
    tells=tells,
    read=read,
    written=partial(phrased, names=WRITTEN, phrases=SAID),
    fresh=fresh,
    fetches=fetches,
    starts=starts,
)
