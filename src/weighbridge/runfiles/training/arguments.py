"""The keys of transformers' TrainingArguments, which many trainers take, read for all of them.

Sources: transformers 5.2 training_args.py (per_device_train_batch_size 8, optim
adamw_torch_fused), trainer_utils.py; trl @ f2cd5771 trainer/base_config.py; examples/deepspeed of
LLaMA-Factory @ ff6d4d12 (what the names of such files say).
"""

import re
from collections.abc import Mapping
from typing import Any

from weighbridge.runfiles.reading import KeyReading
from weighbridge.runfiles.record import Value
from weighbridge.runfiles.serving.lines import model_of

KEYS = """
[settings]
per_device_train_batch_size   batch_size
gradient_accumulation_steps   gradient_accumulation
optim                         optimizer
[ignored]
adafactor adam_beta1 adam_beta2 adam_epsilon auto_find_batch_size average_tokens_across_devices
accelerator_config batch_eval_metrics bf16_full_eval cache_dir data_seed dataloader_*
ddp_broadcast_buffers ddp_backend ddp_find_unused_parameters ddp_timeout debug disable_tqdm do_eval
do_predict do_train enable_jit_checkpoint eval_accumulation_steps eval_delay eval_do_concat_batches
eval_on_start eval_steps
eval_use_gather_object fp16_backend fp16_opt_level fp16_full_eval
full_determinism
group_by_length half_precision_backend hub_* ignore_data_skip include_for_metrics
include_inputs_for_metrics include_num_input_tokens_seen include_tokens_per_second jit_mode_eval
label_names label_smoothing_factor learning_rate length_column_name load_best_model_at_end
local_rank log_level log_level_replica log_on_each_node logging_* lr_scheduler_* lr_scheduler_type
max_grad_norm max_steps metric_for_best_model greater_is_better mp_parameters neftune_noise_alpha
no_cuda num_train_epochs num_epochs output_dir overwrite_output_dir past_index prediction_loss_only
project push_to_hub push_to_hub_* ray_scope remove_unused_columns report_to restore_callback_states*
resume_from_checkpoint run_name save_* seed skip_memory_metrics split_batches tf32 tpu_* trackio_*
train_sampling_strategy torch_empty_cache_steps torchdynamo tokenizer_name tokenizer_revision
trust_remote_code use_cache use_cpu use_ipex
use_legacy_prediction_loop use_mps_device warmup_ratio warmup_steps weight_decay _n_gpu
_setup_devices distributed_state deepspeed_plugin hf_deepspeed_config cached_setup_devices
[memory]
activation_offloading      - activations go to the host, which is not counted
ddp_bucket_cap_mb          the size of the buckets of gradients
liger_kernel_config        - which kernels of Liger are on
optim_target_modules       - gradients of these modules are projected
parallelism_config         - ranks are arranged by it
per_gpu_train_batch_size   its old name is no longer read
torch_compile              - compiled layers keep other tensors than are counted
torch_compile_backend      - compiled layers keep other tensors than are counted
torch_compile_mode         - compiled layers keep other tensors than are counted
"""
ATTENTION: Mapping[str, str] = {
    "flash_attention_2": "flash",
    "flash_attention_3": "flash",
    "kernels-community/vllm-flash-attn3": "flash",
    "fa2": "flash",
    "flash_attn": "flash",
    "eager": "eager",
    "disabled": "eager",
}
DTYPES: Mapping[str, str] = {
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "torch.bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
    "torch.float16": "float16",
    "float32": "float32",
    "torch.float32": "float32",
}
STAGE = re.compile(r"(?:zero|ds_z|_z)[-_]?(?:stage)?[-_]?([0-3])", re.IGNORECASE)
BATCH = 8  # of TrainingArguments


def merged(*tables: str) -> str:
    """Return the tables of several kinds as one: sections of one name go together."""
    sections: dict[str, list[str]] = {"settings": [], "ignored": [], "memory": []}
    for table in tables:
        section = ""
        for line in table.splitlines():
            if line.startswith("["):
                section = line.strip("[] ")
            elif line.strip():
                sections[section].append(line)
    return "\n".join(f"[{name}]\n" + "\n".join(lines) for name, lines in sections.items())


def name_of(keys: KeyReading, key: str) -> str:
    """Return the model that a key names, by a path too; "" where a variable stands for it."""
    named = keys.text(key)
    if named:
        keys.take(key, "model")
    return model_of(named, {}) if named else ""


def sizes(keys: KeyReading) -> None:
    """Take what the micro-batches are made of."""
    if keys.take("per_device_train_batch_size", "batch_size") is None:
        keys.default("batch_size", BATCH, "TrainingArguments' own per_device_train_batch_size")
    if keys.value("eval_strategy", keys.value("evaluation_strategy", "no")) not in (False, "no"):
        keys.take("per_device_eval_batch_size", "eval_batch_size")
    keys.used.add("per_device_eval_batch_size")


def precision(keys: KeyReading, otherwise: str = "fp32") -> str:
    """Take the precision of autocast, and return it."""
    whole = keys.value("mixed_precision")  # its name in newer versions of transformers
    for name in ("bf16", "fp16"):
        if whole == name:
            keys.set("precision", f"{name}-mixed", "mixed_precision")
            return f"{name}-mixed"
        if keys.on(name):
            keys.set("precision", f"{name}-mixed", name)
            return f"{name}-mixed"
    keys.used.update(("bf16", "fp16"))
    off = keys.value("bf16") is False or not otherwise
    keys.settings["precision"] = "fp32" if off else otherwise
    return str(keys.settings["precision"])


def checkpoints(keys: KeyReading, otherwise: str = "none", why: str = "") -> None:
    """Take what is computed again in backward; `otherwise` is the program's default."""
    names = ("activation_checkpointing", "gradient_checkpointing")  # the newer name first
    name = next((name for name in names if keys.value(name) is not None), "")
    keys.used.update(names)
    if not name:
        keys.default("checkpointing", otherwise, why or "TrainingArguments' own default")
    else:
        keys.set("checkpointing", "full" if keys.on(name) else "none", name)
    reentrant = keys.value("gradient_checkpointing_kwargs.use_reentrant")
    if keys.settings["checkpointing"] == "full" and isinstance(reentrant, bool):
        keys.take("gradient_checkpointing_kwargs.use_reentrant", "use_reentrant")
    keys.used.add("gradient_checkpointing_kwargs")


def kernels(keys: KeyReading, attention: str = "attn_implementation") -> None:
    """Take the kernels of attention and of the loss; torch chooses for sdpa, as we do."""
    keys.take(attention, "attention", lambda name: ATTENTION.get(str(name)))
    for name in ("use_liger_kernel", "enable_liger_kernel", "use_liger", "use_liger_lce"):
        if keys.on(name):
            keys.set("loss", "liger", name)
            keys.leave(name, "its other fused kernels keep less than is counted")


def fsdp(keys: KeyReading) -> None:
    """Take FSDP from `fsdp` and `fsdp_config`, as axolotl and TrainingArguments write them."""
    config, asked = keys.value("fsdp_config"), keys.value("fsdp")
    options = config if isinstance(config, dict) else {}
    keys.used.update(f"fsdp_config.{name}" for name in options)
    version = keys.value("fsdp_version")
    if isinstance(asked, str) and not keys.text("fsdp"):
        asked = None
    if not asked and not options:
        return
    words = " ".join(map(str, asked)) if isinstance(asked, list) else str(asked or "")
    sharded(keys, options, version, words, "fsdp" if asked else "fsdp_config")
    keys.take("dp_shard_size", "data_parallel_size")


def sharded(
    keys: KeyReading, options: Mapping[str, Any], version: object, words: str, key: str
) -> None:
    """Take the options of FSDP, of which `key` is where they stand; `fsdp_` before a name is left
    out."""
    bare = {str(name).removeprefix("fsdp_"): value for name, value in options.items()}
    strategy = str(bare.get("sharding_strategy") or words).lower()
    if "shard_grad_op" in strategy:
        keys.leave(key, "- SHARD_GRAD_OP is not counted")
        return
    if "no_shard" in strategy:
        keys.set("shard", "ddp", key)
        return
    number = version or bare.get("version") or 1
    keys.set("shard", "hsdp" if "hybrid" in strategy else f"fsdp{number}", key)
    if bare.get("reshard_after_forward") is False:
        keys.leave("fsdp_config.reshard_after_forward", "+ layers stay whole between their passes")
    if True in (bare.get("offload_params"), bare.get("cpu_offload")) or "offload" in words:
        keys.settings["offload"] = "params"
    if bare.get("activation_checkpointing") is True:
        keys.settings["checkpointing"] = "full"


def fsdp_words(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the keys of a new file that share out by FSDP, in accelerate's own words."""
    shard = str(settings["shard"])
    words: dict[str, Value] = {
        "fsdp_version": 1 if shard == "fsdp1" else 2,
        "fsdp_config.auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_config.state_dict_type": "FULL_STATE_DICT",
        "fsdp_config.offload_params": settings["offload"] == "params",
    }
    if shard == "fsdp2":
        words["fsdp_config.reshard_after_forward"] = True
    else:
        strategy = "FULL_SHARD" if shard == "fsdp1" else "HYBRID_SHARD"
        words["fsdp_config.sharding_strategy"] = strategy
    return words


def fsdp_arguments(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the arguments of a new file that share out by FSDP; none where it does not."""
    shard, offloads = str(settings["shard"]), settings["offload"] == "params"
    if shard == "fsdp2":
        return {"fsdp": "full_shard", "fsdp_config.version": 2, "fsdp_config.cpu_offload": offloads}
    if shard in ("fsdp1", "hsdp"):
        strategy = "full_shard" if shard == "fsdp1" else "hybrid_shard"
        return {"fsdp": f"{strategy} auto_wrap{' offload' * offloads}", "fsdp_config.version": 1}
    return {}


def shared_and_evaluated(
    settings: Mapping[str, Value], offloads: Mapping[tuple[str, str], str]
) -> dict[str, Value]:
    """Return the arguments of a new file that share out, and evaluate if that was asked for.
    `offloads` are the files of DeepSpeed by what they keep off the device: (shard, offload)."""
    words: dict[str, Value] = {}
    if settings["eval_batch_size"] is not None:
        words["eval_strategy"] = "epoch"
        words["per_device_eval_batch_size"] = settings["eval_batch_size"]
    shared = (settings["shard"], settings["offload"])
    if shared in offloads:
        words["deepspeed"] = offloads[shared]
    return words | fsdp_arguments(settings)


def zero_named(keys: KeyReading, key: str = "deepspeed") -> None:
    """Take DeepSpeed's stage from the name of the file that a key names, which is not here."""
    named = keys.value(key)
    if not named:
        return
    if not keys.text(key):
        keys.leave(key, "its value is not one that can be read here")
        return
    base = keys.text(key).rpartition("/")[2]
    stage = STAGE.search(base)
    if stage is None:
        keys.leave(key, f"it names another file, {base:.60}, which is not here")
        return
    number = int(stage[1])
    keys.set("shard", f"zero{number}" if number else "ddp", key)
    if "offload" in base.lower():
        keys.settings["offload"] = "params" if number == 3 else "optimizer"
    keys.notes.append(f"{base:.60} is not here: what its name says is taken")
