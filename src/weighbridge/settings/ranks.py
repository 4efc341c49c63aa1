"""How many processes a run has, and of which kinds: one record, whatever starts or counts them.

    Ranks(tensor=2, pipeline=2).over(16).data                4: what the others leave
    Ranks.of({"tensor_parallel_size": 2}).cards              2, by the names of settings
    Ranks(data=2, tensor=2).together("data", 1)              cards 1 and 3 have the same part

    cards = data x tensor x pipeline x context               expert ranks are among all but stages

Ranks lie next to each other in the order tensor, context, data, pipeline: Megatron-LM d98e8a6
core/parallel_state.py (order tp-cp-ep-dp-pp), torchtitan v0.2.2 distributed/parallel_dims.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, Self

from weighbridge.base.records import NamedTuple, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.machines.accelerators.machines import MACHINE

ORDER = ("tensor", "context", "data", "pipeline")  # from the cards that are nearest
OF_A_COPY = ("tensor", "pipeline", "context")  # ranks that have one copy of a model together
SHAPE = (*OF_A_COPY, "expert")  # kinds of which a search for layouts tries numbers
SIZES: Mapping[str, str] = {  # a kind of ranks -> the setting that says how many
    kind: f"{kind}_parallel_size" for kind in ("data", *SHAPE)
}
SETTINGS: Mapping[str, str] = {
    **SIZES,
    "replicas": "data_parallel_replicas",
    "per_machine": "ranks_per_machine",
}
MOST = 1 << 16
# What ranks of a sequence do to see all of it (training/forward/parts/sequence.py)
ULYSSES, ALLGATHER, RING, HEADS = ("ulysses", "allgather", "ring", "heads")


class RankContradiction(NamedTuple):
    """A sentence that says which numbers of ranks cannot be together, and the settings of them."""

    settings: tuple[str, ...]
    why: str


@frozen_record
class Ranks:
    """Numbers of ranks by kind. `replicas` are copies of a model that data ranks share out, None
    where nobody says them; `per_machine` ranks are on one machine, if there are so many."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1
    replicas: int | None = None
    per_machine: int = MACHINE

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return the ranks that settings say by their names; one of a kind that is not there."""
        numbers = {kind: settings.get(name) for kind, name in SETTINGS.items()}
        return cls(**{kind: n for kind, n in numbers.items() if isinstance(n, int) and n > 0})

    def over(self, cards: int) -> Self:
        """Return the same ranks with as many of data as the cards leave, at least one."""
        return replace(self, data=max(1, cards // self.copy))

    @property
    def copy(self) -> int:
        """Count the cards that have one copy of a model together."""
        return prod(getattr(self, kind) for kind in OF_A_COPY)

    @property
    def cards(self) -> int:
        return self.data * self.copy

    @property
    def among(self) -> int:
        """Count the ranks that have the same parts of layers: those of a sequence hold the same."""
        return self.data * self.context

    @property
    def sharing(self) -> int:
        """Count the ranks of `among` that share one copy out, of as many copies as are said."""
        return max(1, self.among // (self.replicas or 1))

    @property
    def local(self) -> int:
        """Count the ranks of one machine, which share its memory."""
        return min(self.per_machine, self.cards)

    @property
    def machines(self) -> int:
        """Count the machines, each of which has as many ranks."""
        least = ceil_div(self.cards, self.per_machine)
        return next(n for n in range(least, self.cards + 1) if self.cards % n == 0)

    def span(self, kind: str) -> int:
        """Count the cards next to each other within which a group of a kind lies."""
        return prod(getattr(self, each) for each in ORDER[: ORDER.index(kind) + 1])

    def together(self, kind: str, card: int = 0) -> range:
        """Return the cards that have ranks of one kind together with a card."""
        span = self.span(kind)
        step = span // int(getattr(self, kind))
        first = card // span * span + card % step
        return range(first, first + span, step)

    @property
    def numbers(self) -> dict[str, Any]:
        """Return all numbers by kind."""
        return {kind: getattr(self, kind) for kind in SETTINGS}

    def settings(self, *kinds: str) -> dict[str, int]:
        """Return the numbers of these kinds, or of all, under the names of settings."""
        return {SETTINGS[kind]: getattr(self, kind) for kind in kinds or SIZES}

    def contradictions(self, cards: int | None = None) -> Iterator[RankContradiction]:
        """Yield what cannot be, whatever the ranks share out; `cards` are those that there are,
        where data ranks are what is left of them."""
        if cards is not None and cards % self.copy:
            yield self._undivided(cards)
        if self.cards > MOST:
            many = sentence("ranks.many", count=self.cards, most=MOST)
            yield RankContradiction(tuple(SIZES.values()), many)
        if self.data % (self.replicas or 1):
            yield RankContradiction(
                (SETTINGS["replicas"], SETTINGS["data"]),
                sentence("ranks.replicas", replicas=self.replicas, data=self.data),
            )
        alike = self.among * self.tensor
        if alike % self.expert:
            key = "ranks.experts_more" if self.expert > alike else "ranks.experts"
            why = sentence(key, ranks=self.expert, alike=alike)
            yield RankContradiction((SETTINGS["expert"],), why)

    def _undivided(self, cards: int) -> RankContradiction:
        """Say that cards do not make whole copies of a model."""
        named = [kind for kind in OF_A_COPY if getattr(self, kind) > 1]
        by = " x ".join(f"--{kind}-parallel-size {getattr(self, kind)}" for kind in named)
        near = cards // self.copy * self.copy or self.copy
        why = sentence("ranks.copy", by=by, copy=self.copy, cards=cards, near=near)
        return RankContradiction(tuple(SETTINGS[kind] for kind in named), why)


def arranged(base: Ranks, cards: int, choices: Mapping[str, Sequence[int]]) -> Iterator[Ranks]:
    """Yield the ranks that divide so many cards, of numbers to choose from by kind (SHAPE), and as
    `base` in all else."""
    for shape in product(*(choices[kind] for kind in SHAPE)):
        tensor, pipeline, context, expert = shape
        if cards % (tensor * pipeline * context) == 0 and cards // pipeline % expert == 0:
            yield replace(base, **dict(zip(SHAPE, shape, strict=True))).over(cards)
