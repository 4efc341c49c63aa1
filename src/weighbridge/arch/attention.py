"""Attention with keys and values of its own, the commonest of the records in `mixers.py`.

It stands alone so that a question about weights starts without the others.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer:
    """A small attention that picks tokens for the large one: a key of `dim` a token."""

    heads: int
    dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """MHA, GQA or MQA. `window` slides with the token, `chunk` starts anew every so many."""

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    chunk: int | None = None
    causal: bool = True
    indexer: Indexer | None = None

    @property
    def key_elements(self) -> int:
        return self.kv_heads * self.key_dim

    @property
    def value_elements(self) -> int:
        return self.kv_heads * self.value_dim

    @property
    def reach(self) -> int | None:
        """Return how many tokens back it sees; None is all."""
        return self.window if self.chunk is None else self.chunk
