"""A new recipe of torchtune, with every key that a recipe of 0.6.1 reads without a default.

0.6.1 is the last release. Its main branch has other losses, and is started by the same command.

Sources: pytorch/torchtune v0.6.1: recipes/{full,lora}_finetune_{single_device,distributed}.py (the
keys, and what they refuse together), recipes/configs/llama*/ (tokenizers, files of checkpoints,
layers that are units of their own), torchtune/models/llama*/__init__.py (builders).
"""

from collections.abc import Mapping

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.record import PlannedRun, Value
from weighbridge.files.runfiles.tables import table, worded
from weighbridge.files.runfiles.training import torchtune
from weighbridge.files.runfiles.training.shapes import shape_name
from weighbridge.settings.ranks import Ranks
from weighbridge.training.launching import by_machine

Settings = Mapping[str, Value]


class Builder(NamedTuple):
    """A model builder: the family whose module has it, the size, the number of published weight
    files, and the tokenizer's file."""

    family: str
    size: str
    files: int
    tokenizer: str = "original/tokenizer.model"


BUILDERS: Mapping[str, Builder] = {  # by shape
    "llama-2-7b": Builder("llama2", "7b", 2, "tokenizer.model"),
    "llama-2-13b": Builder("llama2", "13b", 3, "tokenizer.model"),
    "llama-2-70b": Builder("llama2", "70b", 15, "tokenizer.model"),
    "llama-3-8b": Builder("llama3", "8b", 4),
    "llama-3-70b": Builder("llama3", "70b", 30),
    "llama-3-405b": Builder("llama3_1", "405b", 191, "original/mp8/tokenizer.model"),
    "llama-3.2-1b": Builder("llama3_2", "1b", 1),
    "llama-3.2-3b": Builder("llama3_2", "3b", 2),
}
POSITIONS = 8192  # Llama 3's context; Llama 3.1 and later have more, with scaled positions
LOSSES: Mapping[str, str] = {  # loss in a report -> torchtune's
    "chunked": "torchtune.modules.loss.CEWithChunkedOutputLoss",
    "torchtune": "torch.nn.CrossEntropyLoss",
}
# Other keys of 0.6.1, which decide no memory: a small public dataset, and logging
BESIDE: Mapping[str, Value] = {
    "resume_from_checkpoint": False,
    "seed": None,
    "shuffle": True,
    "epochs": 1,
    "max_steps_per_epoch": None,
    "clip_grad_norm": None,
    "metric_logger._component_": "torchtune.training.metric_logging.DiskLogger",
    "metric_logger.log_dir": "${output_dir}/logs",
    "log_every_n_steps": 1,
    "log_peak_memory_stats": True,
    "device": "cuda",
}
SCHEDULE: Mapping[str, Value] = {  # LoRA's recipes read one without a default
    "lr_scheduler._component_": (
        "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup"
    ),
    "lr_scheduler.num_warmup_steps": 100,
}
RATES = {True: 3e-4, False: 2e-5}  # learning rate of LoRA's recipes, and of full ones
PLAN = "torchtune.models.llama3.base_llama_tp_plan"


def recipe(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new recipe that starts a run. Raises UsageError for a model without a
    builder, and for settings that the recipes reject."""
    builder, settings = _builder(run), run.settings
    _refused(settings)
    adapted = settings["method"] != "full"
    settings_told = {
        name: value for name, value in settings.items() if adapted or "lora" not in name
    }
    return {
        "output_dir": "./out",
        **_builder_arguments(builder, settings),
        **_stored(builder, run.model),
        **worded(settings_told, torchtune.KEYS, torchtune.WRITTEN, torchtune.SAID),
        **(_adapters(settings) if adapted else {}),
        "dataset._component_": "torchtune.datasets.alpaca_dataset",
        "dataset.packed": True,  # full sequences, as in the estimate
        **_step(settings),
        **(SCHEDULE if adapted else {}),
        **_ranks(builder, settings),
        **BESIDE,
    }


def command(settings: Settings) -> str:
    """Return the command that starts a run's recipe with all its ranks."""
    name = "full_finetune" if settings["method"] == "full" else "lora_finetune"
    if not (settings["shard"] != "none" or Ranks.of(settings).tensor > 1):
        return f"tune run {name}_single_device --config run.yaml"
    launched = by_machine(Ranks.of(settings)).replace("-per-", "_per_")
    return f"tune run {launched} {name}_distributed --config run.yaml"


def _builder(run: PlannedRun) -> Builder:
    """Return the builder of a model with these sizes. Raises UsageError if there is none."""
    builder = BUILDERS.get(shape_name(run.config))
    if builder is None:
        last = run.model.rstrip("/").rpartition("/")[2]
        raise UsageError(sentence("tune.no_builder", model=last))
    longer = run.config.get("max_position_embeddings", 0) > POSITIONS
    return builder._replace(family="llama3_1") if builder.family == "llama3" and longer else builder


def _refused(settings: Settings) -> None:
    """Raise UsageError for settings that recipes reject together, or have no key for."""
    adapted, shared = settings["method"] != "full", Ranks.of(settings).tensor > 1
    together = {
        "--optimizer adamw_torch_fused beside --tensor-parallel-size": (
            shared and settings["optimizer"] == "adamw_torch_fused"
        ),
        "--tensor-parallel-size beside adapters": shared and adapted,
        "--optimizer-in-backward beside adapters": (
            bool(settings.get("optimizer_in_backward")) and adapted
        ),
        "--optimizer-in-backward beside --gradient-accumulation": (
            bool(settings.get("optimizer_in_backward"))
            and int(settings["gradient_accumulation"] or 1) > 1
        ),
        "--context-parallel-size": Ranks.of(settings).context > 1,
    }
    for what, refused in together.items():
        if refused:
            raise UsageError(sentence("tune.no_recipe", settings=what))


def _builder_arguments(builder: Builder, settings: Settings) -> dict[str, Value]:
    """Return the keys for the model and its tokenizer."""
    method = str(settings["method"])
    kind = {"full": "", "dora": "lora_"}.get(method, f"{method}_")
    name = f"{kind}{builder.family}_{builder.size}"
    return {"model._component_": f"torchtune.models.{builder.family}.{name}"}


def _stored(builder: Builder, model: str) -> dict[str, Value]:
    """Return the keys for the files of the weights and the tokenizer."""
    name = model.rstrip("/").rpartition("/")[2]
    folder = model.rstrip("/") if model.startswith(("/", ".", "~")) else f"./{name}"
    kind = "llama2" if builder.family == "llama2" else "llama3"
    kinds = {"llama2": "LLAMA2", "llama3_2": "LLAMA3_2"}
    files: dict[str, Value] = {"checkpointer.checkpoint_files": ["model.safetensors"]}
    if builder.files > 1:
        files = {
            "checkpointer.checkpoint_files.filename_format": "model-{}-of-{}.safetensors",
            "checkpointer.checkpoint_files.max_filename": f"{builder.files:05}",
        }
    return {
        "tokenizer._component_": f"torchtune.models.{kind}.{kind}_tokenizer",
        "tokenizer.path": f"{folder}/{builder.tokenizer}",
        "checkpointer._component_": "torchtune.training.FullModelHFCheckpointer",
        "checkpointer.checkpoint_dir": folder,
        **files,
        "checkpointer.model_type": kinds.get(builder.family, "LLAMA3"),
        "checkpointer.output_dir": "${output_dir}",
    }


def _step(settings: Settings) -> dict[str, Value]:
    """Return the keys for the precision, the optimizer, the loss and what is recomputed."""
    words: dict[str, Value] = {"dtype": settings["precision"]}
    optimizer, fused = str(settings["optimizer"]), settings["optimizer"] == "adamw_torch_fused"
    plain = "adamw_torch" if fused else optimizer
    words |= table(torchtune.KEYS).newly.get(("optimizer", plain), {})
    if fused:
        words["optimizer.fused"] = True
    words["optimizer.lr"] = RATES[settings["method"] != "full"]
    if settings["loss"] in LOSSES:
        words["loss._component_"] = LOSSES[settings["loss"]]
    words["compile"] = bool(settings.get("compile"))
    if settings["method"] == "full":
        words["optimizer_in_bwd"] = bool(settings.get("optimizer_in_backward"))
    return words


def _ranks(builder: Builder, settings: Settings) -> dict[str, Value]:
    """Return the keys for sharding over ranks."""
    words: dict[str, Value] = {}
    if settings["shard"] == "fsdp2":
        words["fsdp_cpu_offload"] = settings["offload"] == "params"
        if settings["method"] == "full" and builder.family in torchtune.OWN_UNITS:
            words["custom_sharded_layers"] = list(torchtune.UNITS)
    if Ranks.of(settings).tensor > 1:
        words["tensor_parallel_plan._component_"] = PLAN
    return words


def _adapters(settings: Settings) -> dict[str, Value]:
    """Return the keys for adapters: on projections of attention, and on the three of the MLP."""
    back = {ours: theirs for theirs, ours in torchtune.PROJECTIONS.items()}
    named, feed = settings["lora_targets"], torchtune.FEED_FORWARD
    targets = [*torchtune.ATTENTION, *feed] if named == "all-linear" else list(named)
    words: dict[str, Value] = {
        "model.lora_attn_modules": [back.get(t, t) for t in targets if t not in feed],
        "model.apply_lora_to_mlp": set(feed) <= set(targets),
    }
    if settings["method"] != "dora":
        return words
    packed = settings["quantization"] not in (None, "none")
    return {**words, "model.use_dora": True, **({"model.quantize_base": True} if packed else {})}
