"""Where "cuda" without a number is: on the current device, which C++ would take to be the first.

Creating functions ask Python for it by themselves; what moves a tensor asks C++.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.patches.values import plain


def devices() -> Iterator[Patch]:
    yield Patch(torch.Tensor, "cuda", _cuda(torch.Tensor.cuda))
    yield Patch(torch.Tensor, "to", _to(torch.Tensor.to))
    for name in ("tensor", "as_tensor"):
        yield Patch(torch, name, _made(getattr(torch, name)))


def _here(device: Any) -> Any:
    if isinstance(device, str | torch.device):
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:
            return torch.device("cuda", torch.cuda.current_device())
    return device


def _cuda(inner: Callable[..., Any]) -> Callable[..., Any]:
    def cuda(self: torch.Tensor, device: Any = None, *args: Any, **kwargs: Any) -> Any:
        return inner(self, _here("cuda" if device is None else device), *args, **kwargs)

    return cuda


def _to(inner: Callable[..., Any]) -> Callable[..., Any]:
    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if args:
            args = _here(args[0]), *args[1:]
        elif "device" in kwargs:
            kwargs["device"] = _here(kwargs["device"])
        return inner(self, *args, **kwargs)

    return to


def _made(inner: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any, **kwargs: Any) -> Any:
        if "device" in kwargs:
            kwargs["device"] = _here(kwargs["device"])
        return inner(*map(plain, args), **kwargs)

    return made
