"""Products in 8 bits, or in 4, by Transformer Engine: what a linear keeps of its input, and the
copies of weights.

    delayed, tensorwise    one scale per tensor: a byte per element by rows, and one by columns if
                           the card multiplies in no other way (before Blackwell)
    blockwise              one of each, with float32 scales of 128 elements
    mxfp8                  one of each, with a byte for the scale of 32 elements
    nvfp4                  half a byte per element and one for the scale of 16, both ways
                           (fp4_format)

    inputs     by rows for the product and by columns for the gradient of the weights; the latter is
               kept. Tokens that are gathered in backward are kept by rows
    weights    without fp8_param_gather 2 bytes per element, and a copy of each kind that is kept
               from micro-batch to micro-batch; with it there is no other weight, and with
               disable_parameter_transpose_cache those of one scale per tensor are only by rows
    mxfp8      with fp8_param_gather and reuse_grad_buf_for_mxfp8_param_ag weights are gathered in
               the gradients' buffer

Embedding, head, norms, the router and attention itself stay in 16 bits, and so do all layers at
both ends that `first_last_layers_bf16` names. Source: Transformer Engine d0067d0
pytorch/module/{linear,layernorm_linear,base}.py (quantize_weight),
pytorch/tensor/{utils,nvfp4_tensor}.py (post_all_gather_processing); Megatron-LM d98e8a6
core/{fp8_utils,fp4_utils}.py, core/distributed/param_and_grad_buffer.py,
core/transformer/attention.py (set_save_original_input).
"""

from fractions import Fraction
from typing import TYPE_CHECKING

from weighbridge.machines.accelerators.chips import FLOAT8_AS_IT_LIES
from weighbridge.training.megatron.run import MegatronRun

if TYPE_CHECKING:
    from weighbridge.training.megatron.model import MegatronModel

PER_TENSOR = ("delayed", "tensorwise")
DATA = {"nvfp4": Fraction(1, 2)}  # bytes per element; 1 for others
SCALES = {"blockwise": Fraction(4, 128), "mxfp8": Fraction(1, 32), "nvfp4": Fraction(1, 16)}
WEIGHT_SCALES = SCALES | {"blockwise": Fraction(4, 128 * 128)}
ALIGNED = {"mxfp8": 32, "nvfp4": 128}  # multiple to which an expert's tokens are padded
USUALLY_ALIGNED = 16
PLAIN = 2  # bytes per element in 16 bits


def per_tensor(run: MegatronRun) -> bool:
    """Return whether a tensor has a single scale."""
    return run.float8 in PER_TENSOR


def both_ways(run: MegatronRun) -> bool:
    """Return whether the transposed (columnwise) copy of a tensor is stored besides the rowwise
    one."""
    return not per_tensor(run) or run.capability not in FLOAT8_AS_IT_LIES


def nbytes(run: MegatronRun, numbers: int) -> int:
    """Return the bytes of `numbers` input elements in 8 bits, in one layout, with their scales."""
    return int(numbers * (_data(run) + SCALES.get(run.float8, 0)))


def _data(run: MegatronRun) -> Fraction:
    return DATA.get(run.float8, Fraction(1))


def aligned(run: MegatronRun) -> int:
    """Return the multiple to which tokens of an expert are padded."""
    return ALIGNED.get(run.float8, USUALLY_ALIGNED)


def in_float8(model: "MegatronModel", run: MegatronRun, layer: int) -> bool:
    """Return whether a layer's linears multiply in 8 bits; multi-token-prediction layers, after the
    last, do as well."""
    first, last = run.plain_ends
    inner = first <= layer < model.layers - last or layer >= model.layers
    return bool(run.float8) and inner


def weights(run: MegatronRun, numbers: int) -> tuple[int, int]:
    """Return (bytes in the all-gather buffer, bytes of copies besides it) of `numbers` weight
    elements that multiply in 8 bits."""
    each = _data(run) + WEIGHT_SCALES.get(run.float8, Fraction(0))
    ways = 2 if both_ways(run) else 1
    if not run.float8_parameters:
        return PLAIN * numbers, int(ways * each * numbers)
    if run.float8 == "mxfp8":
        buffer = 0 if run.reuses_gradients else PLAIN * numbers
        return buffer, int(ways * each * numbers)
    if per_tensor(run) and not run.keeps_transposes:  # transposed anew for each product
        return numbers, 0
    return int(_data(run) * numbers), int((ways * each - _data(run)) * numbers)
