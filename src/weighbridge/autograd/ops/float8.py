"""Linears of torchao's float8 training: products in 8 bits, all that is kept in 16 or more.

The input is saved as it comes, and the weight as it is; both are scaled and cast again in backward,
where the gradient is cast twice. One scale a tensor, found anew each time; not compiled.

Source: torchao 0.18 float8/float8_linear.py (matmul_with_hp_or_float8_args), float8_utils.py
(tensor_to_scale, to_fp8_saturated), float8_training_tensor.py, float8_ops.py (preprocess_addmm).
"""

from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, record
from weighbridge.autograd.ops.pointwise import add, cast
from weighbridge.autograd.tensors import LeafTensor, Tensor
from weighbridge.dtypes import FLOAT8, FLOAT32, DType

MULTIPLE = 16  # of both sides; other linears stay as they are (accelerate utils/ao.py)


class LinearFloat8:
    """Stands in for a linear whose products are in float8."""

    __slots__ = ("bias", "compute", "weight")

    def __init__(self, weight: LeafTensor, bias: LeafTensor | None, compute: DType) -> None:
        self.weight = weight
        self.bias = bias
        self.compute = compute

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        out = _product(m, cast(m, x, self.compute), self.weight)
        return out if self.bias is None else add(m, out, cast(m, self.bias, out.dtype))


def _product(m: Machine, x: Tensor, w: LeafTensor) -> Tensor:
    small_x, small_w = _cast(m, x), _cast(m, w)
    out = m.new((*x.shape[:-1], w.shape[0]), x.dtype)
    m.product()
    del small_x, small_w
    record(m, _back, [x, w], [x, w], out)
    return out


def _back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
    """Run the backward pass of a float8 product. The product for the weight needs both operands
    with the other layout, hence the copies."""
    (g,), (x, w) = grads, saved
    rows = _cast(m, g)
    small_w = _cast(m, w)
    turned = m.new(w.shape, FLOAT8)
    of_input = m.new(x.shape, g.dtype)
    m.product()
    del turned
    columns, small_x = _cast(m, g), _cast(m, x)
    turned_g, turned_x = m.new(g.shape, FLOAT8), m.new(x.shape, FLOAT8)
    of_weight = m.new(w.shape, g.dtype)
    del turned_g, turned_x, rows, columns, small_w, small_x
    return [of_input, cast(m, of_weight, w.dtype)]


def _cast(m: Machine, t: Tensor) -> Tensor:
    """hp_tensor_to_float8_dynamic: the largest number, and the scaled tensor in float32."""
    m.hidden(t.nbytes)
    wide = m.new(t.shape, FLOAT32) if t.dtype != FLOAT32 else t
    scaled = m.new(t.shape, FLOAT32)
    del wide
    clamped = m.new(t.shape, FLOAT32)
    out = m.new(t.shape, FLOAT8)
    del scaled, clamped
    return out
