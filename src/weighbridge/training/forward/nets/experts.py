"""Decoders whose experts run in a way of their own: DBRX, JetMoE, Llama 4.

    DBRX      queries, keys and values of one linear, clamped; experts are rows of three matrices.
              To 4.57 each matrix is cut into chunks, one an expert, whose gradients are joined, and
              cosines and sines are made in each layer; from 5 each expert picks its rows, whose
              gradient is zeros of the whole matrix, and no product is grouped. Noise may be
              multiplied into what the router is given; weights are divided by their norm
    JetMoE    experts in the feed-forward, and in attention for queries and outputs. Tokens are
              sorted, each linear of all experts is run before the next: Granite's, in 5 too.
              Queries of each expert of a token attend over the same keys and values, which are
              copied for all of them; the same experts take what attention gives
    Llama 4   every expert of a layer works on every token, and what it was not chosen for is zero:
              all tokens once for each of the E experts, [E N, D], times their scores, through two
              products of E matrices each. Positions by complex numbers, and norms without weights;
              every fourth layer has neither, and scales its queries

Source: transformers 5.23 models/dbrx/modeling_dbrx.py, models/jetmoe/modeling_jetmoe.py (both of
4.57.6, too), models/llama4/modeling_llama4.py.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.base.units import ceil_div
from weighbridge.memory.components.weights import MERGES
from weighbridge.models.arch.body import Experts
from weighbridge.training.forward import loops
from weighbridge.training.forward.machine import Machine, lower
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets.sparse import jittered
from weighbridge.training.forward.ops.experts import (
    gathered,
    index_added,
    scattered,
    summed_k,
    topk,
)
from weighbridge.training.forward.ops.matrix import linear, matmul
from weighbridge.training.forward.ops.norms import layer_norm, plain_norm
from weighbridge.training.forward.ops.pointwise import (
    add,
    add_,
    cast,
    clamp,
    divide,
    mul,
    of_result,
    several,
    softmax,
)
from weighbridge.training.forward.ops.shaping import copied, part, repeat, split, turned
from weighbridge.training.forward.parts import moe
from weighbridge.training.forward.parts.attention import Masks, attended, heads, window
from weighbridge.training.forward.parts.layer import DecoderNet, Held, LayerShape, mlp
from weighbridge.training.forward.parts.one_by_one import (
    each_linear,
    one_hot,
    split_rows,
    token_numbers,
)
from weighbridge.training.forward.parts.rotary import (
    Rotary,
    complex_rotary,
    complex_rotated,
    has_positions,
    rotary,
    rotated,
    shared_rotary,
)
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Tensor, absent

# ---- DBRX

MATRICES = ("w1", "v1", "w2")
Expert = Callable[[Tensor], Tensor]


def unbiased(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """Return nn.LayerNorm(bias=False) in the dtype of its input."""
    return cast(m, layer_norm(m, x, p.weight(name)), x.dtype)


def older(s: TrainingStep) -> bool:
    return s.transformers < (MERGES,)


def dbrx_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, shared: Rotary | None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """DbrxAttention.forward, DbrxSdpaAttention.forward"""
    m, h, config = s.m, heads(s, number), s.built.config.sub("attn_config")
    qkv = p.linear(m, x, "Wqkv")
    if config.get("clip_qkv") is not None:
        qkv = clamp(m, qkv)
    widths = h.heads * h.key_dim, h.kv_heads * h.key_dim, h.kv_heads * h.value_dim
    q, k, v = split(m, qkv, widths)
    q = q.view(*h.queries)
    k = k.view(*h.keys)
    v = v.view(*h.values)
    q, k = rotated(m, turned(m, q), turned(m, k), shared or rotary(s))
    rate = config.ratio("attn_pdrop", default=0.0) if s.dropout else 0.0
    reach = window(s, number)
    out, weights = attended(s, q, k, v, h, mask=masks[reach], p=rate)
    out = p.linear(m, out.view(*h.joined), "out_proj")
    return out, weights


def dbrx_feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """DbrxFFN.forward"""
    m, shape, p = s.m, x.shape, p.at("ffn")
    e = moe.experts_of(s, number)
    assert e is not None
    config = s.built.config.sub("ffn_config")
    flat = x.view(s.rows, shape[-1])
    if config.get("moe_jitter_eps") is not None and m.training:
        flat = jittered(m, flat)
    weights, chosen, numbers = dbrx_routed(s, p.at("router"), flat, e)
    out = dbrx_experts(s, p.at("experts.mlp"), flat, chosen, numbers).view(*shape)
    del weights
    return out


def dbrx_routed(
    s: TrainingStep, p: Module, x: Tensor, experts: Experts
) -> tuple[Tensor, Tensor, Tensor]:
    """Return DbrxRouter.forward: (all scores, which the layer holds; the best scores; indices of
    their experts)."""
    m = s.m
    logits = p.linear(m, x, "layer")
    scores = softmax(m, cast(m, logits, FLOAT32) if older(s) else logits)
    if older(s):
        del logits
    value, numbers = topk(m, scores, experts.top_k)
    value = divide(m, value, m.new((x.shape[0], 1), value.dtype))
    if not older(s):
        return logits, value, numbers
    return cast(m, scores, x.dtype), cast(m, value, x.dtype), numbers


def dbrx_experts(s: TrainingStep, p: Module, x: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
    """Return DbrxExperts.forward; its local variables live until it returns."""
    m, pairs = s.m, numbers.numel
    e = next(f for b in s.built.body.blocks for f in b.feeds if isinstance(f, Experts))
    rows = ceil_div(pairs, e.count)
    final = m.new(x.shape, x.dtype)
    mask = one_hot(m, pairs * e.count)
    trained = any(p.bare(name).trainable for name in MATRICES)
    run = _chunks(s, p, e, every=trained) if older(s) else _picked(s, p, e)

    def turn(variables: list[Any]) -> None:
        token_idx = token_numbers(m, rows)
        state = gathered(m, x, token_idx)
        out = run(state)
        variables[1] = mul(m, out, gathered(m, weights.view(pairs, 1), token_idx))
        variables[2] = token_idx, state
        del out
        variables[0] = index_added(m, variables[0], variables[1], token_idx)

    variables: list[Any] = [final, None, None]
    if trained:
        for _ in range(e.count):
            turn(variables)
    else:
        loops.repeat(m, e.count, turn, variables)
    del mask
    out: Tensor = variables[0]
    return out


def _chunks(s: TrainingStep, p: Module, experts: Experts, *, every: bool) -> Expert:
    """Return a function that runs the next expert, on chunks of the three matrices; all chunks
    exist from the start."""
    m = s.m
    turns = experts.count if every else min(experts.count, loops.RUN)
    cut = []
    for name in MATRICES:
        chunks = split_rows(m, p.bare(name), turns)
        cut.append([t.view(t.rows // experts.count, t.shape[-1]) for t in chunks])
    number = count()

    def run(x: Tensor) -> Tensor:
        i = next(number)
        return gated(s, x, *(chunks[i] for chunks in cut))

    return run


def _picked(s: TrainingStep, p: Module, experts: Experts) -> Expert:
    """Return a function that runs the next expert, on its rows of each matrix."""
    m = s.m

    def run(x: Tensor) -> Tensor:
        return gated(
            s, x, *(part(m, t, t.rows // experts.count, t.shape[-1]) for t in map(p.bare, MATRICES))
        )

    return run


def gated(s: TrainingStep, x: Tensor, w1: Tensor, v1: Tensor, w2: Tensor) -> Tensor:
    """Return DbrxExpertGLU.forward; its local variables live until it returns."""
    m, config = s.m, s.built.config.sub("ffn_config").sub("ffn_act_fn")
    gate_proj = linear(m, x, lower(m, w1))
    up_proj = linear(m, x, lower(m, v1))
    gate_proj = several(m, gate_proj, str(config.get("name") or "silu"))
    intermediate_states = mul(m, gate_proj, up_proj)
    return linear(m, intermediate_states, lower(m, w2))


dbrx = DecoderNet(
    layer=LayerShape(
        norm=unbiased,
        attend=dbrx_attention,
        feed=dbrx_feed,
        at="norm_attn_norm.attn",
        before=("norm_attn_norm.norm_1", "norm_attn_norm.norm_2"),
        rates=("resid_pdrop", "resid_pdrop"),
    ),
    rotary=shared_rotary,
    rate="emb_pdrop",
)


# ---- JetMoE

IN, OUT = "input_linear.weight", "output_linear.weight"
# (pair indices sorted by expert, their token indices, their weights, all scores)
Sorted = tuple[Tensor, Tensor, Tensor, Tensor]


def jetmoe_routed(s: TrainingStep, p: Module, x: Tensor, count: int) -> Sorted:
    """JetMoeTopKGating.forward"""
    m, pairs = s.m, x.shape[0] * count
    logits = cast(m, p.linear(m, x, "layer"), FLOAT32)
    value, _ = topk(m, logits, count)
    gates = cast(m, softmax(m, value), x.dtype)
    index, tokens = m.new((pairs,), INT64), m.new((pairs,), INT64)
    return index, tokens, gathered(m, gates.view(pairs, 1), index), logits


def added(
    m: Machine, p: Module, outputs: Tensor, weights: Tensor, x: Tensor, tokens: Tensor
) -> Tensor:
    """Return the outputs times their weights, added to zeros by token index, plus a bias."""
    outputs = mul(m, outputs, weights)
    zeros = m.new(x.shape, outputs.dtype)
    out = index_added(m, m.new(x.shape, outputs.dtype), outputs, tokens)
    out = add(m, out, p.bare("bias"))
    del zeros
    return out


def jetmoe_feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """Return JetMoeMoE.forward; its local variables live until it returns."""
    m, p, e = s.m, p.at("mlp"), moe.experts_of(s, number)
    assert e is not None
    flat = x.view(s.rows, x.shape[-1])
    _, batch_index, batch_gates, logits = jetmoe_routed(s, p.at("router"), flat, e.top_k)
    expert_inputs = gathered(m, flat, batch_index)
    hidden = each_linear(m, expert_inputs, p.stacked(m, IN))
    hidden = moe.gated(s, hidden)
    outputs = each_linear(m, hidden, p.stacked(m, OUT))
    out = added(m, p, outputs, batch_gates, flat, batch_index)
    del logits, expert_inputs
    return out.view(*x.shape)


def jetmoe_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, shared: Rotary | None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """JetMoeAttention.forward, with JetMoeMoA.map and reduce"""
    m, h, experts = s.m, heads(s, number), p.at("experts")
    flat = x.view(s.rows, x.shape[-1])
    inner = h.kv_heads * h.key_dim
    topology = jetmoe_routed(s, experts.at("router"), flat, h.groups)
    q = mapped(m, experts, flat, topology, inner).view(*h.queries)
    both = p.linear(m, x, "kv_proj")
    k, v = split(m, both, (inner, inner))
    k = k.view(*h.keys)
    v = v.view(*h.values)
    q, k = rotated(m, turned(m, q), turned(m, k), shared or rotary(s))
    every = h.queries
    k, v = repeat(m, k, h.groups, every), repeat(m, turned(m, v), h.groups, every)
    rate = s.rate("attention_dropout")
    mask = masks[window(s, number)]
    out, weights = attended(s, q, k, v, h.repeated, mask=mask, p=rate)
    del both
    index, tokens, gates, _ = topology
    expert_inputs = gathered(m, out.view(s.rows * h.groups, inner), index)
    outputs = each_linear(m, expert_inputs, experts.stacked(m, OUT))
    return added(m, experts, outputs, gates, flat, tokens).view(*x.shape), weights


def mapped(m: Machine, p: Module, x: Tensor, topology: Sorted, inner: int) -> Tensor:
    """Return JetMoeMoA.map: the queries of each token-expert pair, in the order of tokens."""
    index, tokens, _, _ = topology
    expert_inputs = gathered(m, x, tokens)
    outputs = each_linear(m, expert_inputs, p.stacked(m, IN))
    zeros = m.new((index.numel, inner), outputs.dtype)
    out = index_added(m, m.new((index.numel, inner), outputs.dtype), outputs, index)
    del zeros, expert_inputs
    return out


jetmoe = DecoderNet(
    layer=LayerShape(attend=jetmoe_attention, feed=jetmoe_feed, at="self_attention"),
    rotary=shared_rotary,
)


# ---- Llama 4


def llama4_norm(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """Llama4TextRMSNorm.forward"""
    w = p.weight(name)
    return x if absent(w) else mul(m, plain_norm(m, x), w)


def llama4_feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Held:
    """Return (output of a dense MLP or of experts, tensor that the layer holds until it returns:
    the router's logits)."""
    e, p, shape = moe.experts_of(s, number), p.at("feed_forward"), x.shape
    if e is None:
        return mlp(s, p, x), x
    out, logits = llama4_experts(s, p, x.view(s.rows, shape[-1]), e)
    return out.view(*shape), logits


def llama4_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, freqs_cis: Tensor, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Llama4TextAttention.forward"""
    m, h, config = s.m, heads(s, number), s.built.config
    q = p.linear(m, x, "q_proj").view(*h.queries)
    k = p.linear(m, x, "k_proj").view(*h.keys)
    v = p.linear(m, x, "v_proj").view(*h.values)
    turns = has_positions(s, number)
    if turns:
        q, k = complex_rotated(m, q, k, freqs_cis)
        if config.get("use_qk_norm") is not False:
            q, k = plain_norm(m, q), plain_norm(m, k)
    elif config.get("attn_temperature_tuning") is not False:
        scales = m.new((1, h.length, 1, 1), FLOAT32)
        q = cast(m, mul(m, q, scales), q.dtype)
    reach, rate = window(s, number), s.rate("attention_dropout")
    out, weights = attended(
        s, turned(m, q), turned(m, k), v, h, mask=masks[reach], p=rate, wide=False
    )
    out = out.view(*h.joined)
    return p.linear(m, out, "o_proj"), weights


def llama4_experts(
    s: TrainingStep, p: Module, x: Tensor, experts: Experts
) -> tuple[Tensor, Tensor]:
    """Return Llama4TextMoe.forward: (output, the router's logits)."""
    m, tokens, width = s.m, x.shape[0], x.shape[-1]
    scores, logits = llama4_router(m, p, x, experts)
    routed_in = repeat(m, x, experts.count, (experts.count * tokens, width))
    column = copied(m, scores).view(experts.count * tokens, 1)
    routed_in = mul(m, routed_in, column)
    routed_out = every_expert(s, p.at("experts"), routed_in, experts)
    out = mlp(s, p.at("shared_expert"), x)
    return add_(m, out, summed_k(m, routed_out, tokens)), logits


def llama4_router(m: Machine, p: Module, x: Tensor, experts: Experts) -> tuple[Tensor, Tensor]:
    """Return Llama4Router.forward: (scores, logits); scores of experts not chosen are the sigmoid
    of -inf."""
    logits = linear(m, x, p.stacked(m, "router.weight"))
    value, numbers = topk(m, logits, experts.top_k)
    wide = cast(m, scattered(m, value, numbers, logits.shape[-1]), FLOAT32)
    return cast(m, of_result(m, wide), logits.dtype), logits


def every_expert(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> Tensor:
    """Llama4TextExperts.forward"""
    m, shape = s.m, x.shape
    up_weight, down_weight = p.stacked(m, "gate_up_proj"), p.stacked(m, "down_proj")
    x = x.view(experts.count, shape[0] // experts.count, shape[1])
    gate_up = matmul(m, x, up_weight, up_weight.shape[-1])
    gate, up = split(m, gate_up, (gate_up.shape[-1] // 2,) * 2)
    kind = str(s.built.config.get("hidden_act") or "silu")
    out = matmul(m, mul(m, up, several(m, gate, kind)), down_weight, shape[1])
    return out.view(*shape)


LLAMA4_LAYER = LayerShape(
    norm=llama4_norm, attend=llama4_attention, feed=llama4_feed, holds=("attended",)
)


def llama4_rotary(s: TrainingStep) -> Tensor:
    return complex_rotary(s, heads(s, 0).key_dim)


llama4 = DecoderNet(layer=LLAMA4_LAYER, rotary=llama4_rotary)
