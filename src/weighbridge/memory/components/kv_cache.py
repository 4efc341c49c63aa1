"""Bytes of caches: elements of the layers' records, in the format of a cache.

    attention    tokens x (K Hk e_k + K Hv e_v)       tokens: all of them, or those in its window
    latent       tokens x (r + rotary) e              and the indexer's key beside it
    recurrent    channels x columns e_conv + state e_state, whatever the context

An engine adds its own blocks, padding and slack: `caches.py` of its folder. The smallest that
any of them can hold for a request is `least`.
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
    """The way a run of elements is stored: a head's key of one token, say. `beside` are the bytes
    of scales and zero points that each run has of its own."""

    dtype: DType
    beside: int = 0

    def size(self, count: int) -> int:
        return self.dtype.size(count) + self.beside if count else 0


PLAIN = Format(dtype=BFLOAT16)


@frozen_record
class Formats:
    """Number formats of cached keys and values, and dtypes of convolution and running states."""

    key: Format = PLAIN
    value: Format = PLAIN
    conv: DType = BFLOAT16
    state: DType = FLOAT32


@frozen_record
class Lengths:
    """Lengths of one request: tokens, the encoder's input, images that are attended to apart."""

    context: int
    encoder: int = 0
    images: int = 1

    def crossed(self, cross: CrossAttention) -> int:
        """Count the encoder's positions whose keys and values a layer keeps."""
        if cross.source == "image":
            return self.images * (self.encoder if cross.length is None else cross.length)
        return self.encoder if cross.length is None else cross.length


@frozen_record
class CacheBytes:
    """Bytes that grow with the context, and bytes that do not."""

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
    """Return the bytes of one token: every head's key and value is a run of its own."""
    return attention.kv_heads * (
        formats.key.size(attention.key_dim) + formats.value.size(attention.value_dim)
    )


def state(recurrent: Recurrent, formats: Formats, *, columns: int | None = None) -> int:
    """Return the bytes of one sequence. `columns` of past inputs, one less than the kernel's by
    default."""
    past = recurrent.kernel - 1 if columns is None else columns
    return formats.conv.size(recurrent.channels * past) + formats.state.size(
        recurrent.state_elements
    )


def kept_tokens(context: int, reach: int | None) -> int:
    return context if reach is None else min(context, reach)


def least(layers: Iterable[Layer], lengths: Lengths, formats: Formats) -> CacheBytes:
    """Return the bytes that one request must have in memory to go on from here, and not a byte
    more."""
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
    """Return the bytes of the window whole, and of one vector (and one key of the indexer) for each
    full group."""
    groups = context // compressed.rate if compressed.rate > 1 else 0
    index = formats.key.size(compressed.indexer.dim) if compressed.indexer else 0
    return kept_tokens(context, compressed.window) * formats.key.size(compressed.dim) + groups * (
        formats.key.size(compressed.dim) + index
    )


def components(
    sizes: CacheBytes, *, formula: str, source: str, detail: str = ""
) -> tuple[Component, ...]:
    """Make components of the sizes that are not 0, by the contract's names."""
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
