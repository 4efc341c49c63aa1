"""What transformers keeps between two steps.

    dynamic   grows by concatenation: all tokens; a sliding layer keeps its window, but the storage
              of the whole prompt stays alive behind that view until the next step
    static    zeros of the largest length, or of the window where that is smaller
    quanto, hqq   whole tensors in groups of 64, and up to 128 tokens as they came
    fp8       a byte an element, one float32 scale a tensor
    latent    since 5.15 the latent itself; before it, every head's keys and values
    recurrent convolutions keep `kernel` columns, in the model's dtype; states are float32, those of
              lightning attention in the model's dtype. RecurrentGemma holds them in its modules

Source: transformers 5.23 cache_utils.py (DynamicLayer, DynamicSlidingWindowLayer, StaticLayer,
LinearAttentionLayer, QuantizedLayer, Fp8QuantizedLayer); 4.56 brought the sliding layers; the
latent: PR 47761, first in 5.15.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, assert_never

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
from weighbridge.arch.model_types import facts
from weighbridge.components.kv_cache import (
    CacheBytes,
    Format,
    Formats,
    Lengths,
    components,
    heads_token,
    kept,
    mixers,
    state,
    total,
)
from weighbridge.dtypes import BFLOAT16, FLOAT32, DType
from weighbridge.engines.transformers.rules import keeps_latents, keeps_windows
from weighbridge.errors import UsageError
from weighbridge.memory import Component
from weighbridge.units import ceil_div

SOURCE = "transformers 5.23 cache_utils.py"
CacheKind = Literal["none", "dynamic", "static", "quanto", "hqq", "fp8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersCacheSetting:
    """`after` says when we look: behind the prompt, or some steps later."""

    lengths: Lengths
    model_type: str = ""
    batch: int = 1
    dtype: DType = BFLOAT16
    version: tuple[int, int] = (5, 23)
    cache: CacheKind = "dynamic"
    after: Literal["prefill", "decode"] = "decode"
    bits: int = 4  # of quanto and hqq
    group: int = 64
    residual: int = 128
    prompt: int | None = None  # tokens that came at once: all of them when it is not given
    max_cache_len: int | None = None  # static: the context when it is not given

    @property
    def formats(self) -> Formats:
        plain = Format(dtype=self.dtype)
        return Formats(key=plain, value=plain, conv=self.dtype, state=FLOAT32)


def _attention(m: Attention, s: TransformersCacheSetting) -> CacheBytes:
    if facts(s.model_type).transformers.repeated_cache and m.kv_heads > 1:  # Falcon 40B
        m = replace(m, kv_heads=m.heads)
    if s.cache in ("quanto", "hqq", "fp8"):
        return _quantized(m, s)
    index = s.formats.key.size(m.indexer.dim) if m.indexer else 0
    tokens = _tokens(m, s)
    return CacheBytes(kv=s.batch * (tokens * heads_token(m, s.formats) + _length(s) * index))


def _length(s: TransformersCacheSetting) -> int:
    """Tokens of a layer that keeps all."""
    if s.cache == "static" and s.max_cache_len is not None:
        return s.max_cache_len
    return s.lengths.context


def _tokens(m: Attention, s: TransformersCacheSetting) -> int:
    if s.cache == "static":
        return kept(_length(s), m.reach)
    if s.after == "prefill" or not keeps_windows(s.version):
        return s.lengths.context
    return kept(s.lengths.context, m.reach)


def _quantized(m: Attention, s: TransformersCacheSetting) -> CacheBytes:
    """Tokens written since the last time that `residual` of them were packed stay as they are."""
    if m.reach is not None or m.indexer is not None:
        raise UsageError(f"a {s.cache} cache is for models whose layers all have full attention")
    tokens, row = s.batch * s.lengths.context, m.key_elements + m.value_elements
    if s.cache == "fp8":
        return CacheBytes(kv=tokens * row + 2 * FLOAT32.nbytes)
    written = 0 if s.prompt is None else s.lengths.context - s.prompt
    waiting = s.batch * (written % s.residual)
    packed = [(tokens - waiting) * n for n in (m.key_elements, m.value_elements)]
    return CacheBytes(kv=sum(_grouped(n, s) for n in packed) + s.dtype.size(waiting * row))


def _grouped(count: int, s: TransformersCacheSetting) -> int:
    """Codes of `bits`, packed in bytes, and a scale and a zero point (or shift) a group."""
    return ceil_div(count * s.bits, 8) + 2 * ceil_div(count, s.group) * s.dtype.nbytes


def _latent(m: Latent, s: TransformersCacheSetting) -> CacheBytes:
    if not keeps_latents(s.version):
        return _attention(m.expanded, s)
    index = m.indexer.dim if m.indexer else 0
    tokens = s.batch * _length(s)
    return CacheBytes(kv=s.dtype.size(tokens * (m.latent_elements + index)))


def _cross(m: CrossAttention, s: TransformersCacheSetting) -> CacheBytes:
    return CacheBytes(kv=s.batch * s.lengths.crossed(m) * heads_token(m, s.formats))


def _compressed(m: Compressed, s: TransformersCacheSetting) -> CacheBytes:
    """Return the bytes of a compressed cache, whose keys serve as values."""
    near = s.lengths.context if s.after == "prefill" else kept(s.lengths.context, m.window)
    if m.rate == 1:
        return CacheBytes(kv=s.batch * s.dtype.size(2 * near * m.dim))
    widths = (m.dim, m.indexer.dim) if m.indexer else (m.dim,)
    elements = near * m.dim + sum(_groups(m, width, s) for width in widths)
    return CacheBytes(kv=s.batch * s.dtype.size(elements))


def _groups(m: Compressed, width: int, s: TransformersCacheSetting) -> int:
    """Elements of compressed groups, and of the tokens that wait for theirs to be full: keys and
    gates, twice as wide where groups overlap; those layers also keep half of the last group. What
    waits is a view of all tokens of the last step."""
    groups, waiting = divmod(s.lengths.context, m.rate)
    held = s.lengths.context if s.after == "prefill" else waiting or m.rate
    if not m.overlaps:
        return groups * width + 2 * held * width
    return groups * width + 4 * held * width + (2 * m.rate * width if groups else 0)


def _recurrent(m: Recurrent, s: TransformersCacheSetting) -> CacheBytes:
    """`columns` of past inputs, and the state."""
    match m:
        case Mamba1() | Mamba2() | GatedDelta() | KimiDelta() | ShortConv():
            columns, dtype = m.kernel, FLOAT32
        case LinearAttention():
            columns, dtype = m.kernel - 1, s.dtype
        case Rwkv():
            columns, dtype = m.kernel - 1, FLOAT32
        case GatedRecurrence():  # after a step, a view of the past inputs and the newest
            columns, dtype = m.kernel - (s.after == "prefill"), FLOAT32
        case _:
            assert_never(m)
    return CacheBytes(state=s.batch * state(m, Formats(conv=s.dtype, state=dtype), columns=columns))


def of_mixer(m: Mixer, s: TransformersCacheSetting) -> CacheBytes:
    """Bytes that one layer's mixer keeps."""
    match m:
        case Attention():
            return _attention(m, s)
        case Latent():
            return _latent(m, s)
        case Compressed():
            return _compressed(m, s)
        case CrossAttention():
            return _cross(m, s)
        case Shared():
            return CacheBytes()
        case _ if isinstance(m, Recurrent):
            return _recurrent(m, s)
        case _:
            assert_never(m)


def sizes(layers: Iterable[Layer], s: TransformersCacheSetting) -> CacheBytes:
    return total(of_mixer(m, s) for m in mixers(layers))


def caches(layers: Iterable[Layer], s: TransformersCacheSetting) -> tuple[Component, ...]:
    """The components, with what they were computed from."""
    formula = (
        f"{s.batch} sequences of {s.lengths.context:,} tokens, {s.cache} cache in {s.dtype.name}, "
        f"after {s.after}"
    )
    return components(sizes(layers, s), formula=formula, source=SOURCE)
