"""BOFT: a linear's input is rotated by a matrix [in, in], made of small blocks in every forward,
and its output is scaled.

    y = base(x (P^T B P)) * s       B: blocks on the diagonal, each of them orthogonal (Cayley)

P, the permutation of the blocks, is stored for every linear as a full float32 matrix and cast to
the input's dtype in every forward. That copy, an identity and the product of all are kept for
backward: three matrices [in, in]. Source: PEFT 0.21 tuners/boft/layer.py (Linear.forward,
cayley_batch), without its CUDA extension, which is built if there is a compiler.
"""

from weighbridge.base.dtypes import FLOAT32, INT32
from weighbridge.training.forward.machine import Machine, made_like
from weighbridge.training.forward.modules import Wrap
from weighbridge.training.forward.ops.matrix import matmul
from weighbridge.training.forward.ops.pointwise import cast, mul, scale, sub
from weighbridge.training.forward.tensors import LeafTensor, Tensor


class Butterfly:
    """Replaces the linear `base`; `blocks` [n, b, b] and `scales` [out, 1] are trained, `places`
    [in, in] is a constant."""

    __slots__ = ("base", "blocks", "places", "scales")

    def __init__(self, base: Wrap, blocks: LeafTensor, scales: LeafTensor, places: Tensor) -> None:
        self.base = base
        self.blocks, self.scales, self.places = blocks, scales, places

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        dtype, inside = x.dtype, x.shape[-1]
        identity = m.new((inside, inside), dtype)
        ones = m.new(self.scales.shape, dtype)
        blocks = _orthogonal(m, self.blocks)
        whole = _on_diagonal(m, blocks, inside)
        places = cast(m, self.places, dtype)
        whole = cast(m, whole, dtype)
        turned = matmul(m, whole, places, inside)
        turned = matmul(m, places, turned, inside)
        rotation = matmul(m, turned, identity, inside)
        factor = mul(m, self.scales, ones)
        rotation = cast(m, rotation, dtype)
        result = self.base(m, matmul(m, x, rotation, inside))
        result = mul(m, result, factor.view(factor.numel))
        del turned, blocks, whole
        return cast(m, result, dtype)


def _orthogonal(m: Machine, blocks: LeafTensor) -> Tensor:
    """Return the orthogonal blocks (1 + Q)^-1 (1 - Q), with Q skew-symmetric, by solving a linear
    system per block."""
    skew = scale(m, sub(m, blocks, blocks))
    left, right = m.new(skew.shape, FLOAT32), m.new(skew.shape, FLOAT32)
    factors = m.new(skew.shape, FLOAT32)
    pivots = m.new(skew.shape[:2], INT32)
    out = m.new(skew.shape, FLOAT32)
    made_like(m, skew, out, left, factors, pivots, out)
    del right
    return out


def _on_diagonal(m: Machine, blocks: Tensor, side: int) -> Tensor:
    out = m.new((side, side), blocks.dtype)
    return made_like(m, blocks, out)
