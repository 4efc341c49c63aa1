"""torchtitan's mixture of experts, by date: tokens sorted by expert, three grouped products, and
the sum of each token's experts in float32.

    to 2026-04-17    each expert's rows are padded, what the experts gave is put back in order, and
                     a batched product with the scores sums it: of 16 bits a copy in 32 is kept
    later            the router runs in float32, of which a copy of its input is kept; outputs are
                     multiplied by their scores in float32, of which a copy is kept, and added
    gpt-oss          one product for gate and up, biases of experts (titan_gpt_oss.py)
    Llama 4          a sigmoid; rows are multiplied by their scores before the experts, in float32,
                     of which a copy is kept, and what these give is summed as it is
    in 8 bits        each expert's rows are padded to 16, of mxfp8 to 32, at every date
    expert ranks     rows are sent to the ranks that have their experts, put in the order of experts
                     by another copy, and sent back; a rank is taken to be sent as many as it sends

Letters: N pairs of tokens and experts, R rows of the experts of this rank, D width.
Source: torchtitan 0.2.2 models/moe/moe.py, models/moe/utils.py, distributed/expert_parallel.py,
models/llama4/__init__.py; torchtitan b5bcd76 (August 2026) models/common/moe.py,
models/common/token_dispatcher.py, ops/scatter_add.py (dates of 8bc267d, 09ea7d8, fe80b63).
"""

from collections.abc import Callable
from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT32, INT64
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import align_up
from weighbridge.base.versions import since
from weighbridge.models.arch.body import Experts
from weighbridge.training.forward.machine import Grads, Machine, Needs, passed, record, remade
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets.torchtune import feed_forward
from weighbridge.training.forward.ops.experts import gathered, softmax, topk
from weighbridge.training.forward.ops.float8 import BLOCK, MULTIPLE, Casts, StackFloat8
from weighbridge.training.forward.ops.matrix import linear, matmul
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    divide,
    mul,
    of_input,
    of_result,
    scale,
    shift,
)
from weighbridge.training.forward.parts.moe import rule
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, Shape, Tensor

ADDS = (2026, 4, 17)  # 09ea7d8: outputs are added; before, summed by a batched product
OWN_LIST = (2026, 3, 23)
PADDED = 8  # an expert's rows are padded to a multiple (TOKEN_GROUP_ALIGN_SIZE_M), up to fe80b63


def gated(m: Machine, p: Module, rows: Tensor, date: tuple[int, ...] | None) -> Tensor:
    """Return GroupedExperts.forward of rows [R, D]. Gate and up are one parameter here."""
    up, down = p.stacked(m, "experts.gate_up_proj"), p.stacked(m, "experts.down_proj")
    count, width = up.shape[0], rows.shape[-1]
    inner = up.numel // (2 * count * width)
    half, casts = (count, inner, width), small(p)
    hidden = of_input(m, product(m, rows, up, half, casts, trains=False))
    hidden = mul(m, hidden, product(m, rows, up, half, casts, trains=True))
    return product(m, hidden, down, (count, width, inner), casts, trains=True)


def small(p: Module) -> Casts | None:
    """Return how products of experts are cast to 8 bits; None if they are not."""
    wrap = p.wraps.get(f"{p.path}experts.down_proj")
    return wrap.casts if isinstance(wrap, StackFloat8) else None


class MixtureForm(NamedTuple):
    """How a class's mixture of experts differs: `gate` and `shared` name the router and the shared
    expert, `run` returns the experts' outputs for rows.

    first     rows are multiplied by their scores before the experts
    sigmoid   scores are sigmoids even if the config says otherwise; the best are not normalized
    """

    gate: str = "gate"
    shared: str = "shared_experts"
    run: Callable[[Machine, Module, Tensor, tuple[int, ...] | None], Tensor] = gated
    first: bool = False
    sigmoid: bool = False


QWEN = MixtureForm()
LLAMA4 = MixtureForm(gate="router", shared="shared_expert", first=True, sigmoid=True)


class RoutedPairs(NamedTuple):
    """Pairs of tokens and experts: the experts, their form, scores [tokens, k], and the pairs'
    indices sorted by expert."""

    experts: Experts
    form: MixtureForm
    scores: Tensor
    order: Tensor


def mixture(
    s: TrainingStep, p: Module, x: Tensor, experts: Experts, form: MixtureForm = QWEN
) -> Tensor:
    """Return MoE.forward of x [batch, length, D]."""
    m, shape = s.m, x.shape
    x = x.view(x.numel // shape[-1], shape[-1])
    scores, numbers = _routed(s, p, x, experts, form)
    order = m.new((numbers.numel,), INT64)
    m.hidden(8 * numbers.numel)  # sorted values besides their indices
    pairs = RoutedPairs(experts, form, scores, order)
    return (_added if since(s.release, ADDS) else _put_back)(s, p, x, pairs).view(*shape)


def _added(s: TrainingStep, p: Module, x: Tensor, pairs: RoutedPairs) -> Tensor:
    """Return the experts' outputs scatter-added into zeros, plus the shared expert's output, which
    runs after them."""
    out = _scattered(s, p, x, pairs)
    beside = _shared(s.m, p, x, pairs.form)
    return out if beside is None else add(s.m, out, beside)


def _scattered(s: TrainingStep, p: Module, x: Tensor, pairs: RoutedPairs) -> Tensor:
    """RoutedExperts.forward"""
    m = s.m
    by_expert, tokens, given = _dealt(m, x, pairs)
    rows = _sent(
        m, p, _multiplied(s, p, _sent(m, p, given, pairs.experts), pairs.form), pairs.experts
    )
    zeros = m.new(x.shape, x.dtype)
    rows = rows if pairs.form.first else _weighed(m, rows, by_expert)
    out = remade(m, rows, m.new(x.shape, x.dtype), tokens)  # deterministic_scatter_add
    del zeros, given
    return out


def _put_back(s: TrainingStep, p: Module, x: Tensor, pairs: RoutedPairs) -> Tensor:
    """Return the experts' outputs in token order, summed, with the shared expert's, which runs
    first; variables live until it returns."""
    m, form = s.m, pairs.form
    dealt = _dealt(m, x, pairs)
    rows = _sent(m, p, _multiplied(s, p, _sent(m, p, dealt[2], pairs.experts), form), pairs.experts)
    beside = _shared(m, p, x, form)
    ordered = remade(m, rows, m.new(rows.shape, rows.dtype), pairs.order)
    out = (_summed if form.first else _batched)(m, ordered, pairs.scores, x)
    whole = out if beside is None else add(m, out, beside)
    del dealt, ordered
    return whole


def _dealt(m: Machine, x: Tensor, pairs: RoutedPairs) -> tuple[Tensor, Tensor, Tensor]:
    """Return (scores sorted by expert, token indices, input rows of the experts)."""
    by_expert = gathered(m, pairs.scores.view(pairs.order.numel), pairs.order)
    tokens = m.new(pairs.order.shape, INT64)
    given = gathered(m, x, tokens)
    return by_expert, tokens, _weighed(m, given, by_expert) if pairs.form.first else given


def _weighed(m: Machine, rows: Tensor, scores: Tensor) -> Tensor:
    """Return the rows times their scores, in float32 and cast back."""
    weighed = mul(m, cast(m, rows, FLOAT32), scores.view(rows.shape[0], 1))
    return cast(m, weighed, rows.dtype)


def _shared(m: Machine, p: Module, x: Tensor, form: MixtureForm) -> Tensor | None:
    """Return the output of the shared expert, which all tokens pass; None without one."""
    has = p.has(f"{form.shared}.up_proj")
    return feed_forward(m, p.at(form.shared), x) if has else None


def _routed(
    s: TrainingStep, p: Module, x: Tensor, experts: Experts, form: MixtureForm
) -> tuple[Tensor, Tensor]:
    """Return (scores, expert indices) of TokenChoiceTopKRouter.forward, [tokens, k]. Selective
    checkpoints always recompute its product, unless it adds a bias."""
    m, config = s.m, s.built.config
    weight: Tensor = p.weight(form.gate)
    bias: Tensor | None = p.bias(form.gate)
    if since(s.release, ADDS):
        x, weight = cast(m, x, FLOAT32), cast(m, weight, FLOAT32)
        bias = None if bias is None else cast(m, bias, FLOAT32)
    logits = linear(m, x, weight, bias, kind="router" if bias is None else biased(s))
    if form.sigmoid or rule(s) == "by_sigmoid":
        every = of_result(m, cast(m, logits, FLOAT32))
    else:
        every = softmax(m, logits)
    balanced = shift(m, every)
    if config.num("n_group", default=1) > 1:
        m.hidden(2 * balanced.nbytes)  # scores of groups, and masked scores of all
    _, numbers = topk(m, balanced, experts.top_k)
    del balanced
    best = remade(m, every, m.new(numbers.shape, FLOAT32), every, numbers)
    if not form.sigmoid and config.get("norm_topk_prob") is not False:
        total = shift(m, remade(m, best, m.new((*best.shape[:-1], 1), FLOAT32)))
        best = divide(m, best, total)
    return scale(m, best), numbers


def _sent(m: Machine, p: Module, rows: Tensor, experts: Experts) -> Tensor:
    """Return rows sent to the ranks of their experts and sorted by expert, or sent back: a message
    and a copy. Selective checkpoints keep messages."""
    if p.bare("experts.down_proj").shape[0] == experts.count:
        return rows
    shape, dtype = rows.shape, rows.dtype
    places = m.new(shape[:1], INT64)
    came = remade(m, rows, m.result("message", shape, dtype))
    return remade(m, came, m.new(shape, dtype), places)


def biased(s: TrainingStep) -> str:
    """Return the kind that a product with bias (addmm) has to selective checkpoints: "biased",
    kept, since they have torch's own list (114151ad); else "product"."""
    return "biased" if since(s.release, OWN_LIST) else "product"


def _multiplied(s: TrainingStep, p: Module, rows: Tensor, form: MixtureForm) -> Tensor:
    """Return the experts' outputs for `rows`; each expert's rows are padded before, if needed."""
    casts = small(p)
    if since(s.release, ADDS) and casts is None:
        return form.run(s.m, p, rows, s.release)
    multiple = PADDED if casts is None else BLOCK if casts.blocks else MULTIPLE
    m, before, count = s.m, rows, p.bare("experts.down_proj").shape[0]
    places = m.new((align_up(rows.shape[0] + count * multiple, multiple),), INT32)
    joined = remade(m, rows, m.new((rows.shape[0] + 1, rows.shape[1]), rows.dtype))
    wider = m.new((places.numel, rows.shape[1]), rows.dtype)
    rows = remade(m, joined, wider, places)
    del joined, wider
    out = form.run(m, p, rows, s.release)
    out = remade(m, out, m.new((before.shape[0] + 1, out.shape[-1]), out.dtype), places)
    return Computed(before.shape, out.dtype, out.storage, out.node, out.slot)


def product(
    m: Machine, x: Tensor, weight: Tensor, shape: Shape, casts: Casts | None = None, *, trains: bool
) -> Tensor:
    """Return torch._grouped_mm of rows and a part of the weight, of `shape`. The gradient of the
    whole parameter is made with the part that `trains` it. `casts`: the product is in 8 bits."""
    out = m.new((x.shape[0], shape[1]), x.dtype)
    there = weight.dtype == x.dtype
    lowered = Computed(shape, x.dtype, weight.storage) if there else m.new(shape, x.dtype)
    reads, whole, dtype = x.shape, weight.shape, weight.dtype
    _hold_float8_copies(m, casts, x, lowered)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradient, (rows, part) = grads[0], saved
        _hold_float8_copies(m, casts, gradient, part)
        of_rows = m.new(reads, gradient.dtype) if needs[0] else None
        _hold_float8_copies(m, casts, gradient, rows)
        of_weight = None
        if needs[1] and trains:
            of_weight = cast(m, m.new(whole, gradient.dtype), dtype)
        return [of_rows, of_weight]

    record(m, back, [x, weight], [x, lowered], out)
    return out


def _hold_float8_copies(m: Machine, casts: Casts | None, *operands: Tensor) -> None:
    """Allocate each operand in 8 bits for the time of a product."""
    if casts is not None:
        copies = [casts(m, t) for t in operands]
        del copies


def _batched(m: Machine, rows: Tensor, scores: Tensor, x: Tensor) -> Tensor:
    """Return the scores [tokens, 1, k] times each token's outputs, in float32."""
    tokens, k = scores.shape
    wide = cast(m, rows, FLOAT32).view(tokens, k, rows.shape[-1])
    out = matmul(m, scores.view(tokens, 1, k), wide, rows.shape[-1])
    return cast(m, out.view(*x.shape), x.dtype)


def _summed(m: Machine, rows: Tensor, scores: Tensor, x: Tensor) -> Tensor:
    """Return each token's output of its only expert, unweighted."""
    return passed(m, rows, m.new(x.shape, x.dtype))
