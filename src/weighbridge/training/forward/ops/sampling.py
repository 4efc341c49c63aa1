"""Feature maps that are sampled at places which a network predicts.

    grid_sample  saves its input and the places; in backward both have gradients
    roi_align    saves the boxes; in backward zeros of the whole map
    top          topk along the last dimension: values, and their indices

Source: torch 2.13 aten/src/ATen/native/cuda/GridSampler.cpp, TensorTopK.cpp; torchvision 0.28
csrc/ops/autograd/roi_align_kernel.cpp.
"""

from typing import Any

from weighbridge.base.dtypes import INT64
from weighbridge.training.forward.machine import Grads, Machine, Needs, record, remade
from weighbridge.training.forward.ops.pointwise import cast, wider
from weighbridge.training.forward.tensors import Tensor


def grid_sample(m: Machine, x: Tensor, grid: Tensor) -> Tensor:
    """Return x [batch, width, height, breadth] at grid [batch, rows, columns, 2]: [batch, width,
    rows, columns]. Autocast runs it in the wider of their dtypes."""
    dtype = wider(x, grid)
    x, grid = cast(m, x, dtype), cast(m, grid, dtype)
    out = m.new((*x.shape[:2], *grid.shape[1:3]), dtype)
    reads, places = x.shape, grid.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        of_input = m.new(reads, dtype) if needs[0] else None
        of_grid = m.new(places, dtype)
        return [of_input, of_grid if needs[1] else None]

    record(m, back, [x, grid], [x, grid], out)
    return out


def roi_align(m: Machine, x: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Return x [batch, width, height, breadth] in boxes [count, 5]: [count, width, side, side]."""
    out = m.new((boxes.shape[0], x.shape[1], side, side), x.dtype)
    return remade(m, x, out, boxes)


def top(m: Machine, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return (values, indices) of the `count` largest along the last dimension."""
    shape = *x.shape[:-1], count
    out, numbers = m.new(shape, x.dtype), m.new(shape, INT64)
    return remade(m, x, out, numbers), numbers
