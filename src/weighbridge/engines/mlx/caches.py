"""What mlx-lm's caches hold, by the class that each layer has one of.

    KVCache            cells in steps of 256: keys and values of every token
    RotatingKVCache    window + piece - 1 cells while a prompt is read; then no more than the window
    QuantizedKVCache   a word of 32 bits for 32 / bits values; a scale and a bias for every group
    ChunkedKVCache     as RotatingKVCache, of Llama 4's chunks
    ArraysCache        the last inputs of a convolution in the model's dtype; a state in float32,
                       but Mamba 1's and RWKV's in the model's dtype

A batch is padded to its longest request. Arrays are of whole pages of 16 KiB. Source: mlx-lm
d78bf58 models/cache.py, models/{ssm,gated_delta,mamba,rwkv7,deepseek_v3}.py; mlx
backend/metal/allocator.cpp.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import assert_never

from weighbridge.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Latent,
    Layer,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    Recurrent,
    Rwkv,
    Shared,
    ShortConv,
)
from weighbridge.components.kv_cache import CacheBytes, Formats, mixers, state, total
from weighbridge.dtypes import FLOAT32, DType
from weighbridge.engines.mlx.rules import STEP
from weighbridge.units import align_up

PAGE = 1 << 14
WORD = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxCacheSetting:
    """`prompt` and `tokens` of the longest request, and how many there are."""

    prompt: int
    tokens: int
    batch: int
    piece: int  # tokens of a prompt that are computed at once
    dtype: DType
    bits: int | None = None
    group: int = 64
    windows: bool = False  # sliding layers keep no more than they see
    most: int | None = None  # --max-kv-size
    expanded: bool = False  # latents are stored as keys and values of all heads
    reading: bool = False  # while the prompt is read, not behind it

    @property
    def read(self) -> int:
        """Tokens of the prompt that are in the cache before the first one is made."""
        return max(1, self.prompt - 1)


def paged(nbytes: int) -> int:
    """Bytes of a Metal buffer."""
    return align_up(nbytes, PAGE) if nbytes > PAGE else nbytes


def cells(reach: int | None, s: MlxCacheSetting) -> int:
    """Cells of one layer, of one request."""
    reach = s.most if reach is None or not s.windows else reach
    if reach is None:
        return align_up(s.read if s.reading else s.tokens, STEP)
    if s.reading:
        return s.read if s.read <= s.piece else min(s.read, reach - 1 + s.piece)
    grown = s.read + align_up(max(0, s.tokens - s.read), STEP)
    return min(reach, grown)


def arrays(elements: int, rows: int, s: MlxCacheSetting) -> Iterator[int]:
    """Bytes of the arrays of keys, or of values: `elements` a cell."""
    if s.bits is None or s.most is not None:
        yield paged(rows * s.dtype.size(elements))
        return
    yield paged(rows * elements * s.bits // WORD * 4)
    yield from (paged(rows * s.dtype.size(elements // s.group)),) * 2


def of_mixer(m: Mixer, s: MlxCacheSetting) -> CacheBytes:
    match m:
        case Attention():
            return CacheBytes(kv=_kept((m.key_elements, m.value_elements), m.reach, s))
        case Latent() if s.expanded:
            return of_mixer(m.expanded, s)
        case Latent():
            index = (m.indexer.dim,) if m.indexer else ()
            return CacheBytes(kv=_kept((m.rank, m.rotary, *index), None, s))
        case Shared() | CrossAttention() | Compressed():
            return CacheBytes()
        case Mamba1() | Rwkv():
            return _recurrent(m, s, s.dtype)
        case Mamba2() | GatedDelta() | KimiDelta() | LinearAttention():
            return _recurrent(m, s, FLOAT32)
        case ShortConv() | GatedRecurrence():
            return _recurrent(m, s, FLOAT32)
        case _:
            assert_never(m)


def _kept(widths: Iterable[int], reach: int | None, s: MlxCacheSetting) -> int:
    rows = s.batch * cells(reach, s)
    return sum(nbytes for width in widths for nbytes in arrays(width, rows, s))


def _recurrent(m: Recurrent, s: MlxCacheSetting, kind: DType) -> CacheBytes:
    return CacheBytes(state=s.batch * state(m, Formats(conv=s.dtype, state=kind)))


def sizes(layers: Iterable[Layer], s: MlxCacheSetting) -> CacheBytes:
    return total(of_mixer(m, s) for m in mixers(layers))
