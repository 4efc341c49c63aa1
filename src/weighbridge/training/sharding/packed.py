"""What of a packed base ranks share out, and where libraries refuse.

    buffers      GPTQ, AWQ: no sharding takes them for parameters, and each rank has all of them
    parameters   bitsandbytes, HQQ, EETQ: integers; of bitsandbytes' 4 bits also what is stored as
                 floats (bnb_4bit_quant_storage). Scales and maps are attributes of them, and whole
    FSDP1        shares out floats; with integers it raises
    FSDP2        shares out floats, and since torch 2.12 integers; before, it makes parameters of
                 them that would be trained, which raises. accelerate leaves bitsandbytes' 4 bits
                 out since 1.14 where they are integers (torch 2.7 lets it). Int8Params become
                 plain parameters, and their linear raises for want of its `CB`. axolotl and
                 torchtune bring what shares them out, torchtune scales too
    ZeRO-3       cuts parameters of every dtype. The model was not made under zero.Init, so it is on
                 each device before. Int8Params stay whole beside their part, by `CB`

Source: torch 2.13 distributed/fsdp/_flat_param.py (_validate_tensors_to_flatten),
_fully_shard/_fsdp_param.py (_init_sharded_param, and what it was up to 2.11: axolotl
monkeypatch/fsdp2_qlora.py); accelerate 1.13 and 1.14 utils/fsdp_utils.py (fsdp2_prepare_model);
bitsandbytes 0.50 nn/modules.py; hqq 0.2.8 core/quantize.py; transformers 5.23 integrations/eetq.py;
torchtune training/_distributed.py (shard_model, of NF4Tensor); DeepSpeed
runtime/zero/partition_parameters.py (_convert_to_zero_parameters, all_gather_coalesced), engine.py
(_configure_distributed_model). FSDP2 was tried with hqq and with both linears of bitsandbytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from weighbridge.components.weights import BITSANDBYTES
from weighbridge.errors import UsageError
from weighbridge.quantization.scheme import Scheme
from weighbridge.training import kbit
from weighbridge.training.sharding.numbers import Sharding

Held = Literal["whole", "parts", "both", "all"]

PARAMETERS = (*BITSANDBYTES, "hqq-", "eetq")
EIGHT_BITS = "bnb-int8"
INTEGERS_SHARED = (2, 12)  # torch
IGNORES = (2, 7)  # torch: ignored_params
LEAVES_OUT = (1, 14)  # accelerate
SHARE_INTEGERS: Mapping[str, Held] = {"axolotl": "parts", "torchtune": "all"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRun:
    """What decides besides format and ranks. `floats`: codes are stored as floats; `prepares`:
    accelerate wraps the model. An accelerate of None is the newest."""

    framework: str
    prepares: bool
    floats: bool
    torch: tuple[int, int]
    accelerate: tuple[int, ...] | None


def held(form: Scheme | None, s: Sharding, run: PackedRun) -> Held:
    """How much of the codes a rank has; `all`: a part of them and of their scales. Raises
    UsageError where the libraries raise."""
    if form is None or not s.parameters or not form.name.startswith(PARAMETERS):
        return "whole"
    if run.framework == "litgpt":  # has none at all (training/litgpt.py)
        return "whole"
    if s.kind == "zero3":
        return "both" if form.name == EIGHT_BITS else "parts"
    if run.floats:
        return "parts"
    if s.kind == "fsdp1":
        raise UsageError(
            f"--shard fsdp1: packed weights are integers in {form.name}, which torch refuses "
            f"(Cannot flatten integer dtype tensors); {_instead(form, 'use --shard zero3')}"
        )
    return _by_fsdp2(form, run)


def _by_fsdp2(form: Scheme, run: PackedRun) -> Held:
    if run.framework in SHARE_INTEGERS:
        return SHARE_INTEGERS[run.framework]
    if form.name == EIGHT_BITS:
        raise UsageError(
            "--shard fsdp2: bitsandbytes' linears in 8 bits do not run on weights that FSDP "
            "gathered ('Parameter' object has no attribute 'CB'); use --shard zero3, or "
            "--quantization nf4 with --bnb-4bit-quant-storage bfloat16"
        )
    newer = run.accelerate is None or run.accelerate >= LEAVES_OUT
    if run.prepares and newer and kbit.four_bits(form) and run.torch >= IGNORES:
        return "whole"
    if run.torch >= INTEGERS_SHARED:
        return "parts"
    release = ".".join(map(str, run.torch))
    raise UsageError(
        f"--shard fsdp2: packed weights are integers in {form.name}, which torch {release} refuses "
        f"(Only Tensors of floating point and complex dtype can require gradients); "
        f"{_instead(form, 'use --torch-version 2.12')}"
    )


def _instead(form: Scheme, otherwise: str) -> str:
    stored = "add --bnb-4bit-quant-storage bfloat16"
    return stored if kbit.four_bits(form) else otherwise
