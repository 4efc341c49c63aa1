"""Loops of like turns, as a scan over a sequence is, of which few are run.

    first, watched, next | the turns that are left out | two last ones

What a turn made and the one after it did not let go is what every turn keeps for backward. The
turns that are left out keep as much, in one node between the others: so what is alive when the
loop ends, and when backward goes through its last turns, is what it is there.

A scan whose every turn is read, and not the last one alone, is in ops/scans.py.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, final
from weakref import ref

from weighbridge.base.dtypes import INT8
from weighbridge.training.forward.machine import Grads, Machine, record
from weighbridge.training.forward.tensors import Computed, Tensor, TensorStorage

Carried = list[Tensor]
RUN, LAST = 5, 2  # turns that are run, and those of them after the ones that are left out


@final
class Pile(Tensor):
    """Tensors that are saved and forgotten together."""

    __slots__ = ("held",)

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__((0,), INT8, None)
        self.held = tensors


def repeat(m: Machine, count: int, turn: Callable[[Carried], None], carried: Carried) -> None:
    """`turn` puts what it makes in the place of what it was given; the first is what every turn
    needs of the one before."""
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
    """Turns like the one that is run within, which are left out: what it keeps for backward besides
    its result, `count` times."""

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
        """The result, behind what the turns that were left out keep."""
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
