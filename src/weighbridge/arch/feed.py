"""Feed-forwards as memory sees them: how wide they are, and how many of them a token uses.

Letters: D hidden, F feed-forward, E experts.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A feed-forward of width F. Gated: two projections to F, their product, one back."""

    width: int
    gated: bool = True
    fused: bool = False  # gate and up come from one linear of 2 F
    inputs: int = 0  # numbers that it reads and gives, where that is not D


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """E feed-forwards of width F, of which a token uses `top_k`; and those that all tokens use."""

    count: int
    top_k: int
    width: int
    gated: bool = True
    shared: int = 0  # F of the shared experts together
    inputs: int = 0  # as above: experts that work on a projection of the hidden state


Feed = Dense | Experts
