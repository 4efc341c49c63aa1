"""Subclasses of tensors, and addresses of data: what C++ refuses a fake tensor.

`Tensor._make_subclass(Params4bit, data)` makes a tensor of another class that has the data of the
first. C++ refuses a fake tensor; here it gets a class that is both (carriers.py).

Addresses are given out only to code whose C functions are replaced: any other would read there.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from weighbridge.lab.trace.carriers import becomes
from weighbridge.lab.trace.patches import Patch, patched

MAKE = torch.Tensor._make_subclass


def subclass(cls: Any) -> Patch:
    """Patch a class whose `__new__` calls `_make_subclass`. Libraries call it with the `__dict__`
    of an older tensor, and a fake one has more in it than arguments."""
    new = cls.__new__
    named = inspect.signature(new).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in named.values())

    @wraps(new)
    def made(*args: Any, **kwargs: Any) -> Any:
        if not takes_all:
            kwargs = {name: value for name, value in kwargs.items() if name in named}
        with patched([Patch(torch.Tensor, "_make_subclass", staticmethod(_made))]):
            return new(*args, **kwargs)

    return Patch(cls, "__new__", staticmethod(made))


def _made(cls: Any, data: Any, require_grad: bool = False, **kwargs: Any) -> Any:
    if not isinstance(data, FakeTensor):
        return MAKE(cls, data, require_grad, **kwargs)
    tensor: Any = data.detach().requires_grad_(require_grad)
    return becomes(tensor, cls)


def addressed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function in which fake tensors have addresses; nothing is there."""

    def called(*args: Any, **kwargs: Any) -> Any:
        with patched([Patch(FakeTensor, "data_ptr", lambda _: 0)]):
            return function(*args, **kwargs)

    return called
