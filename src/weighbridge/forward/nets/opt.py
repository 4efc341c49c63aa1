"""OPT: layer norms, learned positions, plain feed-forwards, dropouts.

Source: transformers 5.23 models/opt/modeling_opt.py.
"""

from dataclasses import replace

from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.pointwise import add, scale
from weighbridge.forward.parts.attention import attended, heads, mask
from weighbridge.forward.parts.layer import LayerShape, normed, run, ungated
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor


def opt(s: TrainingStep) -> Tensor:
    """OPTDecoder.forward"""
    m, base, whole = s.m, s.built.base, (s.batch, s.length)
    shape = layer_of(s)
    ids = m.new(whole, INT64)
    inputs_embeds = entered(s, embedding(m, ids, base.weight("embed_tokens")))
    seen = None if s.padded else m.new(whole, FLOAT32)
    position_ids = m.new(whole, INT64)
    causal_mask = mask(s, None)
    pos_embeds = embedding(m, m.new(whole, INT64), base.weight("embed_positions"))
    if base.has("project_in"):
        inputs_embeds = base.linear(m, inputs_embeds, "project_in")
    x = add(m, inputs_embeds, pos_embeds)
    for i, layer in enumerate(s.built.layers):
        x = run(s, shape, x, layer, i, None, causal_mask, position_ids)
    del seen
    if base.has("final_layer_norm"):
        x = normed(m, x, base, "final_layer_norm")
    return base.linear(m, x, "project_out") if base.has("project_out") else x


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, _: None, causal_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """OPTAttention.forward: queries are scaled before."""
    m, h = s.m, heads(s, number)
    shape = h.batch, h.length, h.heads, h.key_dim
    q = scale(m, p.linear(m, x, "q_proj")).view(*shape)
    k = p.linear(m, x, "k_proj").view(*shape)
    v = p.linear(m, x, "v_proj").view(*shape)
    rate = s.rate("attention_dropout")
    out, weights = attended(s, q, k, v, h, mask=causal_mask, p=rate, views=True)
    return p.linear(m, out.view(h.batch, h.length, h.heads * h.key_dim), "out_proj"), weights


FEED = ungated("fc1", "fc2", at="", act="activation_function", usual="relu")
NORMS = ("self_attn_layer_norm", "final_layer_norm")
BEFORE = LayerShape(
    attend=attention, feed=FEED, before=NORMS, rates=("dropout", "dropout"), handed=True
)
BEHIND = replace(BEFORE, before=("", ""), last=NORMS)


def layer_of(s: TrainingStep) -> LayerShape:
    return BEHIND if s.built.config.get("do_layer_norm_before") is False else BEFORE
