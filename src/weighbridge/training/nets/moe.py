"""Mixtures of experts as transformers 5 runs them: all experts of a layer in one grouped product.

    router    scores of all experts, their softmax (or sigmoid) in float32, the best few
    experts   tokens sorted by expert, k times each; gate and up in one, their product, down; each
              weighed and put back in order, and summed

Source: transformers 5.23 integrations/moe.py (grouped_mm_experts_forward),
models/qwen3_moe/modeling_qwen3_moe.py, models/deepseek_v3/modeling_deepseek_v3.py.
"""

from weighbridge.arch.body import Experts
from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.experts import (
    divided_,
    gather,
    gathered,
    grouped,
    softmax,
    summed_k,
    topk,
)
from weighbridge.autograd.ops.matrix import linear
from weighbridge.autograd.ops.norms import rms_norm
from weighbridge.autograd.ops.pointwise import add, cast, mul, of_result, scale, several, shift
from weighbridge.autograd.ops.shaping import split
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import BOOL, FLOAT32, INT32, INT64
from weighbridge.errors import UsageError
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder
from weighbridge.training.step import Step


def forward(s: Step) -> Tensor:
    """Qwen3MoeModel.forward: a decoder of Llama's shape with experts in most layers."""
    return decoder.forward(s, decoder_layer)


def decoder_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: decoder.Rotary,
    masks: decoder.Masks,
    _position_ids: Tensor | None = None,
) -> Tensor:
    m = s.m
    residual = x
    x = rms_norm(m, x, p.weight("input_layernorm"))
    x, _ = decoder.attention_and_weights(s, p.at("self_attn"), x, number, positions, masks)
    x = add(m, residual, x)
    residual = x
    x = rms_norm(m, x, p.weight("post_attention_layernorm"))
    x = feed(s, p, x, number)
    return add(m, residual, x)


def feed(s: Step, p: Module, x: Tensor, number: int) -> Tensor:
    """The layer's experts, or its dense feed-forward."""
    found = experts_of(s, number)
    if found is None and not p.has("mlp.up_proj"):
        raise UsageError(
            f"{s.built.kind}: layer {number} has neither experts nor a dense feed-forward: nothing "
            "to train; correct the number of experts in the config"
        )
    if found is None:
        return decoder.mlp(s, p.at("mlp"), x)
    inner = p.at(p.first("mlp.gate", "mlp.router", "block_sparse_moe.gate").rpartition(".")[0])
    return sparse(s, inner, x, found)


def experts_of(s: Step, number: int) -> Experts | None:
    feeds = s.built.body.blocks[number].feeds
    return next((f for f in feeds if isinstance(f, Experts)), None)


def sparse(s: Step, p: Module, x: Tensor, e: Experts) -> Tensor:
    """Qwen3MoeSparseMoeBlock.forward, DeepseekV3MoE.forward"""
    m, shape = s.m, x.shape
    residuals = x
    flat = x.view(s.rows, shape[-1])
    if s.built.config.get("scoring_func") == "sigmoid" or s.built.kind in SIGMOID:
        _, weights, numbers = by_sigmoid(s, p, flat, e)
    else:
        _, weights, numbers = by_softmax(s, p, flat, e)
    out = experts(s, p.at("experts"), flat, weights, numbers).view(*shape)
    if e.shared:
        out = add(m, out, decoder.mlp(s, p.at(p.first(*SHARED).rpartition(".")[0]), residuals))
    return out


SIGMOID = ("deepseek_v3", "glm4_moe", "dots1")
UP = ("gate_up_proj", "up_proj", "input_linear.weight")
DOWN = ("down_proj", "output_linear.weight")
SHARED = ("shared_experts.up_proj", "shared_expert.up_proj")


def by_softmax(s: Step, p: Module, x: Tensor, e: Experts) -> tuple[Tensor, Tensor, Tensor]:
    """Qwen3MoeTopKRouter.forward"""
    m = s.m
    logits = linear(m, x, p.stacked(m, "gate.weight"))
    probs = softmax(m, logits)
    value, numbers = topk(m, probs, e.top_k)
    if s.built.config.get("norm_topk_prob") is not False:
        value = divided_(m, value)
    value = cast(m, value, logits.dtype)
    return logits, value, numbers


def by_sigmoid(s: Step, p: Module, x: Tensor, e: Experts) -> tuple[Tensor, Tensor, Tensor]:
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


def experts(
    s: Step, p: Module, x: Tensor, weights: Tensor, numbers: Tensor, *, plain: str = ""
) -> Tensor:
    """grouped_mm_experts_forward; its local variables live to its end. `plain`: the activation of
    experts that are not gated."""
    m = s.m
    pairs, k = numbers.numel, numbers.shape[-1]
    expert_ids_g, perm = m.new((pairs,), INT64), m.new((pairs,), INT64)
    selected = gathered(m, x, m.new((pairs,), INT64))
    sample_weights_g = gathered(m, weights.view(pairs), perm)
    histc_input = m.new((pairs,), INT32)
    up, down = p.stacked(m, p.first(*UP)), p.stacked(m, p.first(*DOWN))
    tokens_per_expert, offsets = m.new(up.shape[:1], INT32), m.new(up.shape[:1], INT32)
    proj_out = grouped(m, selected, up, offsets)
    proj_out = several(m, proj_out, plain) if plain else gated(s, proj_out)
    proj_out = grouped(m, proj_out, down, offsets)
    weighted = mul(m, proj_out, sample_weights_g.view(pairs, 1))
    inv_perm = m.new((pairs,), INT64)
    m.hidden(8 * pairs)
    weighted = gathered(m, weighted, inv_perm)
    final = summed_k(m, weighted, pairs // k)
    del expert_ids_g, histc_input, selected, tokens_per_expert
    return cast(m, final, x.dtype)


def gated(s: Step, both: Tensor) -> Tensor:
    """_default_apply_gate"""
    m: Machine = s.m
    half = both.shape[-1] // 2
    gate, up = split(m, both, (half, half))
    kind = str(s.built.config.get("hidden_act") or "silu")
    return mul(m, several(m, gate, kind), up)
