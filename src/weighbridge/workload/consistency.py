"""Checks of `train` for settings that contradict each other.

A setting that another one makes meaningless is refused: to ignore it would be a guess.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.quantization.module_names import intricate
from weighbridge.settings.setting import fields
from weighbridge.workload import FSDP, Train
from weighbridge.workload.train import (
    METHOD_SETTINGS,
    OF_LEARNING,
    OF_REWARDS,
    UNREFERRED,
    VALUED,
    AdapterSettings,
    BaseSettings,
    FsdpSettings,
    RankSettings,
    RolloutSettings,
    ZeroSettings,
)

OWN_DTYPE = "auto"  # the dtype of the checkpoint's config
TRAINED = ("float32", "bfloat16", "float16", "fp32", "bf16", "fp16")  # dtypes of full training
# Settings that only apply with adapters, ZeRO or FSDP
OF_ADAPTERS = tuple(
    name
    for name, one in fields(AdapterSettings).items()
    if one is not AdapterSettings.bnb_4bit_quant_storage
)
OF_ZERO = (*fields(ZeroSettings), BaseSettings.deepspeed_version.name)
OF_STAGE_3 = (  # gathering of sharded parameters
    ZeroSettings.zero_prefetch_bucket_size.name,
    ZeroSettings.zero_param_persistence_threshold.name,
    ZeroSettings.zero_max_live_parameters.name,
    ZeroSettings.zero_sub_group_size.name,
    ZeroSettings.no_zero_init.name,
)

OF_FSDP = (*fields(FsdpSettings), RankSettings.cpu_ram_efficient_loading.name)
OF_FSDP1 = FsdpSettings.backward_prefetch.name
# Value of --offload -> the values of --shard that can offload it
KEEPS: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("zero1", "zero2", "zero3"),
    "params": ("zero3", *FSDP),
    "nvme": ("zero3",),
}
OF_PACKED = ("quantization", "bnb_4bit_quant_storage", *OF_ADAPTERS)  # meaningless in full training

MAX_REPEATS = 8  # in a regex of --lora-targets: each multiplies the time by the length of a name


def consistent(w: Train) -> None:
    """Raise UsageError if settings contradict each other, independent of the model."""
    _check_learning(w)
    _check_zero(w)
    if w.bnb_4bit_quant_storage is not None and w.tuning != "qlora":
        raise UsageError(sentence("train.storage"))
    _check_methods(w)
    if w.tuning == "full":
        _check_full_training(w)
    elif w.precision == "fp8-mixed":
        raise UsageError(sentence("train.fp8", method=w.method))
    if w.optimizer_in_backward and (w.gradient_accumulation or 1) > 1:
        raise UsageError(sentence("train.in_backward", steps=w.gradient_accumulation))
    if w.attention == "flash" and w.precision == "fp32" and w.dtype in (None, "float32", "fp32"):
        raise UsageError(sentence("train.flash"))
    if w.cpu_ram_efficient_loading and w.shard not in FSDP:
        raise ContradictionError(sentence("train.ram_efficient"))
    _check_targets(w.lora_targets)


def idle(typed: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> flag for names in `settings` that have no effect given a method or `shard` in
    `typed`, with the flag that causes it. Names in `typed` are left out."""
    reasons: dict[str, str] = {}
    if typed.get("method") == "full":
        reasons |= dict.fromkeys(OF_PACKED, "--method full")
    if shard := typed.get("shard"):
        reasons |= dict.fromkeys(_idle_beside(shard, settings), f"--shard {shard}")
    return {name: why for name, why in reasons.items() if name in settings and name not in typed}


def _idle_beside(shard: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of settings that have no effect with this value of `shard`."""
    zero = shard.startswith("zero")
    yield from () if zero else OF_ZERO
    yield from OF_STAGE_3 if shard in ("zero1", "zero2") else ()
    yield from () if shard in FSDP else OF_FSDP
    yield from () if shard == "fsdp1" else (OF_FSDP1,)
    if shard not in KEEPS.get(str(settings.get("offload")), (shard,)):
        yield RankSettings.offload.name


def _check_methods(w: Train) -> None:
    for name, methods in METHOD_SETTINGS.items():
        if getattr(w, name) is not None and w.tuning not in ("full", *methods):
            raise UsageError(
                sentence(
                    "train.of_methods",
                    name=name.replace("_", "-"),
                    methods=", ".join(methods),
                    method=w.method,
                )
            )


def _check_learning(w: Train) -> None:
    """Raise UsageError for settings of other models or of a rollout engine that the method does not
    use."""
    method = w.method or "full"
    key, of_others = "learning.of_methods", (*OF_LEARNING, *fields(RolloutSettings))
    if w.learns:
        key, of_others = "learning.of_rewards", () if w.writes else OF_REWARDS
    for name in filter(partial(_is_named, w), of_others):
        raise UsageError(sentence(key, name=name.replace("_", "-"), method=method))
    if w.critic is not None and method not in VALUED:
        raise UsageError(sentence("learning.no_critic", method=method))
    if w.learns and w.exact:
        raise UsageError(sentence("learning.exact", method=method))
    _check_roles(w)


def _check_roles(w: Train) -> None:
    """Raise UsageError for a reference model that the method does not have, an engine share of 0,
    or `standby` without Unsloth."""
    method = w.method or "full"
    if method in UNREFERRED and w.reference not in (None, "none"):
        raise UsageError(sentence("learning.no_reference", method=method))
    if w.gpu_memory_utilization == 0:
        raise UsageError(sentence("learning.no_share"))
    if w.standby and w.framework != "unsloth":
        raise ContradictionError(sentence("learning.standby"))


def _check_zero(w: Train) -> None:
    """Raise UsageError for DeepSpeed's settings without DeepSpeed, and ZeRO-3's with stage 1 or
    2."""
    if w.framework == "deepspeed" or (w.shard or "").startswith("zero"):
        for name in OF_STAGE_3:
            if w.shard in ("zero1", "zero2") and _is_named(w, name):
                raise UsageError(sentence("train.stage_3", name=name.replace("_", "-")))
        return
    for name in OF_ZERO:
        if _is_named(w, name):
            raise ContradictionError(sentence("train.of_zero", name=name.replace("_", "-")))


def _is_named(w: Train, name: str) -> bool:
    """Return whether the user set `name`: 0 counts as set although it equals False."""
    value = getattr(w, name)
    return value is not None and value is not False


def _check_full_training(w: Train) -> None:
    """Raise UsageError for settings that full training cannot have. Source: transformers 5.23
    trainer.py refuses purely quantized models. A checkpoint that is itself quantized is checked
    with the model."""
    if w.dtype is not None and w.dtype not in (*TRAINED, OWN_DTYPE):
        raise UsageError(sentence("train.dtype", dtype=w.dtype, known=", ".join(TRAINED[:3])))
    if w.quantization is not None:
        raise UsageError(sentence("train.quantization", name=w.quantization))
    for name in OF_ADAPTERS:
        if _is_named(w, name):
            key = "learning.adapters" if w.learns else "train.adapters"
            raise UsageError(sentence(key, name=name.replace("_", "-")))


def _check_targets(targets: tuple[str, ...] | None) -> None:
    """Raise UsageError for a single target that is not a regular expression, or one that could take
    hours to match."""
    if targets is None or len(targets) != 1:
        return
    if intricate(targets[0], MAX_REPEATS):
        raise UsageError(sentence("targets.slow", pattern=shown(targets[0]), most=MAX_REPEATS))
    try:
        re.compile(targets[0])
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(
            sentence("targets.no_pattern", pattern=targets[0], why=str(error))
        ) from None
