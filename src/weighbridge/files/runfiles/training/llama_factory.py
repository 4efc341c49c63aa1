"""LLaMA-Factory's YAML, read into the settings of the run that it starts.

Sources: LLaMA-Factory @ ff6d4d12: hparams/data_args.py (cutoff_len 2048), finetuning_args.py
(lora_rank 8, lora_alpha twice the rank, lora_target all), model_args.py (checkpointing is on unless
disable_gradient_checkpointing, reentrant; double_quantization), model/adapter.py (what is trained
is in float32 unless pure_bf16), model/loader.py (the base as it is kept), patcher.py and
model_utils/quantization.py (computing, and packed storage, in bfloat16 where neither precision is
named), checkpointing.py (no cast of a packed base), liger_kernel.py.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value
from weighbridge.files.runfiles.tables import phrased, table, worded
from weighbridge.files.runfiles.training import arguments, learned
from weighbridge.files.runfiles.training.zero import contradicted
from weighbridge.training.learning.words import section
from weighbridge.workload.train import PREFERENCES

KEYS = arguments.merged(
    arguments.KEYS, text_beside(__file__, "llama_factory.txt"), section("llama-factory-keys")
)
LEARNED = learned.keys_of("llama-factory", KEYS)
OWN = ("finetuning_type", "cutoff_len", "lora_target", "stage")
MEGATRON = ("mixed_precision", "sequence_parallel", "export_hf_on_finish")
OF_MEGATRON = ("overlap_", "use_distributed", "bias_", "apply_", "moe_", "recompute_", "use_pa")


def tells(document: Document) -> bool:
    """Return whether a document is LLaMA-Factory's: a model, and two keys that others lack."""
    data = document.data
    return (
        isinstance(data, dict)
        and "model_name_or_path" in data
        and sum(key in data for key in OWN) > 1
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a config starts."""
    learns = _training_method_of(document.data)
    keys = reading(document, LEARNED if learns else KEYS)
    keys.settings["framework"] = "llama-factory" if learns else "trainer"
    model = arguments.name_of(keys, "model_name_or_path")
    if keys.on("pure_bf16"):
        keys.set("precision", "bf16", "pure_bf16")
    refused = rules.decide(keys, "LLaMA-Factory")
    refused = _megatron(keys) or refused or learned.refusal(learns)
    if "lora_r" in keys.settings:
        _adapters(keys)
    arguments.fsdp(keys)
    arguments.sequence(keys)
    arguments.zero_named(keys)
    if learns:
        learned.take(keys, learns)
    keys.plain()
    yield keys.run(model, refused=refused or contradicted(keys))


def _training_method_of(data: Mapping[str, Value]) -> str:
    """Return the method for the rewards or preferences of a stage (DPO's by its loss); else ""."""
    stage = str(data.get("stage") or "sft").lower()
    loss = str(data.get("pref_loss") or "").lower()
    named = loss if stage == "dpo" and loss in PREFERENCES else stage
    return "" if stage in ("sft", "pt") else learned.NAMES.get(named, named)


def _megatron(keys: KeyReading) -> str:
    """Return why a Megatron run has no estimate; Megatron's keys count as read."""
    if not {"tensor_model_parallel_size", "pipeline_model_parallel_size"} & keys.data.keys():
        return ""
    keys.used.update(k for k in keys.data if "parallel" in k or k.startswith(OF_MEGATRON))
    keys.used.update(MEGATRON)
    return "it trains with Megatron, which is not answered yet"


def _adapters(keys: KeyReading) -> None:
    """Read the modules with adapters, and alpha, which does not affect memory but is needed in a
    new file."""
    if keys.take("lora_alpha", "lora_alpha") is None:
        keys.settings["lora_alpha"] = 2 * keys.settings["lora_r"]
    targets = keys.value("lora_target")
    if "lora_targets" not in keys.settings:
        named = targets.split(",") if isinstance(targets, str) else targets
        modules = [str(one).strip() for one in named] if isinstance(named, list) else named
        keys.set("lora_targets", modules, "lora_target")


WRITTEN = table(KEYS).names["written"]
SAID = {each: words for each, words in table(KEYS).phrases.items() if each[0] != "offload"}
OFFLOADS = {  # ZeRO's offloading -> its config file
    ("zero2", "optimizer"): "examples/deepspeed/ds_z2_offload_config.json",
    ("zero3", "params"): "examples/deepspeed/ds_z3_offload_config.json",
}
BEGINS: Mapping[str, Value] = {"stage": "sft", "do_train": True}
PART = 0.1  # fraction of the rows for evaluation
NEW: Mapping[str, Value] = {  # keys that it requires and that decide no memory
    "dataset": "alpaca_en_demo",
    "num_train_epochs": 1.0,
    "learning_rate": 0.0001,
    "output_dir": "./out",
}


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new file that starts a run. Raises UsageError for what it refuses."""
    settings = run.settings
    arguments.named_optimizer("llama-factory", settings["optimizer"], more=("muon",))
    words = {
        "model_name_or_path": run.model,
        **BEGINS,
        **worded(settings, KEYS, {**WRITTEN, "use_reentrant": "use_reentrant_gc"}, SAID),
        **NEW,
    }
    targets = settings["lora_targets"]
    if isinstance(targets, list | tuple):
        words["lora_target"] = ",".join(targets)
    if isinstance(words.get("additional_target"), list | tuple):
        words["additional_target"] = ",".join(settings["modules_to_save"])
    if settings["eval_batch_size"] is not None:
        words["val_size"] = PART  # it does not start without evaluation rows
    return words | arguments.shared_and_evaluated(settings, OFFLOADS)


KIND = Kind(
    name="llama-factory",
    title=sentence("title.config", program="LLaMA-Factory"),
    syntaxes=("yaml", "json"),
    source="https://github.com/hiyouga/LLaMA-Factory @ ff6d4d12",
    tells=tells,
    read=read,
    written=partial(phrased, names=WRITTEN, phrases=SAID),
    fresh=fresh,
)
