"""Sums that go through memory: where an output has more inputs than a block of threads should read,
several blocks share it, and meet in a buffer.

    legend   n inputs of each of m outputs; a block of w x h threads, of which each takes v outputs;
             c blocks an output; e bytes of an accumulator

    buffer   e m c           where the threads of a row add up: the reduced dimension is dense
             e m c w v       where they have outputs of their own: columns are summed, as for biases
    flags    4 bytes for each row of blocks

Source: torch aten/src/ATen/native/cuda/Reduce.cuh (setReduceConfig, global_memory_size). A gradient
of a bias, 8,192 x 768 float32 summed to 768 on an A100: w 32, h 4, v 4, c 128, so 48 MiB.
"""

from typing import NamedTuple

from weighbridge.accelerators.chips import Chip
from weighbridge.units import ceil_div

THREADS = 512  # of a block: MAX_NUM_THREADS
WARP = 32
VECTOR = 4  # input_vec_size, and outputs of a thread at most
LEAST, MOST = 16, 256  # values that one thread should add
DENSE = 128  # inputs above which they are read as vectors
FLAG = 4  # bytes of a semaphore


class Reduction(NamedTuple):
    """`dense`: the inputs of an output lie side by side; `folded`: in one piece, so that they are
    read as vectors; `vector` outputs of one thread, where they are not dense."""

    inputs: int
    outputs: int
    dense: bool = False
    folded: bool = False
    vector: int = 1


def columns(rows: int, count: int) -> Reduction:
    """The sum over the rows of a matrix [rows, count] that has no gaps."""
    return Reduction(rows, count, vector=together(count))


def together(*sizes: int) -> int:
    """get_output_vec_size: outputs of a thread, from the columns' number and all strides."""
    return next(v for v in (VECTOR, 2, 1) if all(n % v == 0 for n in sizes))


def buffers(r: Reduction, element: int, chip: Chip) -> list[int]:
    """Bytes of the buffer and of its flags; nothing where one block is enough for an output."""
    across, down = (r.inputs, r.outputs) if r.dense else (r.outputs // r.vector, r.inputs)
    if r.dense and r.folded and r.inputs > DENSE:
        across //= VECTOR
    wide, high = _block(across, down, THREADS // r.vector)
    values = ceil_div(r.inputs, wide) if r.dense else r.inputs
    if values < min(high * LEAST, MOST):
        return []
    values = ceil_div(values, high)
    rows = r.outputs if r.dense else ceil_div(r.outputs // r.vector, wide)
    target = chip.multiprocessors * (chip.threads // (wide * high))
    if values < MOST or rows > target:
        return []
    blocks = max(min(ceil_div(target, rows), ceil_div(values, LEAST)), ceil_div(values, MOST))
    if blocks == 1:
        return []
    return [element * r.outputs * blocks * (1 if r.dense else wide * r.vector), FLAG * rows]


def _block(across: int, down: int, threads: int) -> tuple[int, int]:
    """Width and height of a block of threads."""
    across, down = (min(threads, 1 << max(n, 1).bit_length() - 1) for n in (across, down))
    wide = min(across, WARP)
    high = min(down, threads // wide)
    return min(across, threads // high), high
