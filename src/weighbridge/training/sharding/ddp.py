"""DistributedDataParallel: buckets of all gradients, from the start to the end.

    buckets     like the gradients of what is trained: one of all, and after the first backward
                1 MiB first and 25 MiB each; gradients are copied in and out
                (gradient_as_bucket_view is off by default)
    start       parameters are broadcast in pieces of 250 MiB

Source: torch 2.13 nn/parallel/distributed.py, csrc/distributed/c10d/reducer.cpp
(initialize_buckets, rebuild_buckets, compute_bucket_assignment_by_size).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, final

from weighbridge.base.units import MIB
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.step import Around
from weighbridge.training.forward.tensors import LeafTensor, TensorStorage

if TYPE_CHECKING:
    from weighbridge.training.forward.step import BuiltModel

FIRST, BUCKET = MIB, 25 * MIB
PIECE = 250 * MIB


@final
class Replicated(Around):
    """One rank of DistributedDataParallel; `views`: gradients are views of the buckets."""

    def __init__(self, *, views: bool = False) -> None:
        self.views = views
        self._buckets: list[TensorStorage] = []
        self._ready = self._arranged = False

    def placed(self, m: Machine, built: "BuiltModel") -> None:
        mine = self.stepped(built)
        m.hidden(min(PIECE, sum(p.nbytes for p in built.own if p.storage)))
        self._buckets = [TensorStorage(m.heap, sum(p.nbytes for p in mine), "gradients")]
        if self.views:
            for p in mine:
                p.hooks.append(_into_the_bucket)

    def begins(self, m: Machine, built: "BuiltModel") -> None:
        """Rebuild the buckets in the first forward after a backward, in the order in which
        gradients came."""
        if self._ready:
            self._ready = False
            self._buckets.clear()
            self._buckets = [
                TensorStorage(m.heap, n, "gradients") for n in buckets(self.stepped(built))
            ]

    def after_backward(self, m: Machine, built: "BuiltModel", *, last: bool) -> None:
        self._ready, self._arranged = not self._arranged, True


def _into_the_bucket(m: Machine, param: LeafTensor) -> None:
    """Make a gradient a view of its bucket, which takes no memory of its own."""
    assert param.grad is not None
    param.grad.storage = None


def buckets(params: list[LeafTensor]) -> Iterator[int]:
    """Yield the bytes of each bucket, filled with gradients in the reverse order of their
    parameters."""
    limit, size = FIRST, 0
    for p in reversed(params):
        size += p.nbytes
        if size >= limit:
            yield size
            limit, size = BUCKET, 0
    if size:
        yield size
