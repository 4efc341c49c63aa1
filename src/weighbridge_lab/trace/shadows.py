"""Known values of fake tensors: each such tensor has a shadow, the real tensor.

Tensors of integers and booleans have one, and numbers on the host that a program drew or read:
large ones only while at most ROOM bytes of them are known at once, as a program's own host would
have them. Small float tensors have one on the device, too. A tensor that has one value everywhere
keeps that, expanded, at any size:

    made       zeros, ones, full and their like
    carried    by views, casts and copies
    computed   by elementwise operations, if all their inputs are such
    finite     are all unknown values: x == x, and x is not infinite
    valid      is what a distribution checks of its arguments and samples: unknown values are taken
               to lie in its support (torch/distributions/distribution.py, which asks _is_all_true)
    agreed     if unknown numbers are compared with >= or <=, it holds for all of them, and nobody
               asks for less: a program checks that all boxes are right, or that none is wrong
"""

import math
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._pytree import tree_map_only

Args = tuple[Any, ...]
SMALL = 1 << 17  # elements of a shadow that is not counted in ROOM
FEW = 1 << 12  # the same for floats: schedules, widths of layers
DEVICE = 1 << 22  # integers on the device: edges of a graph, not masks of long attention
HOST = 1 << 20  # numbers on the host: a table of data, not the weights of a layer
ROOM = 256 << 20  # bytes of all counted shadows
WHOLE = frozenset((torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64))
LARGE = 1 << 25  # elements up to which a result that depends on all of them is computed

KEPT: Any = vars(torch.Tensor)["__dict__"]

LISTED = """alias detach view _unsafe_view _reshape_alias reshape expand slice select transpose t
permute unsqueeze squeeze unfold diagonal as_strided narrow movedim flatten"""
VIEWS = frozenset(LISTED.split())
COPIES = "_to_copy clone contiguous lift_fresh lift_fresh_copy repeat flip"
POINTWISE = """eq ne lt le gt ge mul add sub div neg abs logical_not logical_and logical_or
bitwise_not bitwise_and bitwise_or isnan isinf isfinite"""
AGREEING = VIEWS | frozenset(("ge", "le", "all", "logical_and", "bitwise_and"))
REDUCED = "all any amax amin max min mean"
MADE: dict[str, Callable[[Args], Any]] = {
    "zeros": lambda _: 0,
    "zeros_like": lambda _: 0,
    "new_zeros": lambda _: 0,
    "ones": lambda _: 1,
    "ones_like": lambda _: 1,
    "new_ones": lambda _: 1,
    "full": lambda args: args[1],
    "full_like": lambda args: args[1],
    "new_full": lambda args: args[2],
}


def aside(tensor: torch.Tensor) -> dict[str, Any]:
    """Return what torch and we store on a tensor, whatever its class shows as its `__dict__`."""
    attributes: dict[str, Any] = KEPT.__get__(tensor)
    return attributes


def extent(tensor: torch.Tensor) -> int:
    """Return the number of elements from a tensor's first to its last."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * step for size, step in steps) if tensor.numel() else 0


def shadow(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the values of a tensor; None if they are not known."""
    if not isinstance(tensor, FakeTensor):
        return tensor if tensor.device.type == "cpu" and tensor.numel() <= LARGE else None
    if tensor.constant is not None:
        return tensor.constant
    known: torch.Tensor | None = aside(tensor).get("shadow")
    if known is not None and getattr(known.untyped_storage(), "lost", False):
        return None
    return known


def cast(tensor: torch.Tensor, known: torch.Tensor) -> None:
    """Give a tensor its shadow `known`, if there is room for it."""
    if isinstance(tensor, FakeTensor) and ROOMY.takes(known):
        aside(tensor)["shadow"] = known


class ShadowRoom:
    """The memory for large shadows. `over`: some were too large."""

    def __init__(self) -> None:
        self.free, self.over = ROOM, False
        self._ends: dict[int, Any] = {}  # of storages

    def takes(self, known: torch.Tensor) -> bool:
        storage = known.untyped_storage()
        key, nbytes = storage._cdata, storage.nbytes()
        if known.numel() <= SMALL or key in self._ends or is_uniform(known):
            return True
        if nbytes > self.free:
            self.over = True
            return False
        self.free -= nbytes
        self._ends[key] = weakref.ref(storage, partial(self._gone, key, nbytes))
        return True

    def _gone(self, key: int, nbytes: int, _: Any) -> None:
        del self._ends[key]
        self.free += nbytes


ROOMY = ShadowRoom()


def lost(tensor: torch.Tensor) -> None:
    """Note that a tensor was overwritten with unknown values, and so all tensors that share its
    shadow's storage."""
    known = aside(tensor).get("shadow") if isinstance(tensor, FakeTensor) else None
    if known is not None:
        known.untyped_storage().lost = True


def small(tensor: torch.Tensor) -> bool:
    """Return whether a tensor of this size and kind gets a shadow on any device."""
    count = tensor.numel()
    if tensor.layout is not torch.strided:
        return False
    if tensor.dtype in WHOLE:
        most = LARGE if tensor.device.type == "cpu" else DEVICE
        fits = count <= most and count * tensor.element_size() <= ROOMY.free
        return bool(count <= SMALL or fits)
    return bool(count == 1 or count <= FEW)


def on_host(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is a table of data on the host."""
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    return bool(plain and tensor.numel() <= HOST)


def is_uniform(known: torch.Tensor) -> bool:
    """Return whether a shadow is one value, expanded: it may only be overwritten as a whole."""
    return known.dim() > 0 and not any(known.stride())


def uniform(func: Any, args: Args, out: torch.Tensor) -> torch.Tensor | None:
    """Return the shadow of `out`, the result of `func`; None if it may have several values."""
    name = func.overloadpacket.__name__
    with unset_fake_temporarily():
        if name == "_is_all_true":
            return torch.ones((), dtype=torch.bool)
        if _agreed(name, args):
            if name == "all":
                return torch.ones((), dtype=torch.bool).expand(out.shape)
            aside(out)["agreed"] = True
        if name in MADE:
            value: torch.Tensor | None = torch.full((), MADE[name](args), dtype=out.dtype)
        else:
            follow = FOLLOW.get(name)
            value = follow(func, args, out) if follow is not None else None
        return None if value is None else value.expand(out.shape)


def _viewed(_: Any, args: Args, __: torch.Tensor) -> torch.Tensor | None:
    return _single(args[0])


def _copied(_: Any, args: Args, out: torch.Tensor) -> torch.Tensor | None:
    value = _single(args[0])
    return None if value is None else value.to(out.dtype, copy=True)


def _pointwise(func: Any, args: Args, _: torch.Tensor) -> torch.Tensor | None:
    values = [_single(a) for a in args if isinstance(a, torch.Tensor)]
    if not values or any(v is None for v in values):
        finite = _of_finite(func.overloadpacket.__name__, args)
        return None if finite is None else torch.full((), finite)
    singles = iter(values)
    out: torch.Tensor = func(*tree_map_only(torch.Tensor, lambda _: next(singles), args))
    return out


def _of_finite(name: str, args: Sequence[Any]) -> bool | None:
    """Return a comparison's result for values that are neither infinite nor NaN; None if it is
    open."""
    if name in ("isnan", "isinf", "isfinite"):
        return name == "isfinite"
    first, second = args[0], args[1] if len(args) > 1 else None
    if name in ("eq", "ne"):
        if first is second:
            return name == "eq"
        infinite = isinstance(second, float) and math.isinf(second)
        return name == "ne" if infinite else None
    return None


# Operand that decides alone, whatever the other is: how generation learns that it is at its end
ABSORBING = {"bitwise_or": True, "logical_or": True, "bitwise_and": False, "logical_and": False}


def absorbed(args: Args, decisive: bool) -> torch.Tensor | None:
    """Return the result of a logical operation that one known operand decides alone; else None."""
    for known in map(shadow, (a for a in args if isinstance(a, torch.Tensor))):
        if known is not None and known.dtype == torch.bool:
            with unset_fake_temporarily():
                if bool((known == decisive).all()):
                    shape = torch.broadcast_shapes(*(a.shape for a in args))
                    return torch.full(shape, decisive, dtype=torch.result_type(*args))
    return None


def _agreed(name: str, args: Args) -> bool:
    """Return whether `name` compares unknown numbers, or continues such a comparison."""
    if name not in AGREEING:
        return False
    tensors = [tensor for tensor in args if isinstance(tensor, torch.Tensor)]
    if name in ("ge", "le"):
        return len(tensors) > 1 and all(tensor.is_floating_point() for tensor in tensors)
    return all(aside(tensor).get("agreed", False) for tensor in tensors)


def _single(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the one value of a tensor, as a view of its shadow; None if it has several."""
    known = shadow(tensor)
    if known is None or not (is_uniform(known) or known.dim() == 0):
        return None
    return known[(0,) * known.dim()] if known.numel() else None


FOLLOW: dict[str, Callable[[Any, Args, torch.Tensor], torch.Tensor | None]] = {
    **dict.fromkeys(VIEWS, _viewed),
    **dict.fromkeys(COPIES.split(), _copied),
    **dict.fromkeys(REDUCED.split(), _copied),
    **dict.fromkeys(POINTWISE.split(), _pointwise),
}
