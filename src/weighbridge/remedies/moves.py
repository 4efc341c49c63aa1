"""A change that might help, before anybody has asked what it leads to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weighbridge.judged import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one change costs: in points, in plain words, and where that is written."""

    price: Price
    words: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One kind of change. `touches` are the components that it can make smaller."""

    kind: str
    change: Mapping[str, Any]
    cost: Cost
    touches: frozenset[str] = field(default_factory=frozenset)
    note: str = ""

    @property
    def points(self) -> float:
        return self.cost.price.points
