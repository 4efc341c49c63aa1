"""Caches that llama.cpp allocates before the first token: cells for all slots, recurrent states.

    n_ctx      to a multiple of 256; with separate slots (not unified) each has its own part
    cells      per layer row(type_k, K Hk) + row(type_v, K Hv) per cell, in whole blocks of a type
    sliding    min(n_ctx, window x slots + ubatch) cells, to a multiple of 256; --swa-full: n_ctx
    latent     MLA: r + rotary per cell and no values; an indexer's keys in a second cache
    compressed DeepSeek-V4: a cell per token of the window, and one for every 4 or 128 tokens
    states     float32, one row per slot: (kernel - 1) x channels, and the recurrent state

Without flash attention, values of unequal width all take the widest. Keys of an encoder are
recomputed each time. Source: llama.cpp 0c1e57098 src/llama-kv-cache.cpp, llama-kv-cache-iswa.cpp,
llama-kv-cache-dsa.cpp, llama-memory-recurrent.cpp, llama-hparams.cpp, llama-context.cpp; 035aa95b
src/llama-kv-cache-dsv4.cpp.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import assert_never

from weighbridge.base.dtypes import FLOAT32, GGML_BY_NAME, DType
from weighbridge.base.errors import TriedError
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import align_up, ceil_div
from weighbridge.memory.components.kv_cache import CacheBytes, Formats, mixers, state
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    Latent,
    Layer,
    Mixer,
    Recurrent,
    Shared,
)
from weighbridge.models.arch.model_types import facts

CELLS = 256
WHOLE = 128 * CELLS  # tokens that add whole steps to every part of a cache, even V4's rarest
# common/arg.cpp (kv_cache_types); ik_llama.cpp common/common.cpp (kv_cache_type_from_str)
OF_CACHES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
OF_IK = (*OF_CACHES, "q6_0", "q8_kv")


@frozen_record
class LlamaCppCacheSetting:
    """Settings that size the caches. `context` is -c, the tokens of all slots. With `model_type` ""
    every window counts: a GGUF file names only windows in effect."""

    context: int
    slots: int = 1
    unified: bool = True
    ubatch: int = 512
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: bool = True
    swa_full: bool = False
    rollback: int = 0  # n_rs_seq: recurrent states kept to roll back to
    latent_values: bool = False  # before January 2026: compressed KV is stored again, as values
    latent_mode: int | None = None  # ik_llama.cpp's -mla
    model_type: str = ""

    @property
    def per_slot(self) -> int:
        """Cells that one sequence can use."""
        if self.unified:
            return align_up(self.context, CELLS)
        return align_up(align_up(self.context, CELLS) // self.slots, CELLS)

    @property
    def streams(self) -> int:
        return 1 if self.unified else self.slots

    def near(self, window: int) -> int:
        """Return the cells of a sliding layer per stream; `window` in tokens."""
        if self.swa_full:
            return self.per_slot
        seen = window * (self.slots if self.unified else 1) + self.ubatch
        return align_up(min(self.per_slot, seen), CELLS)


def ggml(name: str, flag: str, known: tuple[str, ...] = OF_CACHES) -> DType:
    """Return the type of a cache; `known` are those the program accepts (common/arg.cpp)."""
    if name.lower() not in known:
        raise TriedError(
            sentence("cache_type", flag=flag, name=name, known=", ".join(known)),
            seen="llama.cpp common/arg.cpp: Unsupported cache type",
        )
    return GGML_BY_NAME[name.upper()]


def _window(attention: Attention, setting: LlamaCppCacheSetting) -> int | None:
    """Return the layer's window, None if llama.cpp ignores the model type's, as for Phi-3."""
    known = not setting.model_type or facts(setting.model_type).llama_cpp.windows
    return attention.reach if known else None


def cells(attention: Attention, setting: LlamaCppCacheSetting) -> int:
    window = _window(attention, setting)
    return setting.streams * (setting.per_slot if window is None else setting.near(window))


def _attention(attention: Attention, setting: LlamaCppCacheSetting, widest: int) -> int:
    values = attention.value_elements if setting.flash_attention else widest
    row = ggml(setting.type_k, "--cache-type-k", OF_IK).size(attention.key_elements)
    return cells(attention, setting) * (
        row + ggml(setting.type_v, "--cache-type-v", OF_IK).size(values)
    )


def _latent(latent: Latent, setting: LlamaCppCacheSetting) -> int:
    kind = ggml(setting.type_k, "--cache-type-k", OF_IK)
    if setting.latent_mode is not None and not setting.flash_attention:
        return setting.per_slot * _unflashed(latent, setting)
    index = kind.size(latent.indexer.dim) if latent.indexer else 0
    values = (
        ggml(setting.type_v, "--cache-type-v", OF_IK).size(latent.rank)
        if setting.latent_values
        else 0
    )
    return setting.streams * setting.per_slot * (kind.size(latent.latent_elements) + index + values)


def _unflashed(latent: Latent, setting: LlamaCppCacheSetting) -> int:
    """Return ik_llama.cpp's bytes per cell without flash attention; mode 1 caches MLA twice."""
    keys, values = (
        ggml(setting.type_k, "--cache-type-k", OF_IK),
        ggml(setting.type_v, "--cache-type-v", OF_IK),
    )
    if setting.latent_mode == 1:
        return keys.size(latent.latent_elements) + values.size(latent.rank)
    return values.size(latent.latent_elements)


def _compressed(mixer: Compressed, setting: LlamaCppCacheSetting) -> CacheBytes:
    """Return the bytes of window keys, which are values too, of compressed keys with the indexer's,
    and of what waits to be compressed. That is keys and scores in float32, twice as many and as
    wide if groups overlap. Each slot has its own, even with a unified cache."""
    kept, waits = replace(setting, slots=1).near(mixer.window) * mixer.dim, 0
    if mixer.rate > 1:
        kept += align_up(ceil_div(setting.per_slot, mixer.rate), CELLS) * mixer.width
        waits = 8 * mixer.rate * mixer.width * (4 if mixer.overlaps else 1)
    return CacheBytes(
        kv=ggml(setting.type_k, "--cache-type-k").size(kept), state=waits * (1 + setting.rollback)
    ).times(setting.slots)


def _of(mixer: Mixer, setting: LlamaCppCacheSetting, widest: int) -> tuple[str, CacheBytes]:
    """Return the buffer of a mixer's cache, "" or "sliding", and its bytes."""
    match mixer:
        case Attention():
            near = _window(mixer, setting) is not None
            return "sliding" if near else "", CacheBytes(kv=_attention(mixer, setting, widest))
        case Latent():
            return "", CacheBytes(kv=_latent(mixer, setting))
        case Compressed():
            return "", _compressed(mixer, setting)
        case Shared() | CrossAttention():
            return "", CacheBytes()
        case _ if isinstance(mixer, Recurrent):
            rows = setting.slots * (1 + setting.rollback)
            return "", CacheBytes(state=rows * state(mixer, Formats(conv=FLOAT32, state=FLOAT32)))
        case _:
            assert_never(mixer)


def buffers(
    layers: Iterable[Layer], setting: LlamaCppCacheSetting, *, among: Iterable[Layer] = ()
) -> dict[str, CacheBytes]:
    """Return the cache of all tokens ("") and that of sliding layers ("sliding"), as in the log.
    `layers` are one device's; `among` are all of the model, whose widest values decide."""
    every = tuple(mixers(layers))
    return counted(Counter(every), setting, among=(*every, *mixers(among)))


def counted(
    counts: Mapping[Mixer, int], setting: LlamaCppCacheSetting, *, among: Iterable[Mixer]
) -> dict[str, CacheBytes]:
    """Return the caches as `buffers` does, from mixers with their counts."""
    widest = max((m.value_elements for m in among if isinstance(m, Attention)), default=0)
    result: dict[str, CacheBytes] = {"": CacheBytes(), "sliding": CacheBytes()}
    for m, count in counts.items():
        name, size = _of(m, setting, widest)
        result[name] = result[name].plus(size.times(count))
    return result


def sizes(layers: Iterable[Layer], setting: LlamaCppCacheSetting) -> CacheBytes:
    parts = buffers(layers, setting)
    return parts[""].plus(parts["sliding"])
