"""compressed-tensors' integer formats, as llm-compressor writes them and vLLM runs them.

    w4a16-g128  weight_packed int32 [out, ceil(in b/32)], weight_scale [out, in/g] in the model's
                dtype, weight_shape int64 [2]                                       b + 16/g
    w8a16       the same with one scale a row                                       8 + 16/in
    w8a8-int8   weight int8 [out, in], weight_scale [out, 1] in the model's dtype    8 + 16/in

Symmetric, so without zero points, as llm-compressor's presets are.
Source: compressed-tensors 0.20 compressors/pack_quantized, compressors/naive_quantized,
quantization/lifecycle/initialize.py:initialize_qparams.
"""

from collections.abc import Iterator
from re import Match

from weighbridge.arch.blueprint import Param
from weighbridge.dtypes import INT8, INT32, INT64
from weighbridge.quantization.scheme import (
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Scheme,
    packing,
    published,
)
from weighbridge.units import ceil_div

WORD = 32
LEFT = (
    "embeddings, norms, biases, routers, the output layer and vision and audio parts stay in "
    "the model's dtype"
)
SOURCE = "compressed-tensors 0.20 compressors/{pack,naive}_quantized"


def packed(found: Match[str]) -> Scheme:
    bits, group = int(found["bits"]), int(found["group"] or -1)

    def loader(s: LoaderFacts) -> Pack:
        def pieces(p: Param, m: Matrix) -> Iterator[PackedPiece]:
            words = ceil_div(m.inputs * bits, WORD)
            groups = 1 if group == -1 else ceil_div(m.inputs, group)
            yield PackedPiece(f"{p.name}_packed", INT32, (*m.stack, m.outputs, words))
            yield PackedPiece(f"{p.name}_scale", s.dtype, (*m.stack, m.outputs, groups))
            yield PackedPiece(f"{p.name}_shape", INT64, (*m.stack, 2))

        return packing(published(s), pieces, s)

    return Scheme(name=found[0], loader=loader, left=LEFT, source=SOURCE)


def _w8a8(s: LoaderFacts) -> Pack:
    def pieces(p: Param, m: Matrix) -> Iterator[PackedPiece]:
        yield PackedPiece(p.name, INT8, p.shape)
        yield PackedPiece(f"{p.name}_scale", s.dtype, (*m.stack, m.outputs, 1))

    return packing(published(s), pieces, s)


SCHEMES: dict[str, Scheme] = {
    "w8a8-int8": Scheme(name="w8a8-int8", loader=_w8a8, left=LEFT, source=SOURCE),
}
PATTERNS = {r"w(?P<bits>[2-8])a16(-g(?P<group>-1|[1-9]\d{0,5}))?": packed}
