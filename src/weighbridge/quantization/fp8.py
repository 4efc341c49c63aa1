"""FP8 (e4m3): one byte a weight, and a scale for a tensor, a row or a block of 128 x 128.

    fp8-tensor   weight_scale float32 [1]              8
    fp8-static   ... and input_scale float32 [1]       8
    fp8-dynamic  weight_scale float32 [out, 1]         8 + 32/in    (FP8_DYNAMIC, w8a8-fp8)
    fp8-block    weight_scale_inv float32 [ceil(out/128), ceil(in/128)]   8 + 32/16384
    fp8-block-AxB                          [ceil(out/A), ceil(in/B)]      8 + 32/(A B)

Source: transformers 5.23 integrations/finegrained_fp8.py (FP8Linear, FP8Experts);
compressed-tensors 0.20 quantization/lifecycle/initialize.py:initialize_qparams. Files of
compressed-tensors hold row scales in the model's dtype; vLLM's ChannelQuantScaleParameter, where
they run, is float32.
"""

from collections.abc import Iterator
from re import Match, match

from weighbridge.arch.blueprint import Param
from weighbridge.dtypes import FLOAT8, FLOAT32
from weighbridge.quantization.scheme import (
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Pieces,
    Scheme,
    packing,
    published,
    sibling,
)
from weighbridge.units import ceil_div

BLOCK = 128


def per_tensor(p: Param, m: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(p.name, FLOAT8, p.shape)
    yield PackedPiece(f"{p.name}_scale", FLOAT32, m.stack or (1,))


def static(p: Param, m: Matrix) -> Iterator[PackedPiece]:
    yield from per_tensor(p, m)
    yield PackedPiece(sibling(p, "input_scale"), FLOAT32, m.stack or (1,))


def per_row(p: Param, m: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(p.name, FLOAT8, p.shape)
    yield PackedPiece(f"{p.name}_scale", FLOAT32, (*m.stack, m.outputs, 1))


def in_blocks(rows: int, columns: int) -> Pieces:
    """Return the pieces of a matrix with one scale for each block of that size."""

    def pieces(p: Param, m: Matrix) -> Iterator[PackedPiece]:
        scale = (*m.stack, ceil_div(m.outputs, rows), ceil_div(m.inputs, columns))
        yield PackedPiece(p.name, FLOAT8, p.shape)
        yield PackedPiece(f"{p.name}_scale_inv", FLOAT32, scale)

    return pieces


def block_name(rows: int, columns: int) -> str:
    """What the format with blocks of that size is called: plain where it is the usual one."""
    return "fp8-block" if rows == columns == BLOCK else f"fp8-block-{rows}x{columns}"


def block_of(name: str) -> tuple[int, int] | None:
    """Return the rows and columns of a block that has one scale, of formats that have such."""
    found = match(r"fp8-block(?:-(\d+)x(\d+))?(?![\w-])", name)
    if found is None:
        return None
    return (int(found[1]), int(found[2])) if found[1] else (BLOCK, BLOCK)


def _scheme(name: str, pieces: Pieces) -> Scheme:
    def loader(s: LoaderFacts) -> Pack:
        return packing(published(s), pieces, s)

    return Scheme(
        name=name,
        loader=loader,
        left="embeddings, norms, biases, routers, the output layer and vision and audio parts "
        "stay in the model's dtype",
        source="transformers 5.23 integrations/finegrained_fp8.py; compressed-tensors 0.20",
    )


SCHEMES: dict[str, Scheme] = {
    name: _scheme(name, pieces)
    for name, pieces in {
        "fp8-tensor": per_tensor,
        "fp8-static": static,
        "fp8-dynamic": per_row,
        "w8a8-fp8": per_row,
        "fp8-block": in_blocks(BLOCK, BLOCK),
    }.items()
}


def _blocks(found: Match[str]) -> Scheme:
    rows, columns = int(found["rows"]), int(found["columns"])
    return _scheme(block_name(rows, columns), in_blocks(rows, columns))


PATTERNS = {r"fp8-block-(?P<rows>[1-9]\d{0,4})x(?P<columns>[1-9]\d{0,4})": _blocks}
