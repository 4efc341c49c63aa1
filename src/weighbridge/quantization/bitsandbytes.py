"""bitsandbytes under transformers: LLM.int8 and the 4-bit formats.

    int8    weight int8 [out, in], SCB float32 [out]                                    8 + 32/in
    nf4     weight uint8 [n/2, 1], absmax float32 [n/64], quant_map float32 [16]            4.5
    nf4-dq  absmax uint8 [n/64], nested_absmax float32 [n/64/256], nested_quant_map float32 [256],
            nested_offset float32 scalar                                                    4.127

n is in x out. Every layer has its own maps. Files hold a JSON blob of about 80 or 170 bytes in
place of the offset; it is parsed and never reaches the device.
Source: bitsandbytes 0.50.2 functional.py (quantize_4bit, quantize_blockwise), nn/modules.py;
transformers 5.23 integrations/bitsandbytes.py (replace_with_bnb_linear).
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Param
from weighbridge.dtypes import FLOAT32, INT8, UINT8
from weighbridge.quantization.scheme import (
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Pieces,
    Scheme,
    linears,
    module,
    packing,
)
from weighbridge.units import ceil_div

BLOCK, NESTED_BLOCK = 64, 256


def int8(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(f"{module(param)}.weight", INT8, (weight.outputs, weight.inputs))
    yield PackedPiece(f"{module(param)}.SCB", FLOAT32, (weight.outputs,))


def four_bit(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(param.name, UINT8, (ceil_div(weight.numel, 2), 1))
    yield PackedPiece(f"{param.name}.absmax", FLOAT32, (ceil_div(weight.numel, BLOCK),))
    yield PackedPiece(f"{param.name}.quant_map", FLOAT32, (16,))


def double_quantized(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    blocks = ceil_div(weight.numel, BLOCK)
    yield PackedPiece(param.name, UINT8, (ceil_div(weight.numel, 2), 1))
    yield PackedPiece(f"{param.name}.absmax", UINT8, (blocks,))
    yield PackedPiece(f"{param.name}.quant_map", FLOAT32, (16,))
    yield PackedPiece(f"{param.name}.nested_absmax", FLOAT32, (ceil_div(blocks, NESTED_BLOCK),))
    yield PackedPiece(f"{param.name}.nested_quant_map", FLOAT32, (256,))
    yield PackedPiece(f"{param.name}.nested_offset", FLOAT32, ())


def _scheme(name: str, pieces: Pieces) -> Scheme:
    def loader(facts: LoaderFacts) -> Pack:
        return packing(linears(facts, conv1d=True), pieces, facts)

    return Scheme(
        name=name,
        loader=loader,
        left="embeddings, norms, biases, convolutions, the output and tied layers, and (under "
        "transformers 5) routers and stacked experts stay in the model's dtype",
        source="transformers 5.23 integrations/bitsandbytes.py:replace_with_bnb_linear",
    )


SCHEMES: dict[str, Scheme] = {
    name: _scheme(name, pieces)
    for name, pieces in {
        "bnb-int8": int8,
        "nf4": four_bit,
        "nf4-dq": double_quantized,
        "fp4": four_bit,
        "fp4-dq": double_quantized,
    }.items()
}
