"""Attention and MLPs as memory depends on them: the most frequent parts of a layer.

They have a module of their own so that a question about weights need not import the other mixers.
Letters: D hidden, F feed-forward, E experts.
"""

from weighbridge.base.records import frozen_record


@frozen_record
class Indexer:
    """A small attention that selects tokens for the main one: `dim` key elements per token."""

    heads: int
    dim: int


@frozen_record
class Attention:
    """MHA, GQA or MQA. `window` moves with each token; `chunk` restarts every `chunk` tokens."""

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
        """Return the number of earlier tokens that a token attends to; None for all."""
        return self.window if self.chunk is None else self.chunk


@frozen_record
class Dense:
    """An MLP of width F. If gated, two projections to F are multiplied, and one leads back."""

    width: int
    gated: bool = True
    fused: bool = False  # gate and up come from one linear of 2 F
    inputs: int = 0  # input and output width, if not D


@frozen_record
class Experts:
    """E expert MLPs of width F, of which a token uses `top_k`, and shared ones that every token
    uses."""

    count: int
    top_k: int
    width: int
    gated: bool = True
    shared: int = 0  # width F of all shared experts together
    inputs: int = 0  # input and output width, if not D: experts on a projection of the hidden state


Feed = Dense | Experts
