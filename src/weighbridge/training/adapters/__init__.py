"""Adapters of PEFT: LoRA and its relatives.

targets.py    which modules
lora.py       what stands in for a linear
"""

from dataclasses import dataclass

from weighbridge.dtypes import FLOAT32, DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """`targets` as the user writes them: names of modules, a regular expression, "all-linear"."""

    r: int
    alpha: int
    targets: tuple[str, ...]
    dropout: float = 0.0
    dora: bool = False
    rslora: bool = False
    dtype: DType = FLOAT32  # PEFT's autocast_adapter_dtype
    modules_to_save: tuple[str, ...] = ()
