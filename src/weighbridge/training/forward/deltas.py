"""Matrices as large as a weight, which a method of PEFT makes in every forward and adds to it.

    loha       (A B) * (C D) * scale
    lokr       kron(V, W) * scale
    fourierft  ifft2(S) * scale, S with few elements
    shira      a copy of the weight, with trained elements at a few places

The product with such a matrix keeps it for backward, where its gradient is as large. Under autocast
it keeps a copy in 16 bits.

Source: PEFT 0.21 tuners/loha/layer.py (HadaWeight), lokr/layer.py (make_kron), fourierft/layer.py
(get_delta_weight), shira/layer.py (Linear.forward); torch 2.13
aten/src/ATen/native/sparse/cuda/SparseCUDATensorMath.cu (add_out_dense_sparse_cuda),
native/sparse/SparseTensor.cpp (sparse_mask).
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.modules import Wrap
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.pointwise import add, cast, mul, scale, wider
from weighbridge.training.forward.ops.shaping import shaped
from weighbridge.training.forward.tensors import LeafTensor, Tensor


class WithDelta:
    """Replaces the linear `base`: adds the input's product with a matrix [out, in], which `delta`
    makes in every forward."""

    __slots__ = ("base", "delta")

    def __init__(self, base: Wrap, delta: "Hadamard | Kronecker | Fourier") -> None:
        self.base = base
        self.delta = delta

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        dtype = x.dtype
        result = self.base(m, x)
        delta = self.delta(m)
        return cast(m, add(m, result, linear(m, cast(m, x, delta.dtype), delta)), dtype)


class Scattered:
    """SHiRA: replaces the linear of `weight` [out, in]. In every forward it copies the weight and
    adds `values` [n] to the copy at n places. torch makes a sparse tensor of these, with two 64-bit
    integers per place. If `values` are wider than the weight, the sum is made in their dtype, twice
    as large as the weight, together with a second copy of that size."""

    __slots__ = ("bias", "places", "values", "weight")

    def __init__(
        self, weight: LeafTensor, bias: LeafTensor | None, values: LeafTensor, places: Tensor
    ) -> None:
        self.weight = weight
        self.bias = bias
        self.values = values
        self.places = places  # two 32-bit integers per place, stored besides the model

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        weight = self._weight(m)  # the local variable lives until the method returns
        return linear(m, x, weight, self.bias)

    def _weight(self, m: Machine) -> Tensor:
        shape, count, dtype = self.weight.shape, self.values.numel, self.values.dtype
        out = m.new(shape, self.weight.dtype)
        scaled = m.new((count,), dtype)
        places = m.new((2, count), INT64)
        common = wider(self.weight, self.values)
        buffers = [m.new(shape, common) for _ in range(2 * (common != out.dtype))]
        m.hidden(INT64.size(2 * count), INT64.size(count))  # one-dimensional places
        buffers.clear()

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            whole = cast(m, grads[0].detach(), dtype)
            found = m.new((count,), dtype)
            copies = m.new((2, count), INT64)
            product = m.new((count,), dtype)
            del found, whole, copies, product
            return [m.new((count,), dtype)]

        record(m, back, [self.values], [scaled, places], out)
        return out


class Hadamard:
    """LoHa: the elementwise product of two products, each [out, r] with [r, in]."""

    __slots__ = ("factors",)

    def __init__(self, *factors: LeafTensor) -> None:
        self.factors = factors

    def __call__(self, m: Machine) -> Tensor:
        shape = (self.factors[0].shape[0], self.factors[1].shape[1])
        with m.no_grad():
            product = mul(m, *(self._pair(m, i) for i in (0, 2)))
            out = scale(m, product)
            del product
        forms = [(t.shape, t.dtype) for t in self.factors]
        wide = forms[0][1]

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            given = m.new(shape, grads[0].dtype)
            out, beside = [], None
            for pair in (forms[:2], forms[2:]):
                other = m.new(shape, wide)
                m.product()
                beside = m.new(shape, wide)
                del other
                out += [m.new(*form) for form in pair]
            del given, beside
            return out

        record(m, back, self.factors, self.factors, out)
        return out

    def _pair(self, m: Machine, i: int) -> Tensor:
        left, right = self.factors[i : i + 2]
        return linear(m, left, right.view(*right.shape[::-1]))


class Fourier:
    """FourierFT: the inverse transform of a matrix [out, in] that has `spectrum` at a few places
    and 0 elsewhere. The places are in host memory, and copied in every forward; cuFFT's workspace
    is not counted."""

    __slots__ = ("shape", "spectrum")

    def __init__(self, shape: tuple[int, int], spectrum: LeafTensor) -> None:
        self.shape = shape
        self.spectrum = spectrum

    def __call__(self, m: Machine) -> Tensor:
        shape, count = self.shape, self.spectrum.numel
        places = m.new((2, count), INT64)
        complex_ = (*shape, 2)  # two float32 elements each
        with m.no_grad():
            dense = m.new(shape, FLOAT32)  # the local variable lives until the method returns
            wide = m.new(complex_, FLOAT32)
            out = m.new(complex_, FLOAT32)
            del wide
            delta = m.new(shape, FLOAT32)
            del out, dense
        form = self.spectrum.shape, self.spectrum.dtype

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            scaled = m.new(shape, FLOAT32)
            wide = m.new(complex_, FLOAT32)
            del scaled
            out = m.new(complex_, FLOAT32)
            del wide
            gradient = m.new(*form)
            del out
            return [gradient]

        record(m, back, [self.spectrum], [places], delta)
        return delta


class Kronecker:
    """LoKr: the Kronecker product of `first` and `second`, which may itself be a product."""

    __slots__ = ("first", "second", "shape")

    def __init__(
        self, shape: tuple[int, int], first: LeafTensor, second: tuple[LeafTensor, ...]
    ) -> None:
        self.shape = shape
        self.first = first
        self.second = second

    def __call__(self, m: Machine) -> Tensor:
        second: Tensor = self.second[0]
        if len(self.second) > 1:
            right = self.second[1]
            second = linear(m, second, right)
        return scale(m, _kron(m, self.first, second, self.shape))


def _kron(m: Machine, a: Tensor, b: Tensor, shape: tuple[int, int]) -> Tensor:
    (c, d), (e, f) = a.shape, b.shape
    out = mul(m, shaped(m, a, c, 1, d, 1), shaped(m, b, 1, e, 1, f))
    return out.view(*shape)
