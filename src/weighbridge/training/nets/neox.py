"""GPT-NeoX: layer norms, queries, keys and values of a head side by side, rotary positions on a
part of them, attention and feed-forward beside each other.

Source: transformers 5.23 models/gpt_neox/modeling_gpt_neox.py.
"""

from weighbridge.autograd.ops.losses import embedding
from weighbridge.autograd.ops.pointwise import add, dropout, several
from weighbridge.autograd.ops.shaping import split, turned
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import INT64
from weighbridge.training.attend import attended
from weighbridge.training.modules import Module
from weighbridge.training.nets.decoder import (
    Rotary,
    heads,
    mask,
    normed,
    part_rotated,
    rotary_of,
    run,
    turned_width,
)
from weighbridge.training.step import Step, entered


def forward(s: Step) -> Tensor:
    """GPTNeoXModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, built.base.weight("embed_in")))
    position_ids = m.new((1, s.length), INT64)
    causal_mask = mask(s, None)
    x = dropout(m, inputs_embeds, s.rate("hidden_dropout"))
    positions = rotary_of(s, turned_width(s))
    for i, layer in enumerate(built.layers):
        x = run(s, block, x, layer, i, positions, causal_mask, position_ids)
    return normed(m, x, built.base, "final_layer_norm")


def block(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    causal_mask: Tensor | None,
    _position_ids: Tensor,
) -> Tensor:
    """GPTNeoXLayer.forward"""
    m, rate = s.m, s.rate("hidden_dropout")
    attn_output, _ = attention(
        s, p.at("attention"), normed(m, x, p, "input_layernorm"), number, positions, causal_mask
    )
    attn_output = dropout(m, attn_output, rate)
    if s.built.config.get("use_parallel_residual") is not False:
        mlp_output = mlp(s, p.at("mlp"), normed(m, x, p, "post_attention_layernorm"))
        mlp_output = dropout(m, mlp_output, rate)
        return add(m, add(m, mlp_output, attn_output), x)
    attn_output = add(m, attn_output, x)
    mlp_output = mlp(s, p.at("mlp"), normed(m, attn_output, p, "post_attention_layernorm"))
    mlp_output = dropout(m, mlp_output, rate)
    return add(m, mlp_output, attn_output)


def attention(
    s: Step, p: Module, x: Tensor, number: int, positions: Rotary, causal_mask: Tensor | None
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


def mlp(s: Step, p: Module, x: Tensor) -> Tensor:
    """GPTNeoXMLP.forward"""
    m = s.m
    x = p.linear(m, x, "dense_h_to_4h")
    x = several(m, x, str(s.built.config.get("hidden_act") or "gelu"))
    return p.linear(m, x, "dense_4h_to_h")
