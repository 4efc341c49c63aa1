"""Linears with products in 8 bits (torchao), of tensors stored in 16 bits or more.

    alone      input and weight are saved in their own dtype; both are scaled and cast again in
               backward, where the gradient is cast twice
    gathered   FSDP2 gathers the weight in 8 bits: it is not cast again
    shared     tensor ranks gather inputs and output gradients in 8 bits: those 8 bits are what is
               saved, also of inputs that are not gathered; a gradient is cast once
    experts    grouped products save rows and stacks in their dtype, and cast both for each product,
               the gradient twice; separate kernels cast, compiled or not
    mxfp8      as alone, with one byte more per 32 elements; backward needs no second, transposed
               copy, since tensors are cast in that layout

A compiled cast is one kernel that takes nothing but its result; scales of rows take no more. A
selective checkpoint may keep the absolute values of what forward casts, in its dtype.

Source: torchao 0.18 float8/float8_linear.py (matmul_with_hp_or_float8_args), float8_utils.py
(tensor_to_scale, to_fp8_saturated), float8_training_tensor.py, float8_ops.py (preprocess_addmm),
fsdp_utils.py (WeightWithDynamicFloat8CastTensor), float8_tensor_parallel.py,
prototype/moe_training/mxfp8_linear.py (mx_mm), fp8_grouped_mm.py, mxfp8_grouped_mm.py.
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT8, FLOAT32, DType
from weighbridge.base.records import NamedTuple
from weighbridge.training.forward.machine import Grads, Machine, Needs, passed, record
from weighbridge.training.forward.ops.pointwise import add, cast
from weighbridge.training.forward.tensors import LeafTensor, Tensor

MULTIPLE = 16  # of both sides; other linears are not converted (accelerate utils/ao.py)
BLOCK = 32  # elements of mxfp8 per scale, of one byte


class Casts(NamedTuple):
    """How tensors are cast to float8. `fused`: by a compiled kernel; `blocks`: one scale per 32
    elements (mxfp8); `shared`: tensor-parallel ranks gather in 8 bits; `absolute`: a selective
    checkpoint keeps the absolute values whose maximum is computed."""

    fused: bool = False
    blocks: bool = False
    shared: bool = False
    absolute: bool = False

    def __call__(self, m: Machine, t: Tensor) -> Tensor:
        """Return `t` in 8 bits, with the cast's temporaries; `t` itself if it is in 8 bits."""
        if t.dtype == FLOAT8:
            return t
        if self.blocks:
            return m.new((t.numel + t.numel // BLOCK,), FLOAT8)
        return m.new(t.shape, FLOAT8) if self.fused else _scaled(m, t, copied=self.absolute)


def _scaled(m: Machine, t: Tensor, *, copied: bool) -> Tensor:
    """Return `t` in 8 bits by hp_tensor_to_float8_dynamic, eagerly: the maximum, and the scaled
    tensor in float32. `copied`: a checkpoint keeps the absolute values."""
    if copied:
        m.result("absolute", t.shape, t.dtype)
    else:
        m.hidden(t.nbytes)
    wide = m.new(t.shape, FLOAT32) if t.dtype != FLOAT32 else t
    scaled = m.new(t.shape, FLOAT32)
    del wide
    clamped = m.new(t.shape, FLOAT32)
    out = m.new(t.shape, FLOAT8)
    del scaled, clamped
    return out


class LinearFloat8:
    """Replaces a linear by one whose products are in float8."""

    __slots__ = ("bias", "casts", "compute", "weight")

    def __init__(
        self,
        weight: LeafTensor,
        bias: LeafTensor | None,
        compute: DType,
        casts: Casts = Casts(),  # noqa: B008
    ) -> None:
        self.weight = weight
        self.bias = bias
        self.compute = compute
        self.casts = casts

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        if x.dtype != FLOAT8:
            x = cast(m, x, self.compute)
            x = in_float8(m, x, self.casts) if self.casts.shared else x
        out = _product(m, x, self.weight, self.compute, self.casts)
        return out if self.bias is None else add(m, out, cast(m, self.bias, out.dtype))


class StackFloat8:
    """Replaces stacked experts' weights by ones whose grouped products are in float8."""

    __slots__ = ("casts",)

    def __init__(self, casts: Casts) -> None:
        self.casts = casts

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        return x


def in_float8(m: Machine, x: Tensor, casts: Casts) -> Tensor:
    """Return `x` cast to 8 bits outside of a product: the graph keeps nothing, and the gradient
    passes unchanged."""
    return passed(m, x, casts(m, x))


def _product(m: Machine, x: Tensor, weight: LeafTensor, compute: DType, casts: Casts) -> Tensor:
    """Return the float8 product [..., out]. Selective checkpoints treat it like any other (aten.mm
    gets torchao's tensors)."""
    small_x, small_w = casts(m, x), casts(m, weight)
    out = m.result("product", (*x.shape[:-1], weight.shape[0]), compute)
    m.product()
    del small_x, small_w

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return _back(m, grads[0], saved, compute, casts)

    record(m, back, [x, weight], [x, weight], out)
    return out


def _back(
    m: Machine, gradient: Tensor, saved: list[Any], compute: DType, casts: Casts
) -> list[Tensor]:
    """Return the gradients of a float8 product's operands. That of the weight needs both operands
    in the other layout, hence the copies."""
    x, w = saved
    rows, small_w = casts(m, gradient), casts(m, w)
    turned = None if casts.blocks else m.new(w.shape, FLOAT8)
    of_input = m.new(x.shape, compute)
    m.product()
    del turned
    columns = rows if casts.shared else casts(m, gradient)
    small_x = casts(m, x)
    copies = () if casts.blocks else (m.new(gradient.shape, FLOAT8), m.new(x.shape, FLOAT8))
    of_weight = m.new(w.shape, compute)
    del copies, rows, columns, small_w, small_x
    return [of_input, of_weight if w.dtype == FLOAT8 else cast(m, of_weight, w.dtype)]
