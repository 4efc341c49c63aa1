"""GPTQ and AWQ: int32 words along the inputs or along the outputs, a scale and a zero a group.

    GPTQ  qweight int32 [in b/32, out], qzeros int32 [in/g, out b/32], scales float16 [in/g, out],
          g_idx int32 [in]                                              b + (16 + b)/g + 32/out
    AWQ   qweight int32 [in, out b/32], qzeros and scales as GPTQ, no g_idx   b + (16 + b)/g

g = -1: all inputs of a column are one group.
Source: GPTQModel 7.7 nn_modules/qlinear/__init__.py:_register_gptq_buffers; AutoAWQ 0.2.9
awq/modules/linear/gemm.py. Both quantize the Linears of the decoder's layers, experts included.
"""

import re
from collections.abc import Iterator
from fnmatch import translate
from re import Match

from weighbridge.arch.blueprint import Param
from weighbridge.dtypes import FLOAT16, INT32
from weighbridge.errors import UnsupportedError
from weighbridge.quantization.scheme import (
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Pieces,
    Scheme,
    Takes,
    module,
    packing,
    published,
)
from weighbridge.units import ceil_div

WORD = 32


def in_layers(s: LoaderFacts) -> Takes:
    """Weights inside the repeated layers, where calibration walks; all where there are none."""
    blocks = [re.compile(translate(f"{pattern}.*")) for pattern in s.plan.blocks]
    takes = published(s)
    return lambda p: takes(p) and (not blocks or any(b.match(p.name) for b in blocks))


def _gptq(bits: int, group: int) -> Pieces:
    def pieces(p: Param, m: Matrix) -> Iterator[PackedPiece]:
        at, groups = module(p), 1 if group == -1 else ceil_div(m.inputs, group)
        packed = ceil_div(m.outputs * bits, WORD)
        yield PackedPiece(
            f"{at}.qweight", INT32, (*m.stack, ceil_div(m.inputs * bits, WORD), m.outputs)
        )
        yield PackedPiece(f"{at}.qzeros", INT32, (*m.stack, groups, packed))
        yield PackedPiece(f"{at}.scales", FLOAT16, (*m.stack, groups, m.outputs))
        yield PackedPiece(f"{at}.g_idx", INT32, (*m.stack, m.inputs))

    return pieces


def _awq(bits: int, group: int) -> Pieces:
    def pieces(p: Param, m: Matrix) -> Iterator[PackedPiece]:
        size = m.inputs if group == -1 else group
        if m.inputs % size or m.outputs * bits % WORD:
            raise UnsupportedError(
                f"awq-{bits}bit-g{group}: {p.name} has {m.inputs} inputs and {m.outputs} outputs, "
                f"and AWQ needs whole groups of {size} and outputs by {WORD // bits}"
            )
        at, groups, packed = module(p), m.inputs // size, m.outputs * bits // WORD
        yield PackedPiece(f"{at}.qweight", INT32, (*m.stack, m.inputs, packed))
        yield PackedPiece(f"{at}.qzeros", INT32, (*m.stack, groups, packed))
        yield PackedPiece(f"{at}.scales", FLOAT16, (*m.stack, groups, m.outputs))

    return pieces


LEFT = (
    "embeddings, norms, biases, routers, the output layer, vision and audio parts and all that "
    "is outside the repeated layers stay in the model's dtype"
)


def gptq(found: Match[str]) -> Scheme:
    pieces = _gptq(int(found["bits"]), int(found["group"] or -1))

    def loader(s: LoaderFacts) -> Pack:
        return packing(in_layers(s), pieces, s)

    source = "GPTQModel 7.7 nn_modules/qlinear/__init__.py:_register_gptq_buffers"
    return Scheme(name=found[0], loader=loader, left=LEFT, source=source)


def awq(found: Match[str]) -> Scheme:
    pieces = _awq(int(found["bits"]), int(found["group"] or -1))

    def loader(s: LoaderFacts) -> Pack:
        return packing(in_layers(s), pieces, s)

    source = "AutoAWQ 0.2.9 awq/modules/linear/gemm.py"
    return Scheme(name=found[0], loader=loader, left=LEFT, source=source)


PATTERNS = {
    r"gptq-(?P<bits>[2348])bit(-g(?P<group>-1|[1-9]\d{0,5}))?": gptq,
    r"awq-(?P<bits>4)bit(-g(?P<group>-1|[1-9]\d{0,5}))?": awq,
}
