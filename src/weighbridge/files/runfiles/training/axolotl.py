"""axolotl's YAML, read into the settings of the run that it starts.

Sources: axolotl @ 067b021c: utils/schemas/config.py (names and defaults: sequence_len 512,
gradient_checkpointing false, bf16 "auto"), utils/schemas/training.py (micro_batch_size 1, optimizer
adamw_torch_fused), utils/schemas/peft.py, utils/schemas/fsdp.py, loaders/adapter.py
(lora_target_linear), deepspeed_configs/ (what its own files of that name hold).
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.paths import model_of
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value
from weighbridge.files.runfiles.tables import phrased, table, worded
from weighbridge.files.runfiles.training import arguments, learned
from weighbridge.files.runfiles.training.arguments import fsdp, fsdp_words, groups, zero_named
from weighbridge.files.runfiles.training.zero import contradicted
from weighbridge.training.learning.words import section

KEYS = arguments.merged(text_beside(__file__, "axolotl.txt"), section("axolotl-keys"))
LEARNED = learned.keys_of("axolotl", KEYS)
OWN = (
    "axolotl",
    "sample_packing",
    "micro_batch_size",
    "sequence_len",
    "load_in_4bit",
    "val_set_size",
)
OWN_ZERO = re.compile("^zero([123])", re.IGNORECASE)  # axolotl's own files of deepspeed_configs


def tells(document: Document) -> bool:
    """Return whether a document is axolotl's: `base_model` and a key that few others have."""
    data = document.data
    return isinstance(data, dict) and "base_model" in data and any(key in data for key in OWN)


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a config starts."""
    method = _training_method_of(document.data)
    keys = reading(document, LEARNED if method else KEYS)
    keys.settings["framework"] = "axolotl"
    keys.take("base_model", "model")
    named = keys.text("base_model")
    model = named if os.path.isdir(named) else model_of(named)
    refused = rules.decide(keys, "axolotl")
    refused = _refused(keys, method) or refused
    fsdp(keys)
    if "$" not in str(keys.value("deepspeed")):
        zero_named(keys, named=OWN_ZERO, note="base.of_axolotl")
    if method and not refused:
        _learning(keys, method)
    keys.plain()
    yield keys.run(model, refused=refused or contradicted(keys))


def _training_method_of(data: Mapping[str, Value]) -> str:
    """Return the method if a config learns from rewards or preferences; "" for fine-tuning."""
    rl = str(data.get("rl") or "").lower()
    if data.get("reward_model") is True:
        return "reward"
    return "" if not rl or "$" in rl else learned.NAMES.get(rl, rl)


def _refused(keys: KeyReading, method: str) -> str:
    """Return why a run has no estimate; "" if it has one."""
    keys.used.add("rl")
    refused = learned.refusal(method)
    for group in ("ebft", "hatchery", *(("trl", "vllm") if refused else ())):
        keys.used.update((group, f"{group}.*"))
        keys.used.update(f"{group}.{name}" for name in keys.value(group) or {})
    return refused


def _learning(keys: KeyReading, method: str) -> None:
    """Read the keys in `trl` and `vllm` under the names of TRL's own arguments."""
    inner = {**(keys.value("trl") or {})}
    inner |= {f"vllm_{name}": value for name, value in (keys.value("vllm") or {}).items()}
    keys.document = replace(keys.document, data={**keys.data, **inner})
    learned.take(keys, method)
    known = [key for key in keys.keys.settings if key.startswith(("trl.", "vllm."))]
    keys.used.update(key.removeprefix("trl.").replace(".", "_") for key in known)
    named = {f"{group}.{name}" for group in ("trl", "vllm") for name in keys.value(group) or {}}
    keys.used.update(("reward_model", *named.difference(known)))


# Changes of settings as keys of the file

WRITTEN = table(KEYS).names["written"]
SAID = {each: words for each, words in table(KEYS).phrases.items() if each[0] != "offload"}
EIGHT_BITS = ("adamw_8bit", "adamw_bnb_8bit")  # names in an enum of 0.19
OFFLOADS = "deepspeed_configs/zero3_bf16_cpuoffload_all.json"
NEW: Mapping[str, Value] = {  # keys that axolotl requires and that decide no memory
    "datasets": [{"path": "tatsu-lab/alpaca", "type": "alpaca"}],
    "num_epochs": 1,
    "learning_rate": 0.0002,
    "output_dir": "./out",
}


def _refuses(settings: Mapping[str, Value]) -> str:
    """Return why axolotl rejects a run; "" if it accepts it."""
    way = settings.get("context_parallel_by")
    if way in ("ulysses", "allgather"):
        return sentence("emit.ring_alone", way=way)
    if settings["context_parallel_size"] > 1 and settings["attention"] != "flash":
        return sentence("emit.flash_alone")
    if settings["shard"] == "fsdp2" and settings["optimizer"] in EIGHT_BITS:
        return sentence("emit.refuses_optimizer", name=settings["optimizer"])
    return ""


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new file that starts a run. Raises UsageError for what axolotl 0.19
    rejects (utils/schemas/validation.py)."""
    refused = _refuses(run.settings)
    if refused:
        raise UsageError(refused, where="--emit axolotl")
    names = {
        **WRITTEN,
        "use_reentrant": "gradient_checkpointing_kwargs.use_reentrant",
        "lora_targets": "lora_target_modules",
    }
    words = {"base_model": run.model, **worded(run.settings, KEYS, names, SAID), **NEW}
    shard = str(run.settings["shard"])
    if shard.startswith(("fsdp", "hsdp")):
        words |= fsdp_words(run.settings)
        if shard == "hsdp":
            words |= groups(run.settings)
    elif shard == "zero3" and run.settings["offload"] == "params":
        words["deepspeed"] = OFFLOADS
    return words


KIND = Kind(
    name="axolotl",
    title=sentence("title.config", program="axolotl"),
    syntaxes=("yaml",),
    source="https://github.com/axolotl-ai-cloud/axolotl @ 067b021c",
    tells=tells,
    read=read,
    written=partial(phrased, names=WRITTEN, phrases=SAID),
    fresh=fresh,
)
