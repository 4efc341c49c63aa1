"""Counts that depend on data that are not known: all elements count, in order.

A mask whose values are known is counted exactly.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._pytree import tree_iter

from weighbridge_lab.trace.shadows import SMALL, cast, shadow

Args = tuple[Any, ...]
MASKED = frozenset(("masked_select", "index"))


def faked(real: torch.Tensor, args: Args) -> torch.Tensor:
    fake: torch.Tensor = first(args).new_empty(real.shape, dtype=real.dtype)
    cast(fake, real)
    return fake


def first(args: Sequence[Any]) -> torch.Tensor:
    return next(t for t in tree_iter(args) if isinstance(t, torch.Tensor))


def _entries(tensor: torch.Tensor, count: int) -> torch.Tensor:
    return tensor.new_empty((count,), dtype=torch.int64)


def _nonzero(_: Any, args: Args, __: Any) -> torch.Tensor:
    """Return the indices of all elements; their values are known, in order."""
    tensor: torch.Tensor = args[0]
    places = tensor.new_empty((tensor.numel(), tensor.dim()), dtype=torch.int64)
    if tensor.numel() <= SMALL:
        with unset_fake_temporarily():
            cast(places, torch.ones(tensor.shape, dtype=torch.bool).nonzero())
    return places


def _all_boxes(_: Any, args: Args, __: Any) -> torch.Tensor:
    """Return all boxes, best first, as if none overlapped."""
    boxes: torch.Tensor = args[0]
    order = _entries(boxes, boxes.shape[0])
    with unset_fake_temporarily():
        cast(order, torch.arange(boxes.shape[0]))
    return order


def _unique(_: Any, args: Args, __: Any) -> tuple[torch.Tensor, ...]:
    t: torch.Tensor = args[0]
    return t.new_empty((t.numel(),)), torch.empty_like(t, dtype=torch.int64), _entries(t, t.numel())


def _unique_rows(_: Any, args: Args, __: Any) -> tuple[torch.Tensor, ...]:
    t: torch.Tensor = args[0]
    rows = t.shape[args[1]]
    return torch.empty_like(t), _entries(t, rows), _entries(t, rows)


def masks(args: Args) -> list[torch.Tensor]:
    tensors = (tensor for tensor in tree_iter(args[1:]) if isinstance(tensor, torch.Tensor))
    return [tensor for tensor in tensors if tensor.dtype in (torch.bool, torch.uint8)]


def _chosen(mask: torch.Tensor, shape: Sequence[int] | None = None) -> int:
    """Return the number of elements that a mask, expanded to `shape`, selects; all if its values
    are unknown."""
    wanted = mask.shape if shape is None else torch.Size(shape)
    known = shadow(mask)
    if known is None:
        return int(wanted.numel())
    with unset_fake_temporarily():
        return int(known.expand(wanted).count_nonzero())


def _selected(_: Any, args: Args, __: Any) -> torch.Tensor:
    t, mask = args
    shape = torch.broadcast_shapes(t.shape, mask.shape)
    out: torch.Tensor = t.new_empty((_chosen(mask, shape),))
    return out


def _repeated(_: Any, args: Args, __: Any) -> torch.Tensor:
    return _entries(args[0], args[0].numel())


def _indexed(func: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    """Index with the positions of the elements that a boolean index selects."""
    t, indices = args
    plain: list[torch.Tensor | None] = []
    for i in indices:
        if i is not None and i.dtype in (torch.bool, torch.uint8):
            plain += [_entries(i, _chosen(i)) for _ in range(i.dim())]
        else:
            plain.append(i)
    return func(t, plain, **kwargs)


def _counted(_: Any, args: Args, kwargs: dict[str, Any]) -> torch.Tensor:
    least = kwargs["minlength"] if "minlength" in kwargs else args[2] if len(args) > 2 else 0
    return _entries(args[0], max(1, least))


COUNTS: dict[str, Callable[[Any, Args, dict[str, Any]], Any]] = {
    "nonzero": _nonzero,
    "_unique2": _unique,
    "unique_consecutive": _unique,
    "unique_dim": _unique_rows,
    "masked_select": _selected,
    "repeat_interleave": _repeated,
    "index": _indexed,
    "bincount": _counted,
    "nms": _all_boxes,
}
