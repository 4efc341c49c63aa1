"""Attention: which kernel scaled_dot_product_attention takes, and what accumulates in memory.

    order      cuDNN first where torch prefers it, then flash, efficient, math
    flash      capability 8.0 or more, half types, equal head dims up to 256, no mask, causal only
               if as many queries as keys, groups
    efficient  float32 and half types, head dims a multiple of 16 bytes, a mask, no groups
    cudnn      capability 8.0 or more, half types, head dims up to 128 (256 on 9.0), a mask, groups
    math       everything: the matrix of scores, in float32 for half types

    legend     B batch, H query heads, M queries, N keys, D head dimension

    flash      forward that splits the keys: an output and a logsumexp a split, in float32
               backward: float32 dQ rounded up (M to 128, D to 32), softmax_d, and dK, dV of each
               query head where several share a key head
    flash3     backward: float32 dQ, softmax_d and a second logsumexp, and the sums of dK and dV in
               float32 where heads share them
    efficient  forward: float32 output where the values' dimension is above 128
               backward: delta, and a float32 tile of dQ for each block of queries (and dK, dV where
               the kernel cannot keep them)
    cudnn      backward: float32 dQ and delta

Source: torch 2.5 to 2.13 aten/src/ATen/native/transformers/{cuda/sdp_utils.cpp (priority_order,
can_use_*), cuda/flash_attn/flash_api.cpp (num_splits_heuristic, mha_bwd),
cuda/attention_backward.cu, cuda/mem_eff_attention/kernel_backward.h (workspace_size)}. What
cuDNN's backward accumulates was not measured. flash-attention hopper/flash_api.cpp (mha_bwd).
"""

from functools import lru_cache
from math import ceil

from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.units import KIB, align_up, ceil_div
from weighbridge.machines.accelerators.chips import Chip

Version = tuple[int, int]  # of torch
FLOAT = 4  # bytes
NEWEST = (2, 13)  # torch release that these rules were read from
FLASH_MOST = 256  # largest head dimension of the flash kernel
FLASH3_SINCE = (9, 0)
FLASH_SINCE = (8, 0)  # compute capability; also for cuDNN's kernel
EFFICIENT_SINCE = (5, 0)
BLACKWELL_SINCE = (2, 7)  # flash and efficient kernels for capability 10 and 12
CUDNN_SINCE = (2, 5)
CUDNN_FIRST_SINCE = (2, 10)  # wheels with cuDNN above 9.15
CUDNN_FIRST = ((9, 0), (10, 0), (10, 3))
ORDER = ("flash", "efficient", "math", "cudnn")
SMALL_MEMORY = 100 * KIB  # shared memory per block of threads: larger tiles need more
ROWS = 128  # multiple that flash attention's backward rounds rows up to
MOST_SPLITS = 128


@frozen_record
class KernelShape:
    """Sizes of one call: q [batch, heads, queries, key_dim], k [batch, kv_heads, keys, key_dim], v
    [..., value_dim]; `itemsize` bytes per element."""

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    key_dim: int
    value_dim: int
    itemsize: int
    bfloat16: bool = False

    @property
    def half(self) -> bool:
        """Return whether elements have 16 bits."""
        return self.itemsize == 2

    @property
    def grouped(self) -> bool:
        """Return whether several query heads share a KV head."""
        return self.heads != self.kv_heads


@frozen_record
class AttentionCall:
    """Everything else that decides the kernel; `groups`: whether the caller passes enable_gqa to
    torch."""

    masked: bool = False
    causal: bool = False
    dropout: float = 0.0
    groups: bool = False
    differentiated: bool = True


def order(chip: Chip, torch: Version = NEWEST) -> tuple[str, ...]:
    """Return the names of kernels in torch's order of preference."""
    first = torch >= CUDNN_FIRST_SINCE and chip.capability in CUDNN_FIRST
    return ("cudnn", *ORDER[:3]) if first else ORDER


def first(shape: KernelShape, call: AttentionCall, chip: Chip, torch: Version = NEWEST) -> str:
    """Return the first kernel in torch's order that can serve the call."""
    return next(kernel for kernel in order(chip, torch) if can(kernel, shape, call, chip, torch))


def can(
    kernel: str, shape: KernelShape, call: AttentionCall, chip: Chip, torch: Version = NEWEST
) -> bool:
    """Return whether `kernel` of ORDER can serve the call."""
    if kernel == "flash":
        return _flash(shape, call, chip, torch)
    if kernel == "efficient":
        return _efficient(shape, call, chip, torch)
    if kernel == "cudnn":
        return _cudnn(shape, call, chip, torch)
    return True


def of_xformers(*, chip: Chip) -> str:
    """Return xformers' attention kernel: flash-attention since Ampere, as torch would choose, and
    CUTLASS' memory-efficient one before. Source: its ops/fmha, CUDA_MINIMUM_COMPUTE_CAPABILITY of
    flash.py is 8.0, of cutlass.py 5.0."""
    return "sdpa" if chip.capability >= FLASH_SINCE else "efficient"


def _flash(shape: KernelShape, call: AttentionCall, chip: Chip, torch: Version) -> bool:
    return (
        _supported(chip, FLASH_SINCE, torch)
        and shape.half
        and not call.masked
        and shape.key_dim == shape.value_dim <= FLASH_MOST
        and not (call.causal and shape.queries != shape.keys)
        and (call.groups or not shape.grouped)
        and not (call.differentiated and _too_wide(shape.key_dim, call.dropout, chip))
    )


def _too_wide(dim: int, dropout: float, chip: Chip) -> bool:
    """Return whether heads are too wide for flash's backward: on cards with 99 KiB of shared memory
    per block, and on 8.7."""
    small = (8, 6) <= chip.capability <= (8, 9) or chip.capability[0] == 12
    return small and (192 < dim <= 224 or (dim > 224 and dropout > 0))


def _efficient(shape: KernelShape, call: AttentionCall, chip: Chip, torch: Version) -> bool:
    align = _alignment(shape, chip)
    return (
        _supported(chip, EFFICIENT_SINCE, torch)
        and not (shape.bfloat16 and chip.capability < (8, 0))
        and shape.key_dim % align == 0
        and shape.value_dim % align == 0
        and not shape.grouped
        and not call.groups
    )


def _alignment(shape: KernelShape, chip: Chip) -> int:
    """Return the elements that a matrix unit loads at once; 1 without a unit for the type."""
    units = chip.capability >= (8, 0) or (chip.capability >= (7, 0) and shape.half)
    return (8 if shape.half else 4) if units else 1


def _cudnn(shape: KernelShape, call: AttentionCall, chip: Chip, torch: Version) -> bool:
    limit = 256 if chip.capability == (9, 0) else 128
    return (
        torch >= CUDNN_SINCE
        and _supported(chip, FLASH_SINCE, torch)
        and shape.half
        and max(shape.key_dim, shape.value_dim) <= limit
        and shape.key_dim % 8 == 0
        and shape.value_dim % 8 == 0
        and min(shape.queries, shape.keys) > 1
        and (call.groups or not shape.grouped)
    )


def _supported(chip: Chip, lowest: Version, torch: Version) -> bool:
    highest = (12, 1) if torch >= BLACKWELL_SINCE else (9, 0)
    return lowest <= chip.capability <= highest


def flash_forward(shape: KernelShape, dropout: float, chip: Chip) -> list[int]:
    """Return the bytes of the split-KV logsumexps and outputs; none if keys are not split."""
    if dropout > 0:
        return []
    queries, heads = shape.queries, shape.heads
    if queries == 1 and shape.grouped:  # heads that share keys become queries
        queries, heads = heads // shape.kv_heads, shape.kv_heads
    block = 256 if shape.key_dim <= 64 else 128 if shape.key_dim <= 128 else 64
    count = splits(
        shape.batch * heads * ceil_div(queries, 64),
        2 * chip.multiprocessors,
        ceil_div(shape.keys, block),
    )
    rows = count * shape.batch * heads * queries * FLOAT
    return [rows, rows * rounded(shape.key_dim)] if count > 1 else []


@lru_cache(maxsize=1024)  # layers and steps repeat calls
def splits(blocks: int, processors: int, key_blocks: int) -> int:
    """Return the number of splits of the keys, as num_splits_heuristic: the fewest with 85 % of the
    best occupancy. `blocks`: blocks of queries; `processors`: twice the card's multiprocessors;
    `key_blocks`: blocks of keys."""
    if blocks >= 0.8 * processors:
        return 1
    gains = {}
    for count in range(1, min(MOST_SPLITS, processors, key_blocks) + 1):
        if count == 1 or ceil_div(key_blocks, count) != ceil_div(key_blocks, count - 1):
            waves = blocks * count / processors
            gains[count] = waves / ceil(waves)
    best = max(gains.values(), default=1.0)
    return next((count for count, gain in gains.items() if gain >= 0.85 * best), 1)


def rounded(dim: int) -> int:
    """Return the head dimension that the flash kernel computes with."""
    return align_up(dim, 32) if dim <= 192 else 256


def flash_backward(shape: KernelShape, chip: Chip, *, deterministic: bool = False) -> list[int]:
    """Return the bytes of softmax_d, of dQ in float32, and of dK and dV for all query heads."""
    rows = shape.batch * shape.heads * align_up(shape.queries, ROWS) * FLOAT
    copies = ceil_div(chip.multiprocessors, shape.batch * shape.heads) if deterministic else 1
    taken = [rows, copies * rows * rounded(shape.key_dim)]
    if shape.grouped:
        taken += [shape.batch * shape.keys * shape.heads * shape.key_dim * shape.itemsize] * 2
    return taken


def flash3_backward(shape: KernelShape) -> list[int]:
    """Return the bytes of softmax_d, of the base-2 logsumexp and of dQ, all in float32. If several
    query heads share a KV head, also of the float32 sums of dK and dV."""
    rows = shape.batch * shape.heads * align_up(shape.queries, ROWS) * FLOAT
    taken = [rows, rows, rows * rounded(shape.key_dim)]
    if shape.grouped:
        keys = shape.batch * shape.kv_heads * align_up(shape.keys, ROWS) * FLOAT
        taken += [keys * rounded(shape.key_dim), keys * rounded(shape.value_dim)]
    return taken


def varlen_backward(shape: KernelShape, chip: Chip) -> list[int]:
    """Return the bytes of torchtitan's variable-length attention in backward: flash-attention 3 on
    compute capability 9.0, 2 on older cards (torchtitan b5bcd76 tools/utils.py,
    get_cuda_flash_attention_impl). 4, on newer ones, is assumed to take as much as 3: between
    nothing and twice as much, mostly the float32 gradient."""
    return (
        flash3_backward(shape) if chip.capability >= FLASH3_SINCE else flash_backward(shape, chip)
    )


def efficient_forward(shape: KernelShape) -> list[int]:
    """Return the bytes of a float32 output buffer (kNeedsOutputAccumulatorBuffer); none if it is
    not needed."""
    if not shape.half or shape.value_dim <= 128:
        return []
    return [shape.batch * shape.queries * shape.heads * shape.value_dim * FLOAT]


class Tile(NamedTuple):
    """A kernel of cutlassB.h: rows of queries and of keys per tile, and its largest D."""

    queries: int
    keys: int
    dim: int


UNLIMITED = 65536
SMALL = (Tile(64, 64, 32), Tile(64, 64, 64), Tile(64, 64, 128), Tile(64, 64, UNLIMITED))
# For cards with more shared memory than SMALL_MEMORY, which some of these need
LARGE_HALF = (Tile(64, 64, 32), Tile(64, 64, 64), Tile(128, 128, 128), Tile(128, 64, UNLIMITED))
LARGE_FLOAT = (Tile(64, 64, 32), Tile(64, 64, 64), Tile(128, 64, 128), Tile(128, 64, UNLIMITED))


def _tile(shape: KernelShape, dropout: float, chip: Chip) -> Tile:
    large = chip.shared_memory > SMALL_MEMORY
    tiles: tuple[Tile, ...] = SMALL
    if large:
        tiles = LARGE_HALF if shape.half else LARGE_FLOAT
    if large and dropout and shape.half:
        tiles = (SMALL[2], LARGE_HALF[3])
    widest = max(shape.key_dim, shape.value_dim)
    return next((tile for tile in tiles if tile.dim >= widest), tiles[-1])


def efficient_backward(
    shape: KernelShape, dropout: float, chip: Chip, *, deterministic: bool = False
) -> list[int]:
    """Return the bytes of delta and of the workspace (workspace_size)."""
    tile = _tile(shape, dropout, chip)
    of_queries = ceil_div(shape.queries, tile.queries) * ceil_div(shape.key_dim, tile.keys)
    taken = of_queries * (4 + tile.queries * tile.keys)
    if shape.half and tile.dim > tile.queries:  # registers cannot keep dK and dV
        dims = align_up(shape.key_dim, tile.queries) + align_up(shape.value_dim, tile.queries)
        taken += (1 if deterministic else ceil_div(shape.keys, tile.keys)) * tile.keys * dims
    rows = shape.batch * shape.heads
    return [rows * shape.queries * FLOAT, rows * align_up(taken, 4) * FLOAT]


def program(shape: KernelShape, call: AttentionCall, chip: Chip, torch: Version = NEWEST) -> str:
    """Return which program the call runs: the first kernel's, or "fused" for flash's and cuDNN's,
    which differ only in sizes."""
    kernel = first(shape, call, chip, torch)
    plain = not call.masked and shape.key_dim % 8 == 0
    return "fused" if kernel in ("flash", "cudnn") and plain else kernel


def fused(
    shape: KernelShape, call: AttentionCall, output: int, chip: Chip, torch: Version = NEWEST
) -> list[int]:
    """Return the bytes of the random number state and of seven tensors: two of forward; a copy of
    the gradient (`output` bytes), which only flash's kernel makes in backward; four of backward."""
    if first(shape, call, chip, torch) == "cudnn":
        return [8, 0, 0, 0, *_filled(cudnn_backward(shape), 4)]
    forward = _filled(flash_forward(shape, call.dropout, chip), 2)
    return [16, *forward, output, *_filled(flash_backward(shape, chip), 4)]


def _filled(sizes: list[int], count: int) -> list[int]:
    return sizes + [0] * (count - len(sizes))


def cudnn_backward(shape: KernelShape) -> list[int]:
    """Return the bytes of dQ in float32 and of delta."""
    rows = shape.batch * shape.heads * shape.queries * FLOAT
    return [rows * shape.key_dim, rows]
