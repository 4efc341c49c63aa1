"""Caches that transformers keeps between two steps.

    dynamic   grows by concatenation: all tokens; a sliding layer keeps its window, but the storage
              of the whole prompt stays alive behind that view until the next step
    static    zeros of the largest length, or of the window if that is smaller
    quanto, hqq   whole tensors in groups of 64, and up to 128 tokens unquantized
    fp8       a byte per element, one float32 scale per tensor
    latent    MLA: since 5.15 the latent itself; before it, every head's keys and values
    recurrent convolutions keep `kernel` columns, in the model's dtype; states are float32, those of
              lightning attention in the model's dtype. RecurrentGemma holds them in its modules

Source: transformers 5.23 cache_utils.py (DynamicLayer, DynamicSlidingWindowLayer, StaticLayer,
LinearAttentionLayer, QuantizedLayer, Fp8QuantizedLayer); 4.56 brought the sliding layers; the
latent: PR 47761, first in 5.15.
"""

from collections.abc import Iterable
from typing import Literal, assert_never

from weighbridge.base.dtypes import BFLOAT16, FLOAT32, DType
from weighbridge.base.errors import UsageError
from weighbridge.base.memory import Component
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.engines.transformers.rules import keeps_latents, keeps_windows
from weighbridge.memory.components.kv_cache import (
    CacheBytes,
    Format,
    Formats,
    Lengths,
    components,
    heads_token,
    kept_tokens,
    mixers,
    state,
    total,
)
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
from weighbridge.models.arch.model_types import facts

SOURCE = "transformers 5.23 cache_utils.py"
CacheKind = Literal["none", "dynamic", "static", "quanto", "hqq", "fp8"]


@frozen_record
class TransformersCacheSetting:
    """Settings that size the caches; `after`: directly after the prompt, or some steps later."""

    lengths: Lengths
    model_type: str = ""
    batch: int = 1
    dtype: DType = BFLOAT16
    version: tuple[int, int] = (5, 23)
    cache: CacheKind = "dynamic"
    after: Literal["prefill", "decode"] = "decode"
    bits: int = 4  # for quanto and hqq
    group: int = 64
    residual: int = 128
    prompt: int | None = None  # tokens in prefill; None: all of them
    max_cache_len: int | None = None  # for static; None: the context

    @property
    def formats(self) -> Formats:
        plain = Format(dtype=self.dtype)
        return Formats(key=plain, value=plain, conv=self.dtype, state=FLOAT32)


def _attention(mixer: Attention, setting: TransformersCacheSetting) -> CacheBytes:
    if facts(setting.model_type).transformers.repeated_cache and mixer.kv_heads > 1:  # Falcon 40B
        mixer = replace(mixer, kv_heads=mixer.heads)
    if setting.cache in ("quanto", "hqq", "fp8"):
        return _quantized(mixer, setting)
    index = setting.formats.key.size(mixer.indexer.dim) if mixer.indexer else 0
    tokens = _tokens(mixer, setting)
    return CacheBytes(
        kv=setting.batch * (tokens * heads_token(mixer, setting.formats) + _length(setting) * index)
    )


def _length(setting: TransformersCacheSetting) -> int:
    """Return the tokens that a layer without a window has room for."""
    if setting.cache == "static" and setting.max_cache_len is not None:
        return setting.max_cache_len
    return setting.lengths.context


def _tokens(mixer: Attention, setting: TransformersCacheSetting) -> int:
    if setting.cache == "static":
        return kept_tokens(_length(setting), mixer.reach)
    if setting.after == "prefill" or not keeps_windows(setting.version):
        return setting.lengths.context
    return kept_tokens(setting.lengths.context, mixer.reach)


def _quantized(mixer: Attention, setting: TransformersCacheSetting) -> CacheBytes:
    """Return a quantized cache's bytes; tokens after the last multiple of `residual` stay plain."""
    if mixer.reach is not None or mixer.indexer is not None:
        raise UsageError(sentence("full_attention_cache", cache=setting.cache))
    tokens, row = setting.batch * setting.lengths.context, mixer.key_elements + mixer.value_elements
    if setting.cache == "fp8":
        return CacheBytes(kv=tokens * row + 2 * FLOAT32.nbytes)
    written = 0 if setting.prompt is None else setting.lengths.context - setting.prompt
    waiting = setting.batch * (written % setting.residual)
    packed = [(tokens - waiting) * n for n in (mixer.key_elements, mixer.value_elements)]
    return CacheBytes(
        kv=sum(_grouped(n, setting) for n in packed) + setting.dtype.size(waiting * row)
    )


def _grouped(count: int, setting: TransformersCacheSetting) -> int:
    """Return the bytes of packed `bits`-bit codes, and a scale and a zero point (or shift) each."""
    return (
        ceil_div(count * setting.bits, 8)
        + 2 * ceil_div(count, setting.group) * setting.dtype.nbytes
    )


def _latent(mixer: Latent, setting: TransformersCacheSetting) -> CacheBytes:
    if not keeps_latents(setting.version):
        return _attention(mixer.expanded, setting)
    index = mixer.indexer.dim if mixer.indexer else 0
    tokens = setting.batch * _length(setting)
    return CacheBytes(kv=setting.dtype.size(tokens * (mixer.latent_elements + index)))


def _compressed(mixer: Compressed, setting: TransformersCacheSetting) -> CacheBytes:
    """Return the bytes of a compressed cache, whose keys serve as values."""
    near = (
        setting.lengths.context
        if setting.after == "prefill"
        else kept_tokens(setting.lengths.context, mixer.window)
    )
    if mixer.rate == 1:
        return CacheBytes(kv=setting.batch * setting.dtype.size(2 * near * mixer.dim))
    widths = (mixer.dim, mixer.indexer.dim) if mixer.indexer else (mixer.dim,)
    elements = near * mixer.dim + sum(_groups(mixer, width, setting) for width in widths)
    return CacheBytes(kv=setting.batch * setting.dtype.size(elements))


def _groups(mixer: Compressed, width: int, setting: TransformersCacheSetting) -> int:
    """Return the elements of compressed groups, and of tokens that wait for theirs to be full: keys
    and gates, twice as wide if groups overlap; those layers also keep half of the last group. What
    waits is a view of all tokens of the last step."""
    groups, waiting = divmod(setting.lengths.context, mixer.rate)
    tokens = setting.lengths.context if setting.after == "prefill" else waiting or mixer.rate
    if not mixer.overlaps:
        return groups * width + 2 * tokens * width
    return groups * width + 4 * tokens * width + (2 * mixer.rate * width if groups else 0)


def _recurrent(mixer: Recurrent, setting: TransformersCacheSetting) -> CacheBytes:
    """Return the bytes of `columns` of past inputs, and of the state."""
    match mixer:
        case Mamba1() | Mamba2() | GatedDelta() | KimiDelta() | ShortConv():
            columns, dtype = mixer.kernel, FLOAT32
        case LinearAttention():
            columns, dtype = mixer.kernel - 1, setting.dtype
        case Rwkv():
            columns, dtype = mixer.kernel - 1, FLOAT32
        case GatedRecurrence():  # after a step, a view of the past inputs and the newest
            columns, dtype = mixer.kernel - (setting.after == "prefill"), FLOAT32
        case _:
            assert_never(mixer)
    return CacheBytes(
        state=setting.batch
        * state(mixer, Formats(conv=setting.dtype, state=dtype), columns=columns)
    )


def of_mixer(mixer: Mixer, setting: TransformersCacheSetting) -> CacheBytes:
    """Return the bytes that the cache of one layer's mixer keeps."""
    match mixer:
        case Attention():
            return _attention(mixer, setting)
        case Latent():
            return _latent(mixer, setting)
        case Compressed():
            return _compressed(mixer, setting)
        case CrossAttention():
            return CacheBytes(
                kv=setting.batch
                * setting.lengths.crossed(mixer)
                * heads_token(mixer, setting.formats)
            )
        case Shared():
            return CacheBytes()
        case _ if isinstance(mixer, Recurrent):
            return _recurrent(mixer, setting)
        case _:
            assert_never(mixer)


def sizes(layers: Iterable[Layer], setting: TransformersCacheSetting) -> CacheBytes:
    return total(of_mixer(m, setting) for m in mixers(layers))


def caches(layers: Iterable[Layer], setting: TransformersCacheSetting) -> tuple[Component, ...]:
    """Return the components, with the formula that they were computed by."""
    formula = (
        f"{setting.batch} sequences of {setting.lengths.context:,} tokens, {setting.cache} cache "
        f"in {setting.dtype.name}, after {setting.after}"
    )
    return components(sizes(layers, setting), formula=formula, source=SOURCE)
