"""Looks at data: what a program is told when it asks a fake tensor for its values.

    one value    what the tensor is filled with, where that is known; else 0
    how many     of nonzero, unique, a boolean index ...: all of them

What a tensor is filled with is followed through copies, comparisons and reductions, so that
`mask.all()` of a mask of ones is true as on a GPU. It is noted on the storage.
"""

import warnings
from collections.abc import Callable
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import _disable_current_modes

Args = tuple[Any, ...]
EXCEPTIONS = (DataDependentOutputException, DynamicOutputShapeException)
LOOKED = (
    "the program looks at values of fake tensors ({op}) and is told {answer}; where its course "
    "depends on them a real run may differ"
)
VALUE, COUNT = "0", "that all of them count"
SMALL = 1 << 16  # elements up to which real values are compared


class Looks:
    """Answers, and one warning for each kind."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._followers: dict[Any, Callable[[Args, Any], None] | None] = {}

    def answer(self, func: Any, args: Args, kwargs: dict[str, Any]) -> Any:
        """For an operation whose result, or its size, is in the data."""
        name = func.overloadpacket.__name__
        if name in VALUES:
            return self._value(args[0], name)
        if name not in COUNTS:
            raise NotImplementedError(
                f"{func}: what it returns is in the data, and a fake tensor has none"
            )
        self._warn(name, COUNT)
        return COUNTS[name](func, args, kwargs)

    def _value(self, t: torch.Tensor, name: str) -> Any:
        value = fill(t)
        if value is None:
            self._warn(name, VALUE)
            value = 0
        return as_python(value, t.dtype) if name == "_local_scalar_dense" else bool(value)

    def _warn(self, op: str, answer: str) -> None:
        text = LOOKED.format(op=op.strip("_"), answer=answer)
        if not any(answer in said for said in self.told):
            self.told.append(text)
            warnings.warn(text, stacklevel=2)

    def follow(self, func: Any, args: Args, out: Any) -> None:
        """Notes what is known of values."""
        if func not in self._followers:
            self._followers[func] = _follower(func)
        follower = self._followers[func]
        if follower is not None:
            follower(args, out)


def fill(t: torch.Tensor) -> Any:
    """The value that all elements of `t` have; None where it is not known."""
    known = getattr(t.untyped_storage(), "fill", None)
    real = t.constant if isinstance(t, FakeTensor) else t
    if known is None and real is not None and 0 < real.numel() <= SMALL:
        with unset_fake_temporarily(), _disable_current_modes():
            first = real.flatten()[0]
            return first.item() if bool((real == first).all()) else None
    return known


def as_python(value: Any, dtype: torch.dtype) -> Any:
    if dtype == torch.bool:
        return bool(value)
    if dtype.is_complex:
        return complex(value)
    return float(value) if dtype.is_floating_point else int(value)


def _note(t: torch.Tensor, value: Any) -> None:
    t.untyped_storage().fill = value  # type: ignore[attr-defined]


def _follower(func: Any) -> Callable[[Args, Any], None] | None:
    name = func.overloadpacket.__name__
    if name in FILLED:
        return lambda args, out: _note(out, FILLED[name](args))
    if name in SAME:
        return lambda args, out: _note(out, fill(args[0]))
    if name in COMPARED and func._overloadname == "Scalar":
        return lambda args, out: _compared(COMPARED[name], args, out)
    return _written if func._schema.is_mutable else None


def _compared(test: Callable[[Any, Any], bool], args: Args, out: Any) -> None:
    value = fill(args[0])
    if value is not None:
        _note(out, test(value, args[1]))


def _written(args: Args, _: Any) -> None:
    if args and isinstance(args[0], torch.Tensor):
        _note(args[0], None)


def _opposite(args: Args) -> bool | None:
    value = fill(args[0])
    return None if value is None else not value


def _whole(value: Callable[[Args], Any]) -> Callable[[Args], Any]:
    """Of an operation in place: a view leaves the rest of its storage as it was."""

    def known(args: Args) -> Any:
        t = args[0]
        whole = t.numel() * t.element_size() == t.untyped_storage().nbytes()
        return value(args) if whole else None

    return known


def _entries(t: torch.Tensor, count: int) -> torch.Tensor:
    return t.new_empty((count,), dtype=torch.int64)


def _nonzero(_: Any, args: Args, __: Any) -> torch.Tensor:
    t: torch.Tensor = args[0]
    return t.new_empty((t.numel(), t.dim()), dtype=torch.int64)


def _unique(_: Any, args: Args, __: Any) -> tuple[torch.Tensor, ...]:
    t: torch.Tensor = args[0]
    return t.new_empty((t.numel(),)), torch.empty_like(t, dtype=torch.int64), _entries(t, t.numel())


def _unique_rows(_: Any, args: Args, __: Any) -> tuple[torch.Tensor, ...]:
    t: torch.Tensor = args[0]
    rows = t.shape[args[1]]
    return torch.empty_like(t), _entries(t, rows), _entries(t, rows)


def _selected(_: Any, args: Args, __: Any) -> torch.Tensor:
    t, mask = args
    out: torch.Tensor = t.new_empty((torch.broadcast_shapes(t.shape, mask.shape).numel(),))
    return out


def _repeated(_: Any, args: Args, __: Any) -> torch.Tensor:
    repeats: torch.Tensor = args[0]
    return _entries(repeats, repeats.numel() * int(fill(repeats) or 1))


def _indexed(func: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    """A boolean index as the indices of all elements."""
    t, indices = args
    plain: list[torch.Tensor | None] = []
    for i in indices:
        if i is not None and i.dtype in (torch.bool, torch.uint8):
            plain += [_entries(i, i.numel()) for _ in range(i.dim())]
        else:
            plain.append(i)
    return func(t, plain, **kwargs)


def _counted(_: Any, args: Args, kwargs: dict[str, Any]) -> torch.Tensor:
    return _entries(args[0], max(1, kwargs.get("minlength", args[2] if len(args) > 2 else 0)))


VALUES = ("_local_scalar_dense", "is_nonzero", "equal", "allclose")
COUNTS: dict[str, Callable[[Any, Args, dict[str, Any]], Any]] = {
    "nonzero": _nonzero,
    "_unique2": _unique,
    "unique_consecutive": _unique,
    "unique_dim": _unique_rows,
    "unique_dim_consecutive": _unique_rows,
    "masked_select": _selected,
    "repeat_interleave": _repeated,
    "index": _indexed,
    "bincount": _counted,
}
FILLED: dict[str, Callable[[Args], Any]] = {
    "ones": lambda _: 1,
    "ones_like": lambda _: 1,
    "new_ones": lambda _: 1,
    "zeros": lambda _: 0,
    "zeros_like": lambda _: 0,
    "new_zeros": lambda _: 0,
    "full": lambda args: args[1],
    "full_like": lambda args: args[1],
    "new_full": lambda args: args[2],
    "scalar_tensor": lambda args: args[0],
    "zero_": _whole(lambda _: 0),
    "fill_": _whole(lambda args: None if isinstance(args[1], torch.Tensor) else args[1]),
    "logical_not": _opposite,
    "bitwise_not": lambda args: _opposite(args) if args[0].dtype == torch.bool else None,
}
SAME = frozenset("_to_copy clone lift_fresh repeat index all any amax amin max min mean".split())
COMPARED = {"eq": eq, "ne": ne, "lt": lt, "le": le, "gt": gt, "ge": ge}
