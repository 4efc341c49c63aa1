"""Operators that route tokens to experts and multiply them in groups. S token-expert pairs.

    topk        saves the indices; in backward zeros of all scores
    gathered    x[numbers]; in backward zeros of x, and the buffers of adding by index: four lists
                of indices, and the sorted pairs
    grouped     one product for all experts, each with its own rows; saves the rows and the weights
    summed_k    the sum over the k experts of a token; in backward a copy for each

Source: torch aten/src/ATen/native/cuda/{Indexing,GroupedBlas}.cu.
"""

from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64, DType
from weighbridge.training.forward.machine import (
    Grads,
    Machine,
    Needs,
    ahead,
    made_like,
    record,
    remade,
)
from weighbridge.training.forward.ops.pointwise import cast
from weighbridge.training.forward.tensors import Computed, Tensor

ITEM = 8  # bytes of an index


def softmax(m: Machine, x: Tensor, dtype: DType = FLOAT32) -> Tensor:
    """Return the softmax of `x` in float32, by one kernel that reads 16 bits."""
    out = m.new(x.shape, dtype)
    source = x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(grads[0].shape, source)]

    record(m, back, [x], [Computed(out.shape, dtype, out.storage)], out)
    return out


def topk(m: Machine, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest of the last dimension: (values, indices)."""
    values, numbers = m.new((*x.shape[:-1], count), x.dtype), m.new((*x.shape[:-1], count), INT64)
    remade(m, x, values, numbers)
    return values, numbers


def gather(m: Machine, x: Tensor, numbers: Tensor) -> Tensor:
    """Return x.gather(-1, numbers)."""
    return remade(m, x, m.new(numbers.shape, x.dtype), numbers)


def gathered(m: Machine, x: Tensor, numbers: Tensor) -> Tensor:
    """Return x[numbers], the rows of token-expert pairs, by their indices."""
    ahead(m, [x], [numbers])
    out = m.new((numbers.numel, *x.shape[1:]), x.dtype)
    whole, count = x.shape, numbers.numel

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradient = m.new(whole, grads[0].dtype)
        m.hidden(*[ITEM * count] * 4, 2 * ITEM * count)
        return [gradient]

    record(m, back, [x], [numbers], out)
    return out


def divided_(m: Machine, x: Tensor) -> Tensor:
    """Return x /= x.sum(-1, keepdim=True): the dividend is copied first, for backward. Autocast
    sums in float32 (autocast_mode.h, fp32_set_opt_dtype)."""
    total = m.new((*x.shape[:-1], 1), x.dtype if m.autocast is None else FLOAT32)
    before = m.new(x.shape, x.dtype)
    out = Computed(x.shape, x.dtype, x.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        first = m.new(grads[0].shape, grads[0].dtype)
        second = m.new(grads[0].shape, grads[0].dtype)
        del second
        return [first]

    record(m, back, [x], [before, total], out)
    return out


def divided(m: Machine, x: Tensor) -> Tensor:
    """Return x / x.sum(-1, keepdim=True).clamp(min): both are saved."""
    total = m.new((*x.shape[:-1], 1), x.dtype)
    least = m.new(total.shape, x.dtype)
    return remade(m, x, m.new(x.shape, x.dtype), x, total, least)


def masked(m: Machine, x: Tensor) -> Tensor:
    """Return x.masked_fill(~mask.bool(), 0): the mask is saved."""
    chosen = m.new(x.shape, BOOL)
    mask = m.new(x.shape, BOOL)
    del chosen
    return remade(m, x, m.new(x.shape, x.dtype), mask)


def grouped(
    m: Machine, x: Tensor, weight: Tensor, offsets: Tensor, *, transposed: bool = False
) -> Tensor:
    """Return torch.nn.functional.grouped_mm; x [S, in], w [E, out, in], or [E, in, out] if
    `transposed`, `offsets` the last row of each expert. Autocast does not lower it: the rows are
    cast to the weights' dtype."""
    x = cast(m, x, weight.dtype)
    to_save = [x if weight.requires_grad else None, weight if x.requires_grad else None, offsets]
    ahead(m, [x, weight], to_save)
    out = m.new((x.shape[0], weight.shape[2 if transposed else 1]), weight.dtype)
    reads, holds = x.shape, weight.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        of_weights = m.new(holds, dtype) if needs[1] else None
        return [m.new(reads, dtype) if needs[0] else None, of_weights]

    record(m, back, [x, weight], to_save, out)
    return out


def summed_k(m: Machine, x: Tensor, tokens: int) -> Tensor:
    """Return the sum of the outputs of each token's k experts, [tokens, width]; in float32 under
    autocast."""
    out = m.new((tokens, x.shape[-1]), x.dtype if m.autocast is None else FLOAT32)
    return made_like(m, x, out)


def adapted(m: Machine, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return w + b a for each expert (torch.baddbmm): a copy of all experts' weights, with a
    gradient of that size, too. a [r E, in]; b [out, r E] is copied."""
    a, b = cast(m, a, weight.dtype), cast(m, b, weight.dtype)
    right, left = a.shape, b.shape
    turned = m.new(left, b.dtype)
    out = m.new(weight.shape, weight.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        return [m.new(right, dtype), m.new(left, dtype)]

    record(m, back, [a, b], [a, turned], out)
    return out


def index_added(m: Machine, whole: Tensor, x: Tensor, numbers: Tensor) -> Tensor:
    """Return whole.index_add_(0, numbers, x). The gradient of `x` is picked from that of `whole`;
    `x` is saved for its shape (derivatives.yaml)."""
    out = Computed(whole.shape, whole.dtype, whole.storage)
    shape, dtype = x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [grads[0] if needs[0] else None, m.new(shape, dtype)]

    record(m, back, [whole, x], [numbers, x], out)
    return out


def scattered(m: Machine, value: Tensor, numbers: Tensor, count: int) -> Tensor:
    """Return zeros_like(logits).scatter_(1, numbers, value)."""
    return remade(m, value, m.new((value.shape[0], count), value.dtype), numbers)
