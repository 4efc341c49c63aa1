"""GPTQ and AWQ: int32 words along the inputs or along the outputs, a scale and a zero a group.

    GPTQ  qweight int32 [in b/32, out], qzeros int32 [in/g, out b/32], scales float16 [in/g, out],
          g_idx int32 [in]                                              b + (16 + b)/g + 32/out
    AWQ   qweight int32 [in, out b/32], qzeros and scales as GPTQ, no g_idx   b + (16 + b)/g

g = -1: all inputs of a column are one group. AWQ's quantizers refuse a matrix that groups do not
divide (GPTQModel 7.7 looper/awq_processor.py, pseudo_quantize_tensor), and a config has one
group_size for all: models with 704 or 2,112 inputs are published in groups of 32 (the config of
Ade7121976/gemma-4-26B-A4B-it-compressed-tensors; SGLang read 9.34 GiB a rank of two for such a
checkpoint, 9.4 are reckoned of groups of 32, 9.0 of 64).
Source: GPTQModel 7.7 nn_modules/qlinear/__init__.py:_register_gptq_buffers; AutoAWQ 0.2.9
awq/modules/linear/gemm.py. Both quantize the Linears of the decoder's layers, experts included.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import translate
from functools import cache, partial
from re import Match

from weighbridge.arch.blueprint import Blueprint, Param
from weighbridge.arch.roles import unnumbered
from weighbridge.dtypes import FLOAT16, INT32
from weighbridge.errors import UnsupportedError
from weighbridge.memo import memo
from weighbridge.quantization.scheme import (
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Pieces,
    Scheme,
    Takes,
    is_weight,
    matrix,
    module,
    packing,
    published,
    width,
)
from weighbridge.units import ceil_div

WORD = 32
SMALLER = 32  # values of a group, where the usual 128 do not divide a model's widths
GROUPED = re.compile(r"(?:gptq|awq)-\d+bit-g(?P<group>\d+)|w\d+a16-g(?P<of_words>\d+)")


def group_of(name: str) -> int | None:
    """Return how many inputs have one scale, of formats in groups along the inputs."""
    found = GROUPED.fullmatch(name)
    return int(found["group"] or found["of_words"]) if found else None


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
        if m.inputs % size:
            raise UnsupportedError(
                f"awq-{bits}bit-g{group}: {p.name} has {m.inputs} inputs and {m.outputs} outputs, "
                f"and AWQ needs whole groups of {size}"
            )
        at, groups, packed = module(p), m.inputs // size, m.outputs * bits // WORD
        yield PackedPiece(f"{at}.qweight", INT32, (*m.stack, m.inputs, packed))
        yield PackedPiece(f"{at}.qzeros", INT32, (*m.stack, groups, packed))
        yield PackedPiece(f"{at}.scales", FLOAT16, (*m.stack, groups, m.outputs))

    return pieces


def _rare(s: LoaderFacts) -> frozenset[str]:
    """Names of the matrices that few layers have: in less than half as many as the most."""
    takes, of_kind = in_layers(s), defaultdict(list)
    for p in s.plan.counted:
        if takes(p) and is_weight(p):
            of_kind[unnumbered(p.name)].append(p.name)
    most = max(map(len, of_kind.values()), default=0)
    return frozenset(n for names in of_kind.values() if 2 * len(names) < most for n in names)


def _packs_awq(s: LoaderFacts, bits: int, group: int) -> Takes:
    """What AWQ can hold: outputs that fill words, and whole groups of what most layers have. A
    matrix of few layers that has none stays as it is, among modules_to_not_convert."""
    takes, rare, size = in_layers(s), cache(partial(_rare, s)), width(s.plan)

    def packs(p: Param) -> bool:
        if not (takes(p) and is_weight(p)):
            return False
        m = matrix(p, size)
        whole = group == -1 or m.inputs % group == 0 or p.name not in rare()
        return whole and m.outputs * bits % WORD == 0

    return packs


def _divides(plan: Blueprint, bits: int, group: int) -> bool:
    s = LoaderFacts(plan=plan, dtype=FLOAT16, major=5)
    packs, size = _packs_awq(s, bits, group), width(plan)
    return all(matrix(p, size).inputs % group == 0 for p in plan.counted if packs(p))


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
    return _awq_scheme(found[0], int(found["bits"]), int(found["group"] or -1))


def _awq_scheme(name: str, bits: int, group: int) -> Scheme:
    pieces = _awq(bits, group)

    def loader(s: LoaderFacts) -> Pack:
        return packing(_packs_awq(s, bits, group), pieces, s)

    def fits(plan: Blueprint) -> bool:
        return _divides(plan, bits, group) or not _divides(plan, bits, SMALLER)

    def fitted(plan: Blueprint) -> Scheme:
        """The whole checkpoint has one group_size: where it does not divide, the next usual."""
        if group <= SMALLER or memo(plan, ("awq", bits, group), lambda: fits(plan)):
            return own
        return _awq_scheme(f"awq-{bits}bit-g{SMALLER}", bits, SMALLER)

    source = "AutoAWQ 0.2.9 awq/modules/linear/gemm.py"
    own = Scheme(name=name, loader=loader, left=LEFT, source=source, fitted=fitted)
    return own


PATTERNS = {
    r"gptq-(?P<bits>[2348])bit(-g(?P<group>-1|[1-9]\d{0,5}))?": gptq,
    r"awq-(?P<bits>4)bit(-g(?P<group>-1|[1-9]\d{0,5}))?": awq,
}
