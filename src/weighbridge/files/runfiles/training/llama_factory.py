"""LLaMA-Factory's YAML, read into the settings of the run that it starts.

Sources: LLaMA-Factory @ ff6d4d12: hparams/data_args.py (cutoff_len 2048), finetuning_args.py
(lora_rank 8, lora_alpha twice the rank, lora_target all), model_args.py (checkpointing is on unless
disable_gradient_checkpointing, reentrant; double_quantization), model/adapter.py (what is trained
is in float32 unless pure_bf16), model/model_utils/quantization.py (packed storage in the dtype of
computing), checkpointing.py (no cast of a packed base), liger_kernel.py.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import (
    KeyReading,
    phrased,
    reading,
    table,
    worded,
)
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value
from weighbridge.files.runfiles.training import arguments, learned
from weighbridge.files.runfiles.training.zero import contradicted
from weighbridge.training.learning.words import section
from weighbridge.workload.train import PREFERENCES

KEYS = arguments.merged(
    arguments.KEYS, text_beside(__file__, "llama_factory.txt"), section("llama-factory-keys")
)
LEARNED = learned.keys_of("llama-factory", KEYS)
OWN = ("finetuning_type", "cutoff_len", "lora_target", "stage")
MEGATRON = ("tensor_model_parallel_size", "pipeline_model_parallel_size")
METHODS = ("lora", "full")
PROJECTED = {"use_galore": "galore_adamw", "use_apollo": "apollo_adamw"}


def tells(document: Document) -> bool:
    """Tell whether a document is LLaMA-Factory's: a model, and two keys that others have not."""
    data = document.data
    return (
        isinstance(data, dict)
        and "model_name_or_path" in data
        and sum(key in data for key in OWN) > 1
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a config starts."""
    method = _learns(document.data)
    keys = reading(document, LEARNED if method else KEYS)
    keys.settings["framework"] = "llama-factory" if method else "trainer"
    model = arguments.name_of(keys, "model_name_or_path")
    refused = _refused(keys, method)
    if keys.take("cutoff_len", "seq_len") is None:
        keys.default(
            "seq_len", 2048, sentence("own_name", framework="LLaMA-Factory", name="cutoff_len")
        )
    if keys.on("packing"):
        keys.knows("packing", "seq_len")
    arguments.sizes(keys)
    _optimizer(keys)
    arguments.usual_optimizer(keys)
    _precision(keys)
    _method(keys)
    _checkpoints(keys)
    arguments.kernels(keys, "flash_attn")
    arguments.fsdp(keys)
    arguments.sequence(keys)
    arguments.zero_named(keys)
    if method:
        learned.take(keys, method)
    keys.plain()
    yield keys.run(model, refused=refused or contradicted(keys))


def _of_megatron(name: str) -> bool:
    """Tell whether a key is one that Megatron alone reads."""
    begins = ("overlap_", "use_distributed", "bias_", "apply_", "moe_", "recompute_", "use_pa")
    whole = ("mixed_precision", "sequence_parallel", "export_hf_on_finish")
    return "parallel" in name or name in whole or name.startswith(begins)


def _learns(data: Mapping[str, Value]) -> str:
    """Return what a stage learns from rewards or preferences, DPO by its loss; "" of others."""
    stage = str(data.get("stage") or "sft").lower()
    loss = str(data.get("pref_loss") or "").lower()
    named = loss if stage == "dpo" and loss in PREFERENCES else stage
    return "" if stage in ("sft", "pt") else learned.NAMES.get(named, named)


def _refused(keys: KeyReading, learns: str) -> str:
    """Return why a run is not answered; what was understood of it stands beside it."""
    keys.used.add("stage")
    if any(name in keys.data for name in MEGATRON):
        keys.used.update(filter(_of_megatron, keys.data))
        return "it trains with Megatron, which is not answered yet"
    if keys.on("use_kt"):
        return "KTransformers keeps experts on the host and trains there, which is not answered yet"
    if learns and (why := learned.refusal(learns)):
        return why
    method = str(keys.value("finetuning_type") or "lora")
    if method not in METHODS:
        keys.used.update(name for name in keys.data if name.startswith(f"{method}_"))
        return f"finetuning_type: {method:.40} is not answered yet"
    return ""


def _optimizer(keys: KeyReading) -> None:
    for name, optimizer in PROJECTED.items():
        if keys.on(name):
            kind = name.removeprefix("use_")
            keys.set("optimizer", optimizer, name)
            rank = keys.value(f"{kind}_rank")
            if isinstance(rank, int):
                keys.set("optim_args", [f"rank={rank}"], f"{kind}_rank")
            if keys.on(f"{kind}_layerwise"):
                keys.set("optimizer_in_backward", True, f"{kind}_layerwise")
            if keys.value(f"{kind}_target") not in (None, "all"):
                keys.leave(f"{kind}_target", "gradients of these modules alone are projected")
    if keys.on("use_badam"):
        keys.leave("use_badam", "BAdam trains one block at a time")
    if keys.on("use_muon"):
        keys.set("optimizer", "muon", "use_muon")


def _precision(keys: KeyReading) -> None:
    if keys.on("pure_bf16"):
        keys.set("precision", "bf16", "pure_bf16")
    else:
        arguments.precision(keys)


def _method(keys: KeyReading) -> None:
    method = str(keys.value("finetuning_type") or "lora")
    if method not in METHODS:
        return
    if method == "full":
        keys.set("method", "full", "finetuning_type")
        keys.used.update(name for name in keys.data if name.startswith("lora_"))
        return
    dora, bits = keys.on("use_dora"), str(keys.value("quantization_bit") or "")
    keys.set("method", "dora" if dora else "qlora" if bits == "4" else "lora", "finetuning_type")
    if bits:
        _packed(keys, bits)
    else:
        _half(keys)
    _adapters(keys)


def _half(keys: KeyReading) -> None:
    """Take the dtype of a base that is not packed: that of the precision."""
    half = "float16" if keys.settings["precision"] == "fp16-mixed" else "bfloat16"
    keys.settings["dtype"] = half


def _adapters(keys: KeyReading) -> None:
    """Take the rank of adapters, their alpha and the modules that have one."""
    if keys.take("lora_rank", "lora_r") is None:
        keys.default("lora_r", 8, sentence("own_name", framework="LLaMA-Factory", name="lora_rank"))
    if (
        keys.take("lora_alpha", "lora_alpha") is None
    ):  # it decides no memory, and a new file has to say it
        keys.settings["lora_alpha"] = 2 * keys.settings["lora_r"]
    targets = keys.value("lora_target", "all")
    if isinstance(targets, str):
        targets = "all-linear" if targets == "all" else [one.strip() for one in targets.split(",")]
    if "lora_target" in keys.data:
        keys.set("lora_targets", targets, "lora_target")
    else:
        keys.default(
            "lora_targets",
            targets,
            sentence("own_name", framework="LLaMA-Factory", name="lora_target: all"),
        )


def _packed(keys: KeyReading, bits: str) -> None:
    """Take the format of a base that is packed as it is loaded."""
    program = str(keys.value("quantization_method") or "bnb").lower()
    if program not in ("bnb", "bitsandbytes"):
        keys.leave("quantization_method", f"{program:.20} packs in another way")
        return
    nested = keys.value("double_quantization", True) is not False
    plain = "nf4" if str(keys.value("quantization_type") or "nf4") == "nf4" else "fp4"
    packed = f"{plain}-dq" if nested else plain
    keys.set("quantization", packed if bits == "4" else "bnb-int8", "quantization_bit")
    keys.settings["kbit_upcast"] = "none"
    if bits == "4" and keys.settings["precision"].startswith("bf16"):
        keys.settings["bnb_4bit_quant_storage"] = "bfloat16"


def _checkpoints(keys: KeyReading) -> None:
    by_argument = keys.on("gradient_checkpointing")
    if keys.on("disable_gradient_checkpointing") and not by_argument:
        keys.set("checkpointing", "none", "disable_gradient_checkpointing")
    elif by_argument:
        arguments.checkpoints(keys)
    else:
        keys.default("checkpointing", "full", "LLaMA-Factory checkpoints unless it is disabled")
        keys.settings["use_reentrant"] = keys.value("use_reentrant_gc", True) is not False
    keys.used.update(("gradient_checkpointing", "gradient_checkpointing_kwargs"))


WRITTEN = table(KEYS).names["written"]
SAID = {each: words for each, words in table(KEYS).phrases.items() if each[0] != "offload"}
OFFLOADS = {  # how much of ZeRO is kept off the device, in files of its own
    ("zero2", "optimizer"): "examples/deepspeed/ds_z2_offload_config.json",
    ("zero3", "params"): "examples/deepspeed/ds_z3_offload_config.json",
}
BEGINS: Mapping[str, Value] = {"stage": "sft", "do_train": True}
PART = 0.1  # of the rows, which are evaluated
NEW: Mapping[str, Value] = {  # what it asks for, and decides no memory
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
        words["val_size"] = PART  # without rows to evaluate it refuses to start
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
