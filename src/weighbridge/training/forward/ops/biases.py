"""Learned elements of attention scores: position biases, and sinks.

    buckets     the bucket of each distance, int64: with masks, logarithms and minima in between
    where       where(condition, x, constant): the condition is saved
    with_sink   softmax with a learned element per head that takes a share of the weights: scores
                and sinks, one column more (cat); the maximum of each row, whose index is saved,
                subtracted; the weights without the sink's, a view that keeps the column alive

Source: transformers 5.23 models/t5/modeling_t5.py (_relative_position_bucket),
integrations/sdpa_attention.py (create_position_bias_mask), models/gpt_oss/modeling_gpt_oss.py
(eager_attention_forward).
"""

from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64, DType
from weighbridge.training.forward.machine import Grads, Machine, Needs, record, remade
from weighbridge.training.forward.ops.pointwise import softmax, sub, summed
from weighbridge.training.forward.ops.shaping import cut, expand, join, shaped
from weighbridge.training.forward.tensors import Shape, Tensor


def buckets(m: Machine, length: int, seen: int, *, causal: bool) -> Tensor:
    """Return the position bucket of each distance, int64 [length, seen]; local variables live until
    it returns."""
    context = _positions(m, length)
    memory = m.new((seen,), INT64)
    position = m.new((length, seen), INT64)
    numbers = _numbers(m, position.shape, causal=causal)
    del context, memory
    return numbers


def _positions(m: Machine, length: int) -> Tensor:
    plain = m.new((length,), INT64)
    shifted = m.new((length,), INT64)
    del plain
    return shifted


def _numbers(m: Machine, shape: Shape, *, causal: bool) -> Tensor:
    if causal:
        zeros = m.new(shape, INT64)
        least = m.new(shape, INT64)
        del zeros
        position = m.new(shape, INT64)
        del least
        small = m.new(shape, BOOL)
        large = _large(m, shape)
        chosen = m.new(shape, INT64)
        numbers = m.new(shape, INT64)
        del chosen
    else:
        numbers = _side(m, shape)
        position = m.new(shape, INT64)
        small = m.new(shape, BOOL)
        large = _large(m, shape)
        m.hidden(INT64.size(shape[0] * shape[1]))
    del position, small, large
    return numbers


def _side(m: Machine, shape: Shape) -> Tensor:
    """Return 0 + (position > 0).to(int64) * n."""
    more = m.new(shape, BOOL)
    number = m.new(shape, INT64)
    del more
    product = m.new(shape, INT64)
    del number
    numbers = m.new(shape, INT64)
    del product
    return numbers


def _large(m: Machine, shape: Shape) -> Tensor:
    """Return n + (log(position / n) / log(most / n) * n).to(int64), at most n - 1."""
    steps: tuple[DType, ...] = (FLOAT32, FLOAT32, FLOAT32, FLOAT32, FLOAT32, INT64, INT64)
    numbers = m.new(shape, steps[0])
    for dtype in steps[1:]:
        numbers = m.new(shape, dtype)
    full = m.new(shape, INT64)
    least = m.new(shape, INT64)
    del full, numbers
    return least


def where(m: Machine, condition: Tensor, x: Tensor, shape: Shape) -> Tensor:
    out = m.new(shape, x.dtype)
    before, dtype = x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradient = m.new(shape, dtype)
        return [summed(m, gradient, before, dtype)]

    record(m, back, [x], [condition], out)
    return out


# ---- sinks


def with_sink(m: Machine, scores: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor]:
    """Return (attention weights, input of their softmax), with a learned sink per head; scores [B,
    H, M, N], sinks [H]."""
    batch, heads, rows, _ = scores.shape
    column = expand(m, shaped(m, sinks, 1, heads, 1, 1), batch, heads, rows, 1)
    combined = join(m, scores, column)
    combined = sub(m, combined, most(m, combined))
    return cut(m, softmax(m, combined), scores.shape[-1]), combined


def most(m: Machine, x: Tensor) -> Tensor:
    """Return x.max(-1, keepdim=True).values; backward allocates zeros of the shape of `x`."""
    shape = (*x.shape[:-1], 1)
    values, numbers = m.new(shape, x.dtype), m.new(shape, INT64)
    return remade(m, x, values, numbers)
