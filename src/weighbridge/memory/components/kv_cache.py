"""Bytes of caches: elements of the layers' records, in the format of the cache.

    attention    tokens x (K Hk e_k + K Hv e_v)       tokens: all, or those in its window
    latent       tokens x (r + rotary) e              plus the indexer's key
    recurrent    channels x columns e_conv + state e_state, whatever the context

An engine adds its own blocks, padding and slack: `caches.py` of its folder. `least` is the smallest
cache that any engine can hold for a request.
"""

from collections.abc import Iterable, Iterator
from typing import assert_never

from weighbridge.base.dtypes import BFLOAT16, FLOAT32, DType
from weighbridge.base.memory import Component, exactly
from weighbridge.base.records import frozen_record
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


@frozen_record
class Format:
    """How a run of elements is stored, such as one head's key of one token. `beside`: bytes of
    scales and zero points per run."""

    dtype: DType
    beside: int = 0

    def size(self, count: int) -> int:
        return self.dtype.size(count) + self.beside if count else 0


PLAIN = Format(dtype=BFLOAT16)


@frozen_record
class Formats:
    """Formats of cached keys and values, and dtypes of convolution and recurrent states."""

    key: Format = PLAIN
    value: Format = PLAIN
    conv: DType = BFLOAT16
    state: DType = FLOAT32


@frozen_record
class Lengths:
    """The lengths of one request: `context` and `encoder` input in tokens, and its number of
    `images`."""

    context: int
    encoder: int = 0
    images: int = 1

    def crossed(self, cross: CrossAttention) -> int:
        """Return the encoder positions whose keys and values a cross-attention layer caches."""
        if cross.source == "image":
            return self.images * (self.encoder if cross.length is None else cross.length)
        return self.encoder if cross.length is None else cross.length


@frozen_record
class CacheBytes:
    """Bytes that grow with the context (`kv`), and bytes that do not (`state`)."""

    kv: int = 0
    state: int = 0

    def plus(self, other: "CacheBytes") -> "CacheBytes":
        return CacheBytes(kv=self.kv + other.kv, state=self.state + other.state)

    def times(self, count: int) -> "CacheBytes":
        return CacheBytes(kv=self.kv * count, state=self.state * count)


def total(parts: Iterable[CacheBytes]) -> CacheBytes:
    result = CacheBytes()
    for part in parts:
        result = result.plus(part)
    return result


def mixers(layers: Iterable[Layer]) -> Iterator[Mixer]:
    for layer in layers:
        yield from layer.mixers


def heads_token(attention: Attention | CrossAttention, formats: Formats) -> int:
    """Return the bytes per token and layer; each head's key and value is a separate run."""
    return attention.kv_heads * (
        formats.key.size(attention.key_dim) + formats.value.size(attention.value_dim)
    )


def state(recurrent: Recurrent, formats: Formats, *, columns: int | None = None) -> int:
    """Return the bytes of state per sequence. `columns`: past inputs in the convolution state, by
    default the kernel size minus one."""
    past = recurrent.kernel - 1 if columns is None else columns
    return formats.conv.size(recurrent.channels * past) + formats.state.size(
        recurrent.state_elements
    )


def kept_tokens(context: int, reach: int | None) -> int:
    return context if reach is None else min(context, reach)


def least(layers: Iterable[Layer], lengths: Lengths, formats: Formats) -> CacheBytes:
    """Return the fewest bytes that one request must keep in memory to continue."""
    return total(_least(m, lengths, formats) for m in mixers(layers))


def _least(mixer: Mixer, lengths: Lengths, formats: Formats) -> CacheBytes:
    match mixer:
        case Attention():
            index = formats.key.size(mixer.indexer.dim) * lengths.context if mixer.indexer else 0
            return CacheBytes(
                kv=kept_tokens(lengths.context, mixer.reach) * heads_token(mixer, formats) + index
            )
        case Latent():
            index = formats.key.size(mixer.indexer.dim) if mixer.indexer else 0
            return CacheBytes(
                kv=lengths.context * (formats.key.size(mixer.latent_elements) + index)
            )
        case Compressed():
            return CacheBytes(kv=_compressed(mixer, lengths.context, formats))
        case CrossAttention():
            return CacheBytes(kv=lengths.crossed(mixer) * heads_token(mixer, formats))
        case Shared():
            return CacheBytes()
        case _ if isinstance(mixer, Recurrent):
            return CacheBytes(state=state(mixer, formats))
        case _:
            assert_never(mixer)


def _compressed(compressed: Compressed, context: int, formats: Formats) -> int:
    """Return the bytes of the uncompressed window, plus one vector, and one key of the indexer, per
    full group."""
    groups = context // compressed.rate if compressed.rate > 1 else 0
    index = formats.key.size(compressed.indexer.dim) if compressed.indexer else 0
    return kept_tokens(context, compressed.window) * formats.key.size(compressed.dim) + groups * (
        formats.key.size(compressed.dim) + index
    )


def components(
    sizes: CacheBytes, *, formula: str, source: str, detail: str = ""
) -> tuple[Component, ...]:
    """Return a component for each size that is not 0, by the names of the report."""
    named = (("kv_cache", sizes.kv), ("recurrent_state", sizes.state))
    return tuple(
        Component(
            name=name,
            bytes=exactly(nbytes),
            basis="computed",
            detail=detail,
            formula=formula,
            source=source,
        )
        for name, nbytes in named
        if nbytes
    )
