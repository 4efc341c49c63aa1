"""torchtune's recipe files, read into the settings of the run that they start.

A recipe file states all: the library has no defaults. The model's name is its folder's.

Sources: torchtune @ bd2a0fc7: recipes/configs/, models/*/_component_builders.py (lora_attn_modules,
apply_lora_to_mlp), modules/loss/ (chunked losses), recipes/lora_finetune_distributed.py (FSDP2).
"""

import re
from collections.abc import Iterator, Mapping

from weighbridge.catalogue import everyday
from weighbridge.errors import UsageError
from weighbridge.runfiles.document import Document
from weighbridge.runfiles.kinds import Kind
from weighbridge.runfiles.reading import KeyReading, Phrases, phrased, reading, worded
from weighbridge.runfiles.record import PlannedRun, Value
from weighbridge.runfiles.serving.lines import model_of

KIND = Kind(
    name="torchtune",
    title="torchtune recipe",
    syntaxes=("yaml",),
    source="https://github.com/pytorch/torchtune @ bd2a0fc7",
)
KEYS = """
[settings]
batch_size                    batch_size
gradient_accumulation_steps   gradient_accumulation
compile                       compile
model.lora_rank               lora_r
model.lora_alpha              lora_alpha
model.lora_dropout            lora_dropout
tensor_parallel_dim           tensor_parallel_size
context_parallel_dim          context_parallel_size
[ignored]
batch_size_val checkpointer.checkpoint_files checkpointer.checkpoint_files.*
checkpointer.model_type checkpointer.output_dir checkpointer.recipe_checkpoint
checkpointer._component_ checkpointer.safe_serialization checkpointer.adapter_checkpoint
clip_grad_norm cudnn_deterministic_mode dataloader dataset.* dataset_val datasets device epochs
fsdp_reshard_after_forward keep_last_n_checkpoints log_every_n_steps log_level
log_peak_memory_stats lr_scheduler max_steps_per_epoch metric_logger model_type output_dir
profiler resume_from_checkpoint run_val_every_n_steps save_adapter_weights_only save_every_n_steps
seed shuffle tensor_parallel_plan tokenizer._component_ tokenizer.path tokenizer.merges_file
tokenizer.vocab_path tokenizer.merges_path tokenizer.image_size tokenizer.max_num_tiles
tokenizer.prompt_template tokenizer.special_tokens_path optimizer.lr optimizer.weight_decay
optimizer.betas optimizer.eps checkpoint_dir loss.ignore_index loss.num_output_chunks
model.image_size loss.weight enable_async_checkpointing async_checkpointing name
[memory]
early_exit_loss              + losses of earlier layers are added
early_exit                   + losses of earlier layers are added
layer_dropout                - layers are left out by chance
enable_activation_offloading - activations go to the host, which is not counted
activation_offloading_use_streams   - activations go to the host, which is not counted
expert_parallel_dim          - experts are shared among ranks
quantizer                    weights are fake-quantized while they train
fp8_recipe_name              - products are in 8 bits
enable_fp8_training          - products are in 8 bits
float8_recipe_name           - products are in 8 bits
model.decoder_trainable      - parts of the model are trained
model.encoder_trainable      - parts of the model are trained
model.fusion_trainable       - parts of the model are trained
custom_sharded_layers        which layers are units of their own
use_grouped_mm               other kernels of the experts
"""
NAMESPACE = "torchtune."
OPTIMIZERS: Mapping[str, str] = {
    "torch.optim.AdamW": "adamw_torch",
    "torch.optim.Adam": "adam",
    "torch.optim.SGD": "sgd",
    "bitsandbytes.optim.PagedAdamW": "paged_adamw_32bit",
    "bitsandbytes.optim.PagedAdamW8bit": "paged_adamw_8bit",
    "bitsandbytes.optim.AdamW8bit": "adamw_bnb_8bit",
    "bitsandbytes.optim.AdamW": "adamw_bnb_32bit",
    "torchao.optim.AdamW8bit": "adamw_torch_8bit",
    "torchao.optim.AdamW4bit": "adamw_torch_4bit",
    "torchao.prototype.low_bit_optim.AdamW8bit": "adamw_torch_8bit",
    "torchao.prototype.low_bit_optim.AdamW4bit": "adamw_torch_4bit",
}
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
        keys.notes.append("max_seq_len is not set: the longest sample decides the length")
    keys.take("dtype", "precision", lambda name: PRECISION.get(str(name)))
    keys.used.add("model._component_")
    _method(keys)
    _optimizer(keys)
    _loss(keys, loss)
    _kept(keys)
    _ranks(keys)
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
    return model_of(text, {})


def _built(keys: KeyReading) -> str:
    """Return the model that a builder's name says: lora_llama3_1_8b is llama3.1-8b; "" where the
    catalogue has none of that name."""
    name = str(keys.value("model._component_") or "").rpartition(".")[2]
    plain = BUILDER.sub(".", re.sub(r"^(?:q?lora|dora)_", "", name)).replace("_", "-")
    if not plain or everyday.meaning(plain) is None:
        return ""
    keys.knows("model._component_", "model")
    keys.notes.append("the model is that of its builder: the file names no checkpoint folder")
    return plain


def _method(keys: KeyReading) -> None:
    if keys.value("model.vocab_size") is not None:
        keys.leave("model.vocab_size", "the model is made by its sizes, not by its name")
        keys.used.update(f"model.{name}" for name in keys.value("model"))
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
    named = keys.value("model.lora_attn_modules")
    modules = [PROJECTIONS.get(name, name) for name in named or ()]
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
    known = OPTIMIZERS.get(str(named))
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


def _kept(keys: KeyReading) -> None:
    asked = keys.value("enable_activation_checkpointing")
    if isinstance(asked, bool):
        meant = "full" if asked else "none"
        keys.set("checkpointing", meant, "enable_activation_checkpointing")
    mode = keys.value("ac_mode")
    if mode == "selective":
        keys.set("checkpointing", "selective", "ac_mode")
    keys.used.add("ac_option")
    if keys.on("dataset.packed"):
        keys.knows("dataset.packed", "seq_len")


def _ranks(keys: KeyReading) -> None:
    """FSDP2 shares out where a recipe is one of several devices, which its keys alone tell."""
    replicas = keys.value("data_parallel_replicate_dim", 1)
    keys.used.add("data_parallel_shard_dim")
    many = any(name in keys.data for name in ("data_parallel_shard_dim", "fsdp_cpu_offload"))
    if many:
        keys.settings["shard"] = "hsdp" if isinstance(replicas, int) and replicas > 1 else "fsdp2"
    if keys.on("fsdp_cpu_offload"):
        keys.set("offload", "params", "fsdp_cpu_offload")


WRITTEN: Mapping[str, str] = {
    "batch_size": "batch_size",
    "gradient_accumulation": "gradient_accumulation_steps",
    "seq_len": "tokenizer.max_seq_len",
    "lora_r": "model.lora_rank",
}
SAID: Phrases = {
    ("checkpointing", "full"): {"enable_activation_checkpointing": True},
    ("checkpointing", "none"): {"enable_activation_checkpointing": False},
}


def written(change: Mapping[str, Value]) -> Mapping[str, Value] | None:
    """Return a change of our settings as keys of the file; None where it has no words for it."""
    return phrased(change, WRITTEN, SAID)


# Builders of Llama, whose names follow from the model's: torchtune/models/llama*/__init__.py
LLAMA = re.compile(
    r"(?i)(?:meta-)?(?P<name>llama)-?(?P<release>2|3(?:\.[123])?)-(?P<size>\d{1,3}b)(?:-hf)?$"
)
NEW: Mapping[str, Value] = {  # what a new recipe says besides: a small public dataset
    "dataset._component_": "torchtune.datasets.alpaca_dataset",
    "epochs": 1,
    "device": "cuda",
    "optimizer.lr": 2e-5,
    "output_dir": "./out",
}


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new recipe that starts a run. Raises UsageError for a model of which we
    know no builder."""
    last = run.model.rstrip("/").rpartition("/")[2]
    known = LLAMA.match(last)
    if known is None:
        raise UsageError(f"torchtune has no builder of {last:.60} that we know: Llama 2 and 3 have")
    settings = run.settings
    family = f"{known['name'].lower()}{known['release'].replace('.', '_')}"
    method = str(settings["method"])
    made = "" if method == "full" else f"{'lora' if method == 'dora' else method}_"
    told = {name: value for name, value in settings.items() if made or "lora" not in name}
    return {
        "model._component_": f"torchtune.models.{family}.{made}{family}_{known['size'].lower()}",
        "checkpointer._component_": "torchtune.training.FullModelHFCheckpointer",
        "checkpointer.checkpoint_dir": f"./{last}",
        "checkpointer.model_type": "LLAMA2" if known["release"] == "2" else "LLAMA3",
        "checkpointer.output_dir": "./out",
        **worded(told, KEYS, WRITTEN, SAID),
        **(_adapters(settings) if made else {}),
        **_step(settings),
        **NEW,
    }


def _step(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the words for the precision, the optimizer, the loss and the ranks."""
    words: dict[str, Value] = {"dtype": settings["precision"]}
    if settings["optimizer"] == "adamw_torch_fused":
        words |= {"optimizer._component_": "torch.optim.AdamW", "optimizer.fused": True}
    classes = [name for name, ours in OPTIMIZERS.items() if ours == settings["optimizer"]]
    if classes:
        words["optimizer._component_"] = classes[0]
    if settings["loss"] == "chunked":
        words["loss._component_"] = "torchtune.modules.loss.LinearCrossEntropyLoss"
    if settings["checkpointing"] == "selective":
        words |= {"enable_activation_checkpointing": True, "ac_mode": "selective"}
    if settings["shard"] == "fsdp2":
        words["fsdp_cpu_offload"] = settings["offload"] == "params"
    if settings.get("optimizer_in_backward"):
        words["optimizer_in_bwd"] = True
    return words


def _adapters(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the words for what is adapted: projections of attention, and the three of the MLP."""
    back = {ours: theirs for theirs, ours in PROJECTIONS.items()}
    named = settings["lora_targets"]
    targets = [*ATTENTION, *FEED_FORWARD] if named == "all-linear" else list(named)
    words: dict[str, Value] = {
        "model.lora_attn_modules": [back.get(t, t) for t in targets if t not in FEED_FORWARD],
        "model.apply_lora_to_mlp": set(FEED_FORWARD) <= set(targets),
    }
    return {**words, "model.use_dora": True} if settings["method"] == "dora" else words
