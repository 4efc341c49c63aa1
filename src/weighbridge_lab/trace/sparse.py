"""Sparse matrices by their coordinates, of which torch's fake tensors know no product, and lose
the coordinates on the way.

    moved        indices and values are copied
    coalesced    sorted by one index for both dimensions: it, the order, the first of each, and what
                 a radix sort takes; where values are not known no two coordinates are the same
                 (aten/src/ATen/native/sparse/cuda/SparseCUDATensor.cu)
    product      the matrix as 32-bit rows, the result once more by columns, and the dense side
                 where it is neither by rows nor by columns
                 (aten/src/ATen/native/sparse/cuda/SparseCUDATensorMath.cu: s_addmm_out)

`mm` is `addmm` with zeros (aten/src/ATen/native/sparse/SparseTensorMath.cpp). What cuSPARSE takes
for itself is not counted: the driver level's interval has it.
"""

from collections.abc import Callable
from typing import Any

import torch

ATEN = torch.ops.aten
SORTED = 2  # buffers of a radix sort, for keys and for values


def moved(matrix: torch.Tensor, **settings: Any) -> torch.Tensor:
    """Return a copy of a matrix on another device or in another dtype."""
    indices = matrix._indices().to(settings.get("device") or matrix.device, copy=True)
    dtype = settings.get("dtype") or matrix.dtype
    values = matrix._values().to(indices.device, dtype, copy=True)
    return _sparse_like(matrix, indices, values, coalesced=matrix.is_coalesced())


def coalesced(matrix: torch.Tensor) -> torch.Tensor:
    if matrix.is_coalesced():
        return matrix
    count, indices = matrix._nnz(), matrix._indices()
    flat, order, firsts = (indices.new_empty(count) for _ in range(3))
    buffers = indices.new_empty(SORTED * count)
    del buffers
    values, places = torch.empty_like(matrix._values()), torch.empty_like(indices)
    del flat, order, firsts
    return _sparse_like(matrix, places, values, coalesced=True)


def product(
    added: torch.Tensor,
    matrix: torch.Tensor,
    dense: torch.Tensor,
    *_: Any,
    **__: Any,
) -> torch.Tensor:
    """Return a sparse matrix times a dense one, plus `added`."""
    rows, count = matrix.shape[0], matrix._nnz()
    out: torch.Tensor = dense.new_empty(rows, dense.shape[1])
    matrix = coalesced(matrix)
    starts = dense.new_empty(rows + 1, dtype=torch.int32)
    wide = dense.new_empty(count, dtype=torch.int32)
    del wide
    columns = dense.new_empty(count, dtype=torch.int32)
    by_columns = None if out.stride(0) == 1 else torch.empty_like(out)
    plain = 1 in dense.stride()
    copied = dense if plain else dense.contiguous()
    del starts, columns, by_columns, copied
    return out


def multiplied(matrix: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    zeros = dense.new_zeros(matrix.shape[0], dense.shape[1])
    return product(zeros, matrix, dense)


def transposed(matrix: torch.Tensor, *_: Any) -> torch.Tensor:
    """Return a transposed copy of a matrix, whose coordinates are no longer sorted."""
    indices = matrix._indices().flip(0)
    values = matrix._values().clone()
    return _sparse_like(matrix, indices, values, coalesced=False, shape=matrix.shape[::-1])


def _sparse_like(
    matrix: torch.Tensor,
    indices: torch.Tensor,
    values: torch.Tensor,
    *,
    coalesced: bool,
    shape: torch.Size | None = None,
) -> torch.Tensor:
    size = matrix.shape if shape is None else shape
    return torch.sparse_coo_tensor(
        indices, values, size, is_coalesced=coalesced, check_invariants=False
    )


RULES: dict[Any, Callable[..., torch.Tensor]] = {
    ATEN._to_copy.default: moved,
    ATEN.clone.default: moved,
    ATEN._coalesce.default: coalesced,
    ATEN._sparse_addmm.default: product,
    ATEN.addmm.default: product,
    ATEN.mm.default: multiplied,
    ATEN._sparse_mm.default: multiplied,
    ATEN.t.default: transposed,
    ATEN.transpose.int: transposed,
}


def rule(func: Any, args: tuple[Any, ...]) -> Callable[..., torch.Tensor] | None:
    """Return the rule for an operation with a sparse matrix; None for other operations, or without
    a rule."""
    known = RULES.get(func)
    if known is None or not any(isinstance(one, torch.Tensor) and one.is_sparse for one in args):
        return None
    return known
