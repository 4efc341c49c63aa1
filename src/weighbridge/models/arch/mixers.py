"""The memory of a layer for the tokens it has seen: one record per kind of attention or recurrence.

Sizes are elements, for one sequence:

    per token   attention       key  K Hk       value  K Hv       up to a window
                latent (MLA)    r + rotary, one vector for all heads
    per state   convolution     channels x (kernel - 1) past inputs
                recurrence      a matrix a head, or a vector

K KV heads, Hk and Hv the sizes of their keys and values. What an engine allocates for them, in
which dtype and with which slack, is in the caches.py of each engine.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from weighbridge.base.records import frozen_record
from weighbridge.models.arch.parts import Attention as Attention
from weighbridge.models.arch.parts import Indexer as Indexer

Source = Literal["text", "audio", "image"]


@frozen_record
class Latent:
    """MLA: one compressed vector of `rank` elements gives the keys and values of all heads."""

    heads: int
    rank: int
    rotary: int
    nope: int
    value_dim: int
    indexer: Indexer | None = None

    @property
    def latent_elements(self) -> int:
        return self.rank + self.rotary

    @property
    def expanded(self) -> Attention:
        """Return the attention that an engine caches if it does not absorb the up-projection."""
        return Attention(
            heads=self.heads,
            kv_heads=self.heads,
            key_dim=self.nope + self.rotary,
            value_dim=self.value_dim,
            indexer=self.indexer,
        )


@frozen_record
class Compressed:
    """DeepSeek-V4's attention. Keys and values share one vector of `dim` elements, stored per token
    within the window and per `rate` tokens beyond it. Rate 1: only the window."""

    heads: int
    dim: int
    rotary: int
    window: int
    rate: int
    indexer: Indexer | None = None

    @property
    def overlaps(self) -> bool:
        """Return whether each compressed vector covers two groups of tokens, as it does with an
        indexer."""
        return self.indexer is not None

    @property
    def width(self) -> int:
        """Return the elements of a compressed vector, with the indexer's key."""
        return self.dim + (self.indexer.dim if self.indexer else 0)


@frozen_record
class CrossAttention:
    """Cross-attention to an encoder's output, whose keys and values are computed once. `length` in
    positions, for images per image; None: it depends on the request."""

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    source: Source
    length: int | None = None

    @property
    def key_elements(self) -> int:
        return self.kv_heads * self.key_dim

    @property
    def value_elements(self) -> int:
        return self.kv_heads * self.value_dim


@frozen_record
class Shared:
    """Attention over the keys and values that layer number `owner` stores."""

    owner: int


@frozen_record
class Mamba1:
    """A Mamba 1 layer: `state` elements for each of `inner` channels."""

    inner: int
    state: int
    kernel: int

    @property
    def channels(self) -> int:
        return self.inner

    @property
    def state_elements(self) -> int:
        return self.inner * self.state


@frozen_record
class Mamba2:
    """A Mamba 2 layer: channels in heads; the convolution also covers B and C of each group."""

    inner: int
    heads: int
    groups: int
    state: int
    kernel: int

    @property
    def channels(self) -> int:
        return self.inner + 2 * self.groups * self.state

    @property
    def state_elements(self) -> int:
        return self.inner * self.state


@frozen_record
class GatedDelta:
    """Gated delta net: one convolution over queries, keys and values; a matrix per head."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int

    @property
    def channels(self) -> int:
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    @property
    def state_elements(self) -> int:
        return self.value_heads * self.key_dim * self.value_dim


@frozen_record
class KimiDelta:
    """Kimi delta attention: three convolutions of equal width, a square matrix per head."""

    heads: int
    dim: int
    kernel: int

    @property
    def channels(self) -> int:
        return 3 * self.heads * self.dim

    @property
    def state_elements(self) -> int:
        return self.heads * self.dim**2


@frozen_record
class LinearAttention:
    """Lightning attention: its only state is a square matrix per head."""

    heads: int
    dim: int
    kernel: int = 1

    @property
    def channels(self) -> int:
        return 0

    @property
    def state_elements(self) -> int:
        return self.heads * self.dim**2


@frozen_record
class ShortConv:
    """A convolution over the last tokens; their inputs are its only state."""

    width: int
    kernel: int

    @property
    def channels(self) -> int:
        return self.width

    @property
    def state_elements(self) -> int:
        return 0


@frozen_record
class Rwkv:
    """RWKV: the last token's inputs of both mixings, and a state: three elements per channel in
    version 4 (`head_dim` 0), a matrix per head since 5."""

    width: int
    inner: int
    head_dim: int
    kernel: int = 2

    @property
    def channels(self) -> int:
        return 2 * self.width

    @property
    def state_elements(self) -> int:
        return self.inner * (self.head_dim or 3)


@frozen_record
class GatedRecurrence:
    """RecurrentGemma's real-gated linear recurrence: one element per channel."""

    width: int
    kernel: int

    @property
    def channels(self) -> int:
        return self.width

    @property
    def state_elements(self) -> int:
        return self.width


Recurrent = (
    Mamba1 | Mamba2 | GatedDelta | KimiDelta | LinearAttention | ShortConv | Rwkv | GatedRecurrence
)
Mixer = Attention | Latent | Compressed | CrossAttention | Shared | Recurrent


@frozen_record
class Layer:
    """The mixers of one layer, each with its cache; none for a layer of only experts."""

    mixers: tuple[Mixer, ...] = ()


# ---- packages


# Optional packages with kernels, which transformers runs a layer by where they are installed: they
# leave matrices of a chunk on the chip, which torch makes else. `pip install transformers` has none
# of them (transformers 5.23 models/*/modeling_*.py, use_kernel_func_from_hub_with_fallback).
PACKAGES: Mapping[type, tuple[str, ...]] = {
    Attention: (),
    Latent: (),
    Compressed: (),
    CrossAttention: (),
    Shared: (),
    LinearAttention: (),
    Rwkv: (),
    GatedRecurrence: (),
    GatedDelta: ("fla", "causal-conv1d"),
    KimiDelta: ("fla", "causal-conv1d"),
    Mamba1: ("mamba-ssm", "causal-conv1d"),
    Mamba2: ("mamba-ssm", "causal-conv1d"),
    ShortConv: ("causal-conv1d",),
}


def packages(kinds: Iterable[type]) -> tuple[str, ...]:
    """Return the optional packages with kernels for layers of these mixer types, each once."""
    return tuple(dict.fromkeys(name for kind in kinds for name in PACKAGES[kind]))
