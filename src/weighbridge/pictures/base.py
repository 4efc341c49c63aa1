"""Linears of a frozen base that is packed, while a denoiser is trained beside it.

    nf4, fp4      bitsandbytes: forward and backward unpack a matrix (training/forward/ops/packed.py)
    bnb-int8      LLM.int8()
    quanto        the input is saved; forward and backward unpack
    torchao       F.linear of a tensor that is unpacked: autograd saves the matrix in 16 bits
    fp8           a file in float8: autocast makes the matrix in 16 bits, and autograd saves it
    sdnq-int8     a function of its own, which saves what it was given
    others        nothing is known to be kept but the matrix, for a moment

Source: bitsandbytes 0.50 autograd/_functions.py; optimum-quanto 0.2 tensor/function.py
(QuantizedLinearFunction); torchao 0.14 dtypes/affine_quantized_tensor_ops.py; sd-scripts
library/flux_utils.py (fp8_base); SDNQ 0.1 training/layers/linear.
"""

from collections.abc import Mapping

from weighbridge.base.dtypes import DType
from weighbridge.models.arch.blueprint import Param
from weighbridge.training.forward.modules import Wrap
from weighbridge.training.forward.ops.packed import (
    Dequantized,
    Linear4,
    Linear8,
    PackedKernel,
)
from weighbridge.training.forward.tensors import LeafTensor

SAVES_INPUT = PackedKernel(keeps="input")
SAVES_MATRIX = PackedKernel(unpacks="forward", keeps="weight")
SAVES_NOTHING = PackedKernel(keeps="nothing")
KERNELS: Mapping[str, PackedKernel] = {
    "quanto": SAVES_INPUT,
    "sdnq": SAVES_INPUT,
    "torchao": SAVES_MATRIX,
    "fp8": SAVES_MATRIX,
}


def known(form: str | None) -> bool:
    """Tell whether we read what linears in this format keep."""
    return form is None or form.startswith(("nf4", "fp4", "bnb-int8", *KERNELS))


def wrapped(
    form: str, params: Mapping[str, Param], leaves: Mapping[str, LeafTensor], compute: DType
) -> dict[str, Wrap]:
    """Return what stands in for each linear that a format packs, by its path."""
    kernel = next((one for name, one in KERNELS.items() if form.startswith(name)), SAVES_NOTHING)
    wraps: dict[str, Wrap] = {}
    for name, param in params.items():
        if param.kind != "linear" or len(param.shape) != 2 or not name.endswith(".weight"):
            continue
        path = name.removesuffix(".weight")
        weight, bias = leaves[name], leaves.get(f"{path}.bias")
        if form == "bnb-int8":
            wraps[path] = Linear8(weight, bias)
        elif form.startswith(("nf4", "fp4")):
            wraps[path] = Linear4(weight, bias, compute, nested=form.endswith("-dq"))
        else:
            wraps[path] = Dequantized(weight, bias, kernel)
    return wraps
