"""Attention with keys and values of its own in every layer: heads, sizes, windows, all spellings.

K = num_key_value_heads, else as many as heads; H = head_dim, else D / N
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Attention, Layer, Mixer, Shared
from weighbridge.arch.windows import (
    CHUNKED,
    FULL,
    SLIDING,
    layer_kinds,
    window,
)
from weighbridge.errors import BadFileError
from weighbridge.wording import shown

HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")


@dataclass(frozen=True, slots=True)
class AttentionSizes:
    """Heads, key-value heads and head sizes of one attention layer."""

    heads: int
    kv_heads: int
    dim: int
    value_dim: int | None = None


def heads(c: Config) -> int:
    return c.num(*HEADS)


def width(c: Config) -> int:
    return c.num("hidden_size", "n_embd", "d_model")


def size(c: Config) -> int:
    """Return the size of a head: the config's `head_dim`, else the width over the heads."""
    return c.num("head_dim", default=width(c) // max(1, heads(c)))


def grouped(c: Config) -> AttentionSizes:
    """The usual spelling. A null of either key is as good as none."""
    kv = (
        heads(c)
        if c.null("num_key_value_heads")
        else c.num("num_key_value_heads", default=heads(c))
    )
    return AttentionSizes(heads(c), kv, size(c))


def plain(c: Config) -> AttentionSizes:
    """Return the sizes of multi-head attention: as many key-value heads as heads, whatever else the
    config says."""
    return AttentionSizes(heads(c), heads(c), width(c) // max(1, heads(c)))


def attention(c: Config, s: AttentionSizes, kind: str = FULL) -> Attention:
    whole = Attention(
        heads=s.heads, kv_heads=s.kv_heads, key_dim=s.dim, value_dim=s.value_dim or s.dim
    )
    return seen(c, whole, kind)


def seen(c: Config, whole: Attention, kind: str) -> Attention:
    """`whole` as it is in a layer of that kind. Raises BadFileError for sizes that are none."""
    if min(whole.heads, whole.kv_heads, whole.key_dim) < 1:
        raise BadFileError(
            f"{c.where}: {whole.heads} heads of {whole.key_dim} over {whole.kv_heads} key-value "
            "heads is no attention: look at num_attention_heads, num_key_value_heads and head_dim"
        )
    if kind == SLIDING:
        return replace(whole, window=reach(c, "sliding_window", window(c)))
    if kind == CHUNKED:
        return replace(whole, chunk=reach(c, "attention_chunk_size", c.num("attention_chunk_size")))
    if kind == FULL:
        return whole
    raise BadFileError(
        f"{c.where}: layer_types: {shown(kind)} is no kind of attention ({FULL}, {SLIDING},"
        f" {CHUNKED})"
    )


def reach(c: Config, name: str, found: int | None) -> int:
    if not found:
        raise c.error(name, "is missing, though layers ask for it")
    return found


def layers(
    c: Config, sizes: Callable[[Config], AttentionSizes], kinds: Sequence[str]
) -> tuple[Layer, ...]:
    s = sizes(c)
    return tuple(Layer(mixers=(attention(c, s, kind),)) for kind in kinds)


def usual(c: Config) -> tuple[Layer, ...]:
    return layers(c, grouped, layer_kinds(c))


def multi_head(c: Config) -> tuple[Layer, ...]:
    return layers(c, plain, layer_kinds(c))


# Layers that use the keys and values of others


def sharing(found: Sequence[Layer], stored: int) -> tuple[Layer, ...]:
    """The layers from `stored` on use those of the last one before it of their own reach."""
    mine = tuple(found[:stored])
    owners = (_owner(mine, layer) for layer in found[stored:])
    return (*mine, *(Layer(mixers=(Shared(owner=owner),)) for owner in owners))


def _owner(stored: Sequence[Layer], layer: Layer) -> int:
    def far(one: Mixer) -> int | None:
        return one.reach if isinstance(one, Attention) else None

    same = [i for i, one in enumerate(stored) if far(one.mixers[0]) == far(layer.mixers[0])]
    return same[-1] if same else max(0, len(stored) - 1)
