"""Sharding of the model itself: matrices over tensor-parallel ranks, layers over stages, experts.

    column, query, keys    outputs / t, by heads: a part that is no whole head has no view as heads
    row                    inputs / t; its bias is replicated
    vocab                  rows / t if the framework does so, else replicated
    experts                experts / e; of each, its width / t, unless tensor ranks have others
    stages                 some layers each (stages.py)

Parameters that a rank does not have are of kind `ELSEWHERE`: they take no memory, and operators
skip them. Source: Megatron-LM core/tensor_parallel/layers.py; transformers 5.23 base_model_tp_plan
of models/*/configuration_*.py; torchtitan models/llama3/infra/parallelize.py.
"""

from collections.abc import Sequence
from typing import assert_never

from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.parallel.cuts import WAY_OF
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Latent,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    Recurrent,
    Rwkv,
    Shared,
    ShortConv,
)
from weighbridge.models.arch.roles import expert, role
from weighbridge.training.forward.modules import ParameterSpec
from weighbridge.training.forward.tensors import ELSEWHERE
from weighbridge.training.sharding.numbers import Sharding, share
from weighbridge.training.sharding.stages import first_and_end

WHOLE = ("norm", "router")
OUTPUTS = ("query", "keys", "fused", "column", "states")


def cut(spec: ParameterSpec, sharding: Sharding, *, vocab: bool) -> ParameterSpec:
    """Return the shape that the first rank holds of one parameter, as a spec. `vocab`: embeddings
    are sharded, too."""
    if spec.kind == "experts" and len(spec.shape) == 3:
        return spec._replace(shape=_experts(spec, sharding))
    if spec.kind == "experts" and spec.name.endswith("_proj_bias"):
        return spec._replace(shape=_biases(spec, sharding))
    if sharding.tensor == 1 or spec.kind in WHOLE:
        return spec
    what = spec.role or role(spec.name)
    way = WAY_OF.get(what, "")
    if way == "vocab" and not (vocab or what == "head"):
        return spec
    if way in OUTPUTS or way == "vocab":
        return spec._replace(
            shape=_divided(spec, sharding.tensor, 1 if spec.kind == "conv1d" else 0)
        )
    if way == "row" and len(spec.shape) > 1:
        return spec._replace(
            shape=_divided(spec, sharding.tensor, 0 if spec.kind == "conv1d" else 1)
        )
    return spec


def spread(specs: Sequence[ParameterSpec], ranks: int) -> None:
    """Raise UsageError if the number of experts does not divide by `ranks`."""
    if ranks == 1:
        return
    counts = {h.shape[0] for h in specs if h.kind == "experts" and len(h.shape) == 3}
    counts = counts or {1 + max((x.number for h in specs if (x := expert(h.name))), default=-1)}
    if counts == {0}:
        raise UsageError(sentence("no_experts_to_share", ranks=ranks))
    for count in sorted(counts):
        if count % ranks:
            raise UsageError(sentence("experts_shared", ranks=ranks, count=count))


def _divided(spec: ParameterSpec, ranks: int, dim: int) -> tuple[int, ...]:
    return (*spec.shape[:dim], share(spec.shape[dim], ranks), *spec.shape[dim + 1 :])


def _experts(spec: ParameterSpec, sharding: Sharding) -> tuple[int, ...]:
    count, rows, columns = spec.shape
    count, parts = share(count, sharding.expert), sharding.expert_width
    if spec.name.endswith("down_proj"):
        return count, rows, share(columns, parts)
    return count, share(rows, parts), columns


def _biases(spec: ParameterSpec, sharding: Sharding) -> tuple[int, ...]:
    """Return a rank's shape of expert biases, [experts, width]; those added after an all-reduce are
    not split by width."""
    count, width = spec.shape
    parts = 1 if spec.name.endswith("down_proj_bias") else sharding.expert_width
    return share(count, sharding.expert), share(width, parts)


def body(whole: Body, sharding: Sharding, stage: int) -> Body:
    """Return the part of the body that one rank computes. Raises UsageError if heads or layers do
    not divide."""
    start, end = first_and_end(sharding.layers, stage)
    blocks = whole.blocks[start:end]
    if sharding.tensor > 1:
        blocks = tuple(
            replace(b, mixers=tuple(_mixer_of_rank(m, sharding.tensor) for m in b.mixers))
            for b in blocks
        )
    return replace(whole, blocks=blocks)


def _mixer_of_rank(mixer: Mixer, ranks: int) -> Mixer:
    """Return the mixer with the heads of one tensor-parallel rank."""
    match mixer:
        case Attention() | CrossAttention():
            _check(mixer.heads, ranks)
            _check(mixer.kv_heads, ranks, "key_heads")
            return replace(mixer, heads=mixer.heads // ranks, kv_heads=mixer.kv_heads // ranks)
        case Latent():
            _check(mixer.heads, ranks)
            return replace(mixer, heads=mixer.heads // ranks)
        case Compressed() | Shared():
            return mixer
        case _ if isinstance(mixer, Recurrent):
            return _fewer_states(mixer, ranks)
        case _:
            assert_never(mixer)


def _fewer_states(recurrent: Recurrent, ranks: int) -> Recurrent:
    match recurrent:
        case Mamba2():
            _check(recurrent.heads, ranks)
            return replace(
                recurrent, heads=recurrent.heads // ranks, inner=recurrent.inner // ranks
            )
        case GatedDelta():
            _check(recurrent.key_heads, ranks)
            return replace(
                recurrent,
                key_heads=recurrent.key_heads // ranks,
                value_heads=recurrent.value_heads // ranks,
            )
        case GatedRecurrence():
            raise UsageError(sentence("no_recurrences", ranks=ranks))
        case Mamba1() | KimiDelta() | LinearAttention() | ShortConv() | Rwkv():
            return recurrent
        case _:
            assert_never(recurrent)


def _check(heads: int, ranks: int, what: str = "heads") -> None:
    if heads % ranks:
        raise UsageError(sentence(f"tensor_shares.{what}", ranks=ranks, count=heads))


def elsewhere(
    specs: Sequence[ParameterSpec], path: str, stage: range, *, first: bool, last: bool
) -> list[ParameterSpec]:
    """Return `specs` with the kind `ELSEWHERE` for parameters that another pipeline stage holds. A
    stage has the layers below `path` numbered in `stage`; the `first` also what comes before the
    layers, the `last` what comes after. Both hold a tied embedding (Megatron-LM
    share_embeddings_and_output_weights)."""
    names = []
    headed = any(role(h.name) == "head" for h in specs)
    tied = "" if headed else next((h.name for h in specs if h.kind == "embedding"), "")
    for h in specs:
        if h.name.startswith(f"{path}."):
            here = int(h.name[len(path) + 1 :].partition(".")[0]) in stage
        else:
            here = first if h.kind == "embedding" else last
            here = here or (last and h.name == tied)
        names.append(h if here else h._replace(kind=ELSEWHERE))
    return names
