"""DeepSpeed's JSON: the part of a run that shares out; it names no model.

What says "auto" is filled by transformers (integrations/deepspeed.py: buckets by the hidden size),
as it is counted where nothing is set. What is not there is DeepSpeed's own.

Sources: DeepSpeed @ edaa7221: runtime/zero/config.py (buckets 5e8 and 5e7, persistence 1e5, live
1e9), ops/adam/fused_adam.py; transformers 5.2 integrations/deepspeed.py (trainer_config_process:
"auto" is filled in, what differs raises), trainer.py (FSDP beside DeepSpeed raises).
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value

KEYS = text_beside(__file__, "zero.txt")
ZERO = "zero_optimization"
GATHERS = "stage3_gather_16bit_weights_on_model_save"
PLACES = ("none", "cpu", "nvme")  # places for offloading
FUSED = ("adam", "adamw")  # DeepSpeed's own kernel, unless torch's is set
SAME_REUSE = 1e9  # DeepSpeed's default
# With one of these mismatches the Trainer does not start
ALIKE = '{}: {} {} is not {} {} of the run: the Trainer does not start so; write "auto" there'
WHOLE_STEP = '{}: train_batch_size {} is not {}: the Trainer does not start so; write "auto" there'
BOTH = "fsdp stands beside deepspeed: the Trainer does not start with both; leave one of them out"
MATCHED: Mapping[str, tuple[str, str]] = {  # DeepSpeed's name -> TrainingArguments', and ours
    "train_micro_batch_size_per_gpu": ("per_device_train_batch_size", "batch_size"),
    "gradient_accumulation_steps": ("gradient_accumulation_steps", "gradient_accumulation"),
}
UNSAID = frozenset(("micro_batch_size", *(argument for argument, _ in MATCHED.values())))


def tells(document: Document) -> bool:
    """Return whether a document is DeepSpeed's."""
    data = document.data
    return isinstance(data, dict) and (
        isinstance(data.get(ZERO), dict)
        or "train_micro_batch_size_per_gpu" in data
        or ("train_batch_size" in data and "steps_per_print" in data)
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the part of a run in a config: what is sharded."""
    keys = reading(document, KEYS)
    keys.settings["framework"] = "trainer" if '"auto"' in document.text else "deepspeed"
    if keys.value("train_micro_batch_size_per_gpu") != "auto":
        keys.take("train_micro_batch_size_per_gpu", "batch_size")
    keys.take("gradient_accumulation_steps", "gradient_accumulation", _number)
    if all(keys.value(f"{name}.enabled") is True for name in ("bf16", "fp16")):
        raise UsageError(sentence("zero.two"))
    for name in ("bf16", "fp16"):
        asked = keys.value(f"{name}.enabled")
        if asked is True:
            keys.set("precision", f"{name}-mixed", f"{name}.enabled")
    _optimizer(keys)
    shared(keys)
    keys.plain()
    yield keys.run("")


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
    """Return a size as a whole number; None for "auto", which the Trainer fills in, and others."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(float(value))
    except (ValueError, OverflowError):
        return None


def _stage(keys: KeyReading, key: str) -> int:
    """Return the ZeRO stage. Raises UsageError for an invalid one, since nothing would be known."""
    stage_said = keys.value(key, 0)
    number = _number(stage_said)
    if number not in (0, 1, 2, 3):
        raise _invalid_value_error(
            keys, key, f"{key} {stage_said!r:.40}: DeepSpeed has stages 0 to 3"
        )
    return number


def shared(keys: KeyReading, section: str = ZERO) -> None:
    """Read what ZeRO shards, and its sizes; `section` is the key of its settings."""
    if not isinstance(keys.value(section), dict):
        keys.leave(section, "what it shares out is not said as DeepSpeed reads it")
        return
    stage = _stage(keys, f"{section}.stage")
    keys.settings["shard"] = f"zero{stage}" if stage in (1, 2, 3) else "ddp"
    if keys.value(f"{section}.stage") is not None:
        keys.knows(f"{section}.stage", "shard")
    if not stage:
        keys.used.add(section)
        keys.used.update(f"{section}.{name}" for name in keys.value(section))
        return
    _offloaded(keys, section, stage)
    _size(keys, section, "reduce_bucket_size", "zero_reduce_bucket_size", 500_000_000)
    keys.used.add(f"{section}.overlap_comm")
    if stage < 3:
        _below_stage_3(keys, section, stage)
        return
    _size(keys, section, "stage3_prefetch_bucket_size", "zero_prefetch_bucket_size", 50_000_000)
    _size(
        keys,
        section,
        "stage3_param_persistence_threshold",
        "zero_param_persistence_threshold",
        100_000,
    )
    for name in ("stage3_max_live_parameters", "max_live_parameters"):
        _size(keys, section, name, "zero_max_live_parameters", None)
    _size(keys, section, "sub_group_size", "zero_sub_group_size", None)
    _gathered(keys, section)
    reuse = f"{section}.stage3_max_reuse_distance"
    keys.used.add(f"{section}.max_reuse_distance")
    if keys.value(reuse) in ("auto", SAME_REUSE):
        keys.used.add(reuse)


def _below_stage_3(keys: KeyReading, section: str, stage: int) -> None:
    """Read whether communication overlaps, ignore keys of stage 3 only, and note that parameters
    are not offloaded."""
    away = keys.value(f"{section}.offload_param")
    if isinstance(away, dict) and away.get("device", "none") != "none":
        keys.leave(f"{section}.offload_param", f"stage {stage} keeps its parameters on the device")
    overlap = keys.value(f"{section}.overlap_comm")
    if isinstance(overlap, bool):
        keys.set("zero_overlap_comm", overlap, f"{section}.overlap_comm")
    keys.used.update(f"{section}.{name}" for name in keys.value(section) if "stage3_" in name)


def _size(keys: KeyReading, section: str, name: str, setting: str, usual: int | None) -> None:
    """Read a size of ZeRO; `usual` is DeepSpeed's default."""
    key = f"{section}.{name}"
    size = keys.value(key)
    if size is None and usual is not None:
        keys.default(setting, usual, f"DeepSpeed's own {name}")
    elif size == "auto":
        keys.knows(key, setting)
    elif size is not None and not _number(size):
        keys.leave(key, "nothing of it is counted as DeepSpeed's own size")
    else:
        keys.take(key, setting, _number)


def _invalid_value_error(keys: KeyReading, key: str, why: str) -> UsageError:
    """Return an error for a value that DeepSpeed rejects, with its file and line."""
    line = keys.document.place((*keys.base, *key.split("."))).line
    return UsageError(f"{keys.document.name}:{line}: {why}")


def _device(keys: KeyReading, key: str) -> str:
    """Return the device for offloading. Raises UsageError for one that DeepSpeed rejects
    (runtime/zero/offload_config.py, OffloadDeviceEnum)."""
    device = keys.value(key)
    place = str(device or PLACES[0]).lower()
    if place not in PLACES:
        raise _invalid_value_error(
            keys, key, f"{key} {shown(device)}: DeepSpeed has {', '.join(PLACES)}"
        )
    return place


def _place(keys: KeyReading, key: str) -> str:
    """Return the device of an offloaded part, with a note if a fraction stays on the card."""
    asked = keys.value(key)
    options = asked if isinstance(asked, dict) else {}
    keys.used.update(f"{key}.{option}" for option in options)
    if options.get("ratio") not in (None, 1, 1.0):
        keys.leave(f"{key}.ratio", "+ a part of it stays on the device")
    return _device(keys, f"{key}.device")


def _offloaded(keys: KeyReading, section: str, stage: int) -> None:
    """Read what is offloaded; parameters go together with their optimizer states."""
    places = {name: _place(keys, f"{section}.{name}") for name in OFFLOADS["params"]}
    _pinned(keys, section, [name for name, place in places.items() if place != "none"])
    if keys.value(f"{section}.cpu_offload") is True:
        places["offload_optimizer"] = "cpu"
    states, params = places["offload_optimizer"], places["offload_param"]
    if "nvme" in (states, params):
        keys.set("offload", "nvme", f"{section}.offload_optimizer")
    elif params == "cpu" and stage == 3:
        key = f"{section}.offload_param"
        if states != "cpu":
            keys.leave(key, "its optimizer stays, and is counted on the host")
        keys.set("offload", "params", key)
    elif states == "cpu":
        keys.set("offload", "optimizer", f"{section}.offload_optimizer")


def _gathered(keys: KeyReading, section: str) -> None:
    """Read whether all ranks' weights are gathered for saving."""
    for name in (GATHERS, GATHERS.removeprefix("stage3_")):
        gathers = keys.value(f"{section}.{name}")
        if isinstance(gathers, bool):
            keys.set("gather_on_save", gathers, f"{section}.{name}")


def _pinned(keys: KeyReading, section: str, names: list[str]) -> None:
    """Read pin_memory, if all offloaded parts agree on it."""
    named = {key: keys.value(key) for key in (f"{section}.{name}.pin_memory" for name in names)}
    pins = {key: pinned for key, pinned in named.items() if isinstance(pinned, bool)}
    if len(set(pins.values())) == 1:
        for key, pinned in pins.items():
            keys.set("zero_pin_memory", pinned, key)


# A new file

SIZES: Mapping[str, tuple[str, str]] = {  # our setting -> DeepSpeed's name, "3" for stage 3 only
    "zero_reduce_bucket_size": ("reduce_bucket_size", ""),
    "zero_prefetch_bucket_size": ("stage3_prefetch_bucket_size", "3"),
    "zero_param_persistence_threshold": ("stage3_param_persistence_threshold", "3"),
    "zero_max_live_parameters": ("stage3_max_live_parameters", "3"),
    "zero_sub_group_size": ("sub_group_size", "3"),
}
FILLED = tuple(SIZES)[:3]  # filled in by the Trainer if "auto"
OFFLOADS: Mapping[Value, tuple[str, ...]] = {
    "optimizer": ("offload_optimizer",),
    "params": ("offload_optimizer", "offload_param"),
    "nvme": ("offload_optimizer", "offload_param"),
}
NVME = "/local_nvme"  # the folder in DeepSpeed's examples


def _on_the_host(settings: Mapping[str, Value], stage: str) -> dict[str, Value]:
    """Return the keys for offloading, and for saving."""
    words: dict[str, Value] = {}
    for name in OFFLOADS.get(settings["offload"], ()):
        disk = settings["offload"] == "nvme"
        words[f"{ZERO}.{name}.device"] = "nvme" if disk else "cpu"
        words |= {f"{ZERO}.{name}.nvme_path": NVME} if disk else {}
        words[f"{ZERO}.{name}.pin_memory"] = settings.get("zero_pin_memory") is not False
    if settings.get("gather_on_save") is not None and stage == "3":
        words[f"{ZERO}.{GATHERS}"] = settings["gather_on_save"]
    return words


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new file with a run's sharding. Values that the Trainer sets are "auto";
    without a Trainer all are written."""
    settings = run.settings
    stage = str(settings["shard"])[-1]
    words: dict[str, Value] = {f"{ZERO}.stage": int(stage) if stage.isdigit() else 0}
    if str(settings["shard"]).startswith("fsdp"):
        words[f"{ZERO}.stage"] = 0
    words |= _on_the_host(settings, stage)
    alone = settings["framework"] == "deepspeed"
    if settings["context_parallel_size"] > 1:
        words |= _sequence(settings, alone=alone)
    for setting, (name, only) in SIZES.items():
        value = settings.get(setting)
        if value is None and not alone and setting in FILLED:
            value = "auto"
        if value is not None and only in ("", stage):
            words[f"{ZERO}.{name}"] = value
    if settings.get("zero_overlap_comm") is not None and stage != "3":
        words[f"{ZERO}.overlap_comm"] = settings["zero_overlap_comm"]
    return {**words, **(_keys_without_trainer(settings) if alone else FILLED_BY_THE_TRAINER)}


def _sequence(settings: Mapping[str, Value], *, alone: bool) -> dict[str, Value]:
    """Return the key for sequence parallelism. Raises UsageError with the Trainer, whose launcher
    sets that."""
    if not alone:
        raise UsageError(sentence("zero.ranks"), where="--emit deepspeed")
    return {"sequence_parallel_size": settings["context_parallel_size"]}


_FILLED = (
    "bf16.enabled fp16.enabled gradient_clipping train_micro_batch_size_per_gpu "
    "gradient_accumulation_steps train_batch_size"
)
FILLED_BY_THE_TRAINER: Mapping[str, Value] = dict.fromkeys(_FILLED.split(), "auto")


def _keys_without_trainer(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the keys that DeepSpeed needs if no Trainer fills them in."""
    words: dict[str, Value] = {
        "train_micro_batch_size_per_gpu": settings["batch_size"],
        "gradient_accumulation_steps": settings["gradient_accumulation"],
    }
    half = str(settings["precision"]).partition("-")[0]
    if half in ("bf16", "fp16"):
        words[f"{half}.enabled"] = True
    if settings["optimizer"] in ("adamw_torch", "adamw_torch_fused"):
        words["optimizer.type"] = "AdamW"
        words["optimizer.params.lr"] = 2e-5
        words["optimizer.params.torch_adam"] = settings["optimizer"] == "adamw_torch"
    return words


# Compared with the Trainer's arguments


def _size_contradicted(name: str, config: Mapping[str, Any], sizes: Mapping[str, Any]) -> str:
    """Return which size in a config contradicts the Trainer's argument; "" if none does."""
    for key, (argument, setting) in MATCHED.items():
        value = config.get(key)
        if isinstance(value, int | float) and value != sizes.get(setting):
            return ALIKE.format(name, key, value, argument, sizes.get(setting))
    return ""


def contradicted(keys: KeyReading) -> str:
    """Return why the Trainer does not start with DeepSpeed's config and its own arguments; "" if it
    does."""
    sharded = _is_stated(keys, "fsdp") or (
        "base_model" in keys.data and _is_stated(keys, "fsdp_config")
    )
    if sharded and _is_stated(keys, "deepspeed"):  # axolotl takes fsdp_config alone, too
        return BOTH
    if keys.zero is None or UNSAID.intersection(one.key for one in keys.unread):
        return ""
    name, config = keys.zero
    sizes = {"gradient_accumulation": 1, **keys.settings}
    return (
        _size_contradicted(name, config, sizes)
        or _precision_contradicted(keys, name, config)
        or _step_contradicted(
            name,
            config.get("train_batch_size"),
            [sizes[ours] for _, ours in MATCHED.values()],
            None,
        )
    )


def step_contradicted(run: PlannedRun, ranks: int) -> str:
    """Return why DeepSpeed's train_batch_size does not match the ranks; "" if it does, or if the
    run does not state the sizes."""
    unsaid = UNSAID.intersection(one.key for one in run.unread)
    if run.step is None or unsaid or "batch_size" not in run.settings:
        return ""
    sizes = [run.settings["batch_size"], run.settings.get("gradient_accumulation", 1)]
    return _step_contradicted(*run.step, sizes, ranks)


def _is_stated(keys: KeyReading, key: str) -> bool:
    """Return whether a key has a value that is no variable."""
    return bool(keys.text(key) if isinstance(keys.value(key), str) else keys.value(key))


def _step_contradicted(name: str, value: object, sizes: list[Any], ranks: int | None) -> str:
    """Return why the samples per step match no number of ranks, or not `ranks`; "" if they do."""
    each = prod(sizes)
    whole = each * ranks if ranks else None
    if not isinstance(value, int | float) or value == whole or (not ranks and value % each == 0):
        return ""
    shown_as = " x ".join(map(str, (*sizes, *([ranks] if ranks else []))))
    samples = f"{shown_as} = {whole}" if ranks else f"a multiple of {shown_as}"
    return WHOLE_STEP.format(name, value, samples)


def _precision_contradicted(keys: KeyReading, name: str, config: Mapping[str, Any]) -> str:
    """Return which half precision only one of DeepSpeed and the Trainer's own arguments enables
    (axolotl chooses by the card); "" if none."""
    for half in ("bf16", "fp16") if "per_device_train_batch_size" in keys.keys.settings else ():
        asked = config.get(half)
        enabled = asked.get("enabled") if isinstance(asked, dict) else None
        on = keys.settings.get("precision") == f"{half}-mixed"
        if isinstance(enabled, bool) and enabled != on:
            return ALIKE.format(
                name, f"{half}.enabled", str(enabled).lower(), half, str(on).lower()
            )
    return ""


KIND = Kind(
    name="deepspeed",
    title=sentence("title.config", program="DeepSpeed"),
    syntaxes=("json",),
    source="https://github.com/deepspeedai/DeepSpeed @ edaa7221",
    tells=tells,
    read=read,
    fresh=fresh,
)
