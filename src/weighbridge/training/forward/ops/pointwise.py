"""Elementwise operators.

saves nothing       add, sub, scale, cast
saves the other     mul
saves the input     silu, gelu, relu^2, pow
saves the result    tanh, sigmoid, exp, rsqrt, relu
saves a mask        dropout: a bool per element
"""

from math import prod
from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32, FLOAT64, DType
from weighbridge.training.forward.machine import (
    Grads,
    Machine,
    Needs,
    ahead,
    another,
    record,
    remade,
)
from weighbridge.training.forward.ops.shaping import over_rows
from weighbridge.training.forward.tensors import Computed, Shape, Tensor


def cast(m: Machine, x: Tensor, dtype: DType) -> Tensor:
    if x.dtype == dtype:
        return x
    out = m.new(x.shape, dtype)
    source = x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(grads[0].shape, source)]

    record(m, back, [x], [], out)
    return out


def wider(a: Tensor, b: Tensor) -> DType:
    """Return the dtype of the result of an operator on `a` and `b`: the wider one."""
    if FLOAT64 in (a.dtype, b.dtype):
        return FLOAT64
    return FLOAT32 if FLOAT32 in (a.dtype, b.dtype) else a.dtype


def _broadcast(a: Tensor, b: Tensor) -> Shape:
    if a.shape == b.shape:
        return a.shape
    long, short = (a.shape, b.shape) if len(a.shape) >= len(b.shape) else (b.shape, a.shape)
    short = (1,) * (len(long) - len(short)) + short
    return tuple(map(max, long, short))


def summed(m: Machine, grad: Tensor, shape: Shape, dtype: DType) -> Tensor:
    """Return the gradient of a broadcast tensor, summed to `shape` (sum_to_size) in `dtype`."""
    if grad.shape != shape and grad.numel != prod(shape):
        numel, columns = grad.numel, prod(shape)
        grad = m.new(shape, grad.dtype)
        if not shape or shape[-1] > 1:
            over_rows(m, numel // columns, columns)
    return grad if grad.dtype == dtype else m.new(shape, dtype)


def add(m: Machine, a: Tensor, b: Tensor) -> Tensor:
    out = m.new(_broadcast(a, b), wider(a, b))
    first, second = (a.shape, a.dtype), (b.shape, b.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        return [
            summed(m, g, *first) if needs[0] else None,
            summed(m, g, *second) if needs[1] else None,
        ]

    record(m, back, [a, b], [], out)
    return out


def sub(m: Machine, a: Tensor, b: Tensor) -> Tensor:
    """Return a - b; the gradient of `b` is a new tensor, negated."""
    out = m.new(_broadcast(a, b), wider(a, b))
    first, second = (a.shape, a.dtype), (b.shape, b.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        taken = m.new(g.shape, g.dtype) if needs[1] else None
        return [
            summed(m, g, *first) if needs[0] else None,
            summed(m, taken, *second) if taken is not None else None,
        ]

    record(m, back, [a, b], [], out)
    return out


def add_(m: Machine, a: Tensor, b: Tensor) -> Tensor:
    """Return a + b in the memory of `a`."""
    out = Computed(a.shape, a.dtype, a.storage)
    second = (b.shape, b.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        return [g if needs[0] else None, summed(m, g, *second) if needs[1] else None]

    record(m, back, [a, b], [], out)
    return out


def mul(m: Machine, a: Tensor, b: Tensor) -> Tensor:
    """Return a * b. Backward makes both products before it sums those of broadcast tensors
    (validate_outputs)."""
    to_save = [a if b.requires_grad else None, b if a.requires_grad else None]
    ahead(m, [a, b], to_save)
    out = m.new(_broadcast(a, b), wider(a, b))
    first, second = (a.shape, a.dtype), (b.shape, b.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        shape, dtype = grads[0].shape, grads[0].dtype
        other = m.new(shape, dtype) if needs[1] else None
        own_gradient = m.new(shape, dtype) if needs[0] else None
        saved.clear()  # frees what a checkpoint recomputed, not what the node keeps
        if own_gradient is not None:
            own_gradient = summed(m, own_gradient, *first)
        if other is not None:
            other = summed(m, other, *second)
        return [own_gradient, other]

    record(m, back, [a, b], to_save, out)
    return out


def divide(m: Machine, a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, with b broadcast: saves both. The gradient of b comes first, -g * (a / b /
    b)."""
    out = m.new(_broadcast(a, b), wider(a, b))
    first, second = (a.shape, a.dtype), (b.shape, b.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        steps = [m.new(g.shape, g.dtype) for _ in ("a / b", "a / b / b", "-g")]
        other = m.new(g.shape, g.dtype)
        del steps
        own_gradient = m.new(g.shape, g.dtype)
        return [summed(m, own_gradient, *first), summed(m, other, *second)]

    record(m, back, [a, b], [a, b], out)
    return out


def scale(m: Machine, x: Tensor) -> Tensor:
    """Return `x` times a constant, or plus one, or negated: nothing is saved, the gradient is
    new."""
    out = m.new(x.shape, x.dtype)
    record(m, another, [x], [], out)
    return out


def scale_(m: Machine, x: Tensor) -> Tensor:
    """Return `x` times a constant, in place."""
    out = Computed(x.shape, x.dtype, x.storage)
    record(m, another, [x], [], out)
    return out


def shift(m: Machine, x: Tensor) -> Tensor:
    """Return `x` plus a constant: the gradient passes unchanged."""
    out = m.new(x.shape, x.dtype)
    record(m, _handed, [x], [], out)
    return out


def _handed(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
    return [grads[0]]


def of_input(m: Machine, x: Tensor) -> Tensor:
    """Return silu, gelu or softplus of `x`: one kernel each way, which saves the input."""
    out = m.new(x.shape, x.dtype)
    record(m, another, [x], [x], out)
    return out


def of_result(m: Machine, x: Tensor) -> Tensor:
    """Return tanh, sigmoid, exp or relu of `x`; the result is saved."""
    out = m.new(x.shape, x.dtype)
    record(m, another, [x], [Computed(out.shape, out.dtype, out.storage)], out)
    return out


def of_result_(m: Machine, x: Tensor) -> Tensor:
    """Return relu in place: backward reads the result."""
    out = Computed(x.shape, x.dtype, x.storage)
    record(m, another, [x], [Computed(x.shape, x.dtype, x.storage)], out)
    return out


def of_input_(m: Machine, x: Tensor) -> Tensor:
    """Return relu6, silu or hardswish, in place: backward reads a copy of the input."""
    out = Computed(x.shape, x.dtype, x.storage)
    copy = m.new(x.shape, x.dtype) if m.grad else None
    record(m, another, [x], [copy], out)
    return out


def softmax(m: Machine, x: Tensor) -> Tensor:
    """Return a softmax. Backward reads the result; older versions of torch keep the input for its
    dtype."""
    out = m.new(x.shape, x.dtype)
    to_save = [Computed(out.shape, out.dtype, out.storage)]
    record(m, another, [x], [*to_save, x] if m.softmax_keeps else to_save, out)
    return out


def clamp(m: Machine, x: Tensor, bounds: int = 2) -> Tensor:
    """Return `x` clamped. Backward allocates one bool mask of the input's shape per bound."""
    out = m.new(x.shape, x.dtype)
    whole = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        inside = [m.new(whole, BOOL) for _ in range(bounds)]
        gradient = m.new(whole, grads[0].dtype)
        del inside
        return [gradient]

    record(m, back, [x], [x], out)
    return out


def power(m: Machine, x: Tensor) -> Tensor:
    """Return pow(2) or pow(3): grad * (n * x ** (n - 1)). Autocast runs it in float32."""
    if m.autocast is not None:
        x = cast(m, x, FLOAT32)
    out = m.new(x.shape, x.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        first = m.new(saved[0].shape, saved[0].dtype)
        second = m.new(first.shape, first.dtype)
        gradient = m.new(second.shape, second.dtype)
        del first, second
        return [gradient]

    record(m, back, [x], [x], out)
    return out


def rsqrt(m: Machine, x: Tensor) -> Tensor:
    """Return 1 / sqrt(x); in backward -1/2 grad * result ** 3."""
    out = m.new(x.shape, x.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        first = m.new(saved[0].shape, saved[0].dtype)
        second = m.new(first.shape, first.dtype)
        gradient = m.new(first.shape, first.dtype)
        del first, second
        return [gradient]

    record(m, back, [x], [Computed(out.shape, out.dtype, out.storage)], out)
    return out


def bounded_sqrt(m: Machine, x: Tensor) -> Tensor:
    """Return RecurrentGemma's SqrtBoundDerivative; in backward grad / sqrt(clip(4 * x))."""
    out = m.new(x.shape, x.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        shape, dtype = saved[0].shape, saved[0].dtype
        larger = m.new(shape, dtype)
        clipped = m.new(shape, dtype)
        del larger
        root = m.new(shape, dtype)
        gradient = m.new(shape, dtype)
        del clipped, root
        return [gradient]

    record(m, back, [x], [x], out)
    return out


def mean(m: Machine, x: Tensor) -> Tensor:
    """Return the mean over the last dimension, which stays with size 1."""
    return remade(m, x, m.new((*x.shape[:-1], 1), x.dtype))


def total(m: Machine, x: Tensor, width: int = 1) -> Tensor:
    """Return the sum over the last dimension, or of groups that are `width` apart; its gradient is
    a view that repeats it. Autocast sums in float32 (autocast_mode.h, fp32_set_opt_dtype)."""
    out = m.new((*x.shape[:-1], width), x.dtype if m.autocast is None else FLOAT32)
    whole, dtype = x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        return [Computed(whole, dtype, g.storage) if g.dtype == dtype else m.new(whole, dtype)]

    record(m, back, [x], [], out)
    return out


def dropout(m: Machine, x: Tensor, rate: float) -> Tensor:
    """Return `x` after dropout (native_dropout on CUDA), which saves a mask of one byte per
    element."""
    if not rate or not m.training:
        return x
    out = m.new(x.shape, x.dtype)
    mask = m.new(x.shape, BOOL)
    record(m, another, [x], [mask], out)
    return out


def several(m: Machine, x: Tensor, kind: str) -> Tensor:
    """Return the activation that configs call `kind` (transformers activations.py, ACT2FN), of
    `x`."""
    return ACTIVATIONS.get(kind, of_input)(m, x)


def _gelu_new(m: Machine, x: Tensor) -> Tensor:
    """Return 0.5 * x * (1 + tanh(c * (x + 0.044715 * x ** 3)))."""
    half = scale(m, x)
    return mul(m, half, shift(m, of_result(m, scale(m, add(m, x, scale(m, power(m, x)))))))


def _gelu_fast(m: Machine, x: Tensor) -> Tensor:
    """Return 0.5 * x * (1 + tanh(x * c * (1 + 0.044715 * x * x)))."""
    half = scale(m, x)
    inner = mul(m, scale(m, x), shift(m, mul(m, scale(m, x), x)))
    return mul(m, half, shift(m, of_result(m, inner)))


def _quick_gelu(m: Machine, x: Tensor) -> Tensor:
    """Return x * sigmoid(1.702 * x)."""
    return mul(m, x, of_result(m, scale(m, x)))


def _relu2(m: Machine, x: Tensor) -> Tensor:
    relu_applied = of_result(m, x)
    return power(m, relu_applied)


def bloom_gelu(m: Machine, x: Tensor) -> Tensor:
    """Return GeLUFunction's output: it saves only its input, and backward recomputes the tanh."""

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        (x,) = saved
        tanh = of_result(m, mul(m, scale(m, x), shift(m, mul(m, scale(m, x), x))))
        first = scale(m, x)
        inner = mul(m, shift(m, mul(m, tanh, tanh)), shift(m, mul(m, scale(m, x), x)))
        first = mul(m, first, inner)
        del inner
        factor = add(m, first, scale(m, shift(m, tanh)))
        del first
        return [mul(m, factor, grads[0])]

    with m.no_grad():
        half = scale(m, scale(m, x))
        inner = mul(m, scale(m, x), shift(m, mul(m, scale(m, x), x)))
        out = mul(m, half, shift(m, of_result(m, inner)))
    record(m, back, [x], [x], out)
    return out


ACTIVATIONS = {
    "gelu_new": _gelu_new,
    "gelu_accurate": _gelu_new,
    "gelu_fast": _gelu_fast,
    "quick_gelu": _quick_gelu,
    "relu": of_result,
    "relu2": _relu2,
    "tanh": of_result,
    "sigmoid": of_result,
}
