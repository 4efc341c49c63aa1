"""Sharded tensors: what of torch's work on them is no memory of the program's, or no work here.

shapes       DTensor finds those of results by running the operation on whole, fake tensors
             (torch/distributed/tensor/_sharding_prop.py: ShardingPropagator). It runs outside of
             all modes, where it makes a fake mode of its own
checkpoints  of all ranks (torch.distributed.checkpoint) need all ranks: none is written or read
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils._python_dispatch import _disable_current_modes

from weighbridge.lab.trace.notes import Notes
from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.patches.arrivals import Patches

UNWRITTEN = "checkpoints of all ranks (torch.distributed.checkpoint) are not written and not read"
NAMES = ("_propagate_tensor_meta", "_propagate_tensor_meta_non_cached")


def sharding(notes: Notes) -> dict[str, Patches]:
    """Map names of modules to the patches that they get when they are imported."""
    return {
        "torch.distributed.tensor._sharding_prop": _propagation,
        "torch.distributed.checkpoint": partial(_checkpoints, notes),
    }


def _checkpoints(notes: Notes, module: Any) -> Iterator[Patch]:
    def nothing(*_: Any, **__: Any) -> None:
        notes(UNWRITTEN)

    for name in ("save", "async_save", "load"):
        yield Patch(module, name, nothing)


def _propagation(module: Any) -> Iterator[Patch]:
    for name in NAMES:
        owner = module.ShardingPropagator
        yield Patch(owner, name, _apart(getattr(owner, name)))


def _apart(inner: Callable[..., Any]) -> Callable[..., Any]:
    def apart(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return inner(*args, **kwargs)

    return apart
