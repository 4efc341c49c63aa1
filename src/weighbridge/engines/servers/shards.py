"""Shards of a model on each of several devices, as vLLM or SGLang split it.

    ranks(subject, tensor=8) -> one Rank per device, in the order data, pipeline, tensor

    tensor            every weight by its name (`parallel/cuts.py`); experts by their width
    groups            attention and the embedding only among the tensor ranks of a group
    pipeline          layers by stage (`parallel/rules.py`)
    data              all of it again, except vLLM's experts, which all replicas share
    expert parallel   experts by number instead

Weights are as the engine holds them: query, key and value in one, gate and up in one, all experts
of a layer in one; with the rotary embedding tables that it makes. While loading there is more,
which is counted separately: `arriving`, `laid_out`.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Unpack

from weighbridge.base.errors import TriedError, UsageError
from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes, Component
from weighbridge.base.records import NamedTuple, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.engine import Engine
from weighbridge.engines.interface import Subject
from weighbridge.engines.parallel.cuts import check
from weighbridge.engines.parallel.rules import SplitRules, Spread, SpreadArgs, WeightKernel, given
from weighbridge.engines.parallel.tensor_shards import RankPlace, Shard, hold, holding, units
from weighbridge.engines.weight_formats import makes
from weighbridge.memory.components.weights import FormatChoice, PlacedTensor, total
from weighbridge.models.arch.body import LayerBlock
from weighbridge.models.arch.mixers import Layer

__all__ = ["Rank", "SplitRules", "Spread", "ranks"]
FLAG = "--tensor-parallel-size"


@frozen_record
class Rank:
    """One device. `layers` and `blocks` are its share of the model's, with pipeline parallelism."""

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
        """Return the indices of this rank's layers."""
        return range(self.start, self.start + max(len(self.layers), len(self.blocks)))


def ranks(subject: Subject, *, rules: SplitRules, **sizes: Unpack[SpreadArgs]) -> tuple[Rank, ...]:
    """Return the Rank of each device. Raises UsageError if sizes do not divide heads or widths."""
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
    """Return `holding` for a model, cached by its formats."""
    facts = ("held", *_facts(subject, rules, spread=spread))
    return memo(subject.model, facts, lambda: holding(subject, rules, spread))


def _facts(subject: Subject, rules: SplitRules, *, spread: bool) -> tuple[Hashable, ...]:
    """Return all that decides, besides the model, which tensors there are."""
    towers = tuple((t.kind, t.heads) for t in subject.body.towers)
    return (subject.formats, towers, rules, spread)


class _Shares(NamedTuple):
    """Tensors per stage: of most ranks (`usual`), and of the first `more` ranks, if those have one
    expert more (`larger`)."""

    usual: tuple[tuple[PlacedTensor, ...], ...]
    larger: tuple[tuple[PlacedTensor, ...], ...]
    more: int

    def of(self, stage: int, index: int) -> tuple[PlacedTensor, ...]:
        return (self.larger if index < self.more else self.usual)[stage]


def _bounds(spread: Spread, layers: int, rules: SplitRules) -> tuple[int, ...]:
    if spread.pipeline > max(1, layers):
        raise UsageError(sentence("stages.layers", stages=spread.pipeline, count=layers))
    if spread.partition:
        return given(spread.partition, layers, spread.pipeline)
    return rules.bounds(layers, spread.pipeline)


def _check(shards: Sequence[Shard], spread: Spread, rules: SplitRules) -> None:
    """Raise the engine's own refusal of sizes that do not divide the model."""
    group = spread.group(rules)
    # SGLang's exchanges of experts leave the shared ones whole (srt/models/deepseek_v2.py,
    # DeepseekV2MoE: tp_size=1), and which exchange there is has no setting of ours
    exchanged = spread.expert_parallel and spread.groups > 1
    attention, dense, widths = units(shards, whole_shared=spread.tokens_shared or exchanged)
    shared = FLAG if spread.groups == 1 else f"{FLAG} over --data-parallel-size:"
    smaller = "or_smaller" if any(h.block and h.block[0] == 1 for h in shards) else ""
    if spread.attention == spread.tensor:
        attention, dense = attention | dense, set()
    check(
        attention,
        spread.attention,
        grows=rules.grows,
        seen=rules.uneven_seen,
        flag=shared,
        instead=smaller,
    )
    check(
        dense, spread.tensor, grows=rules.grows, seen=rules.uneven_seen, flag=FLAG, instead=smaller
    )
    together = FLAG if spread.data == 1 else f"{FLAG} times --data-parallel-size"
    check(
        widths,
        group.width,
        grows=rules.grows,
        seen=rules.uneven_seen,
        flag=together,
        instead="or_whole_experts",
    )


def _shares(
    shards: Sequence[Shard], spread: Spread, bounds: tuple[int, ...], rules: SplitRules
) -> _Shares:
    _check(shards, spread, rules)
    group = spread.group(rules)
    experts = max((h.expert.number for h in shards if h.expert), default=0)
    more = experts % group.number
    if more and not rules.uneven:
        raise TriedError(
            sentence("experts_evenly", experts=experts, number=group.number),
            seen="sglang moe/fused_moe_triton/layer.py asserts num_experts % moe_ep_size == 0",
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


# While weights load: a 16-bit checkpoint beside the format that a server makes of it, and copies of
# quantized weights that are repacked.
#
#     whole      all of it is there before the first layer is quantized: what quantizing will save
#     both       all of it stays until the last tensor was read, beside all that is quantized
#     streamed   one layer is there at a time, up to three if tensors of several are interleaved
#
# vLLM     whole; both in 0.13 and 0.14, where tensors are quantized as they come, and the reading
#          loop still holds the others; streamed since 0.16; 0.15 is between the two
# SGLang   whole in fp8; formats of 4 bits are between streamed and whole; --torchao-config
#          quantizes a model that is there whole, layer by layer
#
# bitsandbytes quantizes tensor by tensor in both.
#
# vLLM repacks mxfp4 experts once all weights are there, a whole tensor of a layer at a time:
#
#     Hopper     Triton's layout holds eight temporaries as large as the padded tensor, and padded
#                copies: 9.3 GiB were read for the 0.99 GiB of gpt-oss-120b (TensorRT-LLM, which
#                calls the same function); how many of them torch frees in time is its allocator's
#     others     Marlin's or FlashInfer's: experts one by one, then all of them stacked
#
# Source: github.com/vllm-project/vllm pull requests 29196 (both), 31914 (streamed; its test of
# OLMoE-1B-7B reads 9.06 GiB for 6.65 GiB of weights, three layers of 0.8 GiB more) and 32773 (out
# of memory in 0.13.0 and 0.14.0); vllm 0.14.1 and 0.16 model_executor/layers/quantization/fp8.py;
# sglang 0.5.23 srt/layers/quantization/fp8.py (create_weights) and srt/model_loader/loader.py
# (postprocess_weights), github.com/sgl-project/sglang issues 2895 and 8337 (whole);
# github.com/NVIDIA/TensorRT-LLM pull request 16125, github.com/vllm-project/vllm issue 34877, vllm
# 0.12 model_executor/layers/quantization/mxfp4.py (process_weights_after_loading).

BY_TENSOR = "bitsandbytes"
MXFP4 = "mxfp4"
# Copies of the largest expert tensor while it is repacked
SWIZZLED, STACKED = Bytes(1, 9, 10), Bytes(1, 2, 3)


def plain(subject: Subject, engine: Engine, asked: str | None) -> Subject | None:
    """Return the model in 16 bits; None if its format is not made while loading: the engine has no
    flag for it, and the checkpoint is stored so. `asked` is the user's flag."""
    form = subject.choice.scheme
    if form is None or subject.part.packed:
        return None
    target = asked if engine.makes(asked) == form.name else engine.written.get(form.name)
    if target in (None, BY_TENSOR) and not makes(engine.reading, form.name):
        return None
    choices = {name: FormatChoice(dtype=c.dtype) for name, c in subject.choices.items()}
    return replace(subject, choice=FormatChoice(dtype=subject.choice.dtype), choices=choices)


def laid_out(form: str, kernel: WeightKernel, packed: Rank) -> Component | None:
    """Return the temporaries with which vLLM repacks quantized experts for its kernel; None for
    other formats."""
    experts = [t.nbytes * t.copies for t in packed.tensors if "experts" in t.module]
    if form != MXFP4 or not experts:
        return None
    copies = SWIZZLED if kernel.scale_rows > 1 else STACKED
    return Component(
        name="temporaries",
        bytes=Bytes(*(count * max(experts) for count in copies)),
        basis="assumed",
        detail="experts, while they are laid out anew",
        formula=f"{copies.low} to {copies.high} copies of the largest tensor of experts",
        source="TensorRT-LLM pull request 16125; vllm issue 34877 and mxfp4.py",
    )


def arriving(packed: Rank, whole: Rank, at_once: Callable[[int, int, int], Bytes]) -> Component:
    """Return the 16-bit weights of a rank while loading; `whole` is its share of `plain`'s."""
    sizes = total(packed.tensors, "weights"), total(whole.tensors, "weights")
    layer = sizes[1] // max(1, len(whole.layers), len(whole.blocks))
    return Component(
        name="temporaries",
        bytes=at_once(*sizes, layer),
        basis="assumed",
        detail="weights in 16 bits, until they are packed",
        formula="16-bit tensors beside the packed ones, as many as this version holds at once",
        source="vllm pull requests 29196 and 31914; sglang 0.5.23 srt/model_loader/loader.py",
    )
