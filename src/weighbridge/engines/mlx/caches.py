"""Bytes that mlx-lm's caches hold, by each layer's cache class.

    KVCache            cells in steps of 256: keys and values of every token
    RotatingKVCache    window + chunk - 1 cells in prefill; then no more than the window
    QuantizedKVCache   a 32-bit word for 32 / bits values; a scale and a bias for every group
    ChunkedKVCache     as RotatingKVCache, of Llama 4's chunks
    ArraysCache        the last inputs of a convolution in the model's dtype; a state in float32,
                       but Mamba 1's and RWKV's in the model's dtype

A batch is padded to its longest request. Arrays are of whole pages of 16 KiB. Source: mlx-lm
d78bf58 models/cache.py, models/{ssm,gated_delta,mamba,rwkv7,deepseek_v3}.py; mlx
backend/metal/allocator.cpp.
"""

from collections.abc import Iterable, Iterator
from typing import assert_never

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.records import frozen_record
from weighbridge.base.units import align_up
from weighbridge.engines.mlx.rules import STEP
from weighbridge.memory.components.kv_cache import CacheBytes, Formats, mixers, state, total
from weighbridge.models.arch.mixers import (
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

PAGE = 1 << 14
WORD = 32


@frozen_record
class MlxCacheSetting:
    """Settings that size the caches: `prompt` and `tokens` of the longest request, `batch`."""

    prompt: int
    tokens: int
    batch: int
    piece: int  # tokens per prefill chunk
    dtype: DType
    bits: int | None = None
    group: int = 64
    windows: bool = False  # sliding layers keep only their window
    most: int | None = None  # --max-kv-size
    expanded: bool = False  # MLA is stored as keys and values of all heads
    reading: bool = False  # in prefill, not after it

    @property
    def read(self) -> int:
        """Return the prompt tokens in the cache before the first token is generated."""
        return max(1, self.prompt - 1)


def paged(nbytes: int) -> int:
    """Return the bytes of a Metal buffer."""
    return align_up(nbytes, PAGE) if nbytes > PAGE else nbytes


def cells(reach: int | None, setting: MlxCacheSetting) -> int:
    """Return the cells of one layer, per request."""
    reach = setting.most if reach is None or not setting.windows else reach
    if reach is None:
        return align_up(setting.read if setting.reading else setting.tokens, STEP)
    if setting.reading:
        return (
            setting.read
            if setting.read <= setting.piece
            else min(setting.read, reach - 1 + setting.piece)
        )
    grown = setting.read + align_up(max(0, setting.tokens - setting.read), STEP)
    return min(reach, grown)


def arrays(elements: int, rows: int, setting: MlxCacheSetting) -> Iterator[int]:
    """Yield the bytes of the arrays of keys, or of values, with `elements` per cell."""
    if setting.bits is None or setting.most is not None:
        yield paged(rows * setting.dtype.size(elements))
        return
    yield paged(rows * elements * setting.bits // WORD * 4)
    yield from (paged(rows * setting.dtype.size(elements // setting.group)),) * 2


def of_mixer(mixer: Mixer, setting: MlxCacheSetting) -> CacheBytes:
    match mixer:
        case Attention():
            return CacheBytes(
                kv=_kept((mixer.key_elements, mixer.value_elements), mixer.reach, setting)
            )
        case Latent() if setting.expanded:
            return of_mixer(mixer.expanded, setting)
        case Latent():
            index = (mixer.indexer.dim,) if mixer.indexer else ()
            return CacheBytes(kv=_kept((mixer.rank, mixer.rotary, *index), None, setting))
        case Shared() | CrossAttention() | Compressed():
            return CacheBytes()
        case Mamba1() | Rwkv():
            return _recurrent(mixer, setting, setting.dtype)
        case Mamba2() | GatedDelta() | KimiDelta() | LinearAttention():
            return _recurrent(mixer, setting, FLOAT32)
        case ShortConv() | GatedRecurrence():
            return _recurrent(mixer, setting, FLOAT32)
        case _:
            assert_never(mixer)


def _kept(widths: Iterable[int], reach: int | None, setting: MlxCacheSetting) -> int:
    rows = setting.batch * cells(reach, setting)
    return sum(nbytes for width in widths for nbytes in arrays(width, rows, setting))


def _recurrent(recurrent: Recurrent, setting: MlxCacheSetting, kind: DType) -> CacheBytes:
    return CacheBytes(
        state=setting.batch * state(recurrent, Formats(conv=setting.dtype, state=kind))
    )


def sizes(layers: Iterable[Layer], setting: MlxCacheSetting) -> CacheBytes:
    return total(of_mixer(m, setting) for m in mixers(layers))
