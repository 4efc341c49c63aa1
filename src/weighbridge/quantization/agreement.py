"""Whether the files hold what the config says of their format, and the other way round.

    declared, and nothing is packed    the tensors rule: loaders of the format find none of theirs
    packed in FP8, nothing declared    loaders cast the values to the model's dtype, without scales
    integers that fit no format        nothing says what they stand for

Source: transformers 5.23 quantizers/auto.py (a format is known by `quantization_config` alone),
core_model_loading.py (a tensor is cast to the dtype of its parameter).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from weighbridge.quantization.packed import INTEGERS, Logical
from weighbridge.tensors import CheckpointTensor
from weighbridge.wording import shown

# What no format packs in: floats of a model, and counters and masks beside them.
WHOLE = frozenset({"float64", "float32", "float16", "bfloat16", "int64", "bool"})
EIGHT_BITS = "float8_"
ALL_INTEGERS = INTEGERS | {"int64", "uint64"}


def unpacked(tensors: Collection[CheckpointTensor]) -> bool:
    """Whether all tensors of a checkpoint are plain numbers."""
    return bool(tensors) and all(t.dtype.name in WHOLE for t in tensors)


def undeclared(tensors: Collection[CheckpointTensor]) -> Iterator[str]:
    """A note on FP8 of which no config says how it was scaled."""
    eight = sum(t.dtype.name.startswith(EIGHT_BITS) for t in tensors)
    if eight:
        yield (
            f"{eight:,} tensors are FP8 and the config has no quantization_config: loaders cast "
            "them to the model's dtype, without scales, and that is what is counted; if they were "
            "scaled, the config that says so is missing"
        )


def told(quantization: Mapping[str, Any]) -> str:
    """What to say of a config that names a format which no tensor is in."""
    method = shown(quantization.get("quant_method") or "a format")
    return (
        f"the config declares {method} and no tensor of the files is packed: they are plain"
        " numbers, and are counted so; a loader of that format will not find its tensors"
    )


def integers(weights: Iterable[Logical]) -> Iterator[str]:
    """A note on weights of a class that are whole numbers in no format that we know."""
    found = [p for p in weights if p.format in ALL_INTEGERS]
    if found:
        kinds = ", ".join(sorted({p.format for p in found}))
        yield (
            f"{len(found):,} weights are stored as {kinds} ({found[0].name}) and fit no packed "
            "format that we know: nothing says what they stand for; they are counted as cast to "
            "the model's dtype"
        )
