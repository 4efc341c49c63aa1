"""Mixtures of experts: routers, and all experts of a layer at once, as transformers 5 runs them.

    router    the experts of each token, and the weights of their outputs: scores of all experts
              from the hidden states, softmax or sigmoid, mostly in float32; the top k. Returns
              (logits, weights, numbers), of which the last two are [tokens, k]; the layer holds
              the logits to its end, since they are returned for the load-balancing loss, which is
              off by default
    experts   tokens sorted by expert, k times each; gate and up fused, their product, down; the
              outputs weighted, put back in order, and summed

Source: transformers 5.23 integrations/moe.py (grouped_mm_experts_forward), models/*/modeling_*.py
(classes named TopkRouter, TopKRouter), models/qwen3_moe/modeling_qwen3_moe.py,
models/deepseek_v3/modeling_deepseek_v3.py.
"""

from collections.abc import Callable, Mapping

from weighbridge.base.dtypes import BOOL, FLOAT32, INT32, INT64
from weighbridge.base.errors import UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.memory.components.weights import MERGES
from weighbridge.models.arch.body import Experts
from weighbridge.models.arch.model_types import differs, facts
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.ops import pointwise
from weighbridge.training.forward.ops.experts import (
    divided,
    divided_,
    gather,
    gathered,
    grouped,
    masked,
    softmax,
    summed_k,
    topk,
)
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.pointwise import (
    add,
    add_,
    cast,
    mul,
    of_result,
    scale,
    several,
    shift,
)
from weighbridge.training.forward.ops.shaping import split
from weighbridge.training.forward.parts import one_by_one
from weighbridge.training.forward.parts.layer import LayerShape, mlp
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Tensor


def feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """Return the output of layer `number`'s experts, or of its dense MLP."""
    e = experts_of(s, number)
    if e is None and not p.has("mlp.up_proj"):
        raise UsageError(sentence("no_feed", kind=s.built.kind, number=number))
    if e is None:
        return mlp(s, p.at("mlp"), x)
    inner = p.at(p.first("mlp.gate", "mlp.router", "block_sparse_moe.gate").rpartition(".")[0])
    return sparse(s, inner, x, e)


def experts_of(s: TrainingStep, number: int) -> Experts | None:
    feeds = s.built.body.blocks[number].feeds
    return next((f for f in feeds if isinstance(f, Experts)), None)


def sparse(s: TrainingStep, p: Module, x: Tensor, mixture: Experts) -> Tensor:
    """Qwen3MoeSparseMoeBlock.forward, DeepseekV3MoE.forward"""
    m, shape = s.m, x.shape
    residuals = x
    flat = x.view(s.rows, shape[-1])
    _, weights, numbers = router(s)(s, p, flat, mixture)
    out = experts(s, p.at("experts"), flat, weights, numbers).view(*shape)
    if mixture.shared:
        out = add(m, out, mlp(s, p.at(p.first(*SHARED).rpartition(".")[0]), residuals))
    return out


SHARED = ("shared_experts.up_proj", "shared_expert.up_proj")


def gated(s: TrainingStep, both: Tensor) -> Tensor:
    """_default_apply_gate"""
    m: Machine = s.m
    half = both.shape[-1] // 2
    gate, up = split(m, both, (half, half))
    kind = str(s.built.config.get("hidden_act") or "silu")
    return mul(m, several(m, gate, kind), up)


@frozen_record
class Form:
    """How a class stores its experts. `up`, `down`: names of the parameters; `transposed`: they are
    [E, in, out]."""

    up: str = "gate_up_proj"
    down: str = "down_proj"
    gate: Callable[[TrainingStep, Tensor], Tensor] = gated
    transposed: bool = False


QWEN3 = Form()


def experts(
    s: TrainingStep, p: Module, x: Tensor, weights: Tensor, numbers: Tensor, form: Form = QWEN3
) -> Tensor:
    """Return the output of grouped_mm_experts_forward; local variables live until it returns.
    Before transformers 5 experts run one by one."""
    if _one_by_one(s, p, form):
        return one_by_one.way(rule(s), form)(s, p, x, weights, numbers, form)
    m = s.m
    pairs, k = numbers.numel, numbers.shape[-1]
    expert_ids_g, perm = m.new((pairs,), INT64), m.new((pairs,), INT64)
    selected = gathered(m, x, m.new((pairs,), INT64))
    sample_weights_g = gathered(m, weights.view(pairs), perm)
    histc_input = m.new((pairs,), INT32)
    up, down = p.stacked(m, form.up), p.stacked(m, form.down)
    tokens_per_expert, offsets = m.new(up.shape[:1], INT32), m.new(up.shape[:1], INT32)
    biases = _biases(m, p, form.up, expert_ids_g)
    proj_out = grouped(m, selected, up, offsets, transposed=form.transposed)
    proj_out = _biased(m, proj_out, biases)
    proj_out = form.gate(s, proj_out)
    biases = _biases(m, p, form.down, expert_ids_g)
    proj_out = grouped(m, proj_out, down, offsets, transposed=form.transposed)
    proj_out = _biased(m, proj_out, biases)
    weighted = mul(m, proj_out, sample_weights_g.view(pairs, 1))
    inv_perm = m.new((pairs,), INT64)
    m.hidden(8 * pairs)
    weighted = gathered(m, weighted, inv_perm)
    final = summed_k(m, weighted, pairs // k)
    del expert_ids_g, biases, histc_input, selected, tokens_per_expert
    return cast(m, final, x.dtype)


def _one_by_one(s: TrainingStep, p: Module, form: Form) -> bool:
    looped = s.transformers < (MERGES,) or differs(s.built.kind, "looped_experts")
    return looped or (form.transposed and one_by_one.linears(p, form.up) is not None)


def _biases(m: Machine, p: Module, name: str, numbers: Tensor) -> Tensor | None:
    """Return the experts' bias for each token-expert pair; None if the class has no biases."""
    name += "_bias"
    return gathered(m, p.bare(name), numbers) if p.has(name) else None


def _biased(m: Machine, x: Tensor, biases: Tensor | None) -> Tensor:
    return x if biases is None else add_(m, x, biases)


LAYER = LayerShape(feed=feed)


# ---- routers

Routed = tuple[Tensor, Tensor, Tensor]
Router = Callable[[TrainingStep, Module, Tensor, Experts], Routed]


def router(s: TrainingStep) -> Router:
    """Return the class's router; a config may select DeepSeek-V3's."""
    return ROUTERS.get(rule(s), by_softmax)


def rule(s: TrainingStep) -> str:
    """Return the name of the class's routing rule; "" is a softmax over all scores."""
    if s.built.config.get("scoring_func") == "sigmoid":
        return facts(s.built.kind).training.router or "by_sigmoid"
    return facts(s.built.kind.removesuffix("_text")).training.router


def by_softmax(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """Qwen3MoeTopKRouter.forward"""
    m = s.m
    logits = linear(m, x, p.stacked(m, "gate.weight"))
    probs = softmax(m, logits)
    value, numbers = topk(m, probs, experts.top_k)
    if s.built.config.get("norm_topk_prob") is not False:
        value = divided_(m, value)
    value = cast(m, value, logits.dtype)
    return logits, value, numbers


def mixtral(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """MixtralTopKRouter.forward: weights stay in float32, and so do the outputs they weigh; before
    transformers 5 they are cast back."""
    m = s.m
    logits = linear(m, x, p.stacked(m, "gate.weight"))
    probs = pointwise.softmax(m, cast(m, logits, FLOAT32))
    value, numbers = topk(m, probs, experts.top_k)
    value = divided_(m, value)
    return logits, cast(m, value, x.dtype) if s.transformers < (MERGES,) else value, numbers


def by_sigmoid(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """DeepseekV3TopkRouter.forward: in float32, with groups of experts chosen first."""
    m, rows = s.m, x.shape[0]
    logits = linear(m, cast(m, x, FLOAT32), cast(m, p.stacked(m, "gate.weight"), FLOAT32))
    scores = of_result(m, logits)
    choice = shift(m, scores)
    mask = m.new((rows, experts.count), FLOAT32)
    hidden = m.new((rows, experts.count), BOOL)
    masked = scale(m, choice)
    _, numbers = topk(m, masked, experts.top_k)
    weights = gather(m, scores, numbers)
    if s.built.config.get("norm_topk_prob") is not False:
        weights = divided_(m, weights)
    del mask, hidden
    return logits, scale(m, weights), numbers


def wide_softmax(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """DeepseekV2TopkRouter.forward: in float32; groups of experts may be chosen first."""
    m, config = s.m, s.built.config
    logits = linear(m, cast(m, x, FLOAT32), cast(m, p.stacked(m, "gate.weight"), FLOAT32))
    scores = softmax(m, logits)
    if config.get("topk_method") == "group_limited_greedy":
        chosen = m.new(scores.shape, FLOAT32)
        scores = masked(m, scores)
        del chosen
    weights, numbers = topk(m, scores, experts.top_k)
    return logits, scale(m, weights), numbers


def granite(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """GraniteMoeTopKRouter.forward: the softmax is over the best scores only."""
    m = s.m
    logits = cast(m, linear(m, x, p.stacked(m, "router.layer.weight")), FLOAT32)
    value, numbers = topk(m, logits, experts.top_k)
    return logits, cast(m, pointwise.softmax(m, value), x.dtype), numbers


def minimax(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """MiniMaxM2TopKRouter.forward: weights stay in float32."""
    m = s.m
    logits = linear(m, cast(m, x, s.dtype), p.stacked(m, "gate.weight"))
    scores = of_result(m, cast(m, logits, FLOAT32))
    choice = m.new(scores.shape, FLOAT32)
    numbers = m.new((x.shape[0], experts.top_k), INT64)
    weights = divided_(m, gather(m, scores, numbers))
    del choice
    return logits, weights, numbers


def ernie(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """Ernie4_5_MoeTopKRouter.forward: in float32, also under autocast."""
    m = s.m
    with m.casting(None):
        logits = linear(m, cast(m, x, FLOAT32), cast(m, p.stacked(m, "gate.weight"), FLOAT32))
        weights = pointwise.softmax(m, logits)
        numbers = topk(m, shift(m, weights.detach()), experts.top_k)[1]
        weights = gather(m, weights, numbers)
        weights = divided(m, weights)
    return logits, cast(m, weights, x.dtype), numbers


def hunyuan(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """HunYuanMoEV1Gate.forward: in float32 if its linear is, and so are the outputs its weights
    weigh; before transformers 5 they are cast back."""
    m, w = s.m, p.weight("gate.wg")
    logits = p.linear(m, cast(m, x, FLOAT32) if w.dtype == FLOAT32 else x, "gate.wg")
    value, numbers = topk(m, pointwise.softmax(m, cast(m, logits, FLOAT32)), experts.top_k)
    dtype = x.dtype if s.transformers < (MERGES,) else logits.dtype
    return logits, cast(m, divided_(m, value), dtype), numbers


def longcat(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """LongcatFlashTopkRouter.forward: in float32, with experts that do nothing."""
    m = s.m
    weight = cast(m, p.stacked(m, "router.classifier.weight"), FLOAT32)
    logits = linear(m, cast(m, x, FLOAT32), weight)
    scores = softmax(m, logits)
    numbers = topk(m, shift(m, scores.detach()), experts.top_k)[1]
    return logits, scale(m, gather(m, scores, numbers)), numbers


ROUTERS: Mapping[str, Router] = {
    "by_sigmoid": by_sigmoid,
    "by_wide_softmax": wide_softmax,
    "by_ernie_rule": ernie,
    "by_granite_rule": granite,
    "by_hunyuan_rule": hunyuan,
    "by_longcat_rule": longcat,
    "by_minimax_rule": minimax,
    "by_mixtral_rule": mixtral,
}
