"""The optimizers of the golden programs, each with the state that it keeps for a weight.

sgd 0, momentum 1 copy; adam, adamw 2 copies; adam8bit 2 bytes; adafactor a row and a column
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import optim


def _bitsandbytes(weights: Iterable[Any]) -> Any:
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(weights, lr=1e-4)


OPTIMIZERS: dict[str, Callable[[Iterable[Any]], Any]] = {
    "sgd": lambda weights: optim.SGD(weights, lr=1e-3),
    "momentum": lambda weights: optim.SGD(weights, lr=1e-3, momentum=0.9),
    "adam": lambda weights: optim.Adam(weights, lr=1e-4),
    "adamw": lambda weights: optim.AdamW(weights, lr=1e-4),  # foreach, on CUDA
    "adamw-fused": lambda weights: optim.AdamW(weights, lr=1e-4, fused=True),
    "adamw-for-loop": lambda weights: optim.AdamW(weights, lr=1e-4, foreach=False),
    "adamw8bit": _bitsandbytes,
    "adafactor": lambda weights: optim.Adafactor(weights, lr=1e-3),
    "adagrad": lambda weights: optim.Adagrad(weights, lr=1e-3),
    "rmsprop": lambda weights: optim.RMSprop(weights, lr=1e-4),
}
