"""Tensors that are asked for their values outside of operations."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from weighbridge.lab.trace.looks import shadow
from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.uniform import aside

DATA = torch._C.TensorBase.data


def values() -> Iterator[Patch]:
    yield Patch(FakeTensor, "tolist", _tolist)
    yield Patch(FakeTensor, "numpy", _numpy)
    yield Patch(FakeTensor, "__array__", lambda self, *_, **__: _numpy(self))
    yield Patch(FakeTensor, "__format__", _format)
    yield Patch(FakeTensor, "data", property(DATA.__get__, _set_data))
    yield Patch(FakeTensor, "__deepcopy__", _copied)


def _set_data(self: FakeTensor, new: torch.Tensor) -> None:
    """Set a fake tensor's data. torch leaves as it was the device that it says, and its constant
    value, from which results on the host would follow."""
    known = shadow(new)
    DATA.__set__(self, new)
    aside(self).pop("shadow", None)
    if known is not None:
        aside(self)["shadow"] = known
    if isinstance(new, FakeTensor):
        self.fake_device = new.fake_device
        self.constant = None


def _copied(self: FakeTensor, memo: dict[int, Any]) -> Any:
    """Copy a fake tensor. torch would copy the fake mode and what we know of values along with
    it."""
    if id(self) in memo:
        return memo[id(self)]
    if not self.is_leaf:
        raise RuntimeError("only tensors created explicitly by the user support deepcopy")
    copied: Any = self.detach().clone()
    if isinstance(self, torch.nn.Parameter):
        copied = torch.nn.Parameter(copied, self.requires_grad)
    copied.requires_grad_(self.requires_grad)
    memo[id(self)] = copied
    if self.grad is not None:
        copied.grad = copy.deepcopy(self.grad, memo)
    attributes = vars(copied)
    added = {name: value for name, value in vars(self).items() if name not in attributes}
    attributes.update(copy.deepcopy({k: v for k, v in added.items() if k != "shadow"}, memo))
    return copied


def _tolist(self: FakeTensor) -> Any:
    known = shadow(self)
    if known is not None:
        with unset_fake_temporarily():
            return known.tolist()
    return _nested(_one(self), tuple(self.shape))


def plain(data: Any) -> Any:
    """Return what torch.tensor is given, with the numbers of fake tensors in it: C++ asks for them
    below all modes."""
    if not isinstance(data, list | tuple):
        return data
    if not any(isinstance(part, FakeTensor | list | tuple) for part in data):
        return data
    return [_tolist(part) if isinstance(part, FakeTensor) else plain(part) for part in data]


def _nested(value: Any, shape: tuple[int, ...]) -> Any:
    return [_nested(value, shape[1:]) for _ in range(shape[0])] if shape else value


def _one(tensor: FakeTensor) -> Any:
    """Return the one value that a program is told, with a warning."""
    return tensor.flatten()[0].item() if tensor.numel() else 0


def _numpy(self: FakeTensor, **_: Any) -> Any:
    import numpy

    if self.device.type != "cpu":
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."
        )
    known = shadow(self)
    if known is not None:
        with unset_fake_temporarily():
            return known.numpy()
    return numpy.full(tuple(self.shape), _one(self), dtype=str(self.dtype).removeprefix("torch."))


def _format(self: torch.Tensor, spec: str) -> str:
    return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)
