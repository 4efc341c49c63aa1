"""A MoE layer: the router, tokens that are sent and come back, and the experts themselves.

    alltoall     copies of tokens are put in order of experts, sent, put in order of the experts of
                 a rank, and all the way back
    allgather    every rank gets all tokens of its group, and takes those of its experts
    deepep       each token is sent once to a rank, and copied there for its experts
    hybridep     copies come in order of the experts of a rank, and go straight back

Except with allgather, shared experts can run beside the others (moe_shared_expert_overlap): they
gather their tokens first, and keep them whole.

The number of copies that a rank gets depends on the router: `uneven` times as many as in equal
parts. A rank that holds all experts gets what it has. Source: Megatron-LM d98e8a6
core/transformer/moe/{moe_layer,router,token_dispatcher,experts, moe_utils}.py; Transformer Engine
c188b53 pytorch/permutation.py.
"""

from functools import partial
from math import ceil
from typing import Any

from weighbridge.base.dtypes import BFLOAT16, BOOL, FLOAT32, INT32, INT64, DType
from weighbridge.training.forward.checkpoint import checkpoint
from weighbridge.training.forward.machine import Grads, Machine, Needs, record, remade
from weighbridge.training.forward.tensors import Tensor
from weighbridge.training.megatron.alike import one_by_one
from weighbridge.training.megatron.float8 import aligned
from weighbridge.training.megatron.layers import (
    LayerWeights,
    LinearWeight,
    RankMachine,
    activation,
    column_linear,
    linear,
    row_linear,
)
from weighbridge.training.megatron.model import RoutedFeed
from weighbridge.training.megatron.run import MegatronRun

# 642fdd90: combine() ends before what follows it, which frees a copy of the dispatched tokens
PARTS = (2026, 1, 26)


def copies(feed: RoutedFeed, run: MegatronRun, tokens: int) -> int:
    """Return how many token-expert copies `tokens` make, padded if experts have a capacity."""
    if run.capacity is not None:
        return ceil(tokens * feed.top / feed.count * run.capacity) * feed.count
    return tokens * feed.top


def received(run: MegatronRun, sent: int) -> int:
    """Return the copies that a rank receives, if each rank of its group sends `sent`."""
    return ceil(sent * run.uneven)


def experts(rank: RankMachine, weights: LayerWeights, x: Tensor) -> Tensor:
    """Return MoELayer.forward of the norm's output; if "moe" is recomputed, only the input is
    saved."""
    if "moe" in rank.run.modules:
        out: Tensor = checkpoint(rank.m, lambda x: _experts(rank, weights, x), x, reentrant=True)
        return out
    return _experts(rank, weights, x)


def _experts(rank: RankMachine, weights: LayerWeights, x: Tensor) -> Tensor:
    feed = rank.model.experts
    assert feed is not None
    shared = _shared(rank, weights, x) if feed.shared and not rank.run.shared_beside else None
    probs, chosen = _routed(rank, feed, x)
    send = SENDS[rank.run.dispatcher]
    return send(rank, feed, weights, x, (probs, chosen), shared)


def _shared(rank: RankMachine, weights: LayerWeights, x: Tensor) -> Tensor:
    def run(x: Tensor) -> Tensor:
        inner = column_linear(rank, x, weights["shared_fc1"])
        return _gated_shared_output(
            rank, row_linear(rank, activation(rank, inner), weights["shared_fc2"])
        )

    if "shared_experts" in rank.run.modules:
        out: Tensor = checkpoint(rank.m, run, x, reentrant=True)
        return out
    return run(x)


def _gated_shared_output(rank: RankMachine, out: Tensor) -> Tensor:
    """Return SharedExpertMLP.forward's output times a sigmoid gate, one element per token; both are
    saved."""
    feed, m = rank.model.experts, rank.m
    if feed is None or not feed.scored:
        return out
    return remade(m, out, m.new(out.shape, out.dtype), out, m.new((out.rows, 1), out.dtype))


def _gathered_for_shared(rank: RankMachine, x: Tensor) -> Tensor:
    """Return the tokens gathered from tensor-parallel ranks, for shared experts that run
    concurrently with the routed ones and keep all tokens."""
    if rank.run.parts == 1:
        return x
    return remade(rank.m, x, rank.m.new((x.rows * rank.run.parts, x.shape[-1]), x.dtype))


def _shared_beside(rank: RankMachine, weights: LayerWeights, inner: Tensor) -> Tensor:
    """Return the down projection of concurrent shared experts, reduce-scattered over
    tensor-parallel ranks."""
    out = linear(rank, inner, weights["shared_fc2"])
    if rank.run.parts > 1:
        rows = out.rows // rank.run.parts
        out = remade(rank.m, out, rank.m.new((rows, out.shape[-1]), out.dtype))
    return _gated_shared_output(rank, out)


def _summed(m: Machine, a: Tensor, b: Tensor | None) -> Tensor:
    if b is None:
        return a
    total = m.new(a.shape, a.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [grads[0], grads[0]]

    record(m, back, [a, b], [], total)
    return total


# ---- the router

Routes = tuple[Tensor, Tensor]  # (probabilities, chosen experts): [tokens, experts] each


def _routed(rank: RankMachine, feed: RoutedFeed, x: Tensor) -> Routes:
    """Return (probabilities, chosen experts), which the dispatcher holds. Saved are float32 scores
    of all experts, once more for the load-balancing loss, and the choice."""
    m, shape = rank.m, (x.rows, feed.count)
    wide = FLOAT32 if rank.run.router_wide else BFLOAT16
    logits = remade(m, x, m.new(shape, wide), x)
    kept: list[Tensor | None] = [m.new(shape, FLOAT32), m.new((x.rows, feed.top), INT64)]
    if feed.groups > 1:
        kept.append(m.new(shape, BOOL))
    if rank.run.balances:
        kept.append(m.new(shape, FLOAT32))
    probs, chosen = m.new(shape, wide), m.new(shape, BOOL)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        scores = m.new(shape, FLOAT32)
        given = m.new(shape, wide)
        del scores
        return [given]

    record(m, back, [logits], [*kept, chosen, probs.detach()], probs)
    return probs, chosen


# ---- dispatchers


def _moved(m: Machine, x: Tensor, rows: int, *saved: Tensor) -> Tensor:
    """Return `rows` rows of `x`, moved: a new tensor in forward, and one in backward."""
    return remade(m, x, m.new((rows, x.shape[-1]), x.dtype), *saved)


def _all_to_all(
    rank: RankMachine,
    feed: RoutedFeed,
    weights: LayerWeights,
    x: Tensor,
    routes: Routes,
    shared: Tensor | None,
) -> Tensor:
    m, run = rank.m, rank.run
    probs, chosen = routes
    several = feed.count // run.expert > 1 and run.expert > 1  # experts of a rank, and ranks
    sent = copies(feed, run, x.rows)
    given = received(run, sent)
    got = given * run.expert_tensor
    beside = _gathered_for_shared(rank, x) if feed.shared and run.shared_beside else None
    places = _places(rank, feed, x.rows, sent)
    hidden = _moved(m, x, sent, places)
    weight = remade(m, probs, m.new((got, 1), probs.dtype), chosen)
    dispatched = _moved(m, hidden, given) if run.expert > 1 else hidden
    if beside is not None:
        beside = activation(rank, linear(rank, beside, weights["shared_fc1"]))
    gathered = _moved(m, dispatched, got) if run.expert_tensor > 1 else dispatched
    ordered = _moved(m, gathered, got) if several else gathered
    del gathered
    out = _computed(rank, feed, weights, ordered, weight)
    if several:
        out = _moved(m, out, got)
    if run.expert_tensor > 1:
        out = _moved(m, out, given)
    came = _moved(m, out, sent) if run.expert > 1 else out
    if run.release is None or run.release >= PARTS:
        del out
    if beside is not None:
        shared = _shared_beside(rank, weights, beside)
        del beside
    result = _moved(m, came, x.rows, places)
    del came
    result = _summed(m, result, shared)
    del hidden, dispatched, ordered
    return result


def _places(rank: RankMachine, feed: RoutedFeed, tokens: int, sent: int) -> Tensor:
    """Return where each copy comes from: Transformer Engine's row map, or indices."""
    if rank.run.fused_permutation:
        return rank.m.new((tokens, 2 * feed.count + 1), INT32)
    return _indices(rank.m, feed.count * tokens, sent)


def _indices(m: Machine, choices: int, sent: int) -> Tensor:
    """Return the indices of the `sent` copies among all choices, [tokens x experts], sorted."""
    m.hidden(BOOL.size(choices), INT64.size(choices), INT64.size(choices))
    return m.new((sent,), INT64)


def _all_gather(
    rank: RankMachine,
    feed: RoutedFeed,
    weights: LayerWeights,
    x: Tensor,
    routes: Routes,
    shared: Tensor | None,
) -> Tensor:
    m, run = rank.m, rank.run
    group, local = run.expert * run.expert_tensor, feed.count // run.expert
    tokens = x.rows * group
    got = received(run, copies(feed, run, tokens) * local // feed.count)
    probs, chosen = routes
    del routes
    hidden = x
    if group > 1:
        chosen = m.new((tokens, feed.count), BOOL)
        probs = remade(m, probs, m.new((tokens, feed.count), probs.dtype))
        hidden = rank.gathered(x, tokens)
    here = m.new((tokens, local), BOOL)
    mine = remade(m, probs, m.new((tokens, local), probs.dtype))
    places = _indices(m, local * tokens, got)
    permuted = _moved(m, hidden, got, places)
    turned = remade(m, mine, m.new((local, tokens), probs.dtype))
    mask = m.new((local, tokens), BOOL)
    weight = remade(m, turned, m.new((got, 1), probs.dtype), turned, mask)
    del mine, turned, mask
    out = _computed(rank, feed, weights, permuted, weight)
    spread = _spread(rank, out, tokens, places)
    del out
    result = _scattered(m, spread, x.rows, probs.dtype) if group > 1 else spread
    del permuted, hidden, chosen, probs, spread, here
    return _summed(m, result, shared)


def _once(feed: RoutedFeed, run: MegatronRun, tokens: int) -> int:
    """Return how many of a group's tokens have at least one expert on a rank, if all sets of `top`
    experts are equally likely."""
    others, none = feed.count - feed.count // run.expert, 1.0
    for i in range(feed.top):
        none *= max(0, others - i) / (feed.count - i)
    return min(tokens, ceil(tokens * run.uneven * (1 - none)))


def _flex(
    rank: RankMachine,
    feed: RoutedFeed,
    weights: LayerWeights,
    x: Tensor,
    routes: Routes,
    shared: Tensor | None,
) -> Tensor:
    m, run = rank.m, rank.run
    ranks, local = run.expert * run.expert_tensor, feed.count // run.expert
    probs, chosen = _routes_for_expert_ranks(rank, feed, routes)
    got = received(run, copies(feed, run, x.rows)) * run.expert_tensor
    if run.dispatcher == "deepep":
        arrived = _once(feed, run, x.rows * ranks)
        picked = m.new((x.rows, feed.top * run.expert_tensor), FLOAT32)
        picked = remade(m, probs, picked, m.new(picked.shape, INT64))
        handle = [m.new((x.rows, ranks), INT32), m.new((x.rows, ranks), BOOL)]
        here = _moved(m, x, arrived, *handle)
        probs = remade(m, picked, m.new((arrived, local), FLOAT32), m.new((arrived, local), INT32))
        chosen = m.new((arrived, local), BOOL)
        places = m.new((arrived, 2 * local + 1), INT32)
        hidden = _moved(m, here, got, places)
        weight = remade(m, probs, m.new((got, 1), FLOAT32), chosen)
    else:
        arrived, here = x.rows * ranks, None
        handle = [m.new((arrived, local), INT32), m.new((arrived, local), BOOL)]
        hidden = _moved(m, x, got, *handle)
        weight = remade(m, probs, m.new((got, 1), FLOAT32), *handle)
    del handle
    beside = _gathered_for_shared(rank, x) if feed.shared and run.shared_beside else None
    if beside is not None:
        beside = activation(rank, linear(rank, beside, weights["shared_fc1"]))
    out = _computed(rank, feed, weights, hidden, weight)
    del hidden, weight
    if here is not None:
        out = _moved(m, out, arrived, places)
    result = _moved(m, out, x.rows)
    del out
    if beside is not None:
        shared = _shared_beside(rank, weights, beside)
        del beside
    result = _summed(m, result, shared)
    del here, probs, chosen
    return result


def _routes_for_expert_ranks(rank: RankMachine, feed: RoutedFeed, routes: Routes) -> Routes:
    """Return the routes in float32, repeated for each rank of expert tensor parallelism."""
    m, (probs, chosen) = rank.m, routes
    wide = (probs.rows, feed.count * rank.run.expert_tensor)
    if rank.run.expert_tensor > 1:
        chosen = m.new(wide, BOOL)
    if rank.run.expert_tensor > 1 or probs.dtype != FLOAT32:
        probs = remade(m, probs, m.new(wide, FLOAT32))
    return probs, chosen


def _spread(rank: RankMachine, x: Tensor, tokens: int, places: Tensor) -> Tensor:
    """Return the copies summed at their tokens' rows; with deterministic runs the zeros are
    allocated twice."""
    m, shape = rank.m, (tokens, x.shape[-1])
    first = m.new(shape, x.dtype) if rank.run.deterministic else None
    out = m.new(shape, x.dtype)
    del first
    return remade(m, x, out, places)


def _scattered(m: Machine, x: Tensor, rows: int, dtype: DType) -> Tensor:
    """Return a rank's own rows of the sum over the group, which is computed in `dtype`, that of
    probabilities."""
    shape = x.shape
    wide = m.new(shape, dtype) if dtype != x.dtype else None
    out = m.new((rows, shape[-1]), dtype)
    del wide
    if dtype != BFLOAT16:
        out = m.new((rows, shape[-1]), BFLOAT16)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        whole = m.new(shape, dtype)
        return [whole if dtype == BFLOAT16 else m.new(shape, BFLOAT16)]

    record(m, back, [x], [], out)
    return out


SENDS = {"alltoall": _all_to_all, "allgather": _all_gather, "deepep": _flex, "hybridep": _flex}

# ---- experts


def _computed(
    rank: RankMachine, feed: RoutedFeed, weights: LayerWeights, x: Tensor, probs: Tensor
) -> Tensor:
    """Return the outputs of a rank's experts: by one grouped product, or expert after expert."""
    local = feed.count // rank.run.expert
    if rank.run.grouped or local == 1:
        return _grouped(rank, weights, x, probs, local)
    return one_by_one(rank.m, local, (x, probs), partial(_expert, rank, weights, 1))


def _grouped(
    rank: RankMachine, weights: LayerWeights, x: Tensor, probs: Tensor, count: int
) -> Tensor:
    """Return the outputs of experts by one grouped product. In 8 bits each expert's tokens are
    padded first, and the padding is removed."""
    if not weights["expert_fc1"].low:
        return _expert(rank, weights, count, x, probs)
    m, rows = rank.m, x.rows
    padded = rows + count * aligned(rank.run) // 2  # half of the most padding, on average
    x = _moved(m, x, padded)
    probs = remade(m, probs, m.new((padded, 1), probs.dtype))
    return _moved(m, _expert(rank, weights, count, x, probs), rows)


def _expert(
    rank: RankMachine, weights: LayerWeights, count: int, x: Tensor, probs: Tensor
) -> Tensor:
    inner = _expert_linear(rank, x, weights["expert_fc1"], count)
    inner = _weighted(rank, inner, probs)
    return _expert_linear(rank, inner, weights["expert_fc2"], count, last=True)


def _expert_linear(
    rank: RankMachine,
    x: Tensor,
    weight: LinearWeight,
    count: int,
    *,
    last: bool = False,
) -> Tensor:
    """Return a linear of `count` experts. If `last` and "moe_act" is recomputed, backward
    recomputes its input, the activation's output."""
    m, reads, low = rank.m, x.shape, weight.low
    operand = rank.operand(low, x)
    kept = operand.kept
    out = m.new((x.rows, weight.shape[0]), BFLOAT16)
    del operand
    again = last and "moe_act" in rank.run.modules

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        made = m.new(reads, BFLOAT16) if again else None
        of_out = rank.gradients_in_8_bits(low, reads[0] * weight.shape[0])
        given = m.new(reads, BFLOAT16)
        of_weights = [rank.gradient(weight.shape) for _ in range(count)]
        del made, of_out, of_weights
        return [given]

    record(m, back, [x], [] if again else [kept], out)
    return out


def _weighted(rank: RankMachine, x: Tensor, probs: Tensor) -> Tensor:
    """Return the activation times each copy's probability; the fused kernel exists only for
    SwiGLU."""
    m, shape = rank.m, x.shape
    if not (rank.run.fused_activation and rank.model.gated):
        return _product(m, activation(rank, x), probs)
    out = m.new((x.rows, shape[-1] // 2), BFLOAT16)
    weights = probs.shape, probs.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, BFLOAT16), m.new(*weights)]

    record(m, back, [x, probs], [x, probs], out)
    return out


def _product(m: Machine, x: Tensor, probs: Tensor) -> Tensor:
    """Return `x` times `probs`, computed in the dtype of `probs` and cast back to 16 bits."""
    shape, dtype, weights = x.shape, probs.dtype, probs.shape
    out = m.new(shape, dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        of_probs = m.new(shape, dtype)
        of_x = m.new(shape, dtype)
        small = m.new(weights, dtype)
        del of_probs
        return [of_x if dtype == BFLOAT16 else m.new(shape, BFLOAT16), small]

    record(m, back, [x, probs], [x, probs], out)
    if dtype == BFLOAT16:
        return out
    narrow = m.new(shape, BFLOAT16)

    def wider(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, FLOAT32)]

    record(m, wider, [out], [], narrow)
    return narrow
