"""Mixtures of experts as transformers 4 runs them: one expert after the other.

    usual      final of the hidden states' dtype; for each expert the indices of its tokens, their
               states, its three linears, times their weights, added by index
    wide       DeepSeek-V3 and its kin: weights are float32, and so is the sum
    in order   DeepSeek-V2: tokens are sorted by expert, results joined and put back in order
    grouped    Granite: tokens are sorted, each linear of all experts is run before the next
    chosen     gpt-oss, Qwen3-VL-MoE: the weights are stacks, of which each expert slices its own

Tokens are spread evenly. What is kept for backward is that of all pairs of tokens and experts,
however they are spread; an expert's temporaries are larger if more tokens go to it.

Experts alike are run once: a few iterations of the loop, and the rest at once (loops.py). All are
run if each is trained under its own name. If parameters are stacks which the class does not have
(training/build.py), the gradient of a stack is allocated from its first expert on.

Source: transformers 4.57.6 (and 4.45.2, 4.48.3, 4.51.3, 4.53.3) models/*/modeling_*.py: classes
named SparseMoeBlock, MoE, Experts.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

from weighbridge.base.dtypes import BOOL, INT64
from weighbridge.base.units import ceil_div
from weighbridge.models.arch.body import Experts
from weighbridge.training.forward import loops
from weighbridge.training.forward.machine import (
    Grads,
    Machine,
    Needs,
    lower,
    made_like,
    record,
)
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.ops.experts import gathered, index_added, scattered
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.packed import Stack4
from weighbridge.training.forward.ops.pointwise import add, cast, mul, several
from weighbridge.training.forward.ops.pointwise import summed as narrowed
from weighbridge.training.forward.ops.shaping import part, shaped, stacked
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, Shape, Tensor

if TYPE_CHECKING:
    from weighbridge.training.forward.parts.moe import Form

Expert = Callable[[Machine, Tensor], Tensor]
HITS = (4, 53)  # the loop is over experts with tokens, and copies each one's row of the mask
# The linears of an expert, the down projection last; without a gate there are two
NAMES = ("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"), ("up_proj", "down_proj")


def way(rule: str, form: "Form") -> Callable[..., Tensor]:
    """Return the function that runs the experts one by one, for routing rule `rule` and their
    storage `form`."""
    return chosen if form.transposed else OWN.get(rule, usual)


def usual(
    s: TrainingStep, p: Module, x: Tensor, weights: Tensor, numbers: Tensor, form: "Form"
) -> Tensor:
    """Return MixtralSparseMoeBlock.forward; its local variables live to its end."""
    m, pairs = s.m, numbers.numel
    each, run = _run(s, p)
    rows = ceil_div(pairs, each)
    final = m.new(x.shape, x.dtype)
    mask = one_hot(m, pairs * each)

    def turn(variables: list[Any]) -> None:
        row = m.new((pairs,), INT64) if s.transformers >= HITS else None
        variables[3] = top_x = token_numbers(m, rows)
        del row
        variables[1] = state = gathered(m, x, top_x)
        out = run(m, state)
        variables[2] = mul(m, out, gathered(m, weights.view(pairs, 1), top_x))
        del out
        variables[0] = index_added(m, variables[0], cast(m, variables[2], x.dtype), top_x)

    out = _all(m, each, p, turn, [final, None, None, None])
    del mask
    return out


def wide(
    s: TrainingStep, p: Module, x: Tensor, weights: Tensor, numbers: Tensor, form: "Form"
) -> Tensor:
    """Return DeepseekV3MoE.moe, or LongcatFlashMoE.moe, where some experts do nothing; its local
    variables live to its end."""
    m, pairs = s.m, numbers.numel
    each, run = _run(s, p)
    idle = s.built.config.num("zero_expert_num", default=0)
    rows = ceil_div(pairs, each + idle)
    final = m.new(x.shape, weights.dtype)
    mask = one_hot(m, pairs * (each + idle))

    def turn(variables: list[Any]) -> None:
        variables[1] = numbers = token_numbers(m, rows)
        variables[2] = pair_weights = gathered(m, weights.view(pairs, 1), numbers)
        variables[3] = gathered(m, x, numbers)
        variables[4] = run(m, variables[3])
        variables[5] = mul(m, variables[4], pair_weights)
        variables[0] = index_added(m, variables[0], variables[5], numbers)

    variables: list[Any] = [final, None, None, None, None, None]
    _all(m, each, p, turn, variables)
    run = _idle
    loops.repeat(m, idle, turn, variables)
    total: Tensor = variables[0]
    variables.clear()
    out = cast(m, total, x.dtype)
    del mask
    return out


def _idle(_m: Machine, x: Tensor) -> Tensor:
    """nn.Identity"""
    return x


def in_order(
    s: TrainingStep, p: Module, x: Tensor, weights: Tensor, numbers: Tensor, form: "Form"
) -> Tensor:
    """Return DeepseekV2MoE.moe; its local variables live to its end."""
    m, pairs, k = s.m, numbers.numel, numbers.shape[-1]
    each, run = _run(s, p)
    rows = ceil_div(pairs, each)
    counts, sums = m.new((x.shape[0], each), INT64), m.new((each,), INT64)
    indices = m.new((pairs,), INT64)
    sorted_tokens = gathered(m, x, m.new((pairs,), INT64))
    outputs = [run(m, part(m, sorted_tokens, rows, x.shape[-1])) for _ in range(each)]
    outs = stacked(m, outputs)
    new_x = put(m, outs, indices)
    weighed = mul_(m, cast(m, new_x, weights.dtype), weights.view(pairs, 1))
    out = cast(m, summed(m, weighed, pairs // k), x.dtype)
    del counts, sums, outs
    return out


def grouped(
    s: TrainingStep, p: Module, x: Tensor, weights: Tensor, numbers: Tensor, form: "Form"
) -> Tensor:
    """Return GraniteMoeMoE.forward; its local variables live to its end."""
    m, pairs = s.m, numbers.numel
    batch_index, index = m.new((pairs,), INT64), m.new((pairs,), INT64)
    batch_gates = gathered(m, weights.view(pairs, 1), index)
    expert_inputs = gathered(m, x, batch_index)
    hidden = each_linear(m, expert_inputs, p.stacked(m, form.up))
    hidden = form.gate(s, hidden)
    outputs = each_linear(m, hidden, p.stacked(m, form.down))
    outputs = mul(m, outputs, batch_gates)
    zeros = m.new(x.shape, outputs.dtype)
    out = index_added(m, m.new(x.shape, outputs.dtype), outputs, batch_index)
    del zeros, expert_inputs
    return out


def each_linear(m: Machine, x: Tensor, stack: Tensor) -> Tensor:
    """Return the output of GraniteMoeParallelExperts.forward: one linear per expert, results
    concatenated."""
    each, outside, inside = stack.shape
    rows = ceil_div(x.shape[0], each)
    turns = min(each, loops.RUN)
    lists = [shaped(m, t, rows, inside) for t in split_rows(m, x, turns)]
    output: list[Tensor] = []
    for number, t in enumerate(lists):
        with loops.Left(m, each - turns if number == 1 else 0) as left:
            output.append(linear(m, t, part(m, stack, outside, inside)))
        output[-1] = left.kept(output[-1])
    others = m.many(each - turns, output[0].shape, output[0].dtype) if each > turns else None
    out = stacked(m, output, (x.shape[0], outside))
    del others
    return out


def chosen(
    s: TrainingStep, p: Module, x: Tensor, weights: Tensor, numbers: Tensor, form: "Form"
) -> Tensor:
    """Return GptOssExperts.forward or Qwen3VLMoeTextExperts.forward: weights of all experts,
    [tokens, E], and a view of the stacks per expert, whose gradient is zeros of the whole stack."""
    m, pairs = s.m, numbers.numel
    up, down = (
        p.bare(name) if linears(p, name) else p.stacked(m, name) for name in (form.up, form.down)
    )
    each = up.shape[0]
    rows = ceil_div(pairs, each)
    scores = scattered(m, weights, numbers, each)
    final = m.new(x.shape, x.dtype)
    mask = one_hot(m, pairs * (each + 1))

    def turn(variables: list[Any]) -> None:
        token_idx = token_numbers(m, rows)
        variables[1] = gathered(m, x, token_idx)
        gate_up = _product(m, variables[1], up, p, form.up)
        variables[2] = form.gate(s, gate_up)
        del gate_up
        out = _product(m, variables[2], down, p, form.down)
        pair_weights = gathered(m, scores.view(scores.numel, 1), token_idx)
        variables[3] = mul(m, out, pair_weights)
        del out, pair_weights
        variables[0] = index_added(m, variables[0], cast(m, variables[3], x.dtype), token_idx)

    variables: list[Any] = [final, None, None, None]
    loops.repeat(m, each, turn, variables)
    del mask
    out: Tensor = variables[0]
    return out


def _product(m: Machine, x: Tensor, stack: Tensor, p: Module, name: str) -> Tensor:
    """Return x @ stack[i] + bias[i]."""
    packed = linears(p, name)
    if packed is not None:
        out = packed.one(m, x, (stack.shape[2], stack.shape[1]))
    else:
        out = linear(m, x, lower(m, part(m, stack, *stack.shape[1:])))
    if not p.has(f"{name}_bias"):
        return out
    bias = p.bare(f"{name}_bias")
    return add(m, out, part(m, bias, *bias.shape[1:]))


def linears(p: Module, name: str) -> Stack4 | None:
    """Return the replacement of a stack whose experts are quantized linears; None for any other."""
    wrap = p.wraps.get(p.path + name)
    return wrap if isinstance(wrap, Stack4) else None


OWN: Mapping[str, Callable[..., Tensor]] = {  # by the rule of the router
    "by_sigmoid": wide,
    "by_longcat_rule": wide,
    "by_wide_softmax": in_order,
    "by_granite_rule": grouped,
}


def _all(
    m: Machine, each: int, p: Module, turn: Callable[[list[Any]], None], variables: list[Any]
) -> Tensor:
    """Run the loop over all experts, of which few are traced; return its first variable."""
    if _trained(p):
        for _ in range(each):
            turn(variables)
    else:
        loops.repeat(m, each, turn, variables)
    out: Tensor = variables[0]
    return out


def _trained(p: Module) -> bool:
    """Return whether each expert's parameters or adapters are trained under its own name."""
    for name in _names(p):
        wrap = p.wraps.get(f"{p.path}0.{name}")
        parts = (getattr(wrap, part, None) for part in ("a", "b"))
        if any(t is not None and t.trainable for t in (p.weight(f"0.{name}"), *parts)):
            return True
    return False


def _names(p: Module) -> tuple[str, ...]:
    """Return the names of one expert's linears; () if experts are stacked parameters."""
    return next((names for names in NAMES if p.has(f"0.{names[0]}")), ())


def _run(s: TrainingStep, p: Module) -> tuple[int, Expert]:
    """Return (number of experts, function that runs the next expert)."""
    kind = str(s.built.config.get("hidden_act", "mlp_hidden_act") or "silu")
    names = _names(p)
    return _named(s, p, names, kind) if names else _stacks(s, p, kind)


def _named(s: TrainingStep, p: Module, names: tuple[str, ...], kind: str) -> tuple[int, Expert]:
    """Return (number of experts, function that runs the next one), for experts that are modules."""
    first, *up, down = names
    number = count()

    def run(m: Machine, x: Tensor) -> Tensor:
        q = p.at(str(next(number)))
        inner = several(m, q.linear(m, x, first), kind)
        if up:
            inner = mul(m, inner, q.linear(m, x, up[0]))
        return q.linear(m, inner, down)

    return (
        next(f.count for b in s.built.body.blocks for f in b.feeds if isinstance(f, Experts))
    ), run


def _stacks(s: TrainingStep, p: Module, kind: str) -> tuple[int, Expert]:
    """Return (number of experts, function that runs the next one), for experts in stacked
    parameters."""
    up, down = (lower(s.m, p.stacked(s.m, name)) for name in ("gate_up_proj", "down_proj"))
    each, both, inside = up.shape
    last = min(each, loops.RUN) - 1
    number = count()

    def run(m: Machine, x: Tensor) -> Tensor:
        ends = next(number) == last
        gate = part_of(m, up, (both // 2, inside), last=ends)
        inner = several(m, linear(m, x, gate), kind)
        inner = mul(m, inner, linear(m, x, part_of(m, up, gate.shape, last=False)))
        return linear(m, inner, part_of(m, down, down.shape[1:], last=ends))

    return each, run


def part_of(m: Machine, stack: Tensor, shape: Shape, *, last: bool) -> Tensor:
    """Return one expert's weights, of `shape`, in a stack that replaces separate parameters.
    Backward begins with the `last` expert, and has the whole gradient from there on."""
    out = Computed(shape, stack.dtype, stack.storage)
    whole = stack.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(whole, grads[0].dtype) if last else None]

    record(m, back, [stack], [], out)
    return out


def one_hot(m: Machine, numbers: int) -> Tensor:
    """Return torch.nn.functional.one_hot: compared, and cast to int64."""
    equal = m.new((numbers,), BOOL)
    mask = m.new((numbers,), INT64)
    del equal
    return mask


def token_numbers(m: Machine, rows: int) -> Tensor:
    """Return the indices of one expert's tokens, by torch.where of its row of the mask: a column of
    a [rows, 2] tensor."""
    both = m.new((rows, 2), INT64)
    return Computed((rows,), INT64, both.storage)


def split_rows(m: Machine, x: Tensor, count: int) -> tuple[Tensor, ...]:
    """Return torch.split along the first dimension into `count`; gradients are joined."""
    outs = tuple(Computed(x.shape, x.dtype, x.storage) for _ in range(count))
    shape = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, next(g.dtype for g in grads if g is not None))]

    record(m, back, [x], [], *outs)
    return outs


def put(m: Machine, x: Tensor, indices: Tensor) -> Tensor:
    """Return new = empty_like(x); new[indices] = x. The gradient is picked by the indices."""
    out = m.new(x.shape, x.dtype)
    return made_like(m, x, out, indices)


def mul_(m: Machine, x: Tensor, factor: Tensor) -> Tensor:
    """Return x.mul_(y): the overwritten tensor is copied first, if y has a gradient."""
    to_save = m.new(x.shape, x.dtype) if factor.requires_grad and m.grad else None
    out = Computed(x.shape, x.dtype, x.storage)
    other = factor.shape, factor.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        of_other = m.new(g.shape, g.dtype) if needs[1] else None
        own_gradient = m.new(g.shape, g.dtype) if needs[0] else None
        return [own_gradient, None if of_other is None else narrowed(m, of_other, *other)]

    record(m, back, [x, factor], [to_save, factor], out)
    return out


def summed(m: Machine, x: Tensor, tokens: int) -> Tensor:
    """Return x.view(tokens, k, width).sum(dim=1): in backward a view that repeats it."""
    out = m.new((tokens, x.shape[-1]), x.dtype)
    shape = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [Computed(shape, grads[0].dtype, grads[0].storage)]

    record(m, back, [x], [], out)
    return out
