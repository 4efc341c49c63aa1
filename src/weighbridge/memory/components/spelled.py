"""Arithmetic as people write it, for formulas: 32 layers x 2 x 8 heads x 128 x 2 B x 4,096 tokens.

A formula is spelled out only if its product is the number that it explains. It is not with shared
windows, scales in addition to codes, or blocks of an engine: then the caller's text is shown.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from weighbridge.base.dtypes import DType

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Attention, Latent, Mixer


def cache(
    kinds: "Mapping[Mixer, int]",
    nbytes: int,
    *,
    batch: int,
    tokens: Iterable[int],
    dtype: DType,
) -> str:
    """Return the arithmetic of a cache of `nbytes`, with the first of `tokens` that gives that
    product; "" if none does."""
    from weighbridge.models.arch.mixers import Attention, Latent  # a load has no layers

    holding = {m: n for m, n in kinds.items() if isinstance(m, Attention | Latent)}
    for count in tokens:
        terms = [
            _latent(m, n, count, dtype) if isinstance(m, Latent) else _heads(m, n, count, dtype)
            for m, n in holding.items()
        ]
        if terms and batch * sum(size for _, size in terms) == nbytes:
            requests = "" if batch == 1 else f" x {batch:,} requests"
            return " + ".join(f"{text}{requests}" for text, _ in terms)
    return ""


def _latent(latent: "Latent", layers: int, tokens: int, dtype: DType) -> tuple[str, int]:
    """Return (formula, bytes) of layers with one compressed KV vector per token."""
    text = f"({latent.rank:,} + {latent.rotary:,})"
    return _spelled(layers, text, latent.latent_elements, dtype, tokens, "")


def _heads(attention: "Attention", layers: int, tokens: int, dtype: DType) -> tuple[str, int]:
    """Return (formula, bytes) of layers that cache every head's key and value."""
    text = f"2 x {attention.kv_heads:,} heads x {attention.key_dim:,}"
    if attention.key_dim != attention.value_dim:
        text = f"{attention.kv_heads:,} heads x ({attention.key_dim:,} + {attention.value_dim:,})"
    reach = tokens if attention.reach is None else min(tokens, attention.reach)
    window = " of the window" if reach < tokens else ""
    return _spelled(
        layers, text, attention.key_elements + attention.value_elements, dtype, reach, window
    )


def _spelled(
    layers: int, text: str, elements: int, dtype: DType, tokens: int, window: str
) -> tuple[str, int]:
    each = dtype.nbytes // dtype.block if dtype.nbytes % dtype.block == 0 else 0
    words = f"{layers:,} layer{'s' * (layers != 1)} x {text} x {each} B x {tokens:,} tokens{window}"
    return words, layers * elements * each * tokens


def parameters(count: int, form: str, nbytes: int) -> str:
    """Return the formula of weights: their count, and the bytes of each if all are equal."""
    formula = f"{count:,} parameters in {form}"
    return f"{formula} x {nbytes // count} B" if count and nbytes % count == 0 else formula


def each(nbytes: int, count: int, of: str) -> str:
    """Return the formula of `count` items called `of`, with whole bytes or one decimal each."""
    if not count:
        return f"{count:,} {of}"
    size = f"{nbytes // count:,}" if nbytes % count == 0 else f"about {nbytes / count:,.1f}"
    return f"{count:,} {of} x {size} B"
