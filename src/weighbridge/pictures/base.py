"""Linears of a frozen base that is packed, while a denoiser is trained beside it.

    nf4, fp4       bitsandbytes: forward and backward unpack a matrix, and nothing is saved
    bnb-int8       LLM.int8(), which holds what it was given
    quanto         the input is saved; forward and backward unpack
    torchao-int8   F.linear of a tensor that is unpacked: the matrix in 16 bits is saved
      -training    torchao's prototype for training: the input is saved
      -fp8         the matrix is saved
      -dynamic     the input is scaled to float8 by operators that autograd follows: its absolute
                   values, it in float32 and the quotient are saved beside it
    fp8            a file in float8: autocast makes the matrix in 16 bits, which is saved
    sdnq-int8      nothing is saved; autocast does not reach it: the result is as wide as the input
    others         nothing is known to be kept but the matrix, for a moment

Source: bitsandbytes 0.50 autograd/_functions.py; optimum-quanto 0.2.7 tensor/function.py; torchao
0.14 quantize_/workflows/float8/float8_tensor.py, quantization/quant_primitives.py
(_choose_scale_float8, _quantize_affine_float8), prototype/quantized_training/int8.py; SDNQ 0.2.8
training/layers/linear/linear_int8/linear_int8_ckpt.py, layers/linear/linear_int8.py; sd-scripts
library/flux_utils.py (fp8_base).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT8, TORCH, DType
from weighbridge.models.arch.blueprint import Param
from weighbridge.pictures import formats
from weighbridge.pictures.swapping import block_of
from weighbridge.training.forward.machine import Grads, Machine, Needs, record, remade
from weighbridge.training.forward.modules import Wrap
from weighbridge.training.forward.ops import pointwise
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.packed import (
    DEQUANTIZED,
    Dequantized,
    Linear4,
    Linear8,
    PackedKernel,
)
from weighbridge.training.forward.tensors import LeafTensor, Tensor

SAVES_INPUT = PackedKernel(keeps="input")
SAVES_NOTHING = PackedKernel(keeps="nothing")
SDNQ, DYNAMIC, TRAINING = "sdnq-int8", "torchao-fp8-dynamic", "torchao-int8-training"
STORED = {SDNQ: "torchao-int8", DYNAMIC: "torchao-fp8", TRAINING: "torchao-int8"}  # as many bytes
KERNELS: Mapping[str, PackedKernel] = {"quanto": SAVES_INPUT, TRAINING: SAVES_INPUT}
PLAIN = ("torchao", "fp8")  # formats that are dequantized and multiplied by F.linear
FLOAT8 = TORCH["float8_e4m3fn"]


class UnpackedBase:
    """Replaces a quantized linear by F.linear with a dequantized 16-bit matrix, which is saved for
    backward."""

    __slots__ = ("bias", "compute", "weight")

    def __init__(self, weight: LeafTensor, bias: LeafTensor | None, compute: DType) -> None:
        self.weight, self.bias, self.compute = weight, bias, compute

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        matrix = m.new(self.weight.shape, self.compute, DEQUANTIZED)
        return linear(m, x, matrix, self.bias)


class Quantized8:
    """Replaces a linear by SDNQ's: the input is rotated and rounded for an int8 product, whose
    result has the input's dtype."""

    __slots__ = ("weight",)

    def __init__(self, weight: LeafTensor) -> None:
        self.weight = weight

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        m.hidden(x.nbytes, FLOAT32.size(x.numel), INT8.size(x.numel))
        return _product(m, x, x, self.weight)


class ScaledFloat8:
    """Replaces a linear by torchao's with float8 activations, which autograd follows operator by
    operator."""

    __slots__ = ("weight",)

    def __init__(self, weight: LeafTensor) -> None:
        self.weight = weight

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        absolute = pointwise.of_input(m, x)
        most = remade(m, absolute, m.new((1,) * len(x.shape), x.dtype), absolute)
        del absolute
        scaled = pointwise.divide(m, pointwise.cast(m, x, FLOAT32), most)
        low = pointwise.cast(m, pointwise.clamp(m, scaled), FLOAT8)
        del scaled
        return _product(m, low, x, self.weight, low)


def _product(m: Machine, x: Tensor, like: Tensor, weight: LeafTensor, *saved: Tensor) -> Tensor:
    """Return an 8-bit product in the dtype of `like`. Backward dequantizes the matrix, first to
    float32."""
    out = m.new((*x.shape[:-1], weight.shape[0]), like.dtype)
    m.product()
    reads, numel = x.shape, weight.numel

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        m.hidden(FLOAT32.size(numel), dtype.size(numel))
        m.product()
        return [m.new(reads, dtype)]

    record(m, back, [x], saved, out)
    return out


class Streamed:
    """Replaces a linear by one whose matrix comes from host memory for each product; its input is
    saved."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: LeafTensor, bias: LeafTensor | None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        dtype = m.autocast or x.dtype
        read = pointwise.cast(m, x, dtype)
        reads = read.shape
        out = m.new((*reads[:-1], self.weight.shape[0]), dtype)
        m.product()

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            m.product()
            return [m.new(reads, dtype)]

        record(m, back, [read], [read], out)
        return out


def streamed(names: Iterable[str], leaves: Mapping[str, LeafTensor]) -> dict[str, Wrap]:
    """Return the replacement of each linear that comes from host memory, by path. Source:
    ai-toolkit @ 27a03a91 toolkit/memory_management/manager_modules.py (_BouncingLinearFn).
    Published peaks of RamTorch show that it saves nothing (SimpleTuner)."""
    paths = {name.removesuffix(".weight"): leaves[name] for name in names}
    return {path: Streamed(leaf, leaves.get(f"{path}.bias")) for path, leaf in paths.items()}


def stored(form: str | None) -> str | None:
    """Return the loaders' format that stores as many bytes as `form`; None for None."""
    if form is None:
        return None
    plain, sign, _ = form.partition(formats.BLOCKS)
    return STORED.get(plain, plain) + sign


def canonical(form: str) -> str:
    """Return a frozen base's format in weighbridge's spelling. Raises UsageError with the nearest
    names."""
    plain, sign, _ = form.strip().lower().partition(formats.BLOCKS)
    return plain + sign if plain in STORED else formats.canonical(form)


EIGHT: Mapping[str, Callable[[LeafTensor], Wrap]] = {SDNQ: Quantized8, DYNAMIC: ScaledFloat8}


def known(form: str | None) -> bool:
    """Return whether weighbridge knows what linears in this format save for backward."""
    return form is None or form.startswith(("nf4", "fp4", "bnb-int8", SDNQ, *KERNELS, *PLAIN))


def wrapped(
    form: str, params: Mapping[str, Param], leaves: Mapping[str, LeafTensor], compute: DType
) -> dict[str, Wrap]:
    """Return the replacement of each linear that format `form` quantizes, by path."""
    form, some, _ = form.partition(formats.BLOCKS)
    kernel = next((one for name, one in KERNELS.items() if form.startswith(name)), SAVES_NOTHING)
    wraps: dict[str, Wrap] = {}
    for name, param in params.items():
        if param.kind != "linear" or len(param.shape) != 2 or not name.endswith(".weight"):
            continue
        if some and not block_of(name):
            continue
        path = name.removesuffix(".weight")
        weight, bias = leaves[name], leaves.get(f"{path}.bias")
        if form in EIGHT:
            wraps[path] = EIGHT[form](weight)
        elif form.startswith(PLAIN) and form not in KERNELS:
            wraps[path] = UnpackedBase(weight, bias, compute)
        elif form == "bnb-int8":
            wraps[path] = Linear8(weight, bias)
        elif form.startswith(("nf4", "fp4")):
            wraps[path] = Linear4(weight, bias, compute, nested=form.endswith("-dq"))
        else:
            wraps[path] = Dequantized(weight, bias, kernel)
    return wraps
