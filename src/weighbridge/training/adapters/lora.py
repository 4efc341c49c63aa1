"""A linear with a low-rank one beside it.

    y = base(x) + B(A(dropout(x))) * scaling        A [r, in], B [out, r]

The input is cast to the adapter's dtype first, for every adapter anew.
Source: PEFT 0.21 tuners/lora/layer.py (Linear.forward).
"""

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.matrix import linear
from weighbridge.autograd.ops.pointwise import add, cast, dropout, scale
from weighbridge.autograd.tensors import Param, Tensor
from weighbridge.training.modules import Wrap


class Lora:
    """Stands in for the linear `base`."""

    __slots__ = ("a", "b", "base", "p")

    def __init__(self, base: Wrap, a: Param, b: Param, p: float) -> None:
        self.base = base
        self.a = a
        self.b = b
        self.p = p

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        result = self.base(m, x)
        dtype = result.dtype
        x = cast(m, x, self.a.dtype)
        result = add(
            m, result, scale(m, linear(m, linear(m, dropout(m, x, self.p), self.a), self.b))
        )
        return cast(m, result, dtype)


class Plain:
    """A linear as it is."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: Param, bias: Param | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        return linear(m, x, self.weight, self.bias)
