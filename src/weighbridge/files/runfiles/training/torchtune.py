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
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value
from weighbridge.files.runfiles.tables import phrased, table
from weighbridge.models.catalogue import everyday

KEYS = text_beside(__file__, "torchtune.txt")
NAMESPACE = "torchtune."
# An underscore between the digits of a release: llama3_1_8b
BUILDER = re.compile(r"(?<=[a-z]\d)_(?=\d_\d|\d_[a-z])")
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
FEED_FORWARD = ["gate_proj", "down_proj", "up_proj"]  # apply_lora_to_mlp
# Names of projections: output_proj is attention's, output is the output layer
PROJECTIONS = {"output_proj": "o_proj"}
# recipes/configs: files that train Llama 3, 3.1 and 3.3 whole; those of 3.2, whose head is the
# embedding, name none
OWN_UNITS = ("llama3", "llama3_1", "llama3_3")
UNITS = ("tok_embeddings", "output")


def tells(document: Document) -> bool:
    """Return whether a document is torchtune's: it has one of its components."""
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
    refused = rules.decide(keys, "its recipes")
    if keys.value("tokenizer.max_seq_len") is None and not refused:
        keys.notes.append(sentence("tune.length"))
    if keys.settings["method"] != "full":
        _targets(keys)
    _units(keys)
    keys.plain()
    yield keys.run(model, refused=refused)


def _model(keys: KeyReading) -> str:
    """Return the model in the checkpoint folder's name, where `${name}` is another key of the
    file."""
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
    """Return the model in a builder's name, as llama3.1-8b in lora_llama3_1_8b; "" if the catalogue
    lacks it."""
    name = str(keys.value("model._component_") or "").rpartition(".")[2]
    plain = BUILDER.sub(".", re.sub(r"^(?:q?lora|dora)_", "", name)).replace("_", "-")
    if not plain or everyday.meaning(plain) is None:
        return ""
    keys.knows("model._component_", "model")
    keys.notes.append(sentence("tune.builder"))
    return plain


def _modules(keys: KeyReading, key: str) -> list[str]:
    """Return the names in a list; [] if it is none."""
    named = keys.value(key)
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        return named
    if named is not None:
        keys.leave(key, "it is no list of modules")
    return []


def _targets(keys: KeyReading) -> None:
    """Read the modules with adapters."""
    named = _modules(keys, "model.lora_attn_modules")
    modules = [PROJECTIONS.get(name, name) for name in named]
    if keys.on("model.apply_lora_to_mlp"):
        modules += FEED_FORWARD
        keys.knows("model.apply_lora_to_mlp", "lora_targets")
    if named:
        keys.set("lora_targets", modules, "model.lora_attn_modules")


def _units(keys: KeyReading) -> None:
    """Read which layers FSDP2 gathers separately. In a full training of Llama 3 these include
    embedding and output layer, as in torchtune's own files."""
    named = keys.value("custom_sharded_layers") or []
    family = str(keys.value("model._component_") or "").split(".")[2:3]
    counted = keys.settings["method"] == "full" and set(family) <= set(OWN_UNITS)
    if (
        not family
        or "shard" not in keys.settings
        or set(named) == (set(UNITS) if counted else set())
    ):
        return
    why = "- these layers are units of their own"
    if counted:
        why = "+ embedding and head are counted as units of their own, and it does not name them"
    keys.leave("custom_sharded_layers", why)


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
    supports."""
    from weighbridge.files.runfiles.training.torchtune_new import recipe

    return recipe(run)


def starts(settings: Mapping[str, Value]) -> str:
    """Return the command that starts a new recipe."""
    from weighbridge.files.runfiles.training.torchtune_new import command

    return command(settings)


def fetches(repository: str) -> str:
    """Return the command that downloads a model to the folder in the new recipe."""
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
