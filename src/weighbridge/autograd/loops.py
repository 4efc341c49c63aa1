"""Loops of like turns, as a scan over a sequence is, of which few are run.

    first, watched, next | the turns that are left out | two last ones

What a turn made and the one after it did not let go is what every turn keeps for backward. The
turns that are left out keep as much, in one node between the others: so what is alive when the
loop ends, and when backward goes through its last turns, is what it is there. Where that is many
tensors, those of one size are few requests.
"""

from collections.abc import Callable, Iterator
from weakref import ref

from weighbridge.allocator.options import MIN_BLOCK, SMALL_SIZE
from weighbridge.autograd.machine import Grads, Machine, record
from weighbridge.autograd.tensors import Storage, Tensor
from weighbridge.dtypes import INT8
from weighbridge.units import align_up

Carried = list[Tensor]
RUN, LAST = 5, 2  # turns that are run, and those of them after the ones that are left out
MANY = 64


class Pile(Tensor):
    """Tensors that are saved and forgotten together."""

    __slots__ = ("held",)

    def __init__(self, held: list[Tensor]) -> None:
        super().__init__((0,), INT8, None)
        self.held = held


def repeat(m: Machine, count: int, turn: Callable[[Carried], None], carried: Carried) -> None:
    """`turn` puts what it makes in the place of what it was given; the first is what every turn
    needs of the one before."""
    if count <= RUN:
        for _ in range(count):
            turn(carried)
        return
    turn(carried)
    made: list[ref[Storage]] = []
    with m.watching(made):
        turn(carried)
    turn(carried)
    alive = [found.nbytes for found in (weak() for weak in made) if found is not None]
    carried[0] = _through(m, carried[0], _pile(m, alive, count - RUN))
    for _ in range(LAST):
        turn(carried)


def _pile(m: Machine, sizes: list[int], times: int) -> Pile:
    if len(sizes) * times <= MANY:
        return Pile([m.new((n,), INT8) for _ in range(times) for n in sizes])
    return Pile([m.new((n,), INT8) for size in sizes for n in _together(size, times)])


def _together(nbytes: int, times: int) -> Iterator[int]:
    """Requests for `times` tensors: small ones stay within what the allocator has for small."""
    rounded = align_up(nbytes, MIN_BLOCK)
    each = max(1, SMALL_SIZE // rounded) if rounded <= SMALL_SIZE else times
    for done in range(0, times, each):
        yield rounded * min(each, times - done)


def _through(m: Machine, x: Tensor, pile: Pile) -> Tensor:
    out = Tensor(x.shape, x.dtype, x.storage)
    record(m, _on, [x], [pile], out)
    return out


def _on(m: Machine, grads: list[Tensor | None], *_: object) -> Grads:
    return [grads[0]]
