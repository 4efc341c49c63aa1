"""cuBLAS: a workspace of each thread, and copies of matrices that it cannot read.

Sizes and versions are in kernels/cublas.py; CUBLAS_WORKSPACE_CONFIG=:KiB:count:... replaces them.
Backward runs in a thread of its own, so training has two.
"""

import os
import re
from collections.abc import Iterator

import torch

from weighbridge.kernels import cublas
from weighbridge.lab.trace.card import Card
from weighbridge.lab.trace.hidden.rule import HiddenRule, Op, Version, size
from weighbridge.units import KIB

SOURCE = "aten/src/ATen/cuda/CublasHandlePool.cpp"
BLAS, LT = "cuBLAS workspace", "cuBLASLt workspace"
PRODUCTS = "mm addmm bmm baddbmm addbmm mv addmv dot vdot _addmm_activation _scaled_mm _int_mm"


def workspace(card: Card, version: Version) -> int:
    """Return the bytes of one cuBLAS workspace."""
    sizes = re.findall(r":(\d+):(\d+)", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
    if sizes:
        return sum(int(kib) * KIB * int(count) for kib, count in sizes)
    return cublas.workspace(card.capability[0], version)


def workspaces(name: str, op: Op) -> Iterator[tuple[str, int]]:
    """Yield name and bytes of the workspaces that a product finds, or takes and leaves, in its
    thread."""
    if op.version < cublas.TRANSIENT_SINCE:
        yield BLAS, workspace(op.card, op.version)
    if cublas.LIGHT_KEPT_SINCE <= op.version < cublas.UNIFIED_SINCE and _light(name, op):
        yield LT, cublas.LIGHT


def _light(name: str, op: Op) -> bool:
    """Tell whether the bias goes into the product's epilogue (Blas.cpp:
    isInputCompliesAddmmCudaLt)."""
    if name in ("_scaled_mm", "_addmm_activation"):
        return True
    bias = op.arg(0)
    plain = bias.dim() == 1 and bias.is_contiguous()
    return name == "addmm" and bool(plain) and min(op.args[2].shape) > 1


def _transient(op: Op) -> list[int]:
    return [workspace(op.card, op.version)]


def _transient_light(op: Op) -> list[int]:
    return [cublas.LIGHT] if _light("addmm", op) else []


def _matrices(first: int) -> HiddenRule:
    """Make the rule of the two matrices from argument `first` on, which are copied where neither
    rows nor columns are dense."""

    def nbytes(op: Op) -> list[int]:
        pair = (op.arg(first), op.arg(first + 1))
        return [size(m) for m in pair if m.dim() > 1 and not _readable(m)]

    return HiddenRule(
        ops="mm bmm" if first == 0 else "addmm baddbmm",
        nbytes=nbytes,
        source="aten/src/ATen/native/cuda/Blas.cpp, prepare_matrix_for_cublas",
    )


def _readable(matrix: torch.Tensor) -> bool:
    rows, columns = matrix.shape[-2:]
    s0, s1 = matrix.stride()[-2:]
    return bool((s0 == 1 and s1 >= max(1, rows)) or (s1 == 1 and s0 >= max(1, columns)))


RULES = (
    _matrices(0),
    _matrices(1),
    HiddenRule(
        ops=PRODUCTS, nbytes=_transient, source=SOURCE, what=BLAS, since=cublas.TRANSIENT_SINCE
    ),
    HiddenRule(
        ops="addmm", nbytes=_transient_light, source=SOURCE, what=LT, until=cublas.LIGHT_KEPT_SINCE
    ),
)
