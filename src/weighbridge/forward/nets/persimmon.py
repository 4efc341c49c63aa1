"""Persimmon: layer norms, also of queries and keys; those and values of a head side by side,
positions on a part of them.

Source: transformers 5.23 models/persimmon/modeling_persimmon.py.
"""

from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.norms import layer_norm
from weighbridge.forward.ops.shaping import cuts, join, turned
from weighbridge.forward.parts.attention import Masks, attended, heads
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import LayerShape, ungated
from weighbridge.forward.parts.rotary import Rotary, part_rotary, rotated
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """PersimmonAttention.forward"""
    m, h, width = s.m, heads(s, number), positions[0].shape[-1]
    fused = p.linear(m, x, "query_key_value")
    shape = h.batch, h.length, h.heads, h.key_dim
    thirds = cuts(m, fused, [h.heads * h.key_dim] * 3)
    query, key, value = (third.view(*shape) for third in thirds)
    if p.has("q_layernorm"):
        query = head_norm(m, query, p, "q_layernorm")
        key = head_norm(m, key, p, "k_layernorm")
    query_rot, query_pass = cuts(m, query, (width, h.key_dim - width))
    key_rot, key_pass = cuts(m, key, (width, h.key_dim - width))
    query_rot, key_rot = rotated(m, query_rot, key_rot, positions)
    query, key = join(m, query_rot, query_pass), join(m, key_rot, key_pass)
    rate = s.rate("attention_dropout")
    out, weights = attended(s, query, key, value, h, mask=masks[None], p=rate, first=True)
    return p.linear(m, out.view(*x.shape), "dense"), weights


def head_norm(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """The kernel copies what is not in one piece."""
    if m.autocast is None:
        m.hidden(x.nbytes, name="activations")
    return layer_norm(m, turned(m, x), p.weight(name), p.bias(name))


LAYER = LayerShape(
    attend=attention,
    feed=ungated("dense_h_to_4h", "dense_4h_to_h", usual="relu2"),
    rates=("", "hidden_dropout"),
)
persimmon = DecoderNet(layer=LAYER, rotary=part_rotary)
