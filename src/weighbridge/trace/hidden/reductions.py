"""Sums that go through memory: where an output has more inputs than a block of threads should read,
several blocks share it, and meet in a buffer.

    legend   n inputs of each of m outputs; a block of w x h threads, of which each takes v outputs;
             c blocks an output; e bytes of an accumulator

    buffer   e m c           where the threads of a row add up: the reduced dimension is dense
             e m c w v       where they have outputs of their own: columns are summed, as for biases
    flags    4 bytes for each row of blocks

Source: aten/src/ATen/native/cuda/Reduce.cuh (setReduceConfig, global_memory_size). A gradient of a
bias, 8,192 x 768 float32 summed to 768 on an A100: w 32, h 4, v 4, c 128, so 48 MiB.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch

from weighbridge.trace.card import Card
from weighbridge.trace.hidden.rule import FLOAT, Op, Rule, size
from weighbridge.units import ceil_div

THREADS = 512  # of a block: MAX_NUM_THREADS
WARP = 32
VECTOR = 4  # input_vec_size, and outputs of a thread at most
LEAST, MOST = 16, 256  # values that one thread should add
DENSE = 128  # inputs above which they are read as vectors
FLAG = 4  # bytes of a semaphore
SOURCE = "aten/src/ATen/native/cuda/Reduce.cuh"


class Axes(NamedTuple):
    """(size, stride) of dimensions, the densest first; neighbours that are one are joined."""

    reduced: list[tuple[int, int]]
    kept: list[tuple[int, int]]


def axes(t: torch.Tensor, dims: Sequence[int]) -> Axes:
    chosen = {d % t.dim() for d in dims} if dims else set(range(t.dim()))
    sides: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for d in sorted(range(t.dim()), key=lambda d: (t.stride(d), -d)):
        side = sides[d not in chosen]
        if t.shape[d] == 1:
            continue
        if side and side[-1][0] * side[-1][1] == t.stride(d):
            side[-1] = (side[-1][0] * t.shape[d], side[-1][1])
        else:
            side.append((t.shape[d], t.stride(d)))
    return Axes(*sides)


def buffers(found: Axes, element: int, card: Card) -> list[int]:
    """Bytes of the buffer and of its flags."""
    inputs, outputs = (prod(n for n, _ in side) for side in found)
    dense = not found.kept or bool(found.reduced and found.reduced[0][1] < found.kept[0][1])
    vector = 1 if dense else _outputs_together(found)
    across, down = (inputs, outputs) if dense else (outputs // vector, inputs)
    if dense and inputs > DENSE and len(found.reduced) == 1 and found.reduced[0][1] == 1:
        across //= VECTOR
    wide, high = _block(across, down, THREADS // vector)
    values = ceil_div(inputs, wide) if dense else inputs
    if values < min(high * LEAST, MOST):
        return []
    values = ceil_div(values, high)
    rows = outputs if dense else ceil_div(outputs // vector, wide)
    target = card.multiprocessors * (card.threads // (wide * high))
    if values < MOST or rows > target:
        return []
    blocks = max(min(ceil_div(target, rows), ceil_div(values, LEAST)), ceil_div(values, MOST))
    if blocks == 1:
        return []
    return [element * outputs * blocks * (1 if dense else wide * vector), FLAG * rows]


def _block(across: int, down: int, threads: int) -> tuple[int, int]:
    """Width and height of a block of threads."""
    across, down = (min(threads, _power(n)) for n in (across, down))
    wide = min(across, WARP)
    high = min(down, threads // wide)
    return min(across, threads // high), high


def _power(n: int) -> int:
    """The largest power of two that is not above n."""
    return 1 << max(n, 1).bit_length() - 1


def _outputs_together(found: Axes) -> int:
    """get_output_vec_size"""
    if found.kept[0][1] != 1:
        return 1
    others = [stride for _, stride in (*found.reduced, *found.kept[1:])]
    vector = VECTOR
    for n in (found.kept[0][0], *others):
        while n % vector:
            vector //= 2
    return vector


def _reduced(position: int) -> Callable[[Op], list[int]]:
    """Over the dimensions that argument `position` names."""

    def nbytes(op: Op) -> list[int]:
        t, dims = op.args[0], op.arg(position, "dim")
        if not t.numel() or not t.dim():
            return []
        names = [dims] if isinstance(dims, int) else dims if isinstance(dims, list | tuple) else []
        return buffers(axes(t, names), _accumulator(t.dtype), op.card)

    return nbytes


def _accumulator(dtype: torch.dtype) -> int:
    return FLOAT if dtype.is_floating_point and dtype.itemsize <= FLOAT else max(8, dtype.itemsize)


def _paths(op: Op) -> list[int]:
    """log_beta of CTC's backward: as large as log_alpha."""
    return [size(op.args[6])]


RULES = (
    Rule(ops="sum mean", nbytes=_reduced(1), source=SOURCE),
    Rule(ops="linalg_vector_norm", nbytes=_reduced(2), source=SOURCE),
    Rule(ops="_ctc_loss_backward", nbytes=_paths, source="aten/src/ATen/native/cuda/LossCTC.cu"),
)
