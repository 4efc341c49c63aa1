"""Fake tensors of a program's own classes: `data.as_subclass(MetaTensor)`, which C++ refuses them.

They get a class that is both. Two things are as with real tensors:

__dict__   has what the program set. Classes that carry something along (MONAI's MetaTensor) hand it
           on from one tensor to another; a fake tensor's device, and what is known of its values,
           are in it and are its own
below      where operations are carried out they have no class, so that torch's rules of shapes, and
           ours, call its methods, not those that the class has in their place

`Tensor._make_subclass(Params4bit, data)` makes a tensor of another class that has the data of the
first: that is the same. Addresses are given out only to code whose C functions are replaced: any
other would read there.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_iter

from weighbridge_lab.trace.patches import Patch, patched
from weighbridge_lab.trace.shadows import aside

KIND: Any = vars(object)["__class__"]
AS = torch.Tensor.as_subclass
WRAPS = torch.Tensor.__torch_function__.__func__
# What looks.py and shadows.py keep with a tensor; what torch sets is added with the first one made
HIDDEN = {"shadow", "least", "compared", "agreed", "_is_param"}


class Attributes(MutableMapping[str, Any]):
    """The attributes that a program has set on a fake tensor, as its `__dict__`. Copies are plain
    dictionaries."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._all = aside(tensor)

    def __getitem__(self, name: str) -> Any:
        if name in HIDDEN:
            raise KeyError(name)
        return self._all[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in HIDDEN:
            self._all[name] = value

    def __delitem__(self, name: str) -> None:
        del self._all[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in tuple(self._all) if name not in HIDDEN)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def copy(self) -> dict[str, Any]:
        return dict(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class Carrier(FakeTensor):  # type: ignore[misc]
    """A fake tensor of a program's own class, whose operations return that class as in
    torch.Tensor."""

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
        """Apply torch.Tensor's rule for results' classes, which dispatching classes lose unless
        they define one."""
        return WRAPS(cls, *args, **kwargs)


def _replace(tensor: torch.Tensor, new: Mapping[str, Any]) -> None:
    new, attributes = dict(new), Attributes(tensor)
    attributes.clear()
    attributes.update(new)


def carried() -> Iterator[Patch]:
    """Yield the patches that make tensors of a program's classes. `_make_subclass` is replaced only
    for libraries: torch's compiler reads it when it is imported."""
    yield Patch(torch.Tensor, "as_subclass", _as)


def _as(self: torch.Tensor, cls: Any) -> Any:
    if not isinstance(self, FakeTensor):
        return AS(self, cls)
    with torch._C.DisableTorchFunctionSubclass():
        alias: Any = torch.ops.aten.alias.default(self)
    return alias if issubclass(FakeTensor, cls) else becomes(alias, cls)


def becomes(tensor: Any, cls: Any) -> Any:
    """Give a fake tensor another class and return it. It is new, so all its attributes are torch's
    or ours."""
    HIDDEN.update(aside(tensor))
    tensor.__class__ = both(cls)
    return tensor


@cache
def both(cls: Any) -> Any:
    """Return a class that is both `cls` and a fake tensor. Libraries read its name, and derive from
    it. It defines `__dict__`, as `cls` may inherit another from a class that is no tensor."""
    if issubclass(cls, FakeTensor):
        return cls
    named = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    space = {**named, "__dict__": property(Attributes, _replace)}
    return type(cls)(cls.__name__, (cls, Carrier), space)


@contextmanager
def bare(args: Any, kwargs: Any) -> Iterator[None]:
    """Give tensors the plain class FakeTensor inside the block."""
    carriers = [
        (tensor, type(tensor))
        for tensor in tree_iter((args, kwargs))
        if isinstance(tensor, Carrier)
    ]
    for tensor, _ in carriers:
        KIND.__set__(tensor, FakeTensor)
    try:
        yield
    finally:
        for tensor, cls in carriers:
            KIND.__set__(tensor, cls)


# Classes that libraries make with `_make_subclass`, and addresses of data

MAKE = torch.Tensor._make_subclass


def subclass(cls: Any) -> Patch:
    """Return the patch of a class whose `__new__` calls `_make_subclass`. Libraries call it with
    the `__dict__` of an older tensor, and a fake one has more in it than arguments."""
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
    """Return `function`, with fake tensors at address 0 while it runs, where nothing is."""

    def called(*args: Any, **kwargs: Any) -> Any:
        with patched([Patch(FakeTensor, "data_ptr", lambda _: 0)]):
            return function(*args, **kwargs)

    return called
