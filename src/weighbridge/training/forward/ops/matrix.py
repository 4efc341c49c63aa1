"""Matrix products, and convolutions.

    linear     saves the input if the weight is trained, the weight if the input has a gradient
    matmul     saves both, as they are multiplied
    conv       saves input and weight; in backward the contiguous gradient, then those of input,
               weight and bias. If `rearranges` is true, cuDNN moves channels last in a workspace
               (kernels/workspaces.py), for tensor cores; depthwise ones run in torch's own kernels,
               without a workspace

Rows of several sequences are multiplied as one, and weights transposed, so their gradients are
views: a later gradient of a tied weight, or of an input of several linears, is not added in place.

Backward makes gradients in the alphabetical order of derivatives.yaml's names: of mm the weight's
before the input's, of addmm, which adds a bias, the input's, the weight's, the bias's. Source:
torch aten/src/ATen/native/Convolution.cpp (convolution_backward, conv_depthwise*).
"""

from math import prod
from typing import Any

from weighbridge.base.dtypes import FLOAT16
from weighbridge.base.records import NamedTuple
from weighbridge.machines.kernels.workspaces import convolution, tensor_cores
from weighbridge.training.forward.machine import Grads, Machine, Needs, ahead, lower, record
from weighbridge.training.forward.ops.pointwise import summed
from weighbridge.training.forward.ops.shaping import over_rows
from weighbridge.training.forward.tensors import Shape, Tensor, TensorSlice, TensorView


def linear(
    m: Machine, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, kind: str = "product"
) -> Tensor:
    """Return x [..., in] times w [out, in] (or [in, out]: transformers' Conv1D). `kind`: what
    selective checkpoints take the result for; they do not keep a product with a bias."""
    bias, weight, x = lower(m, bias) if bias is not None else None, lower(m, weight), lower(m, x)
    inside = x.shape[-1]
    outside = weight.numel // inside
    to_save = [x if weight.requires_grad else None, weight if x.requires_grad else None]
    ahead(m, [x, weight, bias], to_save)
    shape = (*x.shape[:-1], outside)
    counts = bias is None or kind != "product"
    out = m.result(kind, shape, x.dtype) if counts else m.new(shape, x.dtype)
    m.product()
    reads, holds, biased = x.shape, weight.shape, bias is not None

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype, grad = grads[0].dtype, grads[0]
        copy = m.new(grad.shape, dtype) if type(grad) is TensorSlice and not grad.merges else None
        m.product()
        of_input = m.new(reads, dtype) if needs[0] and biased else None
        of_weight = m.new(holds, dtype) if needs[1] else None
        if needs[0] and not biased:
            of_input = m.new(reads, dtype)
        saved.clear()  # as in pointwise.mul
        del copy
        if of_input is not None and len(reads) > 2:
            of_input = TensorView(of_input)
        if of_weight is not None:
            of_weight = TensorView(of_weight)
        of_bias = m.new((outside,), dtype) if needs[2] else None
        if of_bias is not None:
            over_rows(m, grads[0].numel // outside, outside)
        return [of_input, of_weight, of_bias]

    record(m, back, [x, weight, bias], to_save, out)
    return out


def matmul(m: Machine, a: Tensor, b: Tensor, columns: int) -> Tensor:
    """Return a [..., n, k] times b [..., k, columns]; both must be contiguous."""
    a, b = lower(m, a), lower(m, b)
    out = m.new((*a.shape[:-1], columns), a.dtype)
    m.product()
    left, right = a.shape, b.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        m.product()
        dtype = grads[0].dtype
        of_right = m.new(right, dtype) if needs[1] else None
        return [m.new(left, dtype) if needs[0] else None, of_right]

    to_save = [a if b.requires_grad else None, b if a.requires_grad else None]
    record(m, back, [a, b], to_save, out)
    return out


def baddbmm(m: Machine, bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return bias [..., 1, out] + a [..., n, in] b [..., in, out]."""
    bias, a, b = lower(m, bias), lower(m, a), lower(m, b)
    out = m.new((*a.shape[:-1], b.shape[-1]), a.dtype)
    m.product()
    first, left, right = (bias.shape, bias.dtype), a.shape, b.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        m.product()
        dtype = grads[0].dtype
        of_left = m.new(left, dtype) if needs[1] else None
        of_right = m.new(right, dtype) if needs[2] else None
        return [summed(m, grads[0], *first) if needs[0] else None, of_left, of_right]

    record(m, back, [bias, a, b], [a if b.requires_grad else None, b], out)
    return out


# ---- convolutions


LARGEST_INDEX = 1 << 31  # elements, for kernels that count in 32 bits


class ConvForm(NamedTuple):
    """The output `shape` of a convolution. `turned`: its gradient has another order of
    dimensions."""

    shape: Shape
    rearranged: bool = False
    turned: bool = False


def conv(m: Machine, x: Tensor, weight: Tensor, bias: Tensor | None, form: ConvForm) -> Tensor:
    shape, rearranged, turned = form
    bias, weight, x = lower(m, bias) if bias is not None else None, lower(m, weight), lower(m, x)
    to_save: list[Tensor | None] = [x, weight]
    ahead(m, [x, weight, bias], to_save)
    out = m.new(shape, x.dtype)
    half = x.dtype.nbytes == 2
    read, weights, output = x.nbytes, weight.nbytes, out.nbytes
    if m.unfolds:
        m.hidden(columns(shape, weight.shape))
    elif rearranged:
        m.hidden(*m.sizes(convolution, read + weights, output, half=half))
    m.beyond |= max(x.numel, out.numel) > LARGEST_INDEX
    reads, holds, count = x.shape, weight.shape, shape[1]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        dense = m.new(shape, dtype) if turned else grads[0]
        of_input = m.new(reads, dtype) if needs[0] else None
        if of_input is not None and rearranged:
            m.hidden(*m.sizes(convolution, output + weights, read, half=half))
        of_weight = m.new(holds, dtype) if needs[1] else None
        if of_weight is not None and rearranged:
            m.hidden(*m.sizes(convolution, output + read, weights, half=half))
        of_bias = m.new((count,), dtype) if needs[2] else None
        del dense
        return [of_input, of_weight, of_bias]

    record(m, back, [x, weight, bias], to_save, out)
    return out


def columns(output: Shape, weight: Shape) -> int:
    """Return the bytes of im2col in float16: for each output position, all inputs of its kernel."""
    batch, _, *places = output
    return FLOAT16.size(batch * prod(places) * prod(weight[1:]))


def rearranges(x: Tensor, m: Machine) -> bool:
    """Return whether the GPU has tensor cores for products of `x`, so cuDNN rearranges channels."""
    dtype = m.autocast or x.dtype
    return m.ask(tensor_cores, half=dtype.nbytes == 2, float16=dtype.name == "float16")
