"""Arguments of the Trainer that a config of DeepSpeed beside them contradicts: it does not start.

Source: transformers 5.2: integrations/deepspeed.py (trainer_config_process: "auto" is filled in,
what differs raises), trainer.py (FSDP beside DeepSpeed raises).
"""

from collections.abc import Mapping
from math import prod
from typing import Any

from weighbridge.files.runfiles.reading import KeyReading
from weighbridge.files.runfiles.record import PlannedRun

ALIKE = '{}: {} {} is not {} {} of the run: the Trainer does not start so; write "auto" there'
WHOLE_STEP = '{}: train_batch_size {} is not {}: the Trainer does not start so; write "auto" there'
BOTH = "fsdp stands beside deepspeed: the Trainer does not start with both; leave one of them out"
MATCHED: Mapping[str, tuple[str, str]] = {  # DeepSpeed's name -> TrainingArguments', and ours
    "train_micro_batch_size_per_gpu": ("per_device_train_batch_size", "batch_size"),
    "gradient_accumulation_steps": ("gradient_accumulation_steps", "gradient_accumulation"),
}


def contradicted(keys: KeyReading, ranks: int | None = None) -> str:
    """Say with what of DeepSpeed's config the Trainer does not start beside its own arguments; ""
    where it does."""
    sharded = _asked(keys, "fsdp") or ("base_model" in keys.data and _asked(keys, "fsdp_config"))
    if sharded and _asked(keys, "deepspeed"):  # axolotl takes fsdp_config alone, too
        return BOTH
    unsaid = {one.key for one in keys.unread}
    if keys.zero is None or not unsaid.isdisjoint(("micro_batch_size", *dict(MATCHED.values()))):
        return ""
    name, config = keys.zero
    sizes = {"gradient_accumulation": 1, **keys.settings}
    for key, (argument, setting) in MATCHED.items():
        said = config.get(key)
        if isinstance(said, int | float) and said != sizes.get(setting):
            return ALIKE.format(name, key, said, argument, sizes.get(setting))
    return _precision_contradicted(keys, name, config) or _step_contradicted(
        name, config.get("train_batch_size"), [sizes[ours] for _, ours in MATCHED.values()], ranks
    )


def by_ranks(run: PlannedRun, workload: Mapping[str, Any]) -> str:
    """Say that the samples of a step are not those of the ranks that the run has by the cards that
    were typed; "" where they are."""
    if run.step is None:
        return ""
    sizes = [workload["batch_size"], workload["gradient_accumulation"]]
    return _step_contradicted(*run.step, sizes, workload["data_parallel_size"])


def _asked(keys: KeyReading, key: str) -> bool:
    """Tell whether a key says anything, and is no variable."""
    return bool(keys.text(key) if isinstance(keys.value(key), str) else keys.value(key))


def _step_contradicted(name: str, said: object, sizes: list[Any], ranks: int | None) -> str:
    """Say that the samples of a step are not those of all ranks, or of no number of them."""
    each = prod(sizes)
    whole = each * ranks if ranks else None
    if not isinstance(said, int | float) or said == whole or (not ranks and said % each == 0):
        return ""
    shown_as = " x ".join(map(str, (*sizes, *([ranks] if ranks else []))))
    told = f"{shown_as} = {whole}" if ranks else f"a multiple of {shown_as}"
    return WHOLE_STEP.format(name, said, told)


def _precision_contradicted(keys: KeyReading, name: str, config: Mapping[str, Any]) -> str:
    """Say that a half precision is on in one place alone, where the arguments are the Trainer's own
    (axolotl chooses by the card)."""
    for half in ("bf16", "fp16") if "per_device_train_batch_size" in keys.keys.settings else ():
        asked = config.get(half)
        said = asked.get("enabled") if isinstance(asked, dict) else None
        on = keys.settings.get("precision") == f"{half}-mixed"
        if isinstance(said, bool) and said != on:
            return ALIKE.format(name, f"{half}.enabled", str(said).lower(), half, str(on).lower())
    return ""
