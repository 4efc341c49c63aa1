"""Softmax with a sink: a learned number a head that takes its share of the weights.

    cat     scores and sinks, a column more
    less    the largest of each row, whose number is saved
    cut     the weights without the sink's: a view that holds the column

Source: transformers 5.23 models/gpt_oss/modeling_gpt_oss.py (eager_attention_forward).
"""

from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, record
from weighbridge.autograd.ops.pointwise import softmax, sub
from weighbridge.autograd.ops.shaping import cut, expand, join, shaped
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import INT64


def with_sink(m: Machine, scores: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor]:
    """(weights, what they are the softmax of); scores [B, H, M, N], sinks [H]."""
    batch, heads, rows, _ = scores.shape
    column = expand(m, shaped(m, sinks, 1, heads, 1, 1), batch, heads, rows, 1)
    combined = join(m, scores, column)
    combined = sub(m, combined, most(m, combined))
    return cut(m, softmax(m, combined), scores.shape[-1]), combined


def most(m: Machine, x: Tensor) -> Tensor:
    """x.max(-1, keepdim=True).values; in backward zeros of the whole."""
    shape = (*x.shape[:-1], 1)
    values, numbers = m.new(shape, x.dtype), m.new(shape, INT64)
    whole = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(whole, grads[0].dtype)]

    record(m, back, [x], [numbers], values)
    return values
