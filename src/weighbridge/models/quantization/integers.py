"""Integers in words: GPTQ, AWQ, and what llm-compressor writes (compressed-tensors).

    GPTQ        qweight int32 [in b/32, out], qzeros int32 [in/g, out b/32], scales float16
                [in/g, out], g_idx int32 [in]                              b + (16 + b)/g + 32/out
    AWQ         qweight int32 [in, out b/32], qzeros and scales as GPTQ, no g_idx   b + (16 + b)/g
    w4a16-g128  weight_packed int32 [out, ceil(in b/32)], weight_scale [out, in/g] in the model's
                dtype, weight_shape int64 [2]                                       b + 16/g
    w8a16       the same with one scale a row                                       8 + 16/in
    w8a8-int8   weight int8 [out, in], weight_scale [out, 1] in the model's dtype   8 + 16/in

g = -1: all inputs of a column are one group. AWQ's quantizers refuse a matrix that groups do not
divide (GPTQModel 7.7 looper/awq_processor.py, pseudo_quantize_tensor), and a config has one
group_size for all: models with 704 or 2,112 inputs are published in groups of 32 (the config of
Ade7121976/gemma-4-26B-A4B-it-compressed-tensors; SGLang read 9.34 GiB a rank of two for such a
checkpoint, 9.4 are reckoned of groups of 32, 9.0 of 64). compressed-tensors' are symmetric, so
without zero points, as llm-compressor's presets are.

GPTQ and AWQ quantize the Linears of the decoder's layers, experts included; vLLM runs what
compressed-tensors holds.

Source: GPTQModel 7.7 nn_modules/qlinear/__init__.py:_register_gptq_buffers; AutoAWQ 0.2.9
awq/modules/linear/gemm.py; compressed-tensors 0.20 compressors/pack_quantized,
compressors/naive_quantized, quantization/lifecycle/initialize.py:initialize_qparams.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import translate
from functools import cache, partial
from re import Match

from weighbridge.base.dtypes import FLOAT16, INT8, INT32, INT64
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memo import memo
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.arch.roles import unnumbered
from weighbridge.models.quantization.scheme import (
    PUBLISHED_LEFT,
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Pieces,
    Scheme,
    Takes,
    is_head,
    is_weight,
    matrix,
    module,
    packing,
    published,
    width,
)

WORD = 32
SMALLER = 32  # elements per group, if the usual 128 do not divide a model's widths
GROUPED = re.compile(r"(?:gptq|awq)-\d+bit-g(?P<group>\d+)(?:-head)?|w\d+a16-g(?P<of_words>\d+)")


def group_of(name: str) -> int | None:
    """Return the inputs per scale of a format with groups along the inputs; None for others."""
    match = GROUPED.fullmatch(name)
    return int(match["group"] or match["of_words"]) if match else None


def in_layers(facts: LoaderFacts) -> Takes:
    """Return a test for weights in the repeated layers, where calibration works; without layers,
    for all weights."""
    blocks = [re.compile(translate(f"{pattern}.*")) for pattern in facts.plan.blocks]
    takes = published(facts)
    return lambda p: takes(p) and (not blocks or any(block.match(p.name) for block in blocks))


def _gptq(bits: int, group: int) -> Pieces:
    def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
        prefix, groups = module(param), 1 if group == -1 else ceil_div(weight.inputs, group)
        packed = ceil_div(weight.outputs * bits, WORD)
        yield PackedPiece(
            f"{prefix}.qweight",
            INT32,
            (*weight.stack, ceil_div(weight.inputs * bits, WORD), weight.outputs),
        )
        yield PackedPiece(f"{prefix}.qzeros", INT32, (*weight.stack, groups, packed))
        yield PackedPiece(f"{prefix}.scales", FLOAT16, (*weight.stack, groups, weight.outputs))
        yield PackedPiece(f"{prefix}.g_idx", INT32, (*weight.stack, weight.inputs))

    return pieces


def _awq(bits: int, group: int) -> Pieces:
    def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
        size = weight.inputs if group == -1 else group
        if weight.inputs % size:
            raise UnsupportedError(
                sentence(
                    "awq_groups",
                    bits=bits,
                    group=group,
                    name=param.name,
                    inputs=weight.inputs,
                    outputs=weight.outputs,
                    size=size,
                )
            )
        prefix, groups, packed = module(param), weight.inputs // size, weight.outputs * bits // WORD
        yield PackedPiece(f"{prefix}.qweight", INT32, (*weight.stack, weight.inputs, packed))
        yield PackedPiece(f"{prefix}.qzeros", INT32, (*weight.stack, groups, packed))
        yield PackedPiece(f"{prefix}.scales", FLOAT16, (*weight.stack, groups, weight.outputs))

    return pieces


def _rare_matrices(facts: LoaderFacts) -> frozenset[str]:
    """Return the names of matrices that are in less than half as many layers as the most frequent
    one."""
    takes, of_kind = in_layers(facts), defaultdict(list)
    for p in facts.plan.counted:
        if takes(p) and is_weight(p):
            of_kind[unnumbered(p.name)].append(p.name)
    most = max(map(len, of_kind.values()), default=0)
    return frozenset(name for names in of_kind.values() if 2 * len(names) < most for name in names)


def _is_packed_by_awq(facts: LoaderFacts, bits: int, group: int) -> Takes:
    """Return a test for weights that AWQ can pack: outputs fill words, and groups divide the
    inputs. Matrices in few layers that fail go to modules_to_not_convert."""
    takes, rare, size = in_layers(facts), cache(partial(_rare_matrices, facts)), width(facts.plan)

    def packs(param: Param) -> bool:
        if not (takes(param) and is_weight(param)):
            return False
        weight = matrix(param, size)
        whole = group == -1 or weight.inputs % group == 0 or param.name not in rare()
        return whole and weight.outputs * bits % WORD == 0

    return packs


def _divides(plan: Blueprint, bits: int, group: int) -> bool:
    facts = LoaderFacts(plan=plan, dtype=FLOAT16, major=5)
    packs, size = _is_packed_by_awq(facts, bits, group), width(plan)
    return all(matrix(p, size).inputs % group == 0 for p in plan.counted if packs(p))


LEFT = (
    "embeddings, norms, biases, routers, the output layer, vision and audio parts and all that "
    "is outside the repeated layers stay in the model's dtype"
)


def gptq(match: Match[str]) -> Scheme:
    pieces = _gptq(int(match["bits"]), int(match["group"] or -1))

    def loader(facts: LoaderFacts) -> Pack:
        takes, head = in_layers(facts), is_head(facts.plan)
        every = (lambda p: takes(p) or head(p)) if match["head"] else takes
        return packing(every, pieces, facts)

    source = "GPTQModel 7.7 nn_modules/qlinear/__init__.py:_register_gptq_buffers"
    return Scheme(name=match[0], loader=loader, left=LEFT, source=source)


def awq(match: Match[str]) -> Scheme:
    return _awq_scheme(match[0], int(match["bits"]), int(match["group"] or -1))


def _awq_scheme(name: str, bits: int, group: int) -> Scheme:
    pieces = _awq(bits, group)

    def loader(facts: LoaderFacts) -> Pack:
        return packing(_is_packed_by_awq(facts, bits, group), pieces, facts)

    def fits(plan: Blueprint) -> bool:
        return _divides(plan, bits, group) or not _divides(plan, bits, SMALLER)

    def fitted(plan: Blueprint) -> Scheme:
        """Return a checkpoint's scheme, which has one group_size: the next usual one if the
        requested one does not divide the inputs."""
        if group <= SMALLER or memo(plan, ("awq", bits, group), lambda: fits(plan)):
            return wanted
        return _awq_scheme(f"awq-{bits}bit-g{SMALLER}", bits, SMALLER)

    source = "AutoAWQ 0.2.9 awq/modules/linear/gemm.py"
    wanted = Scheme(name=name, loader=loader, left=LEFT, source=source, fitted=fitted)
    return wanted


# ---- compressed-tensors

SOURCE = "compressed-tensors 0.20 compressors/{pack,naive}_quantized"


def words(match: Match[str]) -> Scheme:
    bits, group = int(match["bits"]), int(match["group"] or -1)

    def loader(facts: LoaderFacts) -> Pack:
        def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
            words = ceil_div(weight.inputs * bits, WORD)
            groups = 1 if group == -1 else ceil_div(weight.inputs, group)
            yield PackedPiece(f"{param.name}_packed", INT32, (*weight.stack, weight.outputs, words))
            yield PackedPiece(
                f"{param.name}_scale", facts.dtype, (*weight.stack, weight.outputs, groups)
            )
            yield PackedPiece(f"{param.name}_shape", INT64, (*weight.stack, 2))

        return packing(published(facts), pieces, facts)

    return Scheme(name=match[0], loader=loader, left=PUBLISHED_LEFT, source=SOURCE)


def _w8a8(facts: LoaderFacts) -> Pack:
    def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
        yield PackedPiece(param.name, INT8, param.shape)
        yield PackedPiece(f"{param.name}_scale", facts.dtype, (*weight.stack, weight.outputs, 1))

    return packing(published(facts), pieces, facts)


SCHEMES: dict[str, Scheme] = {
    "w8a8-int8": Scheme(name="w8a8-int8", loader=_w8a8, left=PUBLISHED_LEFT, source=SOURCE),
}
PATTERNS = {
    r"gptq-(?P<bits>[2348])bit(-g(?P<group>-1|[1-9]\d{0,5}))?(?P<head>-head)?": gptq,
    r"awq-(?P<bits>4)bit(-g(?P<group>-1|[1-9]\d{0,5}))?": awq,
    r"w(?P<bits>[2-8])a16(-g(?P<group>-1|[1-9]\d{0,5}))?": words,
}
