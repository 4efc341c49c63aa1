"""Slices and joins, repeated KV heads, and picked rows.

cut        views; in backward each piece is put into zeros of the whole, and they are added
cuts       the same for pieces that make up the whole
split      views; in backward the pieces are joined contiguously
join       torch.cat; in backward views, with gaps between their pieces
turned     a transposed view, whose gradient is copied
repeat     expand and reshape: a copy; in backward the sum over the copies
written    x[..., i] = a: in backward a copy of the whole gradient, and of the slice
pick       index_select by indices that backward needs again
embedding  pick of a table, whose gradient sums the rows of equal tokens: sorted, if many
gathered   torch.gather, which saves its input and the indices

Sums over rows, as of a bias's gradient; buffers of long ones are in kernels/reductions.py.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.machines.kernels.reductions import buffers, columns, segments, sorted_bytes, sorts
from weighbridge.training.forward.machine import (
    Grads,
    Machine,
    Needs,
    another,
    passed,
    record,
    remade,
)
from weighbridge.training.forward.tensors import (
    Computed,
    LeafTensor,
    Shape,
    Tensor,
    TensorSlice,
    absent,
)


def cut(m: Machine, x: Tensor, width: int) -> Tensor:
    """Return x[..., a:b], a view of `width` elements; backward puts its gradient into zeros of the
    whole. Raises UsageError if `width` is more than `x` has."""
    if not 0 <= width <= x.shape[-1]:
        raise UsageError(sentence("apart.read", width=width, have=x.shape[-1]))
    return remade(m, x, Computed((*x.shape[:-1], width), x.dtype, x.storage))


def cuts(m: Machine, x: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Return slices of `widths` that make up all of `x`. Raises UsageError if the widths do not add
    up."""
    _adding_up(x, widths)
    return [cut(m, x, width) for width in widths]


def _adding_up(x: Tensor, widths: Sequence[int], dim: int = -1) -> None:
    if sum(widths) != x.shape[dim]:
        sizes = " + ".join(f"{n:,}" for n in widths)
        raise UsageError(sentence("apart.sizes", sizes=sizes, have=x.shape[dim]))


def split(m: Machine, x: Tensor, widths: Sequence[int], dim: int = -1) -> tuple[Tensor, ...]:
    """Return torch.split along one dimension; missing gradients are zeros. Raises UsageError if the
    widths do not add up."""
    dim %= len(x.shape)
    _adding_up(x, widths, dim)
    outs = tuple(
        Computed((*x.shape[:dim], n, *x.shape[dim + 1 :]), x.dtype, x.storage) for n in widths
    )
    whole = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = next(g.dtype for g in grads if g is not None)
        zeros = [m.new(o, dtype) for o, g in zip(shapes, grads, strict=True) if g is None]
        gradient = m.new(whole, dtype)
        del zeros
        return [gradient]

    shapes = [o.shape for o in outs]
    record(m, back, [x], [], *outs)
    return outs


def join(m: Machine, *parts: Tensor, dim: int = -1) -> Tensor:
    """Return torch.cat along one dimension, in the widest dtype of the parts."""
    first = parts[0].shape
    dim %= len(first)
    width = sum(p.shape[dim] for p in parts)
    dtype = max((p.dtype for p in parts), key=lambda d: d.nbytes)
    out = m.new((*first[:dim], width, *first[dim + 1 :]), dtype)
    shapes = [(p.shape, p.dtype) for p in parts]
    several = len(parts) > 1
    apart, merges = prod(first[:dim]) > 1, dim == len(first) - 1

    def piece(g: Tensor, shape: Shape) -> Tensor:
        if apart and several:
            return TensorSlice(shape, g.dtype, g.storage, merges=merges)
        return Computed(shape, g.dtype, g.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        return [
            None if not needed else piece(g, shape) if dtype == g.dtype else m.new(shape, dtype)
            for (shape, dtype), needed in zip(shapes, needs, strict=True)
        ]

    record(m, back, list(parts), [], out)
    return out


def expand(m: Machine, x: Tensor, *shape: int) -> Tensor:
    """Return a view of `x` with repeated dimensions; backward sums over them."""
    return remade(m, x, Computed(shape, x.dtype, x.storage))


part = expand  # a view of a part, along any dimension; backward allocates zeros of the whole


def written(m: Machine, whole: Tensor, x: Tensor) -> Tensor:
    """Return `whole` after whole[..., i] = x, in place (CopySlices). The gradient of the old
    content is temporary zeros, before it is put into the copy."""
    out = Computed(whole.shape, whole.dtype, whole.storage)
    before, dtype = x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        others = m.new(g.shape, g.dtype)
        slice_gradient = m.new(before, g.dtype)
        if needs[0]:
            m.hidden(slice_gradient.nbytes)
        return [
            others if needs[0] else None,
            slice_gradient if g.dtype == dtype else m.new(before, dtype),
        ]

    record(m, back, [whole, x], [], out)
    return out


def shaped(m: Machine, x: Tensor, *shape: int) -> Tensor:
    """Return a view of a parameter, which is no leaf itself."""
    out = Computed(shape, x.dtype, x.storage)
    before = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [Computed(before, grads[0].dtype, grads[0].storage)]

    record(m, back, [x], [], out)
    return out


def stack(m: Machine, *parts: Tensor) -> Tensor:
    """Return torch.cat along the second dimension."""
    first = parts[0]
    rows = sum(p.shape[1] for p in parts)
    out = m.new((first.shape[0], rows, *first.shape[2:]), first.dtype)
    shapes = [p.shape for p in parts]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        return [
            Computed(shape, g.dtype, g.storage) if needed else None
            for shape, needed in zip(shapes, needs, strict=True)
        ]

    record(m, back, list(parts), [], out)
    return out


def copied(m: Machine, x: Tensor) -> Tensor:
    """Return .contiguous() of a tensor that is not: a copy, whose gradient goes on as it is."""
    return passed(m, x, m.new(x.shape, x.dtype))


def turned(m: Machine, x: Tensor) -> Tensor:
    """Return a transposed view of `x`, whose gradient must be copied to be viewed."""
    out = Computed(x.shape, x.dtype, x.storage)
    record(m, another, [x], [], out)
    return out


def repeat(m: Machine, x: Tensor, times: int, shape: Shape) -> Tensor:
    """Return `x` repeated, as `shape`, which has `times` as many elements."""
    if times == 1:
        return x.view(*shape)
    return remade(m, x, m.new(shape, x.dtype))


def pick(m: Machine, x: Tensor, rows: int, numbers: Tensor | None = None) -> Tensor:
    """Return x[numbers]: rows of the first dimension; `numbers` int64, saved."""
    out = m.new((rows, *x.shape[1:]), x.dtype)
    index = numbers if numbers is not None else m.new((rows,), INT64)
    return remade(m, x, out, index)


def gathered(m: Machine, x: Tensor, index: Tensor, shape: Shape) -> Tensor:
    """Return torch.gather along the last dimension; `index` may be a view."""
    return remade(m, x, m.new(shape, x.dtype), x, index)


def first(m: Machine, x: Tensor) -> Tensor:
    """Return transpose(1, 2).contiguous() of `x`, heads before tokens; the gradient is copied
    back."""
    return copied(m, turned(m, x))


# ---- sums over rows


def over_rows(m: Machine, rows: int, count: int) -> None:
    """Allocate the temporary float32 buffers of a sum over `rows` that leaves `count` elements."""
    if rows and count:
        m.hidden(*m.ask(buffers, columns(rows, count), FLOAT32.nbytes))


def over_tokens(m: Machine, x: Tensor) -> Tensor:
    """Return x.sum(1, dtype=float32) of [batch, tokens, width]; its gradient is a view, unless it
    has another dtype."""
    out = m.new((x.shape[0], x.shape[-1]), FLOAT32)
    before, dtype = x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        if grads[0].dtype == dtype:
            return [Computed(before, dtype, grads[0].storage)]
        return [m.new(before, dtype)]

    record(m, back, [x], [], out)
    return out


def mean_of_tokens(m: Machine, x: Tensor) -> Tensor:
    """Return x.mean(1) of [batch, tokens, width]."""
    return remade(m, x, m.new((x.shape[0], x.shape[-1]), x.dtype))


def max_pooled(m: Machine, x: Tensor, height: int, width: int) -> Tensor:
    """Return [batch, channels, ...] pooled to `height` x `width`; maxima's indices are saved."""
    shape = *x.shape[:2], height, width
    out = m.new(shape, x.dtype)
    return remade(m, x, out, x, m.new(shape, INT64))


def embedding(m: Machine, ids: Tensor, weight: Tensor) -> Tensor:
    """Return token embeddings. A later pipeline stage has no table: it returns what the stage
    before sends, and sends the gradient back."""
    if absent(weight):
        sent = m.new((*ids.shape, weight.shape[-1]), weight.dtype)
        return LeafTensor("received", sent.shape, sent.dtype, sent.storage)
    out = m.new((*ids.shape, weight.shape[-1]), weight.dtype)
    whole, count = weight.shape, ids.numel

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradient = m.new(whole, grads[0].dtype)
        if sorts(count):
            sums = whole[1] * max(gradient.dtype.nbytes, FLOAT32.nbytes)
            m.hidden(
                *sorted_bytes(count, INT64.nbytes), *segments(count, INT64.nbytes, whole[0], sums)
            )
        return [gradient]

    record(m, back, [weight], [ids], out)
    return out


def stacked(m: Machine, parts: list[Tensor], shape: Shape | None = None) -> Tensor:
    """Return torch.cat along the first dimension, as `shape` if given; gradients are views."""
    first = parts[0]
    shape = shape or (sum(t.shape[0] for t in parts), *first.shape[1:])
    out = m.new(shape, first.dtype)
    shapes = [t.shape for t in parts]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        return [Computed(one, g.dtype, g.storage) for one in shapes]

    record(m, back, parts, [], out)
    return out
