"""Floats with scales: FP8, MXFP4, MXFP8 and NVFP4.

    fp8-tensor   weight float8_e4m3fn [out, in], weight_scale float32 [1]    8
    fp8-static   ... and input_scale float32 [1]                             8
    fp8-dynamic  weight_scale float32 [out, 1]         8 + 32/in    (FP8_DYNAMIC, w8a8-fp8)
    fp8-block    weight_scale_inv float32 [ceil(out/128), ceil(in/128)]      8 + 32/16384
    fp8-block-AxB                         [ceil(out/A), ceil(in/B)]          8 + 32/(A B)

    mxfp4  two values a byte and a uint8 exponent for 32 of them                    4.25
           stacked experts (gpt-oss): _blocks [E, out, in/32, 16], _scales [E, out, in/32]
           a Linear (compressed-tensors): weight_packed [out, in/2], weight_scale [out, in/32]
    mxfp8  weight float8_e4m3fn [out, in], weight_scale uint8 [out, in/32]          8.25
    nvfp4  weight_packed uint8 [out, in/2], weight_scale e4m3 [out, in/16],
           weight_global_scale and input_global_scale float32 [1]                   4.5

Files of compressed-tensors hold FP8's row scales in the model's dtype; vLLM's
ChannelQuantScaleParameter, where they run, is float32. Where a model has routed experts, MXFP4 is
for those alone, as in gpt-oss and Kimi. Engines pad: vLLM rounds gpt-oss's 2,880 up, kernels tile
NVFP4's scales by 128 x 4; that is not counted here.

Source: transformers 5.23 integrations/finegrained_fp8.py (FP8Linear, FP8Experts) and
integrations/mxfp4.py; compressed-tensors 0.20 quantization/lifecycle/initialize.py
(initialize_qparams), compressors/{nvfp4,mxfp4,mxfp8}.
"""

from collections.abc import Iterator
from functools import partial
from re import Match, match

from weighbridge.base.dtypes import FLOAT8, FLOAT32, UINT8
from weighbridge.base.units import ceil_div
from weighbridge.models.arch.blueprint import Param, ParamKind
from weighbridge.models.quantization.scheme import (
    MATRICES,
    PUBLISHED_LEFT,
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Pieces,
    Scheme,
    checkpoint_linears,
    packing,
    published,
    sibling,
)

BLOCK = 128
MX, NV = 32, 16  # elements per scale


def per_tensor(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(param.name, FLOAT8, param.shape)
    yield PackedPiece(f"{param.name}_scale", FLOAT32, weight.stack or (1,))


def static(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield from per_tensor(param, weight)
    yield PackedPiece(sibling(param, "input_scale"), FLOAT32, weight.stack or (1,))


def per_row(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(param.name, FLOAT8, param.shape)
    yield PackedPiece(f"{param.name}_scale", FLOAT32, (*weight.stack, weight.outputs, 1))


def in_blocks(rows: int, columns: int) -> Pieces:
    """Return the tensors of a matrix with one scale per block of `rows` x `columns`."""

    def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
        scale = (*weight.stack, ceil_div(weight.outputs, rows), ceil_div(weight.inputs, columns))
        yield PackedPiece(param.name, FLOAT8, param.shape)
        yield PackedPiece(f"{param.name}_scale_inv", FLOAT32, scale)

    return pieces


def block_name(rows: int, columns: int) -> str:
    """Return the format's name for a block size: the plain name for the usual size."""
    return "fp8-block" if rows == columns == BLOCK else f"fp8-block-{rows}x{columns}"


def block_of(name: str) -> tuple[int, int] | None:
    """Return [rows, columns] of a format's blocks with one scale, None for other formats."""
    sizes = match(r"fp8-block(?:-(\d+)x(\d+))?(?![\w-])", name)
    if sizes is None:
        return None
    return (int(sizes[1]), int(sizes[2])) if sizes[1] else (BLOCK, BLOCK)


def mxfp4(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    groups = (*weight.stack, weight.outputs, weight.inputs // MX)
    if weight.stack:
        yield PackedPiece(f"{param.name}_blocks", UINT8, (*groups, MX // 2))
        yield PackedPiece(f"{param.name}_scales", UINT8, groups)
    else:
        yield PackedPiece(f"{param.name}_packed", UINT8, (weight.outputs, weight.inputs // 2))
        yield PackedPiece(f"{param.name}_scale", UINT8, groups)


def mxfp8(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(param.name, FLOAT8, (*weight.stack, weight.outputs, weight.inputs))
    yield PackedPiece(
        sibling(param, "weight_scale"), UINT8, (*weight.stack, weight.outputs, weight.inputs // MX)
    )


def nvfp4(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(
        f"{param.name}_packed", UINT8, (*weight.stack, weight.outputs, weight.inputs // 2)
    )
    yield PackedPiece(
        f"{param.name}_scale", FLOAT8, (*weight.stack, weight.outputs, weight.inputs // NV)
    )
    yield PackedPiece(f"{param.name}_global_scale", FLOAT32, weight.stack or (1,))
    yield PackedPiece(sibling(param, "input_global_scale"), FLOAT32, weight.stack or (1,))


def _mxfp4(facts: LoaderFacts) -> Pack:
    sparse = any(p.kind in ("expert", "experts") for p in facts.plan.counted)
    kinds: tuple[ParamKind, ...] = ("expert", "experts") if sparse else ("linear", "conv1d")
    return packing(checkpoint_linears(facts, kinds=kinds), mxfp4, facts, group=MX)


def _packed(pieces: Pieces, group: int, facts: LoaderFacts) -> Pack:
    return packing(published(facts), pieces, facts, group=group)


def _named(pieces: Pieces, group: int, facts: LoaderFacts) -> Pack:
    return packing(lambda p: p.kind in MATRICES, pieces, facts, group=group)


FP8 = "transformers 5.23 integrations/finegrained_fp8.py; compressed-tensors 0.20"


def _scheme(name: str, pieces: Pieces, *, group: int = 1, source: str = FP8) -> Scheme:
    return Scheme(
        name=name,
        loader=partial(_packed, pieces, group),
        named=partial(_named, pieces, group),
        left=PUBLISHED_LEFT,
        source=source,
    )


SCHEMES: dict[str, Scheme] = {
    "fp8-tensor": _scheme("fp8-tensor", per_tensor),
    "fp8-static": _scheme("fp8-static", static),
    "fp8-dynamic": _scheme("fp8-dynamic", per_row),
    "w8a8-fp8": _scheme("w8a8-fp8", per_row),
    "fp8-block": _scheme("fp8-block", in_blocks(BLOCK, BLOCK)),
    "mxfp4": Scheme(
        name="mxfp4",
        loader=_mxfp4,
        named=partial(_named, mxfp4, MX),
        left="where there are routed experts, all but those stays in the model's dtype; in other "
        "models embeddings, norms, biases and the output layer",
        source="transformers 5.23 integrations/mxfp4.py; compressed-tensors 0.20 compressors/mxfp4",
    ),
    "nvfp4": _scheme("nvfp4", nvfp4, group=NV, source="compressed-tensors 0.20 compressors/nvfp4"),
    "mxfp8": _scheme("mxfp8", mxfp8, group=MX, source="compressed-tensors 0.20 compressors/mxfp8"),
}


def _blocks(match: Match[str]) -> Scheme:
    rows, columns = int(match["rows"]), int(match["columns"])
    return _scheme(block_name(rows, columns), in_blocks(rows, columns))


PATTERNS = {r"fp8-block-(?P<rows>[1-9]\d{0,4})x(?P<columns>[1-9]\d{0,4})": _blocks}
