"""The number of ranks of a run by kind of parallelism, in one record.

    Ranks(tensor=2, pipeline=2).over(16).data                4: data ranks fill the cards
    Ranks.of({"tensor_parallel_size": 2}).cards              2, by the names of settings
    Ranks(data=2, tensor=2).together("data", 1)              cards 1 and 3 form a data group

    cards = data x tensor x pipeline x context               expert groups lie within a stage

Ranks are numbered in the order tensor (adjacent), context, data, pipeline: Megatron-LM d98e8a6
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

ORDER = ("tensor", "context", "data", "pipeline")  # ranks of the first kind are adjacent cards
OF_A_COPY = ("tensor", "pipeline", "context")  # ranks that split one copy of a model
SHAPE = (*OF_A_COPY, "expert")  # kinds whose sizes a search for layouts varies
SIZES: Mapping[str, str] = {  # kind of ranks -> the setting of its size
    kind: f"{kind}_parallel_size" for kind in ("data", *SHAPE)
}
SETTINGS: Mapping[str, str] = {
    **SIZES,
    "replicas": "data_parallel_replicas",
    "per_machine": "ranks_per_machine",
}
MOST = 1 << 16
# How context-parallel ranks attend to the whole sequence (training/forward/parts/sequence.py)
ULYSSES, ALLGATHER, RING, HEADS = ("ulysses", "allgather", "ring", "heads")


class RankContradiction(NamedTuple):
    """Numbers of ranks that contradict each other: their `settings`, and `why` in a sentence."""

    settings: tuple[str, ...]
    why: str


@frozen_record
class Ranks:
    """Numbers of ranks by kind of parallelism. `replicas`: copies of the model that data ranks hold
    as shards, None if not set; `per_machine`: ranks on one machine, if the run has that many."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1
    replicas: int | None = None
    per_machine: int = MACHINE

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return the numbers of ranks that `settings` set by name; a kind that is not set has one
        rank."""
        numbers = {kind: settings.get(name) for kind, name in SETTINGS.items()}
        return cls(**{kind: n for kind, n in numbers.items() if isinstance(n, int) and n > 0})

    def over(self, cards: int) -> Self:
        """Return a copy whose data-parallel ranks fill `cards`, with at least one."""
        return replace(self, data=max(1, cards // self.copy))

    @property
    def copy(self) -> int:
        """Return the number of cards that hold one copy of a model: tensor x pipeline x context."""
        return prod(getattr(self, kind) for kind in OF_A_COPY)

    @property
    def cards(self) -> int:
        return self.data * self.copy

    @property
    def among(self) -> int:
        """Return the number of ranks that hold the same layers' parts: data x context."""
        return self.data * self.context

    @property
    def sharing(self) -> int:
        """Return the number of ranks that shard one replica: `among` / `replicas`, at least 1."""
        return max(1, self.among // (self.replicas or 1))

    @property
    def local(self) -> int:
        """Return the number of ranks on one machine, which share its host memory."""
        return min(self.per_machine, self.cards)

    @property
    def machines(self) -> int:
        """Return the fewest machines that hold all ranks, with equally many ranks on each."""
        least = ceil_div(self.cards, self.per_machine)
        return next(n for n in range(least, self.cards + 1) if self.cards % n == 0)

    def span(self, kind: str) -> int:
        """Return the number of adjacent cards that a group of ranks of `kind` spans."""
        return prod(getattr(self, each) for each in ORDER[: ORDER.index(kind) + 1])

    def together(self, kind: str, card: int = 0) -> range:
        """Return the cards in the same group of `kind` as `card`, itself included."""
        span = self.span(kind)
        step = span // int(getattr(self, kind))
        first = card // span * span + card % step
        return range(first, first + span, step)

    @property
    def numbers(self) -> dict[str, Any]:
        """Return all fields by name."""
        return {kind: getattr(self, kind) for kind in SETTINGS}

    def settings(self, *kinds: str) -> dict[str, int]:
        """Return the sizes of `kinds`, or of all in SIZES, by the names of their settings."""
        return {SETTINGS[kind]: getattr(self, kind) for kind in kinds or SIZES}

    def contradictions(self, cards: int | None = None) -> Iterator[RankContradiction]:
        """Yield contradictions between the numbers, independent of what is sharded. `cards`: their
        number if data ranks fill the rest of them, else None."""
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
        """Return the contradiction that `cards` is not a multiple of the cards of one copy."""
        named = [kind for kind in OF_A_COPY if getattr(self, kind) > 1]
        by = " x ".join(f"--{kind}-parallel-size {getattr(self, kind)}" for kind in named)
        near = cards // self.copy * self.copy or self.copy
        why = sentence("ranks.copy", by=by, copy=self.copy, cards=cards, near=near)
        return RankContradiction(tuple(SETTINGS[kind] for kind in named), why)


def arranged(base: Ranks, cards: int, choices: Mapping[str, Sequence[int]]) -> Iterator[Ranks]:
    """Yield each combination of ranks that fills `cards`, with sizes from `choices` by kind (SHAPE)
    and all else from `base`."""
    for shape in product(*(choices[kind] for kind in SHAPE)):
        tensor, pipeline, context, expert = shape
        if cards % (tensor * pipeline * context) == 0 and cards // pipeline % expert == 0:
            yield replace(base, **dict(zip(SHAPE, shape, strict=True))).over(cards)
