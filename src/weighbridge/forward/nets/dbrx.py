"""DBRX: queries, keys and values of one linear, clamped; experts that are rows of three matrices.

    to 4.57    each matrix is cut into chunks, one an expert, whose gradients are joined; cosines
               and sines are made in each layer
    from 5     each expert picks its rows, whose gradient is zeros of the whole matrix; no grouped
               product
    router     noise may be multiplied into what it is given; weights are divided by their norm

Source: transformers 5.23 and 4.57.6 models/dbrx/modeling_dbrx.py.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

from weighbridge.arch.body import Experts
from weighbridge.components.weights import MERGES
from weighbridge.dtypes import FLOAT32
from weighbridge.forward import loops
from weighbridge.forward.machine import Machine, lower
from weighbridge.forward.modules import Module
from weighbridge.forward.nets.sparse import jittered
from weighbridge.forward.ops.experts import gathered, topk
from weighbridge.forward.ops.matrix import linear
from weighbridge.forward.ops.norms import layer_norm
from weighbridge.forward.ops.pointwise import cast, clamp, divide, mul, several, softmax
from weighbridge.forward.ops.shaping import part, split, turned
from weighbridge.forward.parts import moe
from weighbridge.forward.parts.attention import Masks, attended, heads, window
from weighbridge.forward.parts.layer import DecoderNet, LayerShape
from weighbridge.forward.parts.one_by_one import found, index_added, one_hot, split_rows
from weighbridge.forward.parts.rotary import Rotary, rotary, rotated, shared_rotary
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor
from weighbridge.units import ceil_div

MATRICES = ("w1", "v1", "w2")
Expert = Callable[[Tensor], Tensor]


def unbiased(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """nn.LayerNorm(bias=False), in the dtype of what it reads."""
    return cast(m, layer_norm(m, x, p.weight(name)), x.dtype)


def older(s: TrainingStep) -> bool:
    return s.transformers < (MERGES,)


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, shared: Rotary | None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """DbrxAttention.forward, DbrxSdpaAttention.forward"""
    m, h, own = s.m, heads(s, number), s.built.config.sub("attn_config")
    qkv = p.linear(m, x, "Wqkv")
    if own.get("clip_qkv") is not None:
        qkv = clamp(m, qkv)
    widths = h.heads * h.key_dim, h.kv_heads * h.key_dim, h.kv_heads * h.value_dim
    q, k, v = split(m, qkv, widths)
    q = q.view(h.batch, h.length, h.heads, h.key_dim)
    k = k.view(h.batch, h.length, h.kv_heads, h.key_dim)
    v = v.view(h.batch, h.length, h.kv_heads, h.value_dim)
    q, k = rotated(m, turned(m, q), turned(m, k), shared or rotary(s))
    rate = own.ratio("attn_pdrop", default=0.0) if s.dropout else 0.0
    reach = window(s, number)
    out, weights = attended(s, q, k, v, h, mask=masks[reach], p=rate)
    out = p.linear(m, out.view(h.batch, h.length, h.heads * h.value_dim), "out_proj")
    return out, weights


def feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """DbrxFFN.forward"""
    m, shape, p = s.m, x.shape, p.at("ffn")
    e = moe.experts_of(s, number)
    assert e is not None
    own = s.built.config.sub("ffn_config")
    flat = x.view(s.rows, shape[-1])
    if own.get("moe_jitter_eps") is not None and m.training:
        flat = jittered(m, flat)
    weights, chosen, numbers = routed(s, p.at("router"), flat, e)
    out = experts(s, p.at("experts.mlp"), flat, chosen, numbers).view(*shape)
    del weights
    return out


def routed(
    s: TrainingStep, p: Module, x: Tensor, experts: Experts
) -> tuple[Tensor, Tensor, Tensor]:
    """DbrxRouter.forward: scores of all, which the layer holds; those of the best, and their
    numbers."""
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


def experts(s: TrainingStep, p: Module, x: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
    """DbrxExperts.forward; its local variables live to its end."""
    m, pairs = s.m, numbers.numel
    e = next(f for b in s.built.body.blocks for f in b.feeds if isinstance(f, Experts))
    rows = ceil_div(pairs, e.count)
    final = m.new(x.shape, x.dtype)
    mask = one_hot(m, pairs * e.count)
    trained = any(p.bare(name).trainable for name in MATRICES)
    run = _chunks(s, p, e, every=trained) if older(s) else _picked(s, p, e)

    def turn(held: list[Any]) -> None:
        token_idx = found(m, rows)
        state = gathered(m, x, token_idx)
        out = run(state)
        held[1] = mul(m, out, gathered(m, weights.view(pairs, 1), token_idx))
        held[2] = token_idx, state
        del out
        held[0] = index_added(m, held[0], held[1], token_idx)

    held: list[Any] = [final, None, None]
    if trained:
        for _ in range(e.count):
            turn(held)
    else:
        loops.repeat(m, e.count, turn, held)
    del mask
    out: Tensor = held[0]
    return out


def _chunks(s: TrainingStep, p: Module, experts: Experts, *, every: bool) -> Expert:
    """The experts in turn: chunks of the three matrices, which are all there from the start."""
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
    """The experts in turn: of each matrix the rows of one."""
    m = s.m

    def run(x: Tensor) -> Tensor:
        return gated(
            s, x, *(part(m, t, t.rows // experts.count, t.shape[-1]) for t in map(p.bare, MATRICES))
        )

    return run


def gated(s: TrainingStep, x: Tensor, w1: Tensor, v1: Tensor, w2: Tensor) -> Tensor:
    """DbrxExpertGLU.forward; its local variables live to its end."""
    m, own = s.m, s.built.config.sub("ffn_config").sub("ffn_act_fn")
    gate_proj = linear(m, x, lower(m, w1))
    up_proj = linear(m, x, lower(m, v1))
    gate_proj = several(m, gate_proj, str(own.get("name") or "silu"))
    intermediate_states = mul(m, gate_proj, up_proj)
    return linear(m, intermediate_states, lower(m, w2))


dbrx = DecoderNet(
    layer=LayerShape(
        norm=unbiased,
        attend=attention,
        feed=feed,
        at="norm_attn_norm.attn",
        before=("norm_attn_norm.norm_1", "norm_attn_norm.norm_2"),
        rates=("resid_pdrop", "resid_pdrop"),
    ),
    rotary=shared_rotary,
    rate="emb_pdrop",
)
