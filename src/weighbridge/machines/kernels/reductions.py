"""Sums that go through memory: reductions in blocks of threads, and gradients of embeddings.

Where an output has more inputs than a block of threads should read, several blocks share it, and
meet in a buffer.

    legend   n inputs of each of m outputs; a block of w x h threads, of which each takes v outputs;
             c blocks an output; e bytes of an accumulator

    buffer   e m c           where the threads of a row add up: the reduced dimension is dense
             e m c w v       where they have outputs of their own: columns are summed, as for biases
    flags    4 bytes for each row of blocks

A gradient of a bias, 8,192 x 768 float32 summed to 768 on an A100: w 32, h 4, v 4, c 128, so
48 MiB.

For an embedding's gradient indices are sorted, and rows with one index are summed in parts of at
most 10 rows. How many indices are distinct is in the data; torch makes room for the most there can
be (before 1.11 it asked the card, so that partial sums were fewer).

Source: torch aten/src/ATen/native/cuda/Reduce.cuh (setReduceConfig, global_memory_size),
Embedding.cu (embedding_dense_backward_cuda), EmbeddingBackwardKernel.cu
(embedding_backward_cuda_kernel).
"""

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import ceil_div
from weighbridge.machines.accelerators.chips import Chip

THREADS = 512  # of a block: MAX_NUM_THREADS
WARP = 32
VECTOR = 4  # input_vec_size, and most outputs per thread
LEAST, MOST = 16, 256  # values that one thread should add
DENSE = 128  # inputs above which they are read as vectors
FLAG = 4  # bytes of a semaphore


class Reduction(NamedTuple):
    """A sum over `inputs` values for each of `outputs`. `dense`: the inputs of an output are
    adjacent; `folded`: contiguous, so they are read as vectors; `vector`: outputs per thread if not
    dense."""

    inputs: int
    outputs: int
    dense: bool = False
    folded: bool = False
    vector: int = 1


def columns(rows: int, count: int) -> Reduction:
    """Return the sum over the rows of a contiguous matrix [rows, count]."""
    return Reduction(rows, count, vector=together(count))


def together(*sizes: int) -> int:
    """Return the outputs per thread, which must divide the columns and all strides
    (get_output_vec_size)."""
    return next(width for width in (VECTOR, 2, 1) if all(size % width == 0 for size in sizes))


def buffers(reduction: Reduction, element: int, chip: Chip) -> list[int]:
    """Return the bytes of the buffer and of its flags; none if one block of threads is enough per
    output."""
    across, down = (
        (reduction.inputs, reduction.outputs)
        if reduction.dense
        else (reduction.outputs // reduction.vector, reduction.inputs)
    )
    if reduction.dense and reduction.folded and reduction.inputs > DENSE:
        across //= VECTOR
    wide, high = _block(across, down, THREADS // reduction.vector)
    values = ceil_div(reduction.inputs, wide) if reduction.dense else reduction.inputs
    if values < min(high * LEAST, MOST):
        return []
    values = ceil_div(values, high)
    rows = (
        reduction.outputs
        if reduction.dense
        else ceil_div(reduction.outputs // reduction.vector, wide)
    )
    target = chip.multiprocessors * (chip.threads // (wide * high))
    if values < MOST or rows > target:
        return []
    blocks = max(min(ceil_div(target, rows), ceil_div(values, LEAST)), ceil_div(values, MOST))
    if blocks == 1:
        return []
    return [
        element * reduction.outputs * blocks * (1 if reduction.dense else wide * reduction.vector),
        FLAG * rows,
    ]


def _block(across: int, down: int, threads: int) -> tuple[int, int]:
    """Return the width and the height, in threads, of a block of threads."""
    across, down = (min(threads, 1 << max(size, 1).bit_length() - 1) for size in (across, down))
    wide = min(across, WARP)
    high = min(down, threads // wide)
    return min(across, threads // high), high


# ---- Gradients of embeddings

UNSORTED = 3072  # most indices that one kernel sums without sorting
ROWS_OF_A_THREAD = 10  # NROWS_PER_THREAD


def sorts(count: int) -> bool:
    """Return whether torch sorts `count` indices before it sums their rows."""
    return count > UNSORTED


def sorted_bytes(count: int, index: int) -> list[int]:
    """Return the bytes of the sorted indices and of their permutation, held to the end."""
    return [index * count] * 2


def segments(count: int, index: int, rows: int, row_bytes: int) -> list[int]:
    """Return the bytes of the offsets of segments and of partial sums, and of these sums.
    `row_bytes` are in the dtype of the sums, float32 for half types."""
    distinct = min(count, rows)
    partial = count // ROWS_OF_A_THREAD + distinct
    return [
        index * count,
        index * distinct,
        index * distinct,
        index * partial,
        partial * row_bytes,
    ]
