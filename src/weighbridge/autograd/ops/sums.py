"""Sums over rows, as of a bias's gradient: where they are long, several blocks of threads share a
column and meet in a buffer.

    buffer    4 m c w v      m outputs, of which a thread takes v; c blocks each, w threads wide

A gradient of 8,192 x 768 on an A100: w 32, v 4, c 128, so 48 MiB.
Source: torch aten/src/ATen/native/cuda/Reduce.cuh (setReduceConfig, global_memory_size).
"""

from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, record
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import FLOAT32
from weighbridge.units import ceil_div

THREADS, WARP, VECTOR = 512, 32, 4
LEAST, MOST = 16, 256  # values that one thread should add


def over_rows(m: Machine, rows: int, columns: int) -> None:
    """What the sum of `rows` takes besides its result."""
    if rows < MOST or not columns:
        return
    vector = next(v for v in (VECTOR, 2, 1) if columns % v == 0)
    wide, high = _block(columns // vector, rows, THREADS // vector)
    values, lines = ceil_div(rows, high), ceil_div(columns // vector, wide)
    target = m.processors * (m.threads // (wide * high))
    if values < MOST or lines > target:
        return
    blocks = max(min(ceil_div(target, lines), ceil_div(values, LEAST)), ceil_div(values, MOST))
    if blocks > 1:
        m.hidden(4 * columns * blocks * wide * vector, 4 * lines)


def _block(across: int, down: int, threads: int) -> tuple[int, int]:
    """Width and height of a block of threads."""
    across, down = (min(threads, 1 << n.bit_length() - 1) for n in (across, down))
    wide = min(across, WARP)
    high = min(down, threads // wide)
    return min(across, threads // high), high


def over_tokens(m: Machine, x: Tensor) -> Tensor:
    """x.sum(1, dtype=float32) of [batch, tokens, width]; its gradient is a view, unless it has
    another dtype."""
    out = m.new((x.shape[0], x.shape[-1]), FLOAT32)
    before, dtype = x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        if grads[0].dtype == dtype:
            return [Tensor(before, dtype, grads[0].storage)]
        return [m.new(before, dtype)]

    record(m, back, [x], [], out)
    return out


def mean_of_tokens(m: Machine, x: Tensor) -> Tensor:
    """x.mean(1) of [batch, tokens, width]"""
    out = m.new((x.shape[0], x.shape[-1]), x.dtype)
    before = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(before, grads[0].dtype)]

    record(m, back, [x], [], out)
    return out
