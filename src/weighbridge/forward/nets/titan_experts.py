"""torchtitan's mixture of experts, by date: tokens sorted by expert, three grouped products, and
the sum of each token's experts in float32.

    to 2026-04-17    each expert's rows are padded, what the experts gave is put back in order, and
                     a batched product with the scores sums it: of 16 bits a copy in 32 is kept
    later            the router runs in float32, of which a copy of its input is kept; outputs are
                     multiplied by their scores in float32, of which a copy is kept, and added
    expert ranks     rows are sent to the ranks that have their experts, put in the order of experts
                     by another copy, and sent back; a rank is taken to be sent as many as it sends

Letters: N pairs of tokens and experts, R rows of the experts of this rank, D width.
Source: torchtitan 0.2.2 models/moe/moe.py, models/moe/utils.py, distributed/expert_parallel.py;
torchtitan b5bcd76 (August 2026) models/common/moe.py, models/common/token_dispatcher.py,
ops/scatter_add.py (dates of 8bc267d, 09ea7d8, fe80b63).
"""

from typing import Any

from weighbridge.arch.body import Experts
from weighbridge.dtypes import FLOAT32, INT32, INT64
from weighbridge.forward.machine import Grads, Machine, Needs, record, remade
from weighbridge.forward.modules import Module
from weighbridge.forward.nets.torchtune import feed_forward
from weighbridge.forward.ops.experts import gathered, softmax, topk
from weighbridge.forward.ops.matrix import linear, matmul
from weighbridge.forward.ops.pointwise import (
    add,
    cast,
    divide,
    mul,
    of_input,
    of_result,
    scale,
    shift,
)
from weighbridge.forward.parts.moe import rule
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Computed, Shape, Tensor
from weighbridge.units import align_up

ADDS = (2026, 4, 17)  # 09ea7d8: outputs are added, where a batched product was
PADDED = 8  # rows of an expert are a multiple (TOKEN_GROUP_ALIGN_SIZE_M), to fe80b63


def mixture(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Tensor:
    """MoE.forward: x [batch, length, D]."""
    m, shape = s.m, x.shape
    adds = s.release is None or s.release >= ADDS
    x = x.view(x.numel // shape[-1], shape[-1])
    scores, numbers = _routed(s, p, x, experts, wide=adds)
    pairs = numbers.numel
    order = m.new((pairs,), INT64)
    m.hidden(8 * pairs)  # numbers that are sorted beside their places
    by_expert = gathered(m, scores.view(pairs), order)
    tokens = m.new((pairs,), INT64)
    routed_input = gathered(m, x, tokens)  # a variable, which lives to the end
    rows = _multiplied(m, p, _sent(m, p, routed_input, experts), padded=not adds)
    rows = _sent(m, p, rows, experts)
    beside = None if adds else _shared(m, p, x, experts)
    if adds:
        zeros = m.new(x.shape, x.dtype)
        rows = cast(m, mul(m, cast(m, rows, FLOAT32), by_expert.view(pairs, 1)), x.dtype)
        out = remade(m, rows, m.new(x.shape, x.dtype), tokens)  # deterministic_scatter_add
        del zeros
    else:
        out = _batched(m, rows, scores, order, x)
    if adds:
        beside = _shared(m, p, x, experts)
    del routed_input
    return (out if beside is None else add(m, out, beside)).view(*shape)


def _shared(m: Machine, p: Module, x: Tensor, experts: Experts) -> Tensor | None:
    """What all tokens go through beside the experts that they choose."""
    return feed_forward(m, p.at("shared_experts"), x) if experts.shared else None


def _routed(
    s: TrainingStep, p: Module, x: Tensor, experts: Experts, *, wide: bool
) -> tuple[Tensor, Tensor]:
    """TokenChoiceTopKRouter.forward: scores and numbers [tokens, k]. Its product is no product to
    selective checkpoints, which always compute it again."""
    m, config = s.m, s.built.config
    weight: Tensor = p.weight("gate")
    if wide:
        x, weight = cast(m, x, FLOAT32), cast(m, weight, FLOAT32)
    logits = linear(m, x, weight, kind="router")
    if rule(s) == "by_sigmoid":
        every = of_result(m, cast(m, logits, FLOAT32))
    else:
        every = softmax(m, logits)
    biased = shift(m, every)
    if config.num("n_group", default=1) > 1:
        m.hidden(2 * biased.nbytes)  # scores of groups, and what is left of all
    _, numbers = topk(m, biased, experts.top_k)
    del biased
    best = remade(m, every, m.new(numbers.shape, FLOAT32), every, numbers)
    if config.get("norm_topk_prob") is not False:
        total = shift(m, remade(m, best, m.new((*best.shape[:-1], 1), FLOAT32)))
        best = divide(m, best, total)
    return scale(m, best), numbers


def _sent(m: Machine, p: Module, rows: Tensor, experts: Experts) -> Tensor:
    """To the ranks of their experts, in the order of these, or back: a message and a copy. Messages
    are among what selective checkpoints keep."""
    if p.bare("experts.down_proj").shape[0] == experts.count:
        return rows
    shape, dtype = rows.shape, rows.dtype
    places = m.new(shape[:1], INT64)
    came = remade(m, rows, m.result("message", shape, dtype))
    return remade(m, came, m.new(shape, dtype), places)


def _multiplied(m: Machine, p: Module, rows: Tensor, *, padded: bool) -> Tensor:
    """GroupedExperts.forward; rows [R, D]. Gate and up are one parameter here."""
    up, down = p.stacked(m, "experts.gate_up_proj"), p.stacked(m, "experts.down_proj")
    before, places = rows, None
    if padded:
        places = m.new((align_up(rows.shape[0] + up.shape[0] * PADDED, PADDED),), INT32)
        joined = remade(m, rows, m.new((rows.shape[0] + 1, rows.shape[1]), rows.dtype))
        wider = m.new((places.numel, rows.shape[1]), rows.dtype)
        rows = remade(m, joined, wider, places)
        del joined, wider
    half = up.shape[0], up.shape[1] // 2, up.shape[2]
    hidden = of_input(m, _product(m, rows, up, half, trains=False))
    hidden = mul(m, hidden, _product(m, rows, up, half, trains=True))
    out = _product(m, hidden, down, down.shape, trains=True)
    if places is not None:
        out = remade(m, out, m.new((before.shape[0] + 1, out.shape[-1]), out.dtype), places)
    return Computed(before.shape, out.dtype, out.storage, out.node, out.slot)


def _product(m: Machine, x: Tensor, weight: Tensor, shape: Shape, *, trains: bool) -> Tensor:
    """torch._grouped_mm of rows and a part of the weight, as `shape` says. The gradient of the
    whole parameter is made with the part whose backward `trains` it."""
    out = m.new((x.shape[0], shape[1]), x.dtype)
    there = weight.dtype == x.dtype
    lowered = Computed(shape, x.dtype, weight.storage) if there else m.new(shape, x.dtype)
    reads, whole, dtype = x.shape, weight.shape, weight.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        of_rows = m.new(reads, grads[0].dtype) if needs[0] else None
        of_weight = None
        if needs[1] and trains:
            of_weight = cast(m, m.new(whole, grads[0].dtype), dtype)
        return [of_rows, of_weight]

    record(m, back, [x, weight], [x, lowered], out)
    return out


def _batched(m: Machine, rows: Tensor, scores: Tensor, order: Tensor, x: Tensor) -> Tensor:
    """Put back in order, and the scores [tokens, 1, k] times what is one token's, in float32."""
    ordered = remade(m, rows, m.new(rows.shape, rows.dtype), order)
    tokens, k = scores.shape
    wide = cast(m, ordered, FLOAT32).view(tokens, k, rows.shape[-1])
    out = matmul(m, scores.view(tokens, 1, k), wide, rows.shape[-1])
    return cast(m, out.view(*x.shape), x.dtype)
