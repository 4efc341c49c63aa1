"""Trainers that stand ready to train -> the run that they start, and its answer.

A Trainer of transformers or TRL holds its arguments, which are read by the reader of their files
(training/trl.py), and a model, of which the config, the dtype of the weights, the adapters and the
packing are taken. Nothing of these libraries is imported: their objects are known by what they
have.

Sources: transformers 5.23 trainer.py and training_args.py (to_dict), peft 0.21 tuners/*/config.py,
accelerate 1.15 state.py and utils/dataclasses.py (FullyShardedDataParallelPlugin, DeepSpeedPlugin).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import about, sentence
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.live.peaks import cuda
from weighbridge.files.runfiles.reading import STRANGE
from weighbridge.files.runfiles.record import PlannedRun, Value
from weighbridge.files.runfiles.training import arguments, trl
from weighbridge.files.runfiles.training.launch import ranked
from weighbridge.files.runfiles.training.ranks import Start
from weighbridge.memory.report import Report
from weighbridge.settings.ranks import Ranks
from weighbridge.workload.train import TUNERS

# Methods of PEFT that are answered, by their peft_type
METHODS = {word.replace("-", "_").upper(): word for word in ("lora", *TUNERS)}
# Sizes of which PEFT's own alone are answered
OWN_SIZES: Mapping[str, Mapping[str, Value]] = {
    "boft": {"boft_block_num": 0, "boft_n_butterfly_factor": 1},
    "p-tuning": {"encoder_reparameterization_type": "MLP"},
    "prefix-tuning": {"prefix_projection": False},
}
ADAPTERS: Mapping[str, str] = {  # names of a config of PEFT that decide a size
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "use_rslora": "use_rslora",
    "num_virtual_tokens": "virtual_tokens",
    "n_frequency": "n_frequency",
    "boft_block_size": "boft_block_size",
}
OF_LORA = ("lora_alpha", "lora_dropout", "use_rslora")  # what the other methods do not have
OPTIMIZERS = {  # class -> our name
    "Adam": "adamw_torch",
    "AdamW": "adamw_torch",
    "AdamW8bit": "adamw_bnb_8bit",
    "PagedAdamW": "paged_adamw_32bit",
    "PagedAdamW8bit": "paged_adamw_8bit",
    "Adafactor": "adafactor",
    "Adagrad": "adagrad",
    "Adamax": "adamax",
    "RMSprop": "rmsprop",
    "SGD": "sgd",
}
UNCOUNTED = {  # names of a config of PEFT that change what is trained
    "bias": "biases are trained, too",
    "lora_bias": "adapters have biases",
    "layers_to_transform": "only some layers are adapted",
    "rank_pattern": "some modules have another rank",
    "layer_replication": "layers stand twice",
    "exclude_modules": "some modules are not adapted",
    "target_parameters": "parameters of experts are adapted by their names",
    "trainable_token_indices": "rows of the embedding are trained",
}
MIXED = {"bf16": "bf16-mixed", "fp16": "fp16-mixed", "no": "fp32"}
DTYPES = {"torch.float32": "float32", "torch.bfloat16": "bfloat16", "torch.float16": "float16"}
MOST_DEPTH = 4  # of arguments that hold mappings


class LiveRun(NamedTuple):
    """A run as its objects say it: the config of its model, settings of ours, and what decides
    memory and was not understood."""

    config: Mapping[str, Any]
    settings: Mapping[str, Value]
    warnings: tuple[str, ...] = ()


def from_trainer(trainer: Any, **settings: Any) -> Report:
    """Weigh what a Trainer of transformers or TRL is about to do, before its first step.

    Args:
        trainer: it has `.args` and `.model`; adapters of PEFT and packed weights are seen.
        settings: those of `train` ("gpu", "seq_len"...), which win over what the trainer says.

    Returns:
        The `Report` that `train` gives for the same settings. Its warnings name what decides
        memory and was not understood.

    Raises:
        weighbridge.WeighbridgeError: an object that is no trainer, or a run that is not
            answered yet.
    """
    args, model = getattr(trainer, "args", None), getattr(trainer, "model", None)
    if model is None or not hasattr(args, "to_dict"):
        raise UsageError(sentence("live.no_trainer", name=type(trainer).__name__))
    accelerator = getattr(trainer, "accelerator", None)
    return answered(of_arguments(args, model, accelerator), settings)


def from_accelerator(
    accelerator: Any,
    model: Any,
    *,
    optimizer: Any = None,
    batch_size: int = 1,
    seq_len: int | None = None,
    **settings: Any,
) -> Report:
    """Weigh a training loop of accelerate, before its first step.

    Args:
        accelerator: an `accelerate.Accelerator`: its precision, its accumulation, FSDP, DeepSpeed.
        model: the model, before or after `prepare`.
        optimizer: the optimizer, whose class is taken.
        batch_size: sequences of one micro-batch.
        seq_len: tokens of a sequence; None is the usual default.
        settings: those of `train`, which win.

    Returns:
        The `Report` that `train` gives for the same settings.

    Raises:
        weighbridge.WeighbridgeError: a model that has no config, or bad settings.
    """
    live: dict[str, Value] = {"framework": "accelerate", "batch_size": batch_size}
    if seq_len is not None:
        live["seq_len"] = seq_len
    live["precision"] = MIXED.get(str(getattr(accelerator, "mixed_precision", "no")), "fp32")
    live["gradient_accumulation"] = int(getattr(accelerator, "gradient_accumulation_steps", 1))
    live["method"] = "full"
    run = PlannedRun(task="train", settings={**live, **divided(accelerator)})
    live = dict(ranked(run, _start(getattr(accelerator, "num_processes", 1))).settings)
    warnings: list[str] = []
    if optimizer is not None:
        inner = getattr(optimizer, "optimizer", optimizer)
        name = type(inner).__name__
        if name == "SGD" and getattr(inner, "defaults", {}).get("momentum"):
            live["optimizer"] = "sgd-momentum"
        elif name in OPTIMIZERS:
            live["optimizer"] = OPTIMIZERS[name]
        else:
            warnings.append(sentence("live.optimizer", name=name))
    return answered(_with_model(live, model, warnings), settings)


def answered(run: LiveRun, settings: Mapping[str, Any]) -> Report:
    """Answer a run; what is given wins. Raises WeighbridgeError."""
    from weighbridge.answers.questions.prepared import opened
    from weighbridge.answers.questions.question import question
    from weighbridge.models.checkpoint.gather import GatherOptions

    typed = {name: value for name, value in settings.items() if value is not None}
    cards = {} if {"gpu", "gpu_memory"} & typed.keys() else _cards(run.settings)
    asked = question("train", None, {**run.settings, **cards, **typed})
    report = opened(run.config, GatherOptions()).answer(asked, pinned=(*typed, *cards))
    warnings = list(run.warnings)
    if "seq_len" not in {**run.settings, **typed}:
        tokens = report.setting("seq_len")
        warnings.append(about("args.max_length", sentence("live.length", tokens=tokens)))
    return replace(report, warnings=(*warnings, *report.warnings))


def of_arguments(args: Any, model: Any, accelerator: Any = None) -> LiveRun:
    """Return the run of TrainingArguments and a model. Raises UsageError for what is refused."""
    plain = {key: _plain(value, 0) for key, value in args.to_dict().items()}
    arguments = {
        key: value for key, value in plain.items() if value is not None
    }  # a no is an answer
    (document,) = documents(json.dumps(arguments), "json", "the arguments")
    framework = "trl" if type(args).__name__ == "SFTConfig" else "trainer"
    read = ranked(trl.of_arguments(document, framework), _start(getattr(args, "world_size", 1)))
    kind = type(args).__name__
    if kind not in ("TrainingArguments", "SFTConfig") and not read.refused:
        raise UsageError(sentence("live.arguments", name=kind))
    if read.refused:
        raise UsageError(f"{kind}: {read.refused}")
    warnings = [f"args.{u.key}: {u.why}" for u in read.unread if u.why != STRANGE]
    return _with_model({**read.settings, **divided(accelerator)}, model, warnings)


def _start(processes: Any) -> Start:
    """Return the start of so many processes; of one nothing is shared."""
    return Start(whole=int(processes) if int(processes or 1) > 1 else None)


def divided(accelerator: Any) -> dict[str, Value]:
    """Return how a model is divided over the processes of an Accelerator, where plugins say it."""
    state = getattr(accelerator, "state", None)
    fsdp, zero = (getattr(state, f"{name}_plugin", None) for name in ("fsdp", "deepspeed"))
    settings: dict[str, Value] = {}
    if fsdp is not None:
        settings |= _fsdp(fsdp)
    elif zero is not None:
        stage = int(getattr(zero, "zero_stage", 0) or 0)
        settings["shard"] = f"zero{stage}" if stage else "ddp"
        devices = {
            name: getattr(zero, f"offload_{name}_device", None) for name in ("param", "optimizer")
        }
        if devices["param"] == "cpu":
            settings["offload"] = "params"
        elif devices["optimizer"] == "cpu":
            settings["offload"] = "optimizer"
    return settings


def _fsdp(plugin: Any) -> dict[str, Value]:
    """Return what accelerate's plugin of FSDP says. Its strategy is an enumeration (FULL_SHARD), or
    stands in `reshard_after_forward`."""
    version = getattr(plugin, "fsdp_version", 1) or 1
    reshard = getattr(plugin, "reshard_after_forward", None)
    strategy = getattr(plugin, "sharding_strategy", None) or reshard
    name = str(getattr(strategy, "name", strategy)).upper()
    settings: dict[str, Value] = {"shard": "hsdp" if "HYBRID" in name else f"fsdp{version}"}
    if "NO_SHARD" in name:
        settings["shard"] = "ddp"
    elif "SHARD_GRAD_OP" in name or "ZERO2" in name or reshard is False:
        settings["reshard_after_forward"] = False
    ahead = getattr(plugin, "backward_prefetch", None)
    if settings["shard"] == "fsdp1" and ahead is not None:
        settings["backward_prefetch"] = arguments.AHEAD[str(ahead.name)]
    return {**settings, **_moved(plugin)}


def _moved(plugin: Any) -> dict[str, Value]:
    """Return what accelerate's plugin moves to the host, or recomputes."""
    settings: dict[str, Value] = {}
    offload = getattr(plugin, "cpu_offload", False)
    if offload is True or getattr(offload, "offload_params", False):
        settings["offload"] = "params"
    if getattr(plugin, "activation_checkpointing", False) is True:
        settings |= {"checkpointing": "full", "use_reentrant": False}  # CheckpointImpl.NO_REENTRANT
    return settings


# The model


def _of_adapters(adapters: Mapping[Any, Any], warnings: list[str]) -> dict[str, Value]:
    """Return the settings of the first adapter of a model, with what is not counted of it."""
    adapter = next(iter(adapters.values()))
    warnings += uncounted(adapter)
    if len(adapters) > 1:
        warnings.append(about("model.peft_config", sentence("live.adapters", count=len(adapters))))
    return adapted(adapter)


def _with_model(settings: Mapping[str, Value], model: Any, warnings: list[str]) -> LiveRun:
    """Return the run with what the model tells: its config, adapters, packing and dtype."""
    base = getattr(model, "module", model)  # of a wrapper of DDP
    adapters = getattr(base, "peft_config", None)
    live = dict(settings)
    if isinstance(adapters, Mapping) and adapters:
        live |= _of_adapters(adapters, warnings)
        base = base.get_base_model() if hasattr(base, "get_base_model") else base
    config: Any = getattr(base, "config", None)
    if not hasattr(config, "to_dict"):
        raise UsageError(sentence("live.class_config", name=type(base).__name__))
    shapes = {**config.to_dict(), "architectures": [type(base).__name__]}
    shapes, packed = _packing(shapes)
    live |= packed
    if packed and live.get("method") == "lora" and str(packed["quantization"]).startswith("nf4"):
        live["method"] = "qlora"
    if dtype := _dtype(base, packed=bool(packed)):
        live["dtype"] = dtype
    if live.get("method") == "full" and _frozen(base):
        warnings.append(sentence("live.frozen"))
    return LiveRun(shapes, live, tuple(warnings))


def adapted(config: Any) -> dict[str, Value]:
    """Return the settings of a config of PEFT (LoraConfig...). Raises UsageError for a method that
    is not answered."""
    fields: Mapping[str, Any] = config if isinstance(config, Mapping) else config.to_dict()
    kind = str(getattr(fields.get("peft_type"), "value", fields.get("peft_type")))
    method = METHODS.get(kind.upper())
    if method is None:
        raise UsageError(sentence("peft.kind", name=kind, known=", ".join(METHODS)))
    _own_sizes(kind, method, fields)
    live: dict[str, Value] = {"method": "dora" if fields.get("use_dora") else method}
    for name, setting in ADAPTERS.items():
        if fields.get(name) and (method == "lora" or name not in OF_LORA):
            live[setting] = fields[name]
    lists = (("lora_targets", "target_modules"), ("modules_to_save", "modules_to_save"))
    names = {setting: fields[field] for setting, field in lists if fields.get(field)}
    return {**live, **{setting: _joined(value) for setting, value in names.items()}}


def _joined(names: Any) -> str:
    """Write the names of modules as one word; a pattern stays as it is."""
    return names if isinstance(names, str) else ",".join(sorted(names))


def _own_sizes(kind: str, method: str, fields: Mapping[str, Any]) -> None:
    """Raise UsageError for sizes of which PEFT's own alone are answered."""
    for name, sizes in OWN_SIZES.get(method, {}).items():
        if getattr(fields.get(name, sizes), "value", fields.get(name, sizes)) != sizes:
            line = sentence("peft.size", kind=kind, name=name, value=fields[name], usual=sizes)
            raise UsageError(line)
    wide = fields.get("encoder_hidden_size")
    if method == "p-tuning" and wide not in (None, fields.get("token_dim")):
        raise UsageError(sentence("peft.width", kind=kind, value=wide))


def uncounted(config: Any) -> list[str]:
    """Return a warning for each attribute of a config of PEFT that changes what is trained, and is
    not counted."""
    fields: Mapping[str, Any] = config if isinstance(config, Mapping) else config.to_dict()
    return [
        f"model.peft_config.{name}: {why}"
        for name, why in UNCOUNTED.items()
        if fields.get(name) not in (None, False, "none", {}, [])
    ]


def _packing(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Value]]:
    """Take the packing of bitsandbytes out of a config: it is a setting of ours."""
    packing: Any = config.get("quantization_config")
    fields = packing.to_dict() if hasattr(packing, "to_dict") else packing
    if not isinstance(fields, Mapping) or not (
        fields.get("load_in_4bit") or fields.get("load_in_8bit")
    ):
        return config, {}
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    if fields.get("load_in_8bit"):
        return plain, {"quantization": "bnb-int8"}
    return plain, _four_bits(fields)


def _four_bits(fields: Mapping[str, Any]) -> dict[str, Value]:
    """Return the settings of a packing in four bits."""
    kind = str(fields.get("bnb_4bit_quant_type") or "fp4")
    nested = "-dq" if fields.get("bnb_4bit_use_double_quant") else ""
    settings: dict[str, Value] = {"quantization": f"{kind}{nested}"}
    storage = str(fields.get("bnb_4bit_quant_storage") or "uint8").removeprefix("torch.")
    if storage != "uint8":
        settings["bnb_4bit_quant_storage"] = storage
    return settings


def _parameters(model: Any) -> Iterator[Any]:
    listed = getattr(model, "parameters", None)
    return iter(listed()) if callable(listed) else iter(())


def _dtype(model: Any, *, packed: bool) -> str:
    """Return the dtype of the weights: that of most numbers. Of a packed model, which keeps some
    in other dtypes, "" lets the framework's own stand."""
    sizes: dict[str, int] = {}
    for parameter in _parameters(model):
        sizes[str(parameter.dtype)] = sizes.get(str(parameter.dtype), 0) + parameter.numel()
    most = max(sizes, key=lambda name: sizes[name], default="")
    return "" if packed else DTYPES.get(most, "")


def _frozen(model: Any) -> bool:
    return any(not parameter.requires_grad for parameter in _parameters(model))


# The machine


def _cards(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the card of this session, where torch sees one."""
    here = cuda()
    if here is None:
        return {}
    from weighbridge.machines.accelerators.names import find

    ranks = Ranks.of(settings).cards
    name, total = here.get_device_name(0), here.get_device_properties(0).total_memory
    try:
        find(name)
    except UsageError:
        return {"gpu_memory": int(total)}
    return {"gpu": f"{name}:{ranks}" if ranks > 1 else name}


def _plain(value: Any, depth: int) -> Any:
    """Return a value as JSON has it; what is too deep is left out."""
    if value is None or isinstance(value, str | int | float):
        return value
    if depth == MOST_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth + 1) for each in value]
    return str(getattr(value, "value", value))
