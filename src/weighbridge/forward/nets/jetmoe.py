"""JetMoE: experts in the feed-forward, and in attention for queries and outputs.

    experts     tokens are sorted, each linear of all experts is run before the next: Granite's,
                in transformers 5 too
    attention   queries of each expert of a token, over the same keys and values, which are copied
                for all of them. The same experts take what attention gives

Source: transformers 5.23 and 4.57.6 models/jetmoe/modeling_jetmoe.py.
"""

from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.experts import gathered, topk
from weighbridge.forward.ops.pointwise import add, cast, mul, softmax
from weighbridge.forward.ops.shaping import repeat, split, turned
from weighbridge.forward.parts import moe
from weighbridge.forward.parts.attention import Masks, attended, heads, window
from weighbridge.forward.parts.layer import DecoderNet, LayerShape
from weighbridge.forward.parts.one_by_one import each_linear, index_added
from weighbridge.forward.parts.rotary import Rotary, rotary, rotated, shared_rotary
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor

IN, OUT = "input_linear.weight", "output_linear.weight"
# (numbers of pairs in the order of their experts, of their tokens; their weights; all scores)
Sorted = tuple[Tensor, Tensor, Tensor, Tensor]


def routed(s: TrainingStep, p: Module, x: Tensor, count: int) -> Sorted:
    """JetMoeTopKGating.forward"""
    m, pairs = s.m, x.shape[0] * count
    logits = cast(m, p.linear(m, x, "layer"), FLOAT32)
    value, _ = topk(m, logits, count)
    gates = cast(m, softmax(m, value), x.dtype)
    index, tokens = m.new((pairs,), INT64), m.new((pairs,), INT64)
    return index, tokens, gathered(m, gates.view(pairs, 1), index), logits


def added(m: Machine, p: Module, outputs: Tensor, weights: Tensor, x: Tensor, at: Tensor) -> Tensor:
    """Outputs times their weights, added to zeros by the numbers of their tokens; then a bias."""
    outputs = mul(m, outputs, weights)
    zeros = m.new(x.shape, outputs.dtype)
    out = index_added(m, m.new(x.shape, outputs.dtype), outputs, at)
    out = add(m, out, p.bare("bias"))
    del zeros
    return out


def feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """JetMoeMoE.forward; its local variables live to its end."""
    m, p, e = s.m, p.at("mlp"), moe.experts_of(s, number)
    assert e is not None
    flat = x.view(s.rows, x.shape[-1])
    _, batch_index, batch_gates, logits = routed(s, p.at("router"), flat, e.top_k)
    expert_inputs = gathered(m, flat, batch_index)
    hidden = each_linear(m, expert_inputs, p.stacked(m, IN))
    hidden = moe.gated(s, hidden)
    outputs = each_linear(m, hidden, p.stacked(m, OUT))
    out = added(m, p, outputs, batch_gates, flat, batch_index)
    del logits, expert_inputs
    return out.view(*x.shape)


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, shared: Rotary | None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """JetMoeAttention.forward, with JetMoeMoA.map and reduce"""
    m, h, experts = s.m, heads(s, number), p.at("experts")
    flat = x.view(s.rows, x.shape[-1])
    inner = h.kv_heads * h.key_dim
    topology = routed(s, experts.at("router"), flat, h.groups)
    q = mapped(m, experts, flat, topology, inner).view(h.batch, h.length, h.heads, h.key_dim)
    both = p.linear(m, x, "kv_proj")
    k, v = split(m, both, (inner, inner))
    k = k.view(h.batch, h.length, h.kv_heads, h.key_dim)
    v = v.view(h.batch, h.length, h.kv_heads, h.value_dim)
    q, k = rotated(m, turned(m, q), turned(m, k), shared or rotary(s))
    every = h.batch, h.length, h.heads, h.key_dim
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
    """JetMoeMoA.map: queries of each pair, back in the order of tokens."""
    index, tokens, _, _ = topology
    expert_inputs = gathered(m, x, tokens)
    outputs = each_linear(m, expert_inputs, p.stacked(m, IN))
    zeros = m.new((index.numel, inner), outputs.dtype)
    out = index_added(m, m.new((index.numel, inner), outputs.dtype), outputs, index)
    del zeros, expert_inputs
    return out


jetmoe = DecoderNet(
    layer=LayerShape(attend=attention, feed=feed, at="self_attention"), rotary=shared_rotary
)
