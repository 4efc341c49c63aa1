"""Gradients of embeddings: indices are sorted, and rows with one index are summed in parts.

    legend   N indices of I bytes, V rows of the table; S segments, one for each distinct index;
             P partial sums, of at most 10 rows each

How many indices are distinct is in the data; torch makes room for the most there can be (before
1.11 it asked the card, so that partial sums were fewer).
Source: torch aten/src/ATen/native/cuda/Embedding.cu (embedding_dense_backward_cuda),
EmbeddingBackwardKernel.cu (embedding_backward_cuda_kernel).
"""

FEW = 3072  # indices up to which one kernel sums without sorting
ROWS = 10  # NROWS_PER_THREAD


def sorts(count: int) -> bool:
    """Whether so many indices are sorted."""
    return count > FEW


def sorted_bytes(count: int, index: int) -> list[int]:
    """Bytes of the sorted indices and of the order that sorted them, held to the end."""
    return [index * count] * 2


def segments(count: int, index: int, rows: int, row_bytes: int) -> list[int]:
    """Bytes of offsets of segments and of partial sums, and of these; `row_bytes` in the dtype that
    sums are made in, float32 for half types."""
    distinct = min(count, rows)
    partial = count // ROWS + distinct
    return [
        index * count,
        index * distinct,
        index * distinct,
        index * partial,
        partial * row_bytes,
    ]
