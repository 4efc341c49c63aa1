"""A model on the ranks of a server: shards, and memory besides them that no request changes.

ranks()       one Rank per device
firsts()      for each rank, the first one that holds the same: only these are computed
arriving()    memory besides the weights while they load
adapters()    LoRA slots
draft()       weights for speculative decoding
talk()        communication buffers between ranks
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes, Component
from weighbridge.base.records import NamedTuple
from weighbridge.engines.engine import Engine
from weighbridge.engines.interface import Subject
from weighbridge.engines.parallel.rules import SpreadArgs
from weighbridge.engines.servers import lora_and_speculation, shards
from weighbridge.engines.servers.communication import Collectives, communication
from weighbridge.engines.servers.shards import Rank, SplitRules
from weighbridge.machines.accelerators.seen import Card, first_alike

if TYPE_CHECKING:
    from weighbridge.workload import Infer

AtOnce = Callable[[int, int, int], Bytes]


class Replica(NamedTuple):
    """A model, the rules by which it is split, and the sizes of the split."""

    engine: Engine
    subject: Subject
    w: "Infer"
    rules: SplitRules
    sizes: SpreadArgs

    def ranks(self) -> tuple[Rank, ...]:
        return shards.ranks(self.subject, rules=self.rules, **self.sizes)

    def firsts(self, ranks: Sequence[Rank], card: Card = None) -> tuple[int, ...]:
        """Return, for each rank, the number of the first that holds the same, on an equal card."""
        numbers: dict[tuple[int, int, int], int] = {}
        return tuple(
            numbers.setdefault((rank.pipeline, id(rank.tensors), first_alike(card, i)), i)
            for i, rank in enumerate(ranks)
        )

    def arriving(
        self, ranks: Sequence[Rank], at_once: AtOnce
    ) -> Sequence[tuple[Component, ...]] | None:
        """Return the 16-bit weights that each rank holds while quantizing them; None if it does
        not. `at_once`: (quantized, 16-bit, one layer's bytes) -> bytes of them at once."""
        plain = shards.plain(self.subject, self.engine, self.w.quantization)
        if plain is None:
            return None
        pairs = zip(ranks, self._replace(subject=plain).ranks(), strict=True)
        return [(shards.arriving(*pair, at_once),) for pair in pairs]

    def adapters(self, rank: Rank, slots: int | None, lora_rank: int) -> tuple[Component, ...]:
        if not slots:
            return ()
        return lora_and_speculation.lora(
            self.subject, rank, slots=slots, lora_rank=lora_rank, rules=self.rules, **self.sizes
        )

    def draft(self, method: str, tokens: int) -> tuple[Component, ...]:
        return lora_and_speculation.draft(
            self.subject, method=method, tokens=tokens, rules=self.rules, **self.sizes
        )

    def talk(self, by: Collectives, card: Card, copies: int) -> tuple[Component, ...]:
        sizes: SpreadArgs = {**self.sizes, "data": copies}
        return communication(by, body=self.subject.body, budget=card, **sizes)
