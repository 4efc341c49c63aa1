"""GPT-2 and GPT-BigCode: layer norms, learned positions, queries, keys and values from one linear,
dropouts.

Source: transformers 5.23 models/gpt2/modeling_gpt2.py, models/gpt_bigcode/modeling_gpt_bigcode.py.
"""

from weighbridge.arch.model_types import differs
from weighbridge.dtypes import INT64
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.pointwise import add, dropout
from weighbridge.forward.ops.shaping import split
from weighbridge.forward.parts.attention import attended, heads, mask
from weighbridge.forward.parts.layer import LayerShape, normed, run, ungated
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor


def gpt2(s: TrainingStep) -> Tensor:
    """GPT2Model.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, built.base.weight("wte")))
    position_ids = m.new((1, s.length), INT64)
    position_embeds = embedding(m, position_ids, built.base.weight("wpe"))
    x = add(m, inputs_embeds, position_embeds)
    causal_mask = mask(s, None)
    x = dropout(m, x, s.rate("embd_pdrop"))
    for i, layer in enumerate(built.layers):
        x = run(s, LAYER, x, layer, i, None, causal_mask, position_ids)
    return normed(m, x, built.base, "ln_f")


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, _: None, causal_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """GPT2Attention.forward"""
    m, h = s.m, heads(s, number)
    width, shared = h.heads * h.key_dim, h.kv_heads * h.key_dim
    q, k, v = split(m, p.linear(m, x, "c_attn"), [width, shared, shared])
    q, k, v = (t.view(*t.shape[:2], t.shape[2] // h.key_dim, h.key_dim) for t in (q, k, v))
    wide, rate = differs(s.built.kind, "wide_scores"), s.rate("attn_pdrop")
    out, weights = attended(s, q, k, v, h, mask=causal_mask, p=rate, views=True, wide=wide)
    out = p.linear(m, out.view(h.batch, h.length, width), "c_proj")
    return dropout(m, out, s.rate("resid_pdrop")), weights


LAYER = LayerShape(
    attend=attention,
    feed=ungated("c_fc", "c_proj", act="activation_function", usual="gelu_new", rate="resid_pdrop"),
    at="attn",
    before=("ln_1", "ln_2"),
    holds=("attended", "fed"),
)
