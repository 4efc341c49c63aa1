"""What each device holds of a model that vLLM or SGLang spreads over several.

    ranks(subject, tensor=8) -> one Rank a device, in the order data, pipeline, tensor

    tensor            every weight by its name (`parallel/cuts.py`); experts by their width
    groups            attention and the embedding by the tensor ranks of a group alone
    pipeline          layers by stage (`parallel/rules.py`)
    data              all of it again, but for vLLM's experts, which all replicas share
    expert parallel   experts by number instead

Weights are as the engine holds them: query, key and value in one, gate and up in one, all experts
of a layer in one; with the tables of rotary positions that it makes.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Unpack

from weighbridge.arch.body import LayerBlock
from weighbridge.arch.mixers import Layer
from weighbridge.components.weights import PlacedTensor
from weighbridge.engines.interface import Subject
from weighbridge.engines.parallel.cuts import check
from weighbridge.engines.parallel.rules import SplitRules, Spread, SpreadArgs, given
from weighbridge.engines.parallel.tensor_shards import RankPlace, Shard, hold, holding, units
from weighbridge.errors import UsageError
from weighbridge.memo import memo

__all__ = ["Rank", "SplitRules", "Spread", "ranks"]
FLAG = "--tensor-parallel-size"
INSTEAD = "; or share experts out whole, with --enable-expert-parallel"
SMALLER = "; or quantize it in smaller groups"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One device. `layers` and `blocks` are its share of the subject's, under pipelining."""

    data: int
    pipeline: int
    tensor: int
    tensors: tuple[PlacedTensor, ...]
    layers: tuple[Layer, ...]
    blocks: tuple[LayerBlock, ...]
    first: bool  # embeds tokens
    last: bool  # makes logits
    start: int = 0  # number of its first layer

    @property
    def numbers(self) -> range:
        """Return the numbers of this rank's layers."""
        return range(self.start, self.start + max(len(self.layers), len(self.blocks)))


def ranks(subject: Subject, *, rules: SplitRules, **sizes: Unpack[SpreadArgs]) -> tuple[Rank, ...]:
    """Raises UsageError for sizes that the model's heads or widths do not divide by."""
    spread = Spread(**sizes)
    bounds = _bounds(spread, max(len(subject.layers), len(subject.body.blocks)), rules)
    named = spread.tensor > 1
    shards = tensors_of(subject, rules, spread=named)
    shares: _Shares = memo(
        subject.model,
        ("shares", *_facts(subject, rules, spread=named), spread, bounds),
        lambda: _shares(shards, spread, bounds, rules),
    )
    return tuple(
        Rank(
            data=d,
            pipeline=p,
            tensor=t,
            tensors=shares.of(p, d * spread.tensor + t),
            layers=subject.layers[bounds[p] : bounds[p + 1]],
            blocks=subject.body.blocks[bounds[p] : bounds[p + 1]],
            first=p == 0,
            last=p == spread.pipeline - 1,
            start=bounds[p],
        )
        for d in range(spread.data)
        for p in range(spread.pipeline)
        for t in range(spread.tensor)
    )


def tensors_of(subject: Subject, rules: SplitRules, *, spread: bool) -> tuple[Shard, ...]:
    """`holding`, once for a model in its formats."""
    facts = ("held", *_facts(subject, rules, spread=spread))
    return memo(subject.model, facts, lambda: holding(subject, rules, spread))


def _facts(subject: Subject, rules: SplitRules, *, spread: bool) -> tuple[Hashable, ...]:
    """Return all that decides, beside the model, which tensors there are."""
    towers = tuple((t.kind, t.heads) for t in subject.body.towers)
    return (subject.formats, towers, rules, spread)


class _Shares(NamedTuple):
    """Shares that ranks of each stage hold: most of them, and the first `more`, where those have
    one expert more."""

    usual: tuple[tuple[PlacedTensor, ...], ...]
    larger: tuple[tuple[PlacedTensor, ...], ...]
    more: int

    def of(self, stage: int, index: int) -> tuple[PlacedTensor, ...]:
        return (self.larger if index < self.more else self.usual)[stage]


def _bounds(spread: Spread, layers: int, rules: SplitRules) -> tuple[int, ...]:
    if spread.pipeline > max(1, layers):
        raise UsageError(
            f"--pipeline-parallel-size {spread.pipeline}: the model has {layers} layers"
        )
    if spread.partition:
        return given(spread.partition, layers, spread.pipeline)
    return rules.bounds(layers, spread.pipeline)


def _check(shards: Sequence[Shard], spread: Spread, rules: SplitRules) -> None:
    """Refuses as the engine does."""
    group = spread.group(rules)
    # SGLang's exchanges of experts leave the shared ones whole (srt/models/deepseek_v2.py,
    # DeepseekV2MoE: tp_size=1), and which exchange there is has no setting of ours
    exchanged = spread.expert_parallel and spread.groups > 1
    attention, dense, widths = units(shards, whole_shared=spread.tokens_shared or exchanged)
    shared = FLAG if spread.groups == 1 else f"{FLAG} over --data-parallel-size:"
    smaller = SMALLER if any(h.block and h.block[0] == 1 for h in shards) else ""
    if spread.attention == spread.tensor:
        attention, dense = attention | dense, set()
    check(attention, spread.attention, grows=rules.grows, flag=shared, instead=smaller)
    check(dense, spread.tensor, grows=rules.grows, flag=FLAG, instead=smaller)
    together = FLAG if spread.data == 1 else f"{FLAG} times --data-parallel-size"
    check(widths, group.width, grows=rules.grows, flag=together, instead=INSTEAD)


def _shares(
    shards: Sequence[Shard], spread: Spread, bounds: tuple[int, ...], rules: SplitRules
) -> _Shares:
    _check(shards, spread, rules)
    group = spread.group(rules)
    experts = max((h.expert.number for h in shards if h.expert), default=0)
    more = experts % group.number
    if more and not rules.uneven:
        raise UsageError(
            f"--enable-expert-parallel: {experts} experts cannot be shared evenly by "
            f"{group.number} devices"
        )
    places = [
        RankPlace(
            first=stage == 0,
            last=stage == spread.pipeline - 1,
            layers=range(bounds[stage], bounds[stage + 1]),
            tensor=spread.tensor,
            group=group,
            whole_shared=spread.tokens_shared,
            groups=spread.groups,
        )
        for stage in range(spread.pipeline)
    ]
    return _Shares(
        usual=tuple(hold(shards, place) for place in places),
        larger=tuple(hold(shards, place._replace(more=True)) for place in places if more),
        more=more,
    )
