"""A change that might help, before anybody has asked what it leads to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weighbridge.report.verdict import Price

USUALLY = 0.3  # what remains of a component where nobody guessed better (assumed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one change costs: in points, in plain words, and where that is written."""

    price: Price
    words: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One kind of change.

    touches   components that it can make smaller; "*" is all of them
    leaves    what of those is there afterwards at least, as a share: nothing where it is not said
    keeps     what usually remains, as a share: a guess that says which sets are worth asking
    """

    kind: str
    change: Mapping[str, Any]
    cost: Cost
    touches: frozenset[str] = field(default_factory=frozenset)
    leaves: Mapping[str, float] = field(default_factory=dict)
    keeps: Mapping[str, float] = field(default_factory=dict)
    graded: bool = False  # a smaller step is enough where it fits
    apart: bool = False  # after it other changes are to be had
    alone: bool = False  # not in sets
    note: str = ""

    @property
    def points(self) -> float:
        return self.cost.price.points

    def least(self, component: str) -> float:
        """The share of a component that surely remains."""
        return self.leaves.get(component, 0.0) if self._touches(component) else 1.0

    def remains(self, component: str) -> float:
        """The share of a component that usually remains."""
        usual = USUALLY if self._touches(component) and not self.keeps else 1.0
        return self.keeps.get(component, usual)

    def _touches(self, component: str) -> bool:
        return "*" in self.touches or component in self.touches
