"""Experts that run one after the other, each with an equal part of the rows.

    forward     the first two, many as one, the last
    backward    the last, many as one, the first two: the very last frees what came for all

From one expert to the next the bytes change by the same amount, up or down: no moment in between is
fuller than that of the expert before or after them. So those in between are replaced by what one of
them leaves, times their number.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

from weighbridge.base.dtypes import BFLOAT16
from weighbridge.training.forward.machine import Grads, Machine, Needs, passed, record
from weighbridge.training.forward.tensors import Computed, Shape, Tensor, TensorStorage

Expert = Callable[..., Tensor]
ENDS = 3  # experts that are traced, of those with equally many rows


def one_by_one(m: Machine, count: int, inputs: Sequence[Tensor], expert: Expert) -> Tensor:
    """Return the output of `count` experts that run one after the other on equal parts of all
    inputs' rows."""
    each, more = divmod(inputs[0].rows, count)
    groups = [(rows, n) for rows, n in ((each + 1, more), (each, count - more)) if n]
    sizes = [(rows, n) for rows, many in groups for n in _runs(many)]
    parts = zip(*(_rows(m, x, sizes) for x in inputs), strict=True)
    outs: list[Tensor] = []
    left: list[int] = []
    for (_, n), given in zip(sizes, parts, strict=True):
        if n == 1:
            out, left = _noted(m, expert, given)
            outs.append(out)
            del out
        else:
            outs.append(_many(m, n, given, outs[-1], left))
        del given
    return _joined(m, outs, inputs[0].rows)


def _runs(count: int) -> list[int]:
    """Return group sizes: 1 for each traced expert, and one group for all others."""
    return [1, 1, count - ENDS, 1] if count > ENDS else [1] * count


def _noted(m: Machine, expert: Expert, given: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Return the output of one traced expert, and the bytes of each tensor that stays alive."""
    made: list[ref[TensorStorage]] = []
    with m.watching(made):
        out = expert(*given)
    left = [storage.nbytes for storage in (each() for each in made) if storage is not None]
    left.remove(out.nbytes)
    return out, left


def _many(
    m: Machine, count: int, given: Sequence[Tensor], one: Tensor, left: Sequence[int]
) -> Tensor:
    """Return the output of `count` experts, each like `one`, with `left` bytes saved by each.
    Backward frees those first, then makes the gradients of the experts' rows."""
    kept: list[Tensor | None] = [m.pile(count, nbytes) for nbytes in left]
    stand_in = Computed((1, 1), BFLOAT16, None)
    out = m.many(count, one.shape, one.dtype)
    shapes = [(x.shape, x.dtype) for x in given]

    def gradients(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.many(count, (shape[0] // count, *shape[1:]), dtype) for shape, dtype in shapes]

    record(m, gradients, list(given), [], stand_in)
    return passed(m, stand_in, out, *kept)


def _rows(m: Machine, x: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Return views of the rows of one expert, or of `n` with equally many, per item of `sizes`;
    backward joins their gradients."""
    outs: list[Tensor] = [
        Computed((rows * n, x.shape[-1]), x.dtype, x.storage) for rows, n in sizes
    ]
    shape, dtype = x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, dtype)]

    record(m, back, [x], [], *outs)
    return outs


def _joined(m: Machine, parts: Sequence[Tensor], rows: int) -> Tensor:
    out = m.new((rows, parts[0].shape[-1]), BFLOAT16)
    shapes: list[Shape] = [t.shape for t in parts]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [Computed(shape, BFLOAT16, grads[0].storage) for shape in shapes]

    record(m, back, list(parts), [], out)
    return passed(m, out, out)
