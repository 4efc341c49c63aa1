"""Linears with a method of PEFT other than LoRA before, after or in parallel; those that add a
matrix as large as the weight are in deltas.py.

    adalora   y += ((x (A * E)) B) * scaling / rank           A [r, in], E [r, 1], B [out, r]
    ia3       y = base(x) * l, or base(x * l) for the last linear of an MLP
    vera      y = base(x) + after * ((middle * (x A)) B)       A and B frozen, one pair for all
    oft       y = base(x R)                                    R: blocks on a diagonal
    miss      y = base(x) + s B                                s: sums of the input, B [r, out]
    randlora  y = base(x) + ((x F) G) * scale                  F and G frozen, one of them scaled

Source: PEFT 0.21 tuners/adalora/layer.py (SVDLinear), adalora/bnb.py, ia3/layer.py (Linear),
vera/layer.py (Linear), oft/layer.py (OFTRotationModule), miss/layer.py (MissLinear),
randlora/layer.py (UniqueBaseGrad).
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32
from weighbridge.training.forward.machine import Grads, Machine, Needs, made_like, record, remade
from weighbridge.training.forward.modules import Wrap
from weighbridge.training.forward.ops.matrix import linear, matmul
from weighbridge.training.forward.ops.packed import Linear4, Linear8
from weighbridge.training.forward.ops.pointwise import (
    add,
    add_,
    cast,
    divide,
    dropout,
    mul,
    scale,
    shift,
    sub,
    total,
    wider,
)
from weighbridge.training.forward.ops.shaping import copied, turned
from weighbridge.training.forward.tensors import Computed, LeafTensor, Tensor


class AdaLora:
    """AdaLoRA: replaces the linear `base`; the adapter's product is added to its output in
    place."""

    __slots__ = ("a", "b", "base", "e", "p", "rank")

    def __init__(
        self, base: Wrap, factors: tuple[LeafTensor, ...], rank: LeafTensor, rate: float
    ) -> None:
        self.base = base
        self.a, self.e, self.b = factors
        self.rank = rank
        self.p = rate

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        result = self.base(m, x)
        packed = isinstance(self.base, (Linear4, Linear8))
        dtype = result.dtype
        if isinstance(self.base, Linear4):
            result = copied(m, result)
        converts = not packed or m.autocast is None
        if converts:
            x = cast(m, x, self.a.dtype)
        out = linear(m, linear(m, dropout(m, x, self.p), mul(m, self.a, self.e)), self.b)
        if packed and converts:
            out = cast(m, out, dtype)
        out = scale(m, out)
        out = _over_rank(m, out, shift(m, self.rank))
        return add(m, result, out) if isinstance(self.base, Linear8) else add_(m, result, out)


def _over_rank(m: Machine, x: Tensor, rank: Tensor) -> Tensor:
    """Return x / rank, with the rank a tensor of one element."""
    if rank.requires_grad:
        return divide(m, x, rank)
    out = m.new(x.shape, wider(x, rank))
    source = x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradient = m.new(grads[0].shape, grads[0].dtype)
        return [cast(m, gradient.detach(), source)]

    record(m, back, [x], [rank], out)
    return out


class Scaled:
    """IA3: replaces the linear `base`. `first`: its input is scaled instead of its output."""

    __slots__ = ("base", "first", "vector")

    def __init__(self, base: Wrap, vector: LeafTensor, *, first: bool) -> None:
        self.base = base
        self.vector = vector
        self.first = first

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        vector = scale(m, self.vector)  # the product of all adapters', which starts with 1
        if isinstance(self.base, (Linear4, Linear8)):
            return self._packed(m, x, vector)
        if self.first:
            wide = cast(m, x, self.vector.dtype)  # a variable, which lives to the end
            scaled = mul(m, wide, vector)
            narrow = cast(m, scaled, x.dtype)
            del scaled
            return self.base(m, narrow)
        result = self.base(m, x)
        return cast(m, mul(m, result, vector), result.dtype)

    def _packed(self, m: Machine, x: Tensor, vector: Tensor) -> Tensor:
        """Return the scaled output of a quantized linear, in float32."""
        if m.autocast is None:
            x = cast(m, x, FLOAT32)
        if self.first:
            scaled = mul(m, x, vector)
            result = self.base(m, scaled)
            del scaled
        else:
            result = self.base(m, x)
            result = mul(m, result, vector)
        return copied(m, result) if isinstance(self.base, Linear4) else result


class SharedMatrices:
    """Two frozen float32 matrices that all linears of a model share, each using a part of them."""

    __slots__ = ("a", "b")

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a = a
        self.b = b


class Vera:
    """VeRA: replaces the linear `base`; `middle` [r] and `after` [out] are trained."""

    __slots__ = ("after", "base", "inside", "middle", "p", "shared")

    def __init__(
        self,
        base: Wrap,
        shared: SharedMatrices,
        after: LeafTensor,
        middle: LeafTensor,
        inside: int,
        rate: float,
    ) -> None:
        self.base = base
        self.shared = shared
        self.after, self.middle = after, middle
        self.inside = inside
        self.p = rate

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        dtype = x.dtype
        result = self.base(m, x)
        given = result.dtype
        if isinstance(self.base, Linear4):
            result = copied(m, result)
        rank, outside = self.middle.numel, self.after.numel
        a = Computed((rank, self.inside), self.shared.a.dtype, self.shared.a.storage)
        b = Computed((outside, rank), self.shared.b.dtype, self.shared.b.storage)
        x = cast(m, x, self.middle.dtype)  # a variable, which lives to the end
        low = mul(m, self.middle, linear(m, dropout(m, x, self.p), a))
        low = linear(m, low, b)
        low = mul(m, self.after, low)
        result = add(m, result, low)
        del low
        result = cast(m, result, given)
        return cast(m, result, dtype)


class Miss:
    """MiSS: replaces the linear `base`; `block` [r, out] multiplies the sums of every r-th input
    element."""

    __slots__ = ("base", "block", "p")

    def __init__(self, base: Wrap, block: LeafTensor, rate: float) -> None:
        self.base = base
        self.block = block
        self.p = rate

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        dtype = x.dtype
        result = self.base(m, x)
        if isinstance(self.base, Linear4):
            result = copied(m, result)
        rank, inside = self.block.shape[0], x.shape[-1]
        wide = -(-inside // rank) * rank
        if wide != inside:
            x = remade(m, x, m.new((*x.shape[:-1], wide), x.dtype))
        x = cast(m, x, self.block.dtype)  # a variable, which lives to the end
        low = total(m, dropout(m, x, self.p), rank)
        low = linear(m, low, self.block)
        result = add(m, result, low)
        del low
        return cast(m, result, dtype)


class RandLora:
    """RandLoRA: replaces the linear `base`. Scaled bases are made from the frozen ones in every
    forward; the smaller side's is as large as all bases of that side together."""

    __slots__ = ("base", "gamma", "inside", "lambdas", "outside", "p", "shared")

    def __init__(
        self,
        base: Wrap,
        shared: SharedMatrices,
        trained: tuple[LeafTensor, LeafTensor],
        sides: tuple[int, int],
        rate: float,
    ) -> None:
        self.base = base
        self.shared = shared
        self.lambdas, self.gamma = trained
        self.inside, self.outside = sides
        self.p = rate

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        dtype = x.dtype
        result = self.base(m, x)
        if isinstance(self.base, Linear4):
            result = copied(m, result)
        scaled, flat = self._bases(m)
        first, second = (scaled, flat) if self.inside <= self.outside else (flat, scaled)
        x = cast(m, x, FLOAT32)  # a variable, which lives to the end
        low = linear(m, dropout(m, x, self.p), first)
        low = linear(m, low, second)
        low = scale(m, low)
        result = add(m, result, low)
        del low
        return cast(m, result, dtype)

    def _bases(self, m: Machine) -> tuple[Tensor, Tensor]:
        """Return (smaller bases, scaled by the trained factors; view of the larger bases)."""
        least, most = sorted((self.inside, self.outside))
        rank, count = self.lambdas.shape
        shape = (rank * count, least)
        with m.no_grad():
            product = m.new((rank, count, least), FLOAT32)
            scaled = m.new((rank, count, least), FLOAT32)
            del product
        forms = [(t.shape, t.dtype) for t in (self.lambdas, self.gamma)]

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            return [m.new(*form) for form in forms]

        scaled = Computed(shape, FLOAT32, scaled.storage)
        record(m, back, [self.lambdas, self.gamma], [self.lambdas, self.gamma], scaled)
        whole = self.shared.b
        return scaled, Computed((most, rank * count), FLOAT32, whole.storage)


class Rotated:
    """OFT: replaces the linear `base`; its input is rotated by blocks [n, b, b], made from
    `vectors` in every forward. `numbers` are the indices of their elements in a block."""

    __slots__ = ("base", "block", "numbers", "vectors")

    def __init__(
        self, base: Wrap, vectors: LeafTensor, block: int, numbers: tuple[Tensor, ...]
    ) -> None:
        self.base = base
        self.vectors = vectors
        self.block = block
        self.numbers = numbers

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = cast(m, x, self.vectors.dtype)
        x = self._rotated(m, x)
        narrow = cast(m, x, dtype)
        return cast(m, self.base(m, narrow), dtype)

    def _rotated(self, m: Machine, x: Tensor) -> Tensor:
        """Return einsum("...rk,rkc->...rc"): a product per block, then a copy in the usual
        order."""
        low = matmul(m, turned(m, x), self._rotation(m), x.shape[-1])
        out = copied(m, low)
        return cast(m, out, x.dtype)

    def _rotation(self, m: Machine) -> Tensor:
        """Return the rotation blocks by Cayley-Neumann: 1 + 2 Q + 2 Q^2 + 2 Q^3 + Q^4 of a
        skew-symmetric Q."""
        dtype, shape = self.vectors.dtype, (self.vectors.shape[0], self.block, self.block)
        above = _placed(m, m.new(shape, dtype), self.vectors)
        skew = sub(m, above, above)
        del above
        m.hidden(dtype.size(self.block**2))
        out = m.new(shape, dtype)
        square = matmul(m, skew, skew, self.block)
        cube = matmul(m, square, skew, self.block)
        fourth = matmul(m, cube, skew, self.block)
        for term in (skew, square, cube, fourth):
            out = add_(m, out, term)
        return out


def _placed(m: Machine, whole: Tensor, vectors: Tensor) -> Tensor:
    """Return `whole` after whole[:, rows, columns] = vectors, in place; backward is a gather."""
    out = Computed(whole.shape, whole.dtype, whole.storage)
    return made_like(m, vectors, out)
