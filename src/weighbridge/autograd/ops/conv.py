"""Convolutions. `rearranged`: cuDNN puts channels last in a workspace, for tensor cores.

    saves       input and weight
    backward    the gradient in one piece, then those of input, weight and bias
    workspace   kernels/convolution.py

Depthwise ones run in torch's own kernels, without a workspace.
Source: torch aten/src/ATen/native/Convolution.cpp (convolution_backward, conv_depthwise*).
"""

from typing import Any, NamedTuple

from weighbridge.autograd.machine import Grads, Machine, Needs, ahead, lower, record
from weighbridge.autograd.tensors import Shape, Tensor
from weighbridge.kernels.convolution import tensor_cores, workspace


class ConvForm(NamedTuple):
    """`shape` is the output's. `turned`: its gradient comes in another order of dimensions."""

    shape: Shape
    rearranged: bool = False
    turned: bool = False


def conv(m: Machine, x: Tensor, w: Tensor, b: Tensor | None, form: ConvForm) -> Tensor:
    shape, rearranged, turned = form
    b, w, x = lower(m, b) if b is not None else None, lower(m, w), lower(m, x)
    kept: list[Tensor | None] = [x, w]
    ahead(m, [x, w, b], kept)
    out = m.new(shape, x.dtype)
    half = x.dtype.nbytes == 2
    read, held, made = x.nbytes, w.nbytes, out.nbytes
    if rearranged:
        m.hidden(workspace(read + held, made, half=half))
    reads, holds, count = x.shape, w.shape, shape[1]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        dense = m.new(shape, dtype) if turned else grads[0]
        of_input = m.new(reads, dtype) if needs[0] else None
        if of_input is not None and rearranged:
            m.hidden(workspace(made + held, read, half=half))
        of_weight = m.new(holds, dtype) if needs[1] else None
        if of_weight is not None and rearranged:
            m.hidden(workspace(made + read, held, half=half))
        of_bias = m.new((count,), dtype) if needs[2] else None
        del dense
        return [of_input, of_weight, of_bias]

    record(m, back, [x, w, b], kept, out)
    return out


def rearranges(x: Tensor, m: Machine) -> bool:
    """Whether the card has tensor cores for the type that products of `x` are made in."""
    dtype = m.autocast or x.dtype
    return tensor_cores(m.chip, half=dtype.nbytes == 2, float16=dtype.name == "float16")
