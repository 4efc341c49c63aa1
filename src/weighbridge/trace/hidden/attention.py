"""Attention kernels: what accumulates outside registers.

    legend   B batch, H heads, M queries, N keys, D head dimension

flash      forward that splits the keys: an output and a logsumexp a split, in float32
           backward: float32 dQ rounded up (M to 128, D to 32), softmax_d, and dK, dV of each query
           head where several share a key head
efficient  forward: float32 output where the values' dimension is above 128
           backward: delta, and a float32 tile of dQ for each block of queries (and dK, dV where the
           kernel cannot keep them)
cudnn      backward: float32 dQ and delta
"""

from collections.abc import Callable, Iterable
from math import ceil
from typing import NamedTuple

import torch

from weighbridge.trace.hidden.rule import FLOAT, HALF, Op, Rule, size
from weighbridge.units import KIB, align_up, ceil_div

SPLIT_LIMIT = 128


def _copies(*positions: int) -> Callable[[Op], list[int]]:
    """Of gradient and output, which the kernels read as (B, M, H, D) without gaps."""

    def nbytes(op: Op) -> list[int]:
        given = (op.arg(i) for i in positions)
        return [size(t) for t in given if not t.transpose(1, 2).is_contiguous()]

    return nbytes


def _rounded(dim: int) -> int:
    return align_up(dim, 32) if dim <= 192 else 256


def _flash_backward(op: Op) -> list[int]:
    _, q, k = op.args[:3]
    b, h, m, d = q.shape
    rows = align_up(m, 128)
    taken = [b * h * rows * FLOAT, b * rows * h * _rounded(d) * FLOAT]
    if torch.are_deterministic_algorithms_enabled():
        taken[1] *= ceil_div(op.card.multiprocessors, b * h)
    if k.shape[1] != h:
        taken += [b * k.shape[2] * h * d * q.element_size()] * 2
    return taken


def _flash_forward(op: Op) -> list[int]:
    q, k = op.args[:2]
    b, h, m, d = q.shape
    if op.arg(3, "dropout_p", 0.0) > 0:
        return []
    if m == 1 and h > k.shape[1]:  # the heads that share keys become queries
        m, h = h // k.shape[1], k.shape[1]
    block = 256 if d <= 64 else 128 if d <= 128 else 64
    splits = _splits(
        b * h * ceil_div(m, 64), 2 * op.card.multiprocessors, ceil_div(k.shape[2], block)
    )
    rows = splits * b * h * m * FLOAT
    return [rows, rows * _rounded(d)] if splits > 1 else []


def _splits(blocks: int, processors: int, key_blocks: int) -> int:
    """flash_api.cpp: num_splits_heuristic."""
    if blocks >= 0.8 * processors:
        return 1
    most = min(SPLIT_LIMIT, processors, key_blocks)
    gains = {}
    for n in range(1, most + 1):
        if n == 1 or ceil_div(key_blocks, n) != ceil_div(key_blocks, n - 1):
            waves = blocks * n / processors
            gains[n] = waves / ceil(waves)
    best = max(gains.values(), default=1.0)
    return next((n for n, gain in gains.items() if gain >= 0.85 * best), 1)


def _efficient_forward(op: Op) -> list[int]:
    q, _, v = op.args[:3]
    if v.dtype not in HALF or v.shape[-1] <= 128:
        return []
    return [q.shape[0] * q.shape[2] * q.shape[1] * v.shape[-1] * FLOAT]


class Tile(NamedTuple):
    """A kernel of cutlassB.h: rows of queries and keys that it works on, and its largest D."""

    queries: int
    keys: int
    dim: int


UNLIMITED = 65536
SMALL = (Tile(64, 64, 32), Tile(64, 64, 64), Tile(64, 64, 128), Tile(64, 64, UNLIMITED))
# Those that need more shared memory than 100 KiB are on cards that have it
LARGE_HALF = (Tile(64, 64, 32), Tile(64, 64, 64), Tile(128, 128, 128), Tile(128, 64, UNLIMITED))
LARGE_FLOAT = (Tile(64, 64, 32), Tile(64, 64, 64), Tile(128, 64, 128), Tile(128, 64, UNLIMITED))


def _tile(q: torch.Tensor, v: torch.Tensor, op: Op, dropout: bool) -> Tile:
    large = op.card.shared_memory > 100 * KIB
    tiles: tuple[Tile, ...] = SMALL
    if large:
        tiles = LARGE_HALF if q.dtype in HALF else LARGE_FLOAT
    if large and dropout and q.dtype in HALF:
        tiles = (SMALL[2], LARGE_HALF[3])
    dim = max(q.shape[-1], v.shape[-1])
    return next(tile for tile in tiles if tile.dim >= dim)


def _efficient_backward(op: Op) -> list[int]:
    _, q, k, v = op.args[:4]
    b, h, m, d = q.shape
    tile = _tile(q, v, op, op.arg(9, "dropout_p", 0.0) > 0)
    gq = ceil_div(m, tile.queries) * ceil_div(d, tile.keys) * (4 + tile.queries * tile.keys)
    splits = ceil_div(k.shape[2], tile.keys)
    if torch.are_deterministic_algorithms_enabled():
        splits = 1
    kept = q.dtype in HALF and tile.dim <= tile.queries
    gkv = 0
    if not kept and q.dtype in HALF:
        dims = align_up(d, tile.queries) + align_up(v.shape[-1], tile.queries)
        gkv = splits * tile.keys * dims
    workspace = b * h * align_up(gq + gkv, 4) * FLOAT
    return [b * h * m * FLOAT, workspace]


def _product_for_delta(op: Op) -> Iterable[int]:
    """float32 kernels do not compute sum(dO * O) themselves."""
    grad = op.arg(0)
    return [] if grad.dtype in HALF else [size(grad)]


def _cudnn_backward(op: Op) -> list[int]:
    b, h, m, d = op.arg(1).shape
    return [b * h * m * d * FLOAT, b * h * m * FLOAT]


FLASH = "aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp"
EFFICIENT = "aten/src/ATen/native/transformers/cuda/attention_backward.cu, kernel_backward.h"

RULES = (
    Rule(
        ops="_scaled_dot_product_flash_attention_backward",
        nbytes=_copies(0, 4),
        source=EFFICIENT,
        when="before",
    ),
    Rule(
        ops="_scaled_dot_product_efficient_attention_backward",
        nbytes=_copies(0),
        source=EFFICIENT,
        when="before",
    ),
    Rule(
        ops="_scaled_dot_product_flash_attention_backward",
        nbytes=_flash_backward,
        source=f"{FLASH}, mha_bwd",
    ),
    Rule(
        ops="_scaled_dot_product_flash_attention",
        nbytes=_flash_forward,
        source=f"{FLASH}, set_params_splitkv",
    ),
    Rule(
        ops="_scaled_dot_product_efficient_attention",
        nbytes=_efficient_forward,
        source="mem_eff_attention/kernel_forward.h, kNeedsOutputAccumulatorBuffer",
    ),
    Rule(
        ops="_scaled_dot_product_efficient_attention_backward",
        nbytes=_product_for_delta,
        source=f"{EFFICIENT}, kKernelComputesDelta",
    ),
    Rule(
        ops="_scaled_dot_product_efficient_attention_backward",
        nbytes=_efficient_backward,
        source=f"{EFFICIENT}, workspace_size",
    ),
    Rule(
        ops="_scaled_dot_product_cudnn_attention_backward",
        nbytes=_cudnn_backward,
        source="cudnn SDPA backward accumulates dQ in float32; not measured here",
    ),
)
