"""Inputs of a net, and samples of a data set, as people type them.

8x3x224x224      numbers: a batch of 8 images
8x512:int        whole numbers: tokens, labels; also bool, bf16, fp16, fp64
3x224x224,int    several: a sample with a label
"""

import re
from importlib.util import find_spec
from typing import Any

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import sentence

DTYPES = {
    "float": "float32",
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp64": "float64",
    "int": "int64",
    "int32": "int32",
    "bool": "bool",
    "uint8": "uint8",
}
TYPED = {dtype: name for name, dtype in DTYPES.items()}
TOKENS = 100  # whole numbers are below it, as any vocabulary is larger


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor by its shape, and its dtype as torch spells it."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) or self.dtype

    @property
    def typed(self) -> str:
        """Return the input as users type it."""
        return f"{'x'.join(map(str, self.shape))}:{TYPED[self.dtype]}".lstrip(":")

    @property
    def numbers(self) -> bool:
        return "float" in self.dtype

    def with_batch(self, size: int) -> "Input":
        return replace(self, shape=(size, *self.shape[1:]))

    def tensor(self, device: str = "cpu", dtype: Any = None) -> Any:
        """Return a tensor with values; `dtype` replaces a float type."""
        import torch

        if self.numbers:
            return torch.randn(self.shape, dtype=dtype or getattr(torch, self.dtype), device=device)
        high = 2 if self.dtype == "bool" else TOKENS
        return torch.randint(0, high, self.shape, device=device).to(getattr(torch, self.dtype))


def needs_torch() -> None:
    """Raise UnsupportedError, one line, if torch is not installed."""
    if find_spec("torch") is None:
        raise UnsupportedError(sentence("trace.needs_torch"))


def of_net(text: str) -> tuple[Input, ...]:
    """Return the inputs of a net. Raises UsageError, and UnsupportedError without torch."""
    needs_torch()
    return read(text)


def read(text: str, flag: str = "--input") -> tuple[Input, ...]:
    """Return the inputs of one option. Raises UsageError."""
    return tuple(_input_from_text(part.strip(), text, flag) for part in text.split(","))


def _input_from_text(part: str, text: str, flag: str) -> Input:
    shape, _, kind = part.partition(":")
    if shape in DTYPES:
        shape, kind = "", shape
    sizes = shape.split("x") if shape else []
    plain = all(re.fullmatch(r"[1-9]\d{0,8}", size) for size in sizes)
    if not plain or kind not in ("", *DTYPES) or not part:
        raise UsageError(sentence("trace.input", flag=flag, value=text, kinds=", ".join(DTYPES)))
    return Input(tuple(map(int, sizes)), DTYPES[kind or "float"])
