"""Parameters and buffers of lazy modules (nn.LazyLinear), whose shapes come with the first input:
fake tensors without elements until then.

torch makes them by changing a tensor's class, which a fake tensor already has; so their classes are
both, and become fake tensors when torch makes them parameters (materialize).
"""

from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from weighbridge_lab.trace.patches import Patch

Place: TypeAlias = torch.device | str | None


class LazyParameter(UninitializedParameter, FakeTensor):  # type: ignore[misc]
    """A lazy parameter, which has no shape until its first input, but is a fake tensor
    otherwise."""

    cls_to_become = FakeTensor
    shape = FakeTensor.shape
    __torch_function__ = torch._C._disabled_torch_function_impl


class LazyBuffer(UninitializedBuffer, FakeTensor):  # type: ignore[misc]
    """A lazy buffer, which has no shape until its first input."""

    cls_to_become = FakeTensor
    shape = FakeTensor.shape
    __torch_function__ = torch._C._disabled_torch_function_impl


def lazy() -> Iterator[Patch]:
    yield Patch(UninitializedParameter, "__new__", _parameter)
    yield Patch(UninitializedBuffer, "__new__", _buffer)


def as_lazy(moved: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Return a moved tensor, still lazy if it was."""
    if is_lazy(before):
        moved.__class__ = type(before)
        moved._is_buffer = True
    return moved


def _parameter(
    _: type, requires_grad: bool = True, device: Place = None, dtype: torch.dtype | None = None
) -> torch.Tensor:
    parameter = nn.Parameter(torch.empty(0, device=device, dtype=dtype), requires_grad)
    parameter.__class__ = LazyParameter
    return parameter


def _buffer(
    _: type,
    requires_grad: bool = False,
    device: Place = None,
    dtype: torch.dtype | None = None,
    persistent: bool = True,
) -> torch.Tensor:
    buffer = torch.empty(0, device=device, dtype=dtype, requires_grad=requires_grad)
    buffer.persistent, buffer._is_buffer = persistent, True
    buffer.__class__ = LazyBuffer
    return buffer
