"""Routers: to which experts tokens go, and what their outputs are weighed with.

    scores    of all experts, from the hidden states: softmax or sigmoid, mostly in float32
    logits    what the scores are made from; the layer holds them to its end, since they are
              returned for the loss of balance, which is off unless it is asked for

Each gives (logits, weights, numbers); weights and numbers are [tokens, k].

Source: transformers 5.23 models/*/modeling_*.py (classes named TopkRouter, TopKRouter).
"""

from collections.abc import Callable, Mapping

from weighbridge.arch.body import Experts
from weighbridge.arch.model_types import facts
from weighbridge.components.weights import MERGES
from weighbridge.dtypes import BOOL, FLOAT32, INT64
from weighbridge.forward.modules import Module
from weighbridge.forward.ops import pointwise
from weighbridge.forward.ops.experts import divided, divided_, gather, masked, softmax, topk
from weighbridge.forward.ops.matrix import linear
from weighbridge.forward.ops.pointwise import cast, of_result, scale, shift
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor

Routed = tuple[Tensor, Tensor, Tensor]
Router = Callable[[TrainingStep, Module, Tensor, Experts], Routed]


def router(s: TrainingStep) -> Router:
    """The class's own; a config may say that it is DeepSeek-V3's."""
    return ROUTERS.get(rule(s), by_softmax)


def rule(s: TrainingStep) -> str:
    """Name the rule by which the class routes tokens; "" is a softmax of all scores."""
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
    """MixtralTopKRouter.forward: weights stay in float32, and what they weigh becomes so; before
    transformers 5 they are cast back."""
    m = s.m
    logits = linear(m, x, p.stacked(m, "gate.weight"))
    probs = pointwise.softmax(m, cast(m, logits, FLOAT32))
    value, numbers = topk(m, probs, experts.top_k)
    value = divided_(m, value)
    return logits, cast(m, value, x.dtype) if s.transformers < (MERGES,) else value, numbers


def by_sigmoid(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """DeepseekV3TopkRouter.forward: in float32, groups of experts chosen first."""
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
    """GraniteMoeTopKRouter.forward: the softmax is of the best scores alone."""
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
    """HunYuanMoEV1Gate.forward: in float32 where its linear is, and what its weights weigh becomes
    so; before transformers 5 they are cast back."""
    m, w = s.m, p.weight("gate.wg")
    logits = p.linear(m, cast(m, x, FLOAT32) if w.dtype == FLOAT32 else x, "gate.wg")
    value, numbers = topk(m, pointwise.softmax(m, cast(m, logits, FLOAT32)), experts.top_k)
    dtype = x.dtype if s.transformers < (MERGES,) else logits.dtype
    return logits, cast(m, divided_(m, value), dtype), numbers


def longcat(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Routed:
    """LongcatFlashTopkRouter.forward: in float32, of experts that do nothing too."""
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
