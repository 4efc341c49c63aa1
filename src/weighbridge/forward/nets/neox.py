"""GPT-NeoX: layer norms, queries, keys and values of a head side by side, rotary positions on a
part of them, attention and feed-forward beside each other.

Source: transformers 5.23 models/gpt_neox/modeling_gpt_neox.py.
"""

from dataclasses import replace

from weighbridge.dtypes import INT64
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.pointwise import dropout
from weighbridge.forward.ops.shaping import split, turned
from weighbridge.forward.parts.attention import attended, heads, mask
from weighbridge.forward.parts.layer import LayerShape, normed, run, ungated
from weighbridge.forward.parts.rotary import Rotary, part_rotated, rotary_of, turned_width
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor


def neox(s: TrainingStep) -> Tensor:
    """GPTNeoXModel.forward"""
    m, built, shape = s.m, s.built, layer_of(s)
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, built.base.weight("embed_in")))
    position_ids = m.new((1, s.length), INT64)
    causal_mask = mask(s, None)
    x = dropout(m, inputs_embeds, s.rate("hidden_dropout"))
    positions = rotary_of(s, turned_width(s))
    for i, layer in enumerate(built.layers):
        x = run(s, shape, x, layer, i, positions, causal_mask, position_ids)
    return normed(m, x, built.base, "final_layer_norm")


def attention(
    s: TrainingStep,
    p: Module,
    x: Tensor,
    number: int,
    positions: Rotary,
    causal_mask: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """GPTNeoXAttention.forward"""
    m, h = s.m, heads(s, number)
    qkv = p.linear(m, x, "query_key_value").view(h.batch, h.length, h.heads, 3 * h.key_dim)
    qkv = turned(m, qkv)
    q, k, v = split(m, qkv, [h.key_dim] * 3)
    q, k = part_rotated(m, q, k, positions)
    out, weights = attended(
        s, q, k, v, h, mask=causal_mask, p=s.rate("attention_dropout"), first=True
    )
    return p.linear(m, out.view(h.batch, h.length, h.heads * h.value_dim), "dense"), weights


TURNED = LayerShape(
    attend=attention,
    feed=ungated("dense_h_to_4h", "dense_4h_to_h"),
    at="attention",
    rates=("hidden_dropout", "hidden_dropout"),
)
BESIDE = replace(TURNED, sums="together")


def layer_of(s: TrainingStep) -> LayerShape:
    return TURNED if s.built.config.get("use_parallel_residual") is False else BESIDE
