"""Muon in Megatron: the states of a rank, and what a step takes to make a matrix orthogonal.

    matrices    master weights and one momentum in float32, 8 bytes per element; also the router's
    the rest    embeddings, norms and biases have Adam's 12

Without a distributed optimizer each rank has all of them. With one a matrix belongs to one rank:

    shards      the usual layout: matrices of a buffer are put on the shard that has least, the
                largest first, and the buffer of weights and gradients is as long as all shards are
                with the fullest of them; the rest is split evenly
    in turn     no_use_layer_wise_param_layout: all tensors, the largest last, go to ranks in turn,
                forth and back, so that one rank has the whole embedding

A step makes one matrix after the other orthogonal (Newton-Schulz), whole on each tensor rank.

Source: Megatron-LM d98e8a6 core/optimizer/{__init__,layer_wise_optimizer,emerging_optimizers}.py;
NVIDIA-NeMo/Emerging-Optimizers 116b71a, 0001f6e orthogonalized_optimizers/{
orthogonalized_optimizer,muon_utils}.py.
"""

from collections.abc import Iterator, Sequence
from heapq import heapify, heapreplace
from typing import TYPE_CHECKING

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import ceil_div
from weighbridge.training.megatron.model import MegatronModel, RankWeight, linears, small
from weighbridge.training.megatron.run import MegatronRun

if TYPE_CHECKING:
    from weighbridge.training.megatron.states import StageNumbers

MATRIX, OTHER = 8, 12  # bytes of states per element
FLOAT32, HALF = 4, 2
WITHOUT = "in_proj"  # Mamba's first linear, which Muon does not update (mamba_mixer.py, use_muon)


class MuonShare(NamedTuple):
    """Bytes of optimizer states on the fullest and the emptiest rank of a stage, and by how many
    elements padding lengthens buffers."""

    most: int
    least: int
    padding: int


ALIKE = MuonShare(0, 0, 0)  # a stage without Muon


class _Tensors(NamedTuple):
    """Elements per tensor of a stage: dense matrices, experts' matrices, and all others."""

    dense: list[int]
    experts: list[int]
    others: list[int]


def share(
    model: MegatronModel, run: MegatronRun, layers: Sequence[int], numbers: "StageNumbers"
) -> MuonShare:
    """Return the states of a stage's ranks, of which each holds `numbers` elements of weights."""
    found = _tensors(model, run, layers, numbers)
    dense, experts = max(1, run.data * run.context), max(1, run.expert_data)
    if not run.distributed_optimizer:
        dense = experts = 1
    if run.in_turn:
        weighed = sorted([(n, MATRIX) for n in found.dense] + [(n, OTHER) for n in found.others])
        loads = _in_turn(weighed, dense)
        shares = _in_turn([(n, MATRIX) for n in sorted(found.experts)], experts)
        return MuonShare(max(loads) + max(shares), min(loads) + min(shares), 0)
    shards, beside = _shards(found.dense, dense), _shards(found.experts, experts)
    even = OTHER * ceil_div(sum(found.others), dense)
    padding = sum(len(each) * max(each) - sum(each) for each in (shards, beside))
    most, least = (even + MATRIX * (end(shards) + end(beside)) for end in (max, min))
    return MuonShare(most, least, padding)


def _tensors(
    model: MegatronModel, run: MegatronRun, layers: Sequence[int], numbers: "StageNumbers"
) -> _Tensors:
    dense: list[int] = []
    experts: list[int] = []
    others: list[int] = []
    for layer in layers:
        routed = model.routed(layer)
        for x in _linears(model, run, layer):
            if x.share == "expert" and model.experts is not None:
                experts += [x.numbers] * (model.experts.count // run.expert)
            else:
                (others if x.name == WITHOUT else dense).append(x.numbers)
                others += [x.rows] if x.biased else []
        if routed and model.experts is not None:
            dense.append(model.experts.count * model.hidden)
        others += small(model, run.tensor, layer)[: -1 if routed else None]
    ahead = 2 * model.hidden * model.hidden // run.tensor  # before a layer that predicts
    dense += [ahead] * sum(layer >= model.layers for layer in layers)
    rest = numbers.all - sum(dense) - sum(experts) - sum(others)  # embedding, head and the like
    words = model.rows(run.tensor, run.multiple) // run.tensor * model.hidden
    others += [words] * (rest // words) + [rest % words]
    return _Tensors(dense, experts, others)


def _linears(model: MegatronModel, run: MegatronRun, layer: int) -> Iterator[RankWeight]:
    return linears(model, run.tensor, run.expert_tensor, layer)


def _shards(sizes: Sequence[int], count: int) -> list[int]:
    """Return the load of each shard: tensors, the largest first, go to the shard with the least so
    far."""
    loads = [0] * count
    heapify(loads)
    for size in sorted(sizes, reverse=True):
        heapreplace(loads, loads[0] + size)
    return loads


def _in_turn(weighed: Sequence[tuple[int, int]], count: int) -> list[int]:
    """Return the bytes per rank if tensors, given as (elements, bytes per element), are dealt to
    ranks back and forth."""
    loads = [0] * count
    turns = [*range(count), *reversed(range(count))]
    for i, (numbers, each) in enumerate(weighed):
        loads[turns[i % len(turns)]] += numbers * each
    return loads


def orthogonal(model: MegatronModel, run: MegatronRun, layers: Sequence[int]) -> int:
    """Return the bytes that a step takes for its largest matrix: a Nesterov momentum, then the
    matrix in 16 bits, in float32, and scaled twice. If tensor ranks split it: its parts, joined,
    and one iteration: the matrix in 16 bits twice, and two squares of its smaller side."""
    most = 0
    for layer in layers:
        for x in _linears(model, run, layer):
            ranks = {"tensor": run.tensor, "expert": run.expert_tensor}.get(x.share, 1)
            whole = x.numbers * ranks
            if ranks == 1:
                most = max(most, (4 * FLOAT32) * whole)
                continue
            square = min(x.rows, x.columns) ** 2  # the smaller side, which may be sharded
            wide = max((FLOAT32 + HALF) * whole, 2 * HALF * (whole + square))
            most = max(most, FLOAT32 * x.numbers + 2 * FLOAT32 * whole + wide)
    return most
