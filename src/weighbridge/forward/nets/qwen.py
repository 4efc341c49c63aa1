"""The first Qwen: queries, keys and values from one linear, positions in float32.

Source: modeling_qwen.py beside its checkpoints (QWenAttention, QWenMLP, RMSNorm, QWenLMHeadModel),
whose fine-tuning script takes reentrant checkpoints (transformers 4.32).
"""

from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.forward.losses import head
from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import EMBEDDINGS, Net
from weighbridge.forward.ops.losses import cross_entropy, embedding
from weighbridge.forward.ops.norms import rms_norm
from weighbridge.forward.ops.pointwise import add, cast, mul, of_input, scale
from weighbridge.forward.ops.shaping import copied, cut, join, split
from weighbridge.forward.parts.attention import attend, heads, mask
from weighbridge.forward.parts.decoder import FINAL
from weighbridge.forward.parts.layer import run
from weighbridge.forward.parts.rotary import Rotary
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor


def qwen_model(s: TrainingStep) -> Tensor:
    """QWenModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    x = entered(s, embedding(m, ids, built.base.weight(built.base.first(*EMBEDDINGS))))
    width = heads(s, 0).key_dim
    positions = m.new((s.length, 1, width), FLOAT32), m.new((s.length, 1, width), FLOAT32)
    seen = mask(s, None)
    for i, p in enumerate(built.layers):
        x = run(s, layer, x, p, i, positions, seen)
    return rms_norm(m, x, built.base.weight(built.base.first(*FINAL)))


def layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, positions: Rotary, seen: Tensor | None
) -> Tensor:
    """QWenBlock.forward"""
    m = s.m
    layernorm_output = rms_norm(m, x, p.weight("ln_1"))
    attn_output = attention(s, p.at("attn"), layernorm_output, number, positions, seen)
    layernorm_input = add(m, attn_output, x)
    layernorm_output = rms_norm(m, layernorm_input, p.weight("ln_2"))
    return add(m, layernorm_input, mlp(m, p.at("mlp"), layernorm_output))


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, seen: Tensor | None
) -> Tensor:
    m, h = s.m, heads(s, number)
    mixed_x_layer = p.linear(m, x, "c_attn")
    width = h.heads * h.key_dim
    query, key, value = split(m, mixed_x_layer, (width, width, width))
    shape = h.batch, h.length, h.heads, h.key_dim
    query = turned(m, query.view(*shape), positions)
    key = turned(m, key.view(*shape), positions)
    value = copied(m, value.view(*shape))
    out = attend(s, query, key, value, h, mask=seen)
    return p.linear(m, out.view(h.batch, h.length, width), "c_proj")


def turned(m: Machine, t: Tensor, positions: Rotary) -> Tensor:
    """apply_rotary_pos_emb"""
    cos, sin = positions
    t_float = cast(m, t, FLOAT32)
    half = t.shape[-1] // 2
    x1, x2 = cut(m, t_float, half), cut(m, t_float, half)
    rotated = join(m, scale(m, x2), x1)
    return cast(m, add(m, mul(m, t_float, cos), mul(m, rotated, sin)), t.dtype)


def mlp(m: Machine, p: Module, x: Tensor) -> Tensor:
    a1 = p.linear(m, x, "w1")
    a2 = p.linear(m, x, "w2")
    intermediate_parallel = mul(m, a1, of_input(m, a2))
    return p.linear(m, intermediate_parallel, "c_proj")


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits are shifted by a copy; autocast takes the loss in float32."""
    m = s.m
    labels = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        lm_logits = head(s, hidden)
        shift_logits = copied(m, lm_logits)
        wide = cast(m, shift_logits, FLOAT32) if m.autocast is not None else shift_logits
        made = cross_entropy(m, wide, labels)
        del shift_logits, wide
    return made, lm_logits


qwen = Net(qwen_model, loss=loss)
