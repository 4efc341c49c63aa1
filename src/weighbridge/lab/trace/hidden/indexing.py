"""Gradients that go where indices say, and sorting: by sorting the indices first.

Those of embeddings are in kernels/reductions.py.
"""

import torch

from weighbridge.kernels.reductions import segments, sorted_bytes, sorts
from weighbridge.lab.trace.hidden.rule import HiddenRule, Op, accumulated, copied, size

IN_PLACE = 4096  # values of a row that are sorted where they are
EMBEDDING = "aten/src/ATen/native/cuda/Embedding.cu, embedding_dense_backward_cuda"


def _sorted_ways(op: Op) -> bool:
    return bool(sorts(op.args[1].numel()) or op.arg(4, "scale_grad_by_freq", False))


def _inputs(op: Op) -> list[int]:
    return [copied(op.args[1]), copied(op.args[0])]


def _sorted(op: Op) -> list[int]:
    if not _sorted_ways(op):
        return []
    indices = op.args[1]
    counts = [size(indices)] if op.arg(4, "scale_grad_by_freq", False) else []
    return [*sorted_bytes(indices.numel(), indices.element_size()), *counts]


def _sorting(op: Op) -> list[int]:
    """Return the bytes of a range, and of what cub's radix sort passes its pairs through."""
    indices = op.args[1]
    return [size(indices), 2 * size(indices)] if _sorted_ways(op) else []


def _segments(op: Op) -> list[int]:
    if not _sorted_ways(op):
        return []
    grad, indices, rows = op.args[:3]
    row_bytes = grad.shape[-1] * accumulated(grad)
    return segments(indices.numel(), indices.element_size(), rows, row_bytes)


def _accumulating(op: Op) -> list[int]:
    """Return what index_put_ with accumulate takes: linear index, sorted and original ones, a
    range, cub's pairs."""
    if not op.arg(3, "accumulate", False):
        return []
    indices = [i for i in op.args[1] if i is not None]
    n = torch.broadcast_shapes(*(i.shape for i in indices)).numel() if indices else 0
    n = max(n, *(i.numel() for i in indices if i.dtype == torch.bool), 0) if indices else 0
    return [8 * n] * 4 + [16 * n, copied(op.args[2])]


def _sort(op: Op) -> list[int]:
    """Return the bytes of cub's pairs, and of the indices that go with them, for rows above
    4,096."""
    values = op.args[0]
    if values.dim() == 0 or max(values.shape) <= IN_PLACE:
        return []
    n = values.numel()
    return [n * 8, n * (values.element_size() + 8)]


def _sampling(op: Op) -> list[int]:
    """Return the exponential noise for each value that multinomial of one sample, or without
    replacement, draws."""
    return [size(op.args[0])]


RULES = (
    HiddenRule(ops="embedding_dense_backward", nbytes=_inputs, source=EMBEDDING, when="before"),
    HiddenRule(ops="embedding_dense_backward", nbytes=_sorted, source=EMBEDDING, when="before"),
    HiddenRule(ops="embedding_dense_backward", nbytes=_sorting, source=EMBEDDING, when="first"),
    HiddenRule(
        ops="embedding_dense_backward",
        nbytes=_segments,
        source="aten/src/ATen/native/cuda/EmbeddingBackwardKernel.cu",
    ),
    HiddenRule(
        ops="index_put_ _index_put_impl_ _unsafe_index_put",
        nbytes=_accumulating,
        source="aten/src/ATen/native/cuda/Indexing.cu, index_put_with_sort_kernel",
    ),
    # of gradients, which a GPU writes in place: between it and its zeros nothing may come
    HiddenRule(
        ops="index_put",
        nbytes=_accumulating,
        source="aten/src/ATen/native/cuda/Indexing.cu, index_put_with_sort_kernel",
        when="first",
    ),
    HiddenRule(ops="sort argsort", nbytes=_sort, source="aten/src/ATen/native/cuda/Sort.cpp"),
    HiddenRule(
        ops="multinomial",
        nbytes=_sampling,
        source="aten/src/ATen/native/Distributions.cpp, multinomial_out",
    ),
)
