"""torchao's weight-only formats, version 2 tensors, under transformers.

    torchao-int8       qdata int8 [out, in], scale float32 and zero_point int8 [out, 1]  8 + 40/in
    torchao-fp8        qdata e4m3 [out, in], scale float32 [out, 1]                      8 + 32/in
    torchao-int4-g128  qdata uint8 [out, in/2], scale and zero_point [in/g, out]         4 + 32/g

The int8 tensor carries a zero_point although it is symmetric (run with 0.18.0). A Linear whose
inputs the group does not divide is skipped, not refused.
Source: torchao 0.18.0 quantization/quant_api.py:_int4_weight_only_quantize_tensor,
quantize_/workflows/{int4/int4_tensor,int8/int8_tensor,float8/float8_tensor}.py.
"""

from collections.abc import Callable, Iterator
from re import Match

from weighbridge.arch.blueprint import Param
from weighbridge.dtypes import FLOAT8, FLOAT32, INT8, UINT8
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

LEFT = (
    "embeddings, norms, biases, convolutions, the output and tied layers and (under transformers "
    "5) routers and stacked experts stay in the model's dtype"
)
SOURCE = "torchao 0.18.0 quantization/quant_api.py; transformers 5.23 quantizers/quantizer_torchao"


def int8(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(f"{module(param)}._weight_qdata", INT8, (weight.outputs, weight.inputs))
    yield PackedPiece(f"{module(param)}._weight_scale", FLOAT32, (weight.outputs, 1))
    yield PackedPiece(f"{module(param)}._weight_zero_point", INT8, (weight.outputs, 1))


def float8(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(f"{module(param)}._weight_qdata", FLOAT8, (weight.outputs, weight.inputs))
    yield PackedPiece(f"{module(param)}._weight_scale", FLOAT32, (weight.outputs, 1))


def int4(found: Match[str]) -> Scheme:
    group = int(found["group"])

    def loader(facts: LoaderFacts) -> Pack:
        def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
            prefix, scales = module(param), (weight.inputs // group, weight.outputs)
            yield PackedPiece(
                f"{prefix}._weight_qdata", UINT8, (weight.outputs, weight.inputs // 2)
            )
            yield PackedPiece(f"{prefix}._weight_scale", facts.dtype, scales)
            yield PackedPiece(f"{prefix}._weight_zero_point", facts.dtype, scales)

        return packing(linears(facts), pieces, facts, group=group)

    return Scheme(name=found[0], loader=loader, left=LEFT, source=SOURCE)


def _rows(pieces: Pieces) -> Callable[[LoaderFacts], Pack]:
    return lambda facts: packing(linears(facts), pieces, facts)


SCHEMES: dict[str, Scheme] = {
    "torchao-int8": Scheme(name="torchao-int8", loader=_rows(int8), left=LEFT, source=SOURCE),
    "torchao-fp8": Scheme(name="torchao-fp8", loader=_rows(float8), left=LEFT, source=SOURCE),
}
PATTERNS = {r"torchao-int4-g(?P<group>32|64|128|256)": int4}
