"""Mixtures of experts as transformers 5 runs them: all experts of a layer in one grouped product.

    router    scores of all experts, their softmax (or sigmoid) in float32, the best few
    experts   tokens sorted by expert, k times each; gate and up in one, their product, down; each
              weighed and put back in order, and summed

Source: transformers 5.23 integrations/moe.py (grouped_mm_experts_forward),
models/qwen3_moe/modeling_qwen3_moe.py, models/deepseek_v3/modeling_deepseek_v3.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from weighbridge.arch.body import Experts
from weighbridge.arch.model_types import differs
from weighbridge.components.weights import MERGES
from weighbridge.dtypes import INT32, INT64
from weighbridge.errors import UsageError
from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.experts import gathered, grouped, summed_k
from weighbridge.forward.ops.pointwise import add, add_, cast, mul, several
from weighbridge.forward.ops.shaping import split
from weighbridge.forward.parts import one_by_one
from weighbridge.forward.parts.layer import LayerShape, mlp
from weighbridge.forward.parts.routers import router
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor


def feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """The layer's experts, or its dense feed-forward."""
    e = experts_of(s, number)
    if e is None and not p.has("mlp.up_proj"):
        raise UsageError(
            f"{s.built.kind}: layer {number} has neither experts nor a dense feed-forward: nothing "
            "to train; correct the number of experts in the config"
        )
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The experts of a class, where they differ. `up`, `down`: the names of their parameters;
    `transposed`: these are [E, in, out]."""

    up: str = "gate_up_proj"
    down: str = "down_proj"
    gate: Callable[[TrainingStep, Tensor], Tensor] = gated
    transposed: bool = False


QWEN3 = Form()


def experts(
    s: TrainingStep, p: Module, x: Tensor, weights: Tensor, numbers: Tensor, form: Form = QWEN3
) -> Tensor:
    """grouped_mm_experts_forward; its local variables live to its end. One by one before
    transformers 5."""
    if s.transformers < (MERGES,) or differs(s.built.kind, "looped_experts"):
        return one_by_one.experts(s, p, x, weights, numbers, form)
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


def _biases(m: Machine, p: Module, name: str, numbers: Tensor) -> Tensor | None:
    """A row for each pair, where the class has biases."""
    name += "_bias"
    return gathered(m, p.bare(name), numbers) if p.has(name) else None


def _biased(m: Machine, x: Tensor, biases: Tensor | None) -> Tensor:
    return x if biases is None else add_(m, x, biases)


LAYER = LayerShape(feed=feed)
