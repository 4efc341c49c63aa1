"""Linears of bitsandbytes: weights in 4 or 8 bits, which are never trained.

    4 bits    forward and backward unpack the whole matrix; nothing of the input is saved, but up to
              bitsandbytes 0.43.1 it is kept as in 8 bits
    8 bits    the input is cast to float16 and to int8, the product is in int32; the input is kept
              on the function's context, where no checkpoint sees it; backward unpacks the matrix

Source: bitsandbytes 0.50 autograd/_functions.py (MatMul4Bit, MatMul8bitLt), nn/modules.py
(Linear4bit.forward), backends/cuda/ops.py.
"""

from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, lower, record
from weighbridge.autograd.ops.pointwise import cast
from weighbridge.autograd.tensors import Param, Tensor
from weighbridge.dtypes import FLOAT16, FLOAT32, INT8, INT32, DType

BLOCK = 64  # weights that share a scale


class Linear4:
    """Stands in for a linear whose `weight` is packed; `nested` scales are in 8 bits themselves.
    `source` is the dtype that was packed, where it is another; `keeps`: the input stays on the
    function's context (up to bitsandbytes 0.43.1)."""

    __slots__ = ("bias", "compute", "keeps", "nested", "source", "weight")

    def __init__(
        self,
        weight: Param,
        bias: Param | None,
        compute: DType,
        *,
        nested: bool,
        source: DType | None = None,
        keeps: bool = False,
    ) -> None:
        self.weight = weight
        self.bias = bias
        self.compute = compute
        self.nested = nested
        self.source = source or compute
        self.keeps = keeps

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = cast(m, lower(m, x), self.compute)
        return cast(m, self._product(m, x), dtype)

    def _product(self, m: Machine, x: Tensor) -> Tensor:
        outside, inside = self.weight.shape
        scales = 4 * self.weight.numel // BLOCK if self.nested else 0
        unpacked, source = self.weight.numel, self.source
        matrix = m.new((outside, inside), source, "temporaries")
        m.hidden(scales)
        if source != x.dtype:
            matrix = m.new(matrix.shape, x.dtype, "temporaries")
        out = m.new((*x.shape[:-1], outside), x.dtype)
        m.product()
        del matrix
        reads = x.shape

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            m.hidden(scales)
            dtype = grads[0].dtype
            matrix = m.new((unpacked,), source)
            if source != dtype:
                matrix = m.new((unpacked,), dtype)
            m.product()
            made = m.new(reads, dtype)
            del matrix
            return [made]

        kept = (x.detach(),) if self.keeps else ()
        record(m, back, [x], [], out, attributes=kept)
        return out


class Linear8:
    """LLM.int8(): rows of the input and of the weight each have a scale. Autocast does not reach
    it: the input stays, and the result is, in the input's own dtype."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: Param, bias: Param | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        outside, inside = self.weight.shape
        half = m.new(x.shape, FLOAT16) if x.dtype != FLOAT16 else None
        rows, scales = m.new(x.shape, INT8), m.new((x.rows,), FLOAT32)
        del half
        product = m.new((*x.shape[:-1], outside), INT32)
        out = m.new(product.shape, FLOAT16)
        del product, rows, scales
        if x.dtype != FLOAT16:
            out = m.new(out.shape, x.dtype)
        reads, dtype = x.shape, x.dtype

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            matrix = m.new((outside, inside), dtype)
            m.product()
            made = m.new(reads, dtype)
            del matrix
            return [made]

        record(m, back, [x], [], out, attributes=(x.detach(),))
        return out
