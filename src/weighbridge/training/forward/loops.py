"""Loops of like iterations, such as a scan over a sequence, of which few are run.

    first, watched, next | the iterations that are left out | two last ones

What an iteration allocated and the next one did not free is what each one keeps for backward. One
node between the others keeps as much as those left out: so the memory is right when the loop ends,
and when backward goes through its last iterations.

A scan whose every iteration is read, and not only the last, is in ops/scans.py.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, final
from weakref import ref

from weighbridge.base.dtypes import INT8
from weighbridge.training.forward.machine import Grads, Machine, record
from weighbridge.training.forward.tensors import Computed, Tensor, TensorStorage

Carried = list[Tensor]
RUN, LAST = 5, 2  # iterations that are run; those of them after the ones left out


@final
class Pile(Tensor):
    """Several tensors that are saved and freed together."""

    __slots__ = ("held",)

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__((0,), INT8, None)
        self.held = tensors


def repeat(m: Machine, count: int, turn: Callable[[Carried], None], carried: Carried) -> None:
    """Run a loop of `count` iterations, of which few are traced. `turn` updates the list `carried`
    in place; its first tensor is passed from one iteration to the next."""
    if count <= RUN:
        for _ in range(count):
            turn(carried)
        return
    turn(carried)
    out: list[ref[TensorStorage]] = []
    with m.watching(out):
        turn(carried)
    turn(carried)
    alive = [storage.nbytes for storage in (weak() for weak in out) if storage is not None]
    pile = Pile([m.pile(count - RUN, nbytes) for nbytes in alive])
    carried[0] = _through(m, carried[0], pile)
    for _ in range(LAST):
        turn(carried)


@final
class Left:
    """The iterations left out; each keeps for backward what the one run inside the `with` block
    keeps, besides its result."""

    def __init__(self, m: Machine, count: int) -> None:
        self._m = m
        self._count = count
        self._made: list[ref[TensorStorage]] = []
        self._watch: AbstractContextManager[None] = m.watching(self._made)

    def __enter__(self) -> "Left":
        if self._count:
            self._watch.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._count:
            self._watch.__exit__(*error)

    def kept(self, result: Tensor) -> Tensor:
        """Return the result behind a node that saves what the left-out iterations keep."""
        storages = (storage for storage in (weak() for weak in self._made) if storage is not None)
        alive = [one.nbytes for one in storages if one is not result.storage]
        if not alive:
            return result
        piles = [self._m.pile(self._count, nbytes) for nbytes in alive]
        return _through(self._m, result, Pile(piles))


def _through(m: Machine, x: Tensor, pile: Pile) -> Tensor:
    out = Computed(x.shape, x.dtype, x.storage)
    record(m, _on, [x], [pile], out)
    return out


def _on(m: Machine, grads: list[Tensor | None], *_: object) -> Grads:
    return [grads[0]]
