"""Sums over rows, as of a bias's gradient; what long ones take is in kernels/reductions.py."""

from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, record
from weighbridge.autograd.tensors import Computed, Tensor
from weighbridge.dtypes import FLOAT32
from weighbridge.kernels.reductions import buffers, columns


def over_rows(m: Machine, rows: int, count: int) -> None:
    """Take what the sum of `rows` to `count` numbers takes besides its result, in float32."""
    if rows and count:
        m.hidden(*buffers(columns(rows, count), FLOAT32.nbytes, m.chip))


def over_tokens(m: Machine, x: Tensor) -> Tensor:
    """x.sum(1, dtype=float32) of [batch, tokens, width]; its gradient is a view, unless it has
    another dtype."""
    out = m.new((x.shape[0], x.shape[-1]), FLOAT32)
    before, dtype = x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        if grads[0].dtype == dtype:
            return [Computed(before, dtype, grads[0].storage)]
        return [m.new(before, dtype)]

    record(m, back, [x], [], out)
    return out


def mean_of_tokens(m: Machine, x: Tensor) -> Tensor:
    """x.mean(1) of [batch, tokens, width]"""
    out = m.new((x.shape[0], x.shape[-1]), x.dtype)
    before = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(before, grads[0].dtype)]

    record(m, back, [x], [], out)
    return out
