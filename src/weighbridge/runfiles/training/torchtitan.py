"""torchtitan's TOML, read into the settings of the run that it starts.

Sources: torchtitan @ b5bcd76c: config/configs.py (local_batch_size 8, seq_len 2048, float32
parameters under bfloat16, shard degree -1, activation checkpointing selective, AdamW fused);
llama3/train_configs/.
"""

import re
from collections.abc import Iterator, Mapping

from weighbridge.errors import UsageError
from weighbridge.runfiles.document import Document
from weighbridge.runfiles.kinds import Kind
from weighbridge.runfiles.reading import KeyReading, Phrases, phrased, reading, worded
from weighbridge.runfiles.record import PlannedRun, Value
from weighbridge.runfiles.serving.lines import model_of

KIND = Kind(
    name="torchtitan",
    title="torchtitan config",
    syntaxes=("toml",),
    source="https://github.com/pytorch/torchtitan @ b5bcd76c",
)
KEYS = """
[settings]
parallelism.tensor_parallel_degree    tensor_parallel_size
parallelism.pipeline_parallel_degree  pipeline_parallel_size
parallelism.context_parallel_degree   context_parallel_size
parallelism.expert_parallel_degree    expert_parallel_size
training.tensor_parallel_degree       tensor_parallel_size
training.pipeline_parallel_degree     pipeline_parallel_size
training.expert_parallel_degree       expert_parallel_size
experimental.context_parallel_degree  context_parallel_size
experimental.pipeline_parallel_degree pipeline_parallel_size
[ignored]
job.* metrics.* profiling.* checkpoint.* lr_scheduler.* validation.* comm.* fault_tolerance.*
debug.* optimizer.lr optimizer.eps optimizer.beta1 optimizer.beta2 optimizer.weight_decay
training.dataset training.dataset_path training.max_norm training.steps training.warmup_steps
training.gc_freq training.gc_debug training.seed training.deterministic
training.data_parallel_degree model.tokenizer_path model.print_after_conversion model.norm_type
model.tokenizer_flavor infra.* parallelism.enable_async_tensor_parallel experimental.custom_import
experimental.custom_args_module parallelism.pipeline_parallel_schedule
parallelism.pipeline_parallel_split_points parallelism.expert_tensor_parallel_degree
experimental.pipeline_parallel_split_schedule parallelism.prefetch_distance
parallelism.prefetch_before_data parallelism.context_parallel_rotate_method
parallelism.expert_parallel_comm_backend activation_checkpoint.early_stop compile.components
training.mixed_precision_reduce optimizer.follow_fsdp_groups quantize.linear.float8.*
quantize.grouped_mm.* quantize.linear.mx.* float8.* mx.* global_batch_size
activation_checkpoint.per_op_sac_force_recompute_mm_shapes_by_fqns model.use_triton_moe
parallelism.pipeline_parallel_layers_per_stage
[memory]
activation_checkpoint.memory_budget   - a budget decides what is kept
optimizer.early_step_in_backward      - parameters are stepped in groups, in backward
memory_estimation.enabled             it estimates, and trains nothing
parallelism.disable_loss_parallel     + logits are gathered on every rank
model.lora                            - adapters of torchtitan are not counted
"""
OWN = ("model", "training")
DTYPES = {"bfloat16": "bf16", "float32": "fp32"}
AC_EVERY = "op"


def tells(document: Document) -> bool:
    """Tell whether a document is torchtitan's: a flavor of a model, and how it is trained."""
    data = document.data
    return (
        isinstance(data, dict)
        and all(isinstance(data.get(name), dict) for name in OWN)
        and "flavor" in data["model"]
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run that a config starts."""
    keys = reading(document, KEYS)
    keys.settings["framework"] = "torchtitan"
    keys.settings["method"] = "full"
    names = ("training.local_batch_size", "training.batch_size")
    if [keys.take(name, "batch_size") for name in names] == [None, None]:
        keys.default("batch_size", 8, "torchtitan's own local_batch_size")
    if keys.take("training.seq_len", "seq_len") is None:
        keys.default("seq_len", 2048, "torchtitan's own seq_len")
    _accumulated(keys)
    _precision(keys)
    _kept(keys)
    _optimizer(keys)
    _ranks(keys)
    model = _model(keys)
    keys.plain()
    yield keys.run(model)


def _model(keys: KeyReading) -> str:
    """Return the model by the folder of its assets; a flavor alone names none of the Hub's."""
    keys.used.update(("model.name", "model.flavor", "model.hf_assets_path"))
    named = keys.text("hf_transformers.model")
    if named:
        keys.take("hf_transformers.model", "model")
        return named
    path = keys.text("model.hf_assets_path")
    known = model_of(path, {}) if path else ""
    if known and known.lower() not in ("tokenizer", "assets"):
        keys.take("model.hf_assets_path", "model")
        return known.removeprefix("hf/")
    flavor = f"{keys.value('model.name')} {keys.value('model.flavor')}"
    keys.leave("model.flavor", f"{flavor:.60} names no model of the Hub; --model says which")
    return ""


def _accumulated(keys: KeyReading) -> None:
    whole = keys.value("training.global_batch_size")
    if isinstance(whole, int) and whole > 0:
        keys.leave("training.global_batch_size", "micro-batches of a step follow from the ranks")


def _precision(keys: KeyReading) -> None:
    """FSDP's parts are float32 and gathered in bfloat16, unless `dtype` says otherwise."""
    dtype = keys.value("training.dtype")
    param = keys.value("training.mixed_precision_param", "bfloat16")
    if dtype == "bfloat16":
        keys.set("precision", "bf16", "training.dtype")
    else:
        keys.settings["precision"] = "bf16-mixed" if param == "bfloat16" else "fp32"
        if keys.value("training.mixed_precision_param"):
            keys.knows("training.mixed_precision_param", "precision")
    converters = keys.value("model.converters") or keys.value("model.handlers") or ()
    if any("float8" in str(each) or "mx" in str(each) for each in converters):
        keys.leave("model.converters", "+ products are in 8 bits, with copies that are not counted")


def _kept(keys: KeyReading) -> None:
    mode = str(keys.value("activation_checkpoint.mode") or "")
    option = str(keys.value("activation_checkpoint.selective_ac_option") or "")
    if not mode:
        keys.default("checkpointing", "selective", "torchtitan's own activation_checkpoint.mode")
    elif mode in ("none", "full", "selective"):
        keys.set("checkpointing", mode, "activation_checkpoint.mode")
    else:
        keys.leave("activation_checkpoint.mode", f"{mode:.40} is not counted")
    if mode == "selective" and option not in ("", AC_EVERY):
        keys.leave(
            "activation_checkpoint.selective_ac_option", "only every so manieth layer is recomputed"
        )
    for name in ("compile.enable", "training.compile"):
        if keys.on(name):
            keys.set("compile", True, name)


def _optimizer(keys: KeyReading) -> None:
    kind = str(keys.value("optimizer.name") or "AdamW")
    implementation = str(keys.value("optimizer.implementation") or "fused")
    if keys.value("optimizer.fused") is False:
        implementation = "foreach"
    name = {"AdamW": "adamw_torch", "Adam": "adam"}.get(kind)
    if name is None:
        keys.leave("optimizer.name", f"{kind:.40} is not counted")
        return
    if name == "adamw_torch" and implementation == "fused":
        name = "adamw_torch_fused"
    if "name" in (keys.value("optimizer") or {}):
        keys.set("optimizer", name, "optimizer.name")
    else:
        keys.settings["optimizer"] = name


def _ranks(keys: KeyReading) -> None:
    replicas, shards = _degree(keys, "replicate", 1), _degree(keys, "shard", -1)
    if shards == 1:
        keys.settings["shard"] = "ddp" if replicas > 1 else "none"
    else:
        keys.settings["shard"] = "hsdp" if replicas > 1 else "fsdp2"
    if keys.on("training.enable_cpu_offload"):
        keys.set("offload", "params", "training.enable_cpu_offload")
    if shards > 1:
        keys.settings["data_parallel_size"] = shards * max(1, replicas)
    if keys.value("parallelism.fsdp_reshard_after_forward") == "never":
        keys.leave(
            "parallelism.fsdp_reshard_after_forward", "layers stay whole between their passes"
        )


def _degree(keys: KeyReading, what: str, otherwise: int) -> int:
    """Return a degree of data parallelism; older files have it in [training]."""
    places: Mapping[str, object] = {
        room: keys.value(f"{room}.data_parallel_{what}_degree")
        for room in ("parallelism", "training")
    }
    found = next((value for value in places.values() if isinstance(value, int)), otherwise)
    return int(found)


WRITTEN: Mapping[str, str] = {
    "batch_size": "training.local_batch_size|training.batch_size",
    "seq_len": "training.seq_len",
}
SAID: Phrases = {
    ("checkpointing", "full"): {"activation_checkpoint.mode": "full"},
    ("checkpointing", "selective"): {"activation_checkpoint.mode": "selective"},
    ("checkpointing", "none"): {"activation_checkpoint.mode": "none"},
}


def written(change: Mapping[str, Value]) -> Mapping[str, Value] | None:
    """Return a change of our settings as keys of the file; None where it has no words for it."""
    return phrased(change, WRITTEN, SAID)


FLAVOR = re.compile(r"(?i)(?P<name>llama-?3|qwen3)(?:\.\d)?-(?P<flavor>\d[\d.]*B)$")
NEW: Mapping[str, Value] = {  # what a new file says besides: a small public dataset
    "training.dataset": "c4_test",
    "training.steps": 1000,
    "optimizer.lr": 3e-5,
}
FEW = frozenset(("loss", "lora_targets", "modules_to_save", "optim_args"))


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new file that starts a run. Raises UsageError for a model of which
    torchtitan has no flavor that we know."""
    last = run.model.rstrip("/").rpartition("/")[2]
    known = FLAVOR.match(last)
    if known is None:
        raise UsageError(f"torchtitan has no flavor of {last:.60} that we know: Llama 3 and Qwen3")
    words: dict[str, Value] = {
        "model.name": known["name"].lower().replace("-", ""),
        "model.flavor": known["flavor"].upper(),
        "model.hf_assets_path": f"./assets/hf/{last}",
    }
    settings = {name: value for name, value in run.settings.items() if name not in FEW}
    words |= worded(settings, KEYS, {**WRITTEN, "batch_size": "training.local_batch_size"}, SAID)
    if settings["optimizer"] in ("adamw_torch", "adamw_torch_fused"):
        fused = settings["optimizer"].endswith("fused")
        words |= {
            "optimizer.name": "AdamW",
            "optimizer.implementation": "fused" if fused else "foreach",
        }
    if settings["precision"] == "bf16":
        words["training.dtype"] = "bfloat16"
    elif settings["precision"] == "fp32":
        words["training.mixed_precision_param"] = "float32"
    if settings["shard"] == "none":
        words["parallelism.data_parallel_shard_degree"] = 1
    if settings["offload"] == "params":
        words["training.enable_cpu_offload"] = True
    if settings.get("compile"):
        words["compile.enable"] = True
    return {**words, **NEW}
