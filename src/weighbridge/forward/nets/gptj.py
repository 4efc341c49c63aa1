"""GPT-J: interleaved positions from a table, scores in float32, feed-forward beside attention.

Source: transformers 5.23 models/gptj/modeling_gptj.py.
"""

from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.attention import AttentionOptions, eager
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.pointwise import add, cast, dropout, several
from weighbridge.forward.ops.shaping import cut, join
from weighbridge.forward.parts.attention import heads, mask
from weighbridge.forward.parts.layer import normed, run
from weighbridge.forward.parts.rotary import rotated_one
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor


def gptj(s: TrainingStep) -> Tensor:
    """GPTJModel.forward"""
    m, base = s.m, s.built.base
    s.kernel = s.kernel or "eager"
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, base.weight("wte")))
    position_ids = m.new((1, s.length), INT64)
    causal_mask = mask(s, None)
    outputs: list[Tensor] = []  # weights of the layer before are held until the next is over
    x = dropout(m, inputs_embeds, s.rate("embd_pdrop"))
    for i, layer in enumerate(s.built.layers):
        x = run(s, block, x, layer, i, causal_mask, (position_ids, outputs))
    outputs.clear()
    return normed(m, x, base, "ln_f")


def block(
    x: Tensor,
    s: TrainingStep,
    p: Module,
    number: int,
    causal_mask: Tensor | None,
    held: tuple[Tensor, list[Tensor]],
) -> Tensor:
    """GPTJBlock.forward"""
    m = s.m
    residual = x
    x = normed(m, x, p, "ln_1")
    attn_outputs, weights = attention(s, p.at("attn"), x, number, causal_mask)
    inner = p.at("mlp")
    forwarded = inner.linear(m, x, "fc_in")
    forwarded = several(m, forwarded, str(s.built.config.get("activation_function") or "gelu_new"))
    forwarded = inner.linear(m, forwarded, "fc_out")
    forwarded = dropout(m, forwarded, s.rate("resid_pdrop"))
    made = add(m, add(m, attn_outputs, forwarded), residual)
    held[1][:] = [weights]
    return made


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, causal_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """GPTJAttention.forward"""
    m, h = s.m, heads(s, number)
    shape = h.batch, h.length, h.heads, h.key_dim
    q, k, v = (p.linear(m, x, name).view(*shape) for name in ("q_proj", "k_proj", "v_proj"))
    width = s.built.config.num("rotary_dim", default=0) or h.key_dim
    table = m.new((1, s.built.config.num("max_position_embeddings"), width), FLOAT32)
    index = m.new((1, s.length, width), INT64)
    sincos = m.new((1, s.length, width), k.dtype)
    k, *k_parts = _turned(m, k, width)
    q, *q_parts = _turned(m, q, width)
    wide_q, wide_k = cast(m, q, FLOAT32), cast(m, k, FLOAT32)
    rate = s.rate("attn_pdrop")
    out, weights = eager(
        m, wide_q, wide_k, v, h, AttentionOptions(p=rate, mask=causal_mask, wide=False)
    )
    del table, index, sincos, k_parts, q_parts
    out = p.linear(m, out.view(h.batch, h.length, h.heads * h.key_dim), "out_proj")
    return dropout(m, out, s.rate("resid_pdrop")), weights


def _turned(m: Machine, x: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """apply_rotary_pos_emb: cosines and sines are repeated for each. And the parts,
    which attention holds to its end."""
    shape = (1, x.shape[1], 1, width)
    sin, cos = m.new(shape, x.dtype), m.new(shape, x.dtype)
    part, rest = cut(m, x, width), cut(m, x, x.shape[-1] - width)
    part = rotated_one(m, part, cos, sin)
    return join(m, part, rest), part, rest
