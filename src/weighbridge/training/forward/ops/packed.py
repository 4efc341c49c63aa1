"""Linears with quantized weights: bitsandbytes, GPTQ, AWQ, HQQ and EETQ.

    4 bits    forward and backward dequantize the whole matrix; the input is not saved, but up to
              bitsandbytes 0.43.1 it is kept as in 8 bits
    8 bits    the input is cast to float16 and to int8, the product is in int32; the input is kept
              on the function's context, where no checkpoint sees it; backward dequantizes
    gptq      torch.matmul(x, dequantized) saves the whole matrix in 16 bits; a fused kernel nothing
    awq       the input is saved in float16; backward repeats the matrix for every sequence
    hqq       the input is saved; forward and backward dequantize by way of two more copies
    eetq      the input is saved; backward multiplies an identity matrix to dequantize

Quantized weights are never trained.

Source: bitsandbytes 0.50 autograd/_functions.py (MatMul4Bit, MatMul8bitLt), nn/modules.py
(Linear4bit.forward), backends/cuda/ops.py; GPTQModel nn_modules/qlinear/torch.py (_forward);
AutoGPTQ nn_modules/qlinear/qlinear_cuda_old.py, triton_utils/dequant.py; AutoAWQ 0.2.9
modules/linear/gemm.py (WQLinearMMFunction); hqq 0.2.8 core/quantize.py (HQQMatmulNoCacheMul,
Quantizer.dequantize); transformers 5.23 integrations/eetq.py (EetqLinearMMFunction).
"""

from typing import Any, Literal

from weighbridge.base.dtypes import FLOAT16, FLOAT32, INT8, INT32, DType
from weighbridge.base.records import frozen_record
from weighbridge.training.forward.machine import Grads, Machine, Needs, lower, record
from weighbridge.training.forward.ops.pointwise import cast
from weighbridge.training.forward.tensors import LeafTensor, Tensor

BLOCK = 64  # weights per scale


class Linear4:
    """Replaces a linear whose `weight` is in 4 bits; `nested`: scales are in 8 bits themselves.
    `source` is the dtype before quantization, if it differs; `keeps`: the input stays on the
    function's context (up to bitsandbytes 0.43.1)."""

    __slots__ = ("bias", "compute", "keeps", "nested", "source", "weight")

    def __init__(
        self,
        weight: LeafTensor,
        bias: LeafTensor | None,
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
            gradient = m.new(reads, dtype)
            del matrix
            return [gradient]

        to_save = (x.detach(),) if self.keeps else ()
        record(m, back, [x], [], out, attributes=to_save)
        return out


class Stack4:
    """Replaces the stacked 4-bit weights of all experts: dequantized at once for grouped products,
    one by one if each expert is a linear of its own."""

    __slots__ = ("_compute", "_nested", "_shape")

    def __init__(self, shape: tuple[int, ...], compute: DType, *, nested: bool) -> None:
        self._shape = shape
        self._compute = compute
        self._nested = nested

    def __call__(self, m: Machine, _packed: Tensor) -> Tensor:
        matrix = m.new(self._shape, self._compute, "temporaries")
        m.hidden(4 * matrix.numel // BLOCK if self._nested else 0)
        return matrix

    def one(self, m: Machine, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return `x` times one expert's weights, [out, in]."""
        weight = LeafTensor("expert", shape, self._compute, None, trainable=False)
        return Linear4(weight, None, self._compute, nested=self._nested)(m, x)


class Linear8:
    """Replaces a linear by LLM.int8(): each row of the input and of the weight has a scale.
    Autocast does not affect it: the input stays in its own dtype, and the result has that dtype."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: LeafTensor, bias: LeafTensor | None) -> None:
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
            gradient = m.new(reads, dtype)
            del matrix
            return [gradient]

        record(m, back, [x], [], out, attributes=(x.detach(),))
        return out


@frozen_record
class PackedKernel:
    """How a quantized format multiplies. `unpacks`: passes that dequantize; a fused kernel in none.

    keeps     what backward needs: the dequantized weight, the input, or neither
    copies    temporary copies of the matrix in 16 bits while it is dequantized
    fused     rows up to which forward does not dequantize
    repeats   backward has the matrix once per sequence
    unit      backward multiplies an identity matrix, in float32 first
    half      inputs are cast to float16
    """

    unpacks: Literal["both", "forward", "backward", "nowhere"] = "both"
    keeps: Literal["weight", "input", "nothing"] = "input"
    copies: int = 0
    fused: int = 0
    repeats: bool = False
    unit: bool = False
    half: bool = False

    def forward(self, rows: int) -> bool:
        """Return whether forward dequantizes the whole matrix for this number of rows."""
        return self.unpacks in ("both", "forward") and rows > self.fused


GPTQ = PackedKernel(unpacks="forward", keeps="weight", copies=2)
GPTQ_FUSED = PackedKernel(unpacks="nowhere", keeps="nothing")
AWQ = PackedKernel(fused=1023, repeats=True, half=True)
HQQ = PackedKernel(copies=2)
EETQ = PackedKernel(unpacks="backward", unit=True, half=True)
DEQUANTIZED = "dequantized weights"  # their component, if they are saved


class Dequantized:
    """Replaces a linear whose quantized `weight` is multiplied as `kernel` says."""

    __slots__ = ("bias", "kernel", "weight")

    def __init__(self, weight: LeafTensor, bias: LeafTensor | None, kernel: PackedKernel) -> None:
        self.weight = weight
        self.bias = bias
        self.kernel = kernel

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        kernel, dtype = self.kernel, x.dtype
        if kernel.half:
            x = cast(m, x, FLOAT16)
        elif kernel.keeps != "input":
            x = lower(m, x)
        return cast(m, self._product(m, x), dtype)

    def _product(self, m: Machine, x: Tensor) -> Tensor:
        kernel, (outside, inside) = self.kernel, self.weight.shape
        dtype = x.dtype if m.autocast is None or kernel.half else m.autocast
        matrix = _unpacked(m, kernel, self.weight, dtype) if kernel.forward(x.rows) else None
        out = m.new((*x.shape[:-1], outside), dtype)
        m.product()
        reads, sequences, weight = x.shape, x.shape[0], self.weight

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            gradient = None
            if kernel.unpacks in ("both", "backward"):
                if kernel.unit:
                    m.hidden(4 * inside * inside, 2 * inside * inside)
                gradient = _unpacked(m, kernel, weight, dtype)
            if kernel.repeats:
                m.hidden(sequences * dtype.size(weight.numel))
            m.product()
            of_input = m.new(reads, dtype)
            del gradient
            return [of_input]

        to_save = {"weight": matrix, "input": x, "nothing": None}[kernel.keeps]
        record(m, back, [x], [to_save], out)
        return out


def _unpacked(m: Machine, kernel: PackedKernel, weight: LeafTensor, dtype: DType) -> Tensor:
    name = DEQUANTIZED if kernel.keeps == "weight" else "temporaries"
    matrix = m.new(weight.shape, dtype, name)
    m.hidden(*[matrix.nbytes] * kernel.copies)
    return matrix
