"""Patches of what Python does to fake tensors outside of operations: values that are asked for,
modules that move, and where "cuda" without a number is. That is the current device, which C++ would
take to be the first: creating functions ask Python for it by themselves; what moves a tensor asks
C++.
"""

import copy
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.optim import optimizer
from torch.utils import _foreach_utils, data, swap_tensors
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.data import _utils

from weighbridge_lab.trace.patches import Patch, put
from weighbridge_lab.trace.patches.lazy import as_lazy, lazy
from weighbridge_lab.trace.shadows import aside, shadow

DATA = torch._C.TensorBase.data


# Modules, loaders, initialisers and compilers

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


def values() -> Iterator[Patch]:
    addresses = Addresses()
    yield Patch(FakeTensor, "tolist", _tolist)
    yield Patch(FakeTensor, "numpy", _numpy)
    yield Patch(FakeTensor, "__array__", lambda self, *_, **__: _numpy(self))
    yield Patch(FakeTensor, "__format__", _format)
    yield Patch(FakeTensor, "data", property(DATA.__get__, _set_data))
    yield Patch(FakeTensor, "__deepcopy__", _copied)
    yield Patch(FakeTensor, "data_ptr", lambda self: addresses.of(self))


ROOM = 36  # bits of an address within a storage
NOWHERE = 1 << 62  # no processor has memory there


class Addresses:
    """Addresses of fake tensors: each storage has its own, where nothing is. Programs tell tensors
    apart by them, as accelerate finds an optimizer's parameters."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, Any]] = {}  # by the storage's address in C++
        self._count = 0

    def of(self, tensor: FakeTensor) -> int:
        """Return the address of the first element; 0 without elements, as in torch."""
        if not tensor.numel():
            return 0
        base = self._base(tensor.untyped_storage())
        first: int = tensor.storage_offset() * tensor.element_size()
        return base + first

    def _base(self, storage: torch.UntypedStorage) -> int:
        place = storage._cdata
        if place not in self._known:
            self._count += 1
            ends = weakref.ref(storage, lambda _: self._known.pop(place, None))
            self._known[place] = NOWHERE + (self._count << ROOM), ends
        return self._known[place][0]


def _set_data(self: FakeTensor, new: torch.Tensor) -> None:
    """Set a fake tensor's data. torch would keep the old device, and the old constant value, from
    which results on the host would follow."""
    known = shadow(new)
    DATA.__set__(self, new)
    aside(self).pop("shadow", None)
    if known is not None:
        aside(self)["shadow"] = known
    if isinstance(new, FakeTensor):
        self.fake_device = new.fake_device
        self.constant = None


def _copied(self: FakeTensor, memo: dict[int, Any]) -> Any:
    """Return a copy of a fake tensor, without torch's copies of the fake mode and of known
    values."""
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
    return _nested(_default_value(self), tuple(self.shape))


def plain(data: Any) -> Any:
    """Return the argument of torch.tensor with fake tensors replaced by their numbers, as C++ reads
    it below all modes."""
    if not isinstance(data, list | tuple):
        return data
    if not any(isinstance(part, FakeTensor | list | tuple) for part in data):
        return data
    return [_tolist(part) if isinstance(part, FakeTensor) else plain(part) for part in data]


def _nested(value: Any, shape: tuple[int, ...]) -> Any:
    return [_nested(value, shape[1:]) for _ in range(shape[0])] if shape else value


def _default_value(tensor: FakeTensor) -> Any:
    """Return the default value that a program gets for an unknown one, with a warning."""
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
    return numpy.full(
        tuple(self.shape), _default_value(self), dtype=str(self.dtype).removeprefix("torch.")
    )


def _format(self: torch.Tensor, spec: str) -> str:
    return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)


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
    yield Patch(torch.optim.LBFGS, "step", searching(torch.optim.LBFGS.step))
    yield from lazy()
    for name in INITIALISERS:  # values do not matter, and some look at them
        yield Patch(nn.init, name, _unchanged)


def apply(
    self: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
) -> nn.Module:
    """Act as `Module._apply` does for tensors on a GPU: parameters keep their identity and get new
    data. torch would swap the objects of fake tensors instead, which fails if any other is held."""
    if recurse:
        for child in self.children():
            child._apply(fn)
    for name, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                self._parameters[name] = _moved(parameter, fn)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = as_lazy(fn(buffer), buffer)
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
    """Return an iterator without workers, which are other processes without fake tensors."""
    before = loader.num_workers, loader.pin_memory, loader.prefetch_factor
    loader.__dict__.update(num_workers=0, pin_memory=False, prefetch_factor=None)
    loader._DataLoader__multiprocessing_context = None
    try:
        return data.dataloader._SingleProcessDataLoaderIter(loader)
    finally:
        names = ("num_workers", "pin_memory", "prefetch_factor")
        loader.__dict__.update(zip(names, before, strict=True))


def searching(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return L-BFGS's step, which searches to its maximum of iterations as if not converged, since
    unknown values would end it at once. Curvature is positive, so that each step enters the
    history."""
    dot = torch.Tensor.dot

    def positive(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        out = dot(self, other)
        aside(out)["least"] = 1.0
        return out

    def searched(self: torch.optim.LBFGS, closure: Callable[[], Any]) -> Any:
        never = dict.fromkeys(("tolerance_grad", "tolerance_change"), -1.0)
        before = {name: self.param_groups[0][name] for name in never}
        self.param_groups[0].update(never)
        undo = put(Patch(torch.Tensor, "dot", positive))
        try:
            return step(self, closure)
        finally:
            put(undo)
            self.param_groups[0].update(before)

    return searched


def _unchanged(tensor: Any, *_: Any, **__: Any) -> Any:
    return tensor


# Devices without a number


def devices() -> Iterator[Patch]:
    yield Patch(torch.Tensor, "cuda", _cuda(torch.Tensor.cuda))
    yield Patch(torch.Tensor, "to", _to(torch.Tensor.to))
    for name in ("tensor", "as_tensor"):
        yield Patch(torch, name, _made_here(getattr(torch, name)))


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


def _made_here(inner: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any, **kwargs: Any) -> Any:
        if "device" in kwargs:
            kwargs["device"] = _here(kwargs["device"])
        return inner(*map(plain, args), **kwargs)

    return made
