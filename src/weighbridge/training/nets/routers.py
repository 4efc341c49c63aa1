"""Routers: to which experts tokens go, and what their outputs are weighed with.

    scores    of all experts, from the hidden states: softmax or sigmoid, mostly in float32
    logits    what the scores are made from; the layer holds them to its end, since they are
              returned for the loss of balance, which is off unless it is asked for

Each gives (logits, weights, numbers); weights and numbers are [tokens, k].

Source: transformers 5.23 models/*/modeling_*.py (classes named TopkRouter, TopKRouter).
"""

from collections.abc import Callable

from weighbridge.arch.body import Experts
from weighbridge.autograd.ops import pointwise
from weighbridge.autograd.ops.experts import divided_, gather, masked, softmax, topk
from weighbridge.autograd.ops.matrix import linear
from weighbridge.autograd.ops.pointwise import cast, of_result, scale, shift
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import BOOL, FLOAT32
from weighbridge.training.modules import Module
from weighbridge.training.step import Step

Routed = tuple[Tensor, Tensor, Tensor]
Router = Callable[[Step, Module, Tensor, Experts], Routed]


def router(s: Step) -> Router:
    """The class's own; a config may say that it is DeepSeek-V3's."""
    if s.built.config.get("scoring_func") == "sigmoid":
        return ROUTERS.get(s.built.kind, by_sigmoid)
    return ROUTERS.get(s.built.kind.removesuffix("_text"), by_softmax)


def by_softmax(s: Step, p: Module, x: Tensor, e: Experts) -> Routed:
    """Qwen3MoeTopKRouter.forward"""
    m = s.m
    logits = linear(m, x, p.stacked(m, "gate.weight"))
    probs = softmax(m, logits)
    value, numbers = topk(m, probs, e.top_k)
    if s.built.config.get("norm_topk_prob") is not False:
        value = divided_(m, value)
    value = cast(m, value, logits.dtype)
    return logits, value, numbers


def mixtral(s: Step, p: Module, x: Tensor, e: Experts) -> Routed:
    """MixtralTopKRouter.forward: weights stay in float32, and what they weigh becomes so."""
    m = s.m
    logits = linear(m, x, p.stacked(m, "gate.weight"))
    probs = pointwise.softmax(m, cast(m, logits, FLOAT32))
    value, numbers = topk(m, probs, e.top_k)
    return logits, divided_(m, value), numbers


def by_sigmoid(s: Step, p: Module, x: Tensor, e: Experts) -> Routed:
    """DeepseekV3TopkRouter.forward: in float32, groups of experts chosen first."""
    m, rows = s.m, x.shape[0]
    logits = linear(m, cast(m, x, FLOAT32), cast(m, p.stacked(m, "gate.weight"), FLOAT32))
    scores = of_result(m, logits)
    choice = shift(m, scores)
    mask = m.new((rows, e.count), FLOAT32)
    hidden = m.new((rows, e.count), BOOL)
    masked = scale(m, choice)
    _, numbers = topk(m, masked, e.top_k)
    weights = gather(m, scores, numbers)
    if s.built.config.get("norm_topk_prob") is not False:
        weights = divided_(m, weights)
    del mask, hidden
    return logits, scale(m, weights), numbers


def wide_softmax(s: Step, p: Module, x: Tensor, e: Experts) -> Routed:
    """DeepseekV2TopkRouter.forward: in float32; groups of experts may be chosen first."""
    m, config = s.m, s.built.config
    logits = linear(m, cast(m, x, FLOAT32), cast(m, p.stacked(m, "gate.weight"), FLOAT32))
    scores = softmax(m, logits)
    if config.get("topk_method") == "group_limited_greedy":
        chosen = m.new(scores.shape, FLOAT32)
        scores = masked(m, scores)
        del chosen
    weights, numbers = topk(m, scores, e.top_k)
    return logits, scale(m, weights), numbers


ROUTERS = {
    **dict.fromkeys(["deepseek_v3", "kimi_k2", "glm4_moe", "glm4_moe_lite", "dots1"], by_sigmoid),
    "deepseek_v2": wide_softmax,
    "mixtral": mixtral,
}
