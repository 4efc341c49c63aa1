"""Buffers of rotary position embeddings: one float32 frequency per two rotated elements of a head.

    inv_freq, and its copy before scaling: ceil(r H / 2) each        r: share that is rotated

H is the size of a head, r `partial_rotary_factor`. Scaling (linear, YaRN, Llama 3, LongRoPE)
changes the values and not their number. Source: transformers 5.23 modeling_rope_utils.py.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge.base.units import ceil_div
from weighbridge.models.arch.blueprint import Buffer
from weighbridge.models.arch.config import Config


def head_dim(c: Config) -> int:
    """Return the head size; if missing or null, hidden size / heads."""
    return c.num("head_dim", default=c.num("hidden_size") // max(1, c.num("num_attention_heads")))


def frequencies(path: str, rotated: int) -> Iterator[Buffer]:
    """Yield the frequencies of `rotated` elements, float32 whatever the model's dtype. `path` ends
    before "inv_freq"."""
    yield Buffer(f"{path}inv_freq", (ceil_div(rotated, 2),), "float32")
    yield Buffer(f"{path}original_inv_freq", (ceil_div(rotated, 2),), "float32")


def rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the buffers of rotary positions over the whole head."""
    yield from frequencies(f"{prefix}rotary_emb.", head_dim(c))


def rope_settings(c: Config) -> Mapping[str, Any]:
    """Return the mapping `rope_scaling` of older configs, else `rope_parameters`, else {}."""
    for name in ("rope_scaling", "rope_parameters"):
        value = c.get(name)
        if isinstance(value, Mapping) and value:
            return value
    return {}


def share(c: Config, *names: str, default: float) -> float:
    """Return the rotated fraction of a head: `partial_rotary_factor`, in or next to the rotary
    settings, or another of `names`; else `default`."""
    for value in (rope_settings(c).get("partial_rotary_factor"), c.get(*names)):
        if isinstance(value, int | float):
            if not 0 <= value <= 1:
                raise c.error("partial_rotary_factor", "is.outside_1", value=value)
            return float(value)
    return default


def partly_rotary(default: float) -> Callable[[Config, str], Iterator[Buffer]]:
    """Return a rule for the rotary buffers of a fraction of the head, by default `default`."""

    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        part = share(c, "partial_rotary_factor", default=default)
        yield from frequencies(f"{prefix}rotary_emb.", int(head_dim(c) * part))

    return buffers


def layer_types(c: Config, *, period: int) -> list[str]:
    """Return the kind of each layer; without a list, every `period`-th has full attention."""
    count, listed = c.layers("num_hidden_layers"), c.many("layer_types")
    if not listed:
        return [
            "sliding_attention" if i % period else "full_attention" for i in range(1, count + 1)
        ]
    if len(listed) < count:
        raise c.error("layer_types", "has.layers", count=len(listed), layers=count)
    return [str(kind) for kind in listed[:count]]


def layered_rotary(c: Config, prefix: str, *, period: int) -> Iterator[Buffer]:
    """Yield the rotary frequencies of each kind of attention."""
    for kind in sorted(set(layer_types(c, period=period))):
        yield from frequencies(f"{prefix}rotary_emb.{kind}_", head_dim(c))
