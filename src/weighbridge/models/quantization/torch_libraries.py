"""Libraries with which transformers packs weights while it loads: bitsandbytes, torchao, HQQ,
optimum-quanto and EETQ.

bitsandbytes, LLM.int8 and the 4-bit formats; n is in x out:

    int8    weight int8 [out, in], SCB float32 [out]                                    8 + 32/in
    nf4     weight uint8 [n/2, 1], absmax float32 [n/64], quant_map float32 [16]            4.5
    nf4-dq  absmax uint8 [n/64], nested_absmax float32 [n/64/256], nested_quant_map float32 [256],
            nested_offset float32 scalar                                                    4.127

Every layer has its own maps. Files hold a JSON blob of about 80 or 170 bytes in place of the
offset; it is parsed and never reaches the device. Source: bitsandbytes 0.50.2 functional.py
(quantize_4bit, quantize_blockwise), nn/modules.py; transformers 5.23 integrations/bitsandbytes.py
(replace_with_bnb_linear).

torchao, weight-only formats, version 2 tensors:

    torchao-int8       qdata int8 [out, in], scale float32 and zero_point int8 [out, 1]  8 + 40/in
    torchao-fp8        qdata e4m3 [out, in], scale float32 [out, 1]                      8 + 32/in
    torchao-int4-g128  qdata uint8 [out, in/2], scale and zero_point [in/g, out]         4 + 32/g

The int8 tensor carries a zero_point although it is symmetric (run with 0.18.0). A Linear whose
inputs the group does not divide is skipped, not refused. Source: torchao 0.18.0
quantization/quant_api.py:_int4_weight_only_quantize_tensor,
quantize_/workflows/{int4/int4_tensor,int8/int8_tensor,float8/float8_tensor}.py.

HQQ, optimum-quanto and EETQ:

    hqq     W_q uint8 [n/g b/8, g], scale and zero [n/g, 1] in the model's dtype     b + 32/g
            3 bits: ten values in an int32, [ceil(n/g / 10), g]
    quanto  int8, float8: weight [out, in] and scale [out, 1]                        8 + 16/in
            int4, int2: packed by two or four along the groups, scale and shift      b + 32/g
            and two scalars, input_scale and output_scale, a layer
    eetq    weight int8 [in, out], weight_scales float16 [out]                       8 + 16/in

Source: hqq 0.2.8 core/quantize.py, core/bitpack.py; optimum-quanto 0.2.7 nn/qmodule.py;
transformers 5.23 integrations/{hqq,quanto,eetq}.py.
"""

from collections.abc import Callable, Iterator
from re import Match

from weighbridge.base.dtypes import FLOAT8, FLOAT16, FLOAT32, INT8, INT32, UINT8, DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.quantization.scheme import (
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Pieces,
    Scheme,
    Takes,
    linears,
    module,
    packing,
    replaced_kinds,
)
from weighbridge.models.tensors import EXPERTS

# ---- bitsandbytes

BLOCK, NESTED_BLOCK = 64, 256  # values with one scale, scales with one of their own


def bnb_int8(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
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


def _bitsandbytes(name: str, pieces: Pieces) -> Scheme:
    def loader(facts: LoaderFacts) -> Pack:
        return packing(linears(facts, conv1d=True), pieces, facts)

    return Scheme(
        name=name,
        loader=loader,
        left="embeddings, norms, biases, convolutions, the output and tied layers, and (under "
        "transformers 5) routers and stacked experts stay in the model's dtype, under "
        "transformers 4 in float16 where none is named",
        source="transformers 5.23 integrations/bitsandbytes.py:replace_with_bnb_linear",
    )


def with_experts(form: Scheme, maker: str, *, others: bool = True) -> Scheme:
    """Return bitsandbytes' 4-bit format as `maker` quantizes: experts too, in any layout of the
    class (Params4bit of a stack); with `others`, everything else as usual."""
    pieces = PIECES[form.name]

    def loader(facts: LoaderFacts) -> Pack:
        stacks = packing(lambda param: param.kind in EXPERTS, pieces, facts)
        of_others = form.loader(facts)
        return lambda param: stacks(param) or (of_others(param) if others else None)

    left = "embeddings, norms, biases, routers, convolutions, the output and tied layers"
    left += " stay in the model's dtype" if others else " and attention stay in the model's dtype"
    return replace(form, maker=maker, loader=loader, left=left, stacks=True)


PIECES: dict[str, Pieces] = {
    "nf4": four_bit,
    "nf4-dq": double_quantized,
    "fp4": four_bit,
    "fp4-dq": double_quantized,
}
BITSANDBYTES: dict[str, Scheme] = {
    name: _bitsandbytes(name, pieces) for name, pieces in {"bnb-int8": bnb_int8, **PIECES}.items()
}


# ---- torchao

AO_LEFT = (
    "embeddings, norms, biases, convolutions, the output and tied layers and (under transformers "
    "5) routers and stacked experts stay in the model's dtype"
)
AO = "torchao 0.18.0 quantization/quant_api.py; transformers 5.23 quantizers/quantizer_torchao"


def torchao_int8(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(f"{module(param)}._weight_qdata", INT8, (weight.outputs, weight.inputs))
    yield PackedPiece(f"{module(param)}._weight_scale", FLOAT32, (weight.outputs, 1))
    yield PackedPiece(f"{module(param)}._weight_zero_point", INT8, (weight.outputs, 1))


def torchao_float8(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(f"{module(param)}._weight_qdata", FLOAT8, (weight.outputs, weight.inputs))
    yield PackedPiece(f"{module(param)}._weight_scale", FLOAT32, (weight.outputs, 1))


def torchao_int4(match: Match[str]) -> Scheme:
    group = int(match["group"])

    def loader(facts: LoaderFacts) -> Pack:
        def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
            prefix, scales = module(param), (weight.inputs // group, weight.outputs)
            yield PackedPiece(
                f"{prefix}._weight_qdata", UINT8, (weight.outputs, weight.inputs // 2)
            )
            yield PackedPiece(f"{prefix}._weight_scale", facts.dtype, scales)
            yield PackedPiece(f"{prefix}._weight_zero_point", facts.dtype, scales)

        return packing(linears(facts), pieces, facts, group=group)

    return Scheme(name=match[0], loader=loader, left=AO_LEFT, source=AO)


def _rows(pieces: Pieces) -> Callable[[LoaderFacts], Pack]:
    return lambda facts: packing(linears(facts), pieces, facts)


TORCHAO: dict[str, Scheme] = {
    name: Scheme(name=name, loader=_rows(pieces), left=AO_LEFT, source=AO)
    for name, pieces in {"torchao-int8": torchao_int8, "torchao-fp8": torchao_float8}.items()
}


# ---- HQQ, quanto, EETQ

# bits -> (dtype, values in one of it): bitpack.py. 5 and 6 bits are not packed.
PACKED: dict[int, tuple[DType, int]] = {
    8: (UINT8, 1),
    6: (UINT8, 1),
    5: (UINT8, 1),
    4: (UINT8, 2),
    3: (INT32, 10),
    2: (UINT8, 4),
    1: (UINT8, 8),
}
LEFT = (
    "embeddings, norms, biases, convolutions, the output layer and (under transformers 5) "
    "routers and stacked experts stay in the model's dtype"
)


def tag(name: str) -> str:
    """Return a module's name as HqqConfig's skip list spells it: without numbers, "model" and
    "layers"."""
    parts = [part for part in name.split(".") if part not in ("model", "layers")]
    return ".".join(part for part in parts if not part.isnumeric())


def _hqq_linears(facts: LoaderFacts) -> Takes:
    """Return a test for every nn.Linear but `lm_head`, the default of HqqConfig.skip_modules."""
    kinds = replaced_kinds(facts, derived=True)
    return lambda p: p.kind in kinds and tag(module(p)) != "lm_head"


def hqq(match: Match[str]) -> Scheme:
    bits, group = int(match["bits"]), int(match["group"])
    dtype, values = PACKED[bits]

    def loader(facts: LoaderFacts) -> Pack:
        def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
            if weight.numel % group:
                raise UnsupportedError(
                    sentence(
                        "hqq_groups",
                        form=match[0],
                        name=param.name,
                        count=weight.numel,
                        group=group,
                    )
                )
            prefix, groups = module(param), weight.numel // group
            yield PackedPiece(f"{prefix}.W_q", dtype, (ceil_div(groups, values), group))
            yield PackedPiece(f"{prefix}.scale", facts.dtype, (groups, 1))
            yield PackedPiece(f"{prefix}.zero", facts.dtype, (groups, 1))

        return packing(_hqq_linears(facts), pieces, facts)

    source = "hqq 0.2.8 core/quantize.py; transformers 5.23 integrations/hqq.py"
    return Scheme(name=match[0], loader=loader, left=LEFT, source=source)


def quanto_group(inputs: int) -> int | None:
    """Return the inputs per scale: 128, or the largest of 96, 64 and 32 that divides the inputs;
    None otherwise, and for at most 128 inputs. [optimum-quanto
    nn/qmodule.py:QModuleMixin.__init__]"""
    if inputs <= 128:
        return None
    return next((group for group in (128, 96, 64, 32) if inputs % group == 0), None)


def _quanto_bytes(dtype: DType) -> Callable[[LoaderFacts], Pieces]:
    def pieces_of(facts: LoaderFacts) -> Pieces:
        def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
            yield PackedPiece(f"{param.name}._data", dtype, (weight.outputs, weight.inputs))
            yield PackedPiece(f"{param.name}._scale", facts.dtype, (weight.outputs, 1))
            yield from _quanto_scalars(param, facts)

        return pieces

    return pieces_of


def _quanto_bits(bits: int) -> Callable[[LoaderFacts], Pieces]:
    def pieces_of(facts: LoaderFacts) -> Pieces:
        def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
            columns = quanto_group(weight.inputs) or weight.inputs
            rows = weight.numel // columns
            yield PackedPiece(
                f"{param.name}._data._data", UINT8, (ceil_div(rows * bits, 8), columns)
            )
            yield PackedPiece(f"{param.name}._scale", facts.dtype, (rows, 1))
            yield PackedPiece(f"{param.name}._shift", facts.dtype, (rows, 1))
            yield from _quanto_scalars(param, facts)

        return pieces

    return pieces_of


def _quanto_scalars(param: Param, facts: LoaderFacts) -> Iterator[PackedPiece]:
    yield PackedPiece(f"{module(param)}.input_scale", facts.dtype, ())
    yield PackedPiece(f"{module(param)}.output_scale", facts.dtype, ())


def _eetq(facts: LoaderFacts) -> Pieces:
    def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
        yield PackedPiece(param.name, INT8, (weight.inputs, weight.outputs))
        yield PackedPiece(f"{param.name}_scales", FLOAT16, (weight.outputs,))

    return pieces


def _scheme(name: str, pieces_of: Callable[[LoaderFacts], Pieces], source: str) -> Scheme:
    def loader(facts: LoaderFacts) -> Pack:
        return packing(linears(facts), pieces_of(facts), facts)

    return Scheme(name=name, loader=loader, left=LEFT, source=source)


QUANTO = "optimum-quanto 0.2.7 nn/qmodule.py; transformers 5.23 integrations/quanto.py"
SCHEMES: dict[str, Scheme] = {
    **BITSANDBYTES,
    **TORCHAO,
    "quanto-int8": _scheme("quanto-int8", _quanto_bytes(INT8), QUANTO),
    "quanto-float8": _scheme("quanto-float8", _quanto_bytes(FLOAT8), QUANTO),
    "quanto-int4": _scheme("quanto-int4", _quanto_bits(4), QUANTO),
    "quanto-int2": _scheme("quanto-int2", _quanto_bits(2), QUANTO),
    "eetq": _scheme("eetq", _eetq, "transformers 5.23 integrations/eetq.py"),
}
PATTERNS = {
    r"torchao-int4-g(?P<group>32|64|128|256)": torchao_int4,
    r"hqq-(?P<bits>[1234568])bit-g(?P<group>[1-9]\d{0,5})": hqq,
}
