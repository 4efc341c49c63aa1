"""NeMo Automodel's YAML, read into the settings of the run that it starts.

Sources: Automodel @ 06a2261c: examples/, recipes/_dist_utils.py (parse_distributed_section),
docs/guides/mixed-precision-training.md (what is kept where no dtype is said), pull request 1896
(custom MoE models keep float32 parameters under FSDP2), build_optimizer (no foreach with tensor
ranks). Experts on ranks of their own lie on another mesh than the rest, and one call steps no
tensors of two meshes: with the copies of such a step qwen3_5_35b.yaml, which its comment has at
67 GiB, would take 83 of 80.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun
from weighbridge.files.runfiles.tables import phrased

KEYS = text_beside(__file__, "automodel.txt")
NAMESPACE = "nemo_automodel."
NAME = "model.pretrained_model_name_or_path"
WHOLE = "all-linear"


def tells(document: Document) -> bool:
    """Return whether a document is Automodel's: a step scheduler, and a part of its library."""
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("step_scheduler"), dict):
        return False
    parts = (part for part in data.values() if isinstance(part, dict))
    return any(str(part.get("_target_", "")).startswith(NAMESPACE) for part in parts)


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a recipe starts."""
    keys = reading(document, KEYS)
    keys.settings["framework"] = "plain"
    model = keys.text(NAME) or keys.text("model.config.pretrained_model_name_or_path")
    keys.take(NAME, "model")
    refused = rules.decide(keys, "Automodel")
    if keys.settings["method"] != "full":
        _targets(keys)
    keys.plain()
    yield keys.run(model, refused=refused)


def _targets(keys: KeyReading) -> None:
    """Read the linears with adapters: all, or those whose names end in a pattern's (`*.q_proj`)."""
    named = keys.value("peft.target_modules")
    if keys.on("peft.match_all_linear") or named is None:
        keys.settings["lora_targets"] = WHOLE
        return
    globs = named if isinstance(named, list) else [named]
    names = [str(glob).removeprefix("*.") for glob in globs]
    if all(name.replace("_", "").isalnum() for name in names):
        keys.set("lora_targets", names, "peft.target_modules")
    else:
        keys.leave("peft.target_modules", "+- it names linears by a pattern")


WRITTEN: Mapping[str, str] = {
    "batch_size": "step_scheduler.local_batch_size",
    "lora_r": "peft.dim",
}


KIND = Kind(
    name="automodel",
    title=sentence("title.config", program="NeMo Automodel"),
    syntaxes=("yaml",),
    source="https://github.com/NVIDIA-NeMo/Automodel @ 06a2261c",
    tells=tells,
    read=read,
    written=partial(phrased, names=WRITTEN, phrases={}),
)
