"""DeepSpeed's JSON: the part of a run that shares out; it names no model.

What says "auto" is filled by transformers (integrations/deepspeed.py: buckets by the hidden size),
as it is counted where nothing is set. What is not there is DeepSpeed's own.

Sources: DeepSpeed @ edaa7221: runtime/zero/config.py (buckets 5e8 and 5e7, persistence 1e5, live
1e9), ops/adam/fused_adam.py; transformers 5.2 integrations/deepspeed.py.
"""

from collections.abc import Iterator

from weighbridge.runfiles.document import Document
from weighbridge.runfiles.kinds import Kind
from weighbridge.runfiles.reading import KeyReading, reading
from weighbridge.runfiles.record import PlannedRun

KIND = Kind(
    name="deepspeed",
    title="DeepSpeed config",
    syntaxes=("json",),
    source="https://github.com/deepspeedai/DeepSpeed @ edaa7221",
)
KEYS = """
[settings]
gradient_accumulation_steps   gradient_accumulation
[ignored]
aio.* amp autotuning checkpoint comms_config comms_logger csv_monitor curriculum_learning
data_efficiency data_types dataloader_drop_last disable_allgather dump_state elasticity
flops_profiler gradient_clipping gradient_predivide_factor load_universal_checkpoint
memory_breakdown monitor_config prescale_gradients scheduler sparse_gradients steps_per_print
tensorboard timers train_batch_size wall_clock_breakdown wandb zero_allow_untested_optimizer
zero_force_ds_cpu_optimizer zero_optimization.allgather_partitions
zero_optimization.allgather_bucket_size zero_optimization.contiguous_gradients
zero_optimization.gather_16bit_weights_on_model_save zero_optimization.ignore_unused_parameters
zero_optimization.load_from_fp32_weights zero_optimization.memory_efficient_linear
zero_optimization.override_module_apply zero_optimization.reduce_scatter
zero_optimization.round_robin_gradients zero_optimization.stage3_gather_*
zero_optimization.use_all_reduce_for_fetch_params zero_optimization.elastic_checkpoint
optimizer.params.lr optimizer.params.betas optimizer.params.eps optimizer.params.weight_decay
optimizer.params.adam_w_mode optimizer.params.max_grad_norm optimizer.params.bias_correction
fp16.loss_scale fp16.loss_scale_window fp16.initial_scale_power fp16.hysteresis
fp16.min_loss_scale fp16.consecutive_hysteresis fp16.auto_cast
[memory]
activation_checkpointing      how checkpoints are kept is set by it where the model asks for them
bf16.bf16_master_weights_and_grads   - master weights are in 16 bits
bf16.bf16_optimizer_states    - states of the optimizer are in 16 bits
communication_data_type       gradients are sent in another dtype
compile                       - compiled layers keep other tensors than are counted
compression_training          - layers are pruned or packed while they train
pipeline                      - layers are shared out by DeepSpeed
sequence_parallel_size        - ranks share a sequence
sparse_attention              - attention is sparse
tensor_parallel               - ranks share every layer
zero_optimization.mics_shard_size              - ranks share out in groups
zero_optimization.zero_hpz_partition_size      weights are kept a second time in each machine
zero_optimization.zero_quantized_gradients     gradients are sent in 4 bits
zero_optimization.zero_quantized_nontrainable_weights   - frozen weights are packed
zero_optimization.zero_quantized_weights       weights are gathered in 8 bits
zero_optimization.stage3_max_reuse_distance    what is kept for a next use
zero_optimization.module_granularity_threshold layers are gathered at once
"""
ZERO = "zero_optimization"
FUSED = ("adam", "adamw")  # DeepSpeed's own kernel, unless torch's is asked for
SAME_REUSE = 1e9  # its default


def tells(document: Document) -> bool:
    """Tell whether a document is DeepSpeed's."""
    data = document.data
    return isinstance(data, dict) and (
        isinstance(data.get(ZERO), dict)
        or "train_micro_batch_size_per_gpu" in data
        or ("train_batch_size" in data and "steps_per_print" in data)
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the part of a run that a config says."""
    keys = reading(document, KEYS)
    keys.settings["framework"] = "trainer" if '"auto"' in document.text else "deepspeed"
    if keys.value("train_micro_batch_size_per_gpu") != "auto":
        keys.take("train_micro_batch_size_per_gpu", "batch_size")
    keys.take("gradient_accumulation_steps", "gradient_accumulation", _number)
    _precision(keys)
    _optimizer(keys)
    _shared(keys)
    keys.plain()
    yield keys.run("")


def _precision(keys: KeyReading) -> None:
    for name in ("bf16", "fp16"):
        asked = keys.value(f"{name}.enabled")
        if asked is True:
            keys.set("precision", f"{name}-mixed", f"{name}.enabled")


def _optimizer(keys: KeyReading) -> None:
    kind = str(keys.value("optimizer.type") or "").lower()
    if not kind:
        return
    if kind in FUSED:
        plain = keys.value("optimizer.params.torch_adam") is True
        name = "adamw_torch" if plain else "adamw_torch_fused"
        keys.set("optimizer", name, "optimizer.type")
    else:
        keys.leave("optimizer.type", f"{kind:.40} of DeepSpeed is not counted")


def _number(value: object) -> int | None:
    """Return a size as a whole number; None for what the Trainer fills."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "auto":
        return None
    return int(float(value))


def _shared(keys: KeyReading) -> None:
    stage = _number(keys.value(f"{ZERO}.stage", 0)) or 0
    keys.settings["shard"] = f"zero{stage}" if stage in (1, 2, 3) else "ddp"
    if keys.value(f"{ZERO}.stage") is not None:
        keys.knows(f"{ZERO}.stage", "shard")
    if not stage:
        keys.used.add(ZERO)
        keys.used.update(f"{ZERO}.{name}" for name in keys.value(ZERO) or {})
        return
    _offloaded(keys, stage)
    _size(keys, "reduce_bucket_size", "zero_reduce_bucket_size", 500_000_000)
    keys.used.add(f"{ZERO}.overlap_comm")
    if stage < 3:
        overlap = keys.value(f"{ZERO}.overlap_comm")
        if isinstance(overlap, bool):
            keys.set("zero_overlap_comm", overlap, f"{ZERO}.overlap_comm")
        keys.used.update(f"{ZERO}.{name}" for name in keys.value(ZERO) if "stage3_" in name)
        return
    _size(keys, "stage3_prefetch_bucket_size", "zero_prefetch_bucket_size", 50_000_000)
    _size(keys, "stage3_param_persistence_threshold", "zero_param_persistence_threshold", 100_000)
    for name in ("stage3_max_live_parameters", "max_live_parameters"):
        _size(keys, name, "zero_max_live_parameters", None)
    _size(keys, "sub_group_size", "zero_sub_group_size", None)
    reuse = f"{ZERO}.stage3_max_reuse_distance"
    keys.used.add(f"{ZERO}.max_reuse_distance")
    if keys.value(reuse) in ("auto", SAME_REUSE):
        keys.used.add(reuse)


def _size(keys: KeyReading, name: str, setting: str, own: int | None) -> None:
    """Take a size of ZeRO; `own` is DeepSpeed's, where the file says nothing."""
    key = f"{ZERO}.{name}"
    given = keys.value(key)
    if given is None and own is not None:
        keys.default(setting, own, f"DeepSpeed's own {name}")
    elif given == "auto":
        keys.knows(key, setting)
    elif given is not None and not _number(given):
        keys.leave(key, "nothing of it is counted as DeepSpeed's own size")
    else:
        keys.take(key, setting, _number)


def _offloaded(keys: KeyReading, stage: int) -> None:
    """Take what is kept off the device: parameters go with their states in what we count."""
    places = {}
    for name in ("offload_optimizer", "offload_param"):
        asked = keys.value(f"{ZERO}.{name}")
        options = asked if isinstance(asked, dict) else {}
        keys.used.update(f"{ZERO}.{name}.{option}" for option in options)
        places[name] = str(options.get("device") or "none").lower()
        if options.get("ratio") not in (None, 1, 1.0):
            keys.leave(f"{ZERO}.{name}.ratio", "a part of it stays on the device")
    if keys.value(f"{ZERO}.cpu_offload") is True:
        places["offload_optimizer"] = "cpu"
    states, params = places["offload_optimizer"], places["offload_param"]
    if "nvme" in (states, params):
        keys.set("offload", "nvme", f"{ZERO}.offload_optimizer")
    elif params == "cpu" and stage == 3:
        if states != "cpu":
            keys.leave(f"{ZERO}.offload_param", "its optimizer stays, and is counted on the host")
        keys.set("offload", "params", f"{ZERO}.offload_param")
    elif states == "cpu":
        keys.set("offload", "optimizer", f"{ZERO}.offload_optimizer")
