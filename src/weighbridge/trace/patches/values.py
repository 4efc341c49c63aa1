"""Tensors that are asked for their values outside of operations."""

from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor

from weighbridge.trace.looks import SMALL, as_python, fill
from weighbridge.trace.patches import Patch


def values() -> Iterator[Patch]:
    # CPU tensors up to this size keep the values they are made with
    yield Patch(fake_tensor, "CONSTANT_NUMEL_LIMIT", SMALL)
    yield Patch(FakeTensor, "tolist", _tolist)
    yield Patch(FakeTensor, "numpy", _numpy)
    yield Patch(FakeTensor, "__array__", lambda self, *_, **__: _numpy(self))
    yield Patch(FakeTensor, "__format__", _format)


def _tolist(self: FakeTensor) -> Any:
    if self.constant is not None:
        with fake_tensor.unset_fake_temporarily():
            return self.constant.tolist()
    return self.item() if self.dim() == 0 else _nested(_one(self), tuple(self.shape))


def _nested(value: Any, shape: tuple[int, ...]) -> Any:
    return [_nested(value, shape[1:]) for _ in range(shape[0])] if shape else value


def _one(t: FakeTensor) -> Any:
    known = fill(t)
    if known is None and t.numel():
        return t.flatten()[0].item()  # is told, and warned
    return as_python(known or 0, t.dtype)


def _numpy(self: FakeTensor, **_: Any) -> Any:
    import numpy

    if self.constant is not None:
        with fake_tensor.unset_fake_temporarily():
            return self.constant.numpy()
    if self.device.type != "cpu":
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."
        )
    name = str(self.dtype).removeprefix("torch.")
    return numpy.full(tuple(self.shape), _one(self), dtype=name)


def _format(self: torch.Tensor, spec: str) -> str:
    return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)
