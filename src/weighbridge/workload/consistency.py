"""Settings of `train` that contradict each other.

A setting that another one makes meaningless is refused: silence would be a guess.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.wording import shown
from weighbridge.models.quantization.declared import intricate
from weighbridge.settings.setting import fields
from weighbridge.workload import FSDP, Train
from weighbridge.workload.train import (
    METHOD_SETTINGS,
    AdapterSettings,
    BaseSettings,
    FsdpSettings,
    RankSettings,
    ZeroSettings,
)

OWN_DTYPE = "auto"  # that of the checkpoint's config
TRAINED = ("float32", "bfloat16", "float16", "fp32", "bf16", "fp16")  # all weights, in full
# Names of settings that have no meaning elsewhere
OF_ADAPTERS = tuple(
    name
    for name, one in fields(AdapterSettings).items()
    if one is not AdapterSettings.bnb_4bit_quant_storage
)
OF_ZERO = (*fields(ZeroSettings), BaseSettings.deepspeed_version.name)
OF_STAGE_3 = (  # of parameters that are gathered
    ZeroSettings.zero_prefetch_bucket_size.name,
    ZeroSettings.zero_param_persistence_threshold.name,
    ZeroSettings.zero_max_live_parameters.name,
    ZeroSettings.zero_sub_group_size.name,
    ZeroSettings.no_zero_init.name,
)

OF_FSDP = (*fields(FsdpSettings), RankSettings.cpu_ram_efficient_loading.name)
OF_FSDP1 = FsdpSettings.backward_prefetch.name
# What a way to share out keeps off the device, by the value of --offload
KEEPS: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("zero1", "zero2", "zero3"),
    "params": ("zero3", *FSDP),
    "nvme": ("zero3",),
}
OF_PACKED = ("quantization", "bnb_4bit_quant_storage", *OF_ADAPTERS)  # of no full training

MAX_REPEATS = 8  # of --lora-targets: each multiplies the time by the length of a name


def consistent(w: Train) -> None:
    """Raises UsageError where settings contradict each other, whatever the model is."""
    _of_zero(w)
    if w.bnb_4bit_quant_storage is not None and w.method != "qlora":
        raise UsageError("--bnb-4bit-quant-storage is of packed weights: use --method qlora")
    _of_methods(w)
    if (w.method or "full") == "full":
        _in_full(w)
    elif w.precision == "fp8-mixed":
        raise UsageError(
            f"--precision fp8-mixed with --method {w.method}: a frozen base gains nothing by "
            "products in float8; use bf16-mixed"
        )
    if w.optimizer_in_backward and (w.gradient_accumulation or 1) > 1:
        raise UsageError(
            f"--optimizer-in-backward with --gradient-accumulation {w.gradient_accumulation}: "
            "gradients would be applied after each micro-batch; leave one of them out"
        )
    if w.attention == "flash" and w.precision == "fp32" and w.dtype in (None, "float32", "fp32"):
        raise UsageError(
            "--attention flash with --precision fp32: flash attention takes 16 bit only; use "
            "--attention efficient or --precision bf16-mixed"
        )
    if w.cpu_ram_efficient_loading and w.shard not in FSDP:
        raise ContradictionError(
            "--cpu-ram-efficient-loading is accelerate's setting for FSDP: give --shard fsdp1, "
            "fsdp2 or hsdp, or leave it out"
        )
    _readable(w.lora_targets)


def idle(typed: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings that mean nothing beside a method, or a way to share out, that is typed in
    the place of theirs, each with what is typed."""
    reasons: dict[str, str] = {}
    if typed.get("method") == "full":
        reasons |= dict.fromkeys(OF_PACKED, "--method full")
    if shard := typed.get("shard"):
        reasons |= dict.fromkeys(_idle_beside(shard, settings), f"--shard {shard}")
    return {name: why for name, why in reasons.items() if name in settings and name not in typed}


def _idle_beside(shard: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield settings that mean nothing beside a way to share out."""
    zero = shard.startswith("zero")
    yield from () if zero else OF_ZERO
    yield from OF_STAGE_3 if shard in ("zero1", "zero2") else ()
    yield from () if shard in FSDP else OF_FSDP
    yield from () if shard == "fsdp1" else (OF_FSDP1,)
    if shard not in KEEPS.get(str(settings.get("offload")), (shard,)):
        yield RankSettings.offload.name


def _of_methods(w: Train) -> None:
    for name, methods in METHOD_SETTINGS.items():
        if getattr(w, name) is not None and w.method not in (None, "full", *methods):
            raise UsageError(
                f"--{name.replace('_', '-')} is of {', '.join(methods)}: {w.method} trains none; "
                "leave it out"
            )


def _of_zero(w: Train) -> None:
    """Refuse DeepSpeed's settings without DeepSpeed, and those of stage 3 beside another."""
    if w.framework == "deepspeed" or (w.shard or "").startswith("zero"):
        for name in OF_STAGE_3:
            if w.shard in ("zero1", "zero2") and _is_named(w, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} is of stage 3: use --shard zero3, or leave it out"
                )
        return
    for name in OF_ZERO:
        if _is_named(w, name):
            raise ContradictionError(
                f"--{name.replace('_', '-')} is DeepSpeed's: use --shard zero1, zero2 or zero3, or "
                "leave it out"
            )


def _is_named(w: Train, name: str) -> bool:
    """Tell whether the user named it: 0 is a value, and equal to False."""
    value = getattr(w, name)
    return value is not None and value is not False


def _in_full(w: Train) -> None:
    """Training all weights. Source: transformers 5.23 trainer.py refuses purely quantized models;
    one whose own config is quantized is a matter of the model's."""
    if w.dtype is not None and w.dtype not in (*TRAINED, OWN_DTYPE):
        raise UsageError(
            f"--dtype {w.dtype}: weights are trained in {', '.join(TRAINED[:3])}; smaller ones are "
            "frozen: use --method qlora"
        )
    if w.quantization is not None:
        raise UsageError(
            f"--quantization {w.quantization}: a quantized model is not trained in full: use "
            "--method qlora"
        )
    for name in OF_ADAPTERS:
        if _is_named(w, name):
            raise UsageError(
                f"--{name.replace('_', '-')} with --method full, which has no adapters: use "
                "--method lora"
            )


def _readable(targets: tuple[str, ...] | None) -> None:
    """Raise UsageError for a single target that is no regular expression, or one that could search
    for hours."""
    if targets is None or len(targets) != 1:
        return
    if intricate(targets[0], MAX_REPEATS):
        raise UsageError(
            f"--lora-targets {shown(targets[0])} could search for hours: leave out repeats of "
            f"repeats, and more than {MAX_REPEATS} of them, or list the modules"
        )
    try:
        re.compile(targets[0])
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(
            f"--lora-targets {targets[0]!r:.80} is no regular expression: {error}"
        ) from None
