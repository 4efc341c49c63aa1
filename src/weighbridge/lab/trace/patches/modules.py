"""Moving modules, pinning, loaders, initialisers and compilers: what they do to fake tensors."""

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim import optimizer
from torch.utils import _foreach_utils, data, swap_tensors
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.data import _utils

from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.places import is_own

INITIALISERS = (
    "uniform_",
    "normal_",
    "trunc_normal_",
    "constant_",
    "ones_",
    "zeros_",
    "eye_",
    "dirac_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
    "orthogonal_",
    "sparse_",
)
COMPILED = "torch.compile is traced as eager code: compiled code keeps and fuses other tensors"


def modules() -> Iterator[Patch]:
    for owner in (optimizer, _foreach_utils):  # which classes the foreach kernels are for
        kinds = [*owner._foreach_supported_types, FakeTensor]
        yield Patch(owner, "_foreach_supported_types", kinds)
    yield Patch(nn.RNNBase, "flatten_parameters", _unchanged)
    yield Patch(nn.Module, "_apply", apply)
    yield Patch(torch.Tensor, "pin_memory", lambda self, *_: self)
    yield Patch(torch.Tensor, "is_pinned", lambda *_: False)
    yield Patch(torch.Tensor, "share_memory_", lambda self: self)
    yield Patch(data.DataLoader, "_get_iterator", _iterator)
    yield Patch(_utils.pin_memory, "pin_memory", lambda batch, *_: batch)
    yield Patch(torch, "compile", _compile)
    yield Patch(nn.Module, "compile", _compile_module)
    for name in INITIALISERS:  # values do not matter, and some look at them
        yield Patch(nn.init, name, _unchanged)


def apply(
    self: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
) -> nn.Module:
    """Do as `Module._apply` treats tensors of a GPU: parameters keep their identity and get new
    data. torch swaps the objects of fake tensors instead, which fails where any other is held."""
    if recurse:
        for child in self.children():
            child._apply(fn)
    for name, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                self._parameters[name] = _moved(parameter, fn)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = fn(buffer)
    return self


def _moved(parameter: nn.Parameter, fn: Callable[[torch.Tensor], torch.Tensor]) -> nn.Parameter:
    new = fn(parameter)
    if is_traceable_wrapper_subclass(parameter):  # DTensor: torch swaps the objects
        gradient, parameter.grad = parameter.grad, None
        swap_tensors(parameter, nn.Parameter(new, parameter.requires_grad))
        parameter.grad = None if gradient is None else fn(gradient)
        return parameter
    if not torch._has_compatible_shallow_copy_type(parameter, new):  # from or to meta
        return nn.Parameter(new, parameter.requires_grad)
    parameter.data = new
    if parameter.grad is not None:
        parameter.grad.data = fn(parameter.grad)
    return parameter


def _iterator(loader: Any) -> Any:
    """Return an iterator without workers: they are other processes, where no fake tensor lives."""
    before = loader.num_workers, loader.pin_memory, loader.prefetch_factor
    loader.__dict__.update(num_workers=0, pin_memory=False, prefetch_factor=None)
    loader._DataLoader__multiprocessing_context = None
    try:
        return data.dataloader._SingleProcessDataLoaderIter(loader)
    finally:
        names = ("num_workers", "pin_memory", "prefetch_factor")
        loader.__dict__.update(zip(names, before, strict=True))


def _compile(model: Any = None, **_: Any) -> Any:
    """Return the model as it is. The user is told of their own compiling alone: what a library
    compiles when it is imported is seldom what runs."""
    if isinstance(model, nn.Module) or is_own(sys._getframe(1).f_code.co_filename):
        warnings.warn(COMPILED, stacklevel=2)
    return _unchanged if model is None else model


def _compile_module(self: nn.Module, *_: Any, **__: Any) -> None:
    warnings.warn(COMPILED, stacklevel=2)


def _unchanged(tensor: Any, *_: Any, **__: Any) -> Any:
    return tensor
