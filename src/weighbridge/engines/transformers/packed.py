"""What a matrix in a packed format costs while it is used, beside its own bytes.

    before   alive through the product: the matrix unpacked to the compute dtype, or the input
             quantized, with their scales
    beside   alive with the result for a moment

    nf4            the whole matrix in the compute dtype; one row alone has a kernel of its own
    fp4            as the default of BitsAndBytesConfig computes: unpacked to the model's dtype and
                   from there to float32, with the input
    bnb-int8       the input in int8 with a float32 scale a row, and an int32 result
    fp8-block      the input in 8 bits with a float32 scale for every 128
    fp8-tensor     the input in 8 bits
    mxfp4, mxfp8, nvfp4, hqq, quanto, compressed-tensors    the whole matrix in the compute dtype
    GPTQ, AWQ      kernels unpack in registers

Source: bitsandbytes autograd/_functions.py (MatMul4Bit, MatMul8bitLt); transformers 4.51 and 5.23
integrations/finegrained_fp8.py (act_quant); hqq core/quantize.py (HQQLinear.forward).
"""

from collections.abc import Callable, Mapping

from weighbridge.units import ceil_div

Sizes = tuple[int, ...]
# (rows, inputs, outputs, bytes of an activation) -> (before, beside)
Around = Callable[[int, int, int, int], tuple[Sizes, Sizes]]


def _unpacked(rows: int, inputs: int, outputs: int, size: int) -> tuple[Sizes, Sizes]:
    return (inputs * outputs * size,), ()


def _four_bits(rows: int, inputs: int, outputs: int, size: int) -> tuple[Sizes, Sizes]:
    return ((), ()) if rows == 1 else _unpacked(rows, inputs, outputs, size)


def _default_bits(rows: int, inputs: int, outputs: int, size: int) -> tuple[Sizes, Sizes]:
    if rows == 1:
        return (4 * inputs, 4 * outputs), ()
    matrix = inputs * outputs
    return (matrix * size, 4 * matrix if size < 4 else 0, 4 * rows * (inputs + outputs)), ()


def _int8(rows: int, inputs: int, outputs: int, size: int) -> tuple[Sizes, Sizes]:
    return (rows * inputs, 4 * rows, 4 * rows * outputs), ()


def _blocks(rows: int, inputs: int, outputs: int, size: int) -> tuple[Sizes, Sizes]:
    return (rows * inputs, 4 * rows * ceil_div(inputs, 128)), ()


AROUND: Mapping[str, Around] = {
    "nf4": _four_bits,
    "fp4": _default_bits,
    "bnb-int8": _int8,
    "fp8-block": _blocks,
    "fp8-tensor": _blocks,
    "mxfp4": _unpacked,
    "mxfp8": _unpacked,
    "nvfp4": _unpacked,
    "hqq": _unpacked,
    "quanto": _unpacked,
    "w4a16": _unpacked,
    "pack": _unpacked,
}


def around(name: str) -> Around | None:
    """The rule of a format by its name, None where its kernels need nothing."""
    return next((rule for start, rule in AROUND.items() if name.startswith(start)), None)
