"""LongCat-Flash: two halves of attention and feed-forward a layer, and experts beside the second.

    attention    DeepSeek's latent one, whose queries and keys are scaled
    experts      read what the first feed-forward reads; added at the layer's end. Some do nothing
                 to a token but weigh it; all run one after the other, in transformers 5 too

Source: transformers 5.23 and 4.57.6 models/longcat_flash/modeling_longcat_flash.py.
"""

from weighbridge.arch.mixers import Latent
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net, latent
from weighbridge.forward.ops.norms import rms_norm
from weighbridge.forward.ops.pointwise import add, scale
from weighbridge.forward.ops.shaping import join, split
from weighbridge.forward.parts import moe
from weighbridge.forward.parts.attention import Masks
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import Layer, mlp, normed
from weighbridge.forward.parts.rotary import Rotary
from weighbridge.forward.parts.routers import router
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """LongcatFlashMLA.forward"""
    m, a, lead = s.m, latent.of(s, number), (s.batch, s.length)
    small = rms_norm(m, p.linear(m, x, "q_a_proj"), p.weight("q_a_layernorm"))
    q = p.linear(m, small, "q_b_proj").view(*lead, a.heads, a.nope + a.rotary)
    del small
    q_pass, q_rot = split(m, q, (a.nope, a.rotary))
    compressed = p.linear(m, x, "kv_a_proj_with_mqa")
    kv, k_rot = split(m, compressed, (a.rank, a.rotary))
    kv = rms_norm(m, kv, p.weight("kv_a_layernorm"))
    q_pass, q_rot, kv = scale(m, q_pass), scale(m, q_rot), scale(m, kv)
    k_rot = k_rot.view(*lead, 1, a.rotary)
    q_rot, k_rot = latent.interleaved(m, q_rot, k_rot, positions)
    query = join(m, q_pass, q_rot)
    key, value = latent.expanded(s, p, a, kv, k_rot)
    held = (q, q_pass, q_rot, compressed, kv, k_rot)
    return latent.out(s, p, latent.States(query, key, value, a, None, held), masks[None])


def experts(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """LongcatFlashMoE.forward"""
    found = moe.experts_of(s, number)
    assert found is not None
    flat, p = x.view(s.rows, x.shape[-1]), p.at("mlp")
    _, weights, numbers = router(s)(s, p, flat, found)
    return moe.experts(s, p.at("experts"), flat, weights, numbers).view(*x.shape)


def halves(
    x: Tensor,
    s: TrainingStep,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    *_more: Tensor,
) -> Tensor:
    """LongcatFlashDecoderLayer.forward"""
    m, shortcut = s.m, None
    for half in ("0", "1"):
        residual = x
        x = normed(m, x, p, f"input_layernorm.{half}")
        x, _ = attention(s, p.at(f"self_attn.{half}"), x, number, positions, masks)
        x = residual = add(m, residual, x)
        x = normed(m, x, p, f"post_attention_layernorm.{half}")
        if shortcut is None:
            shortcut = experts(s, p, x, number)
        x = mlp(s, p.at(f"mlps.{half}"), x)
        x = add(m, residual, x)
    assert shortcut is not None
    return add(m, x, shortcut)


def _layer(_: TrainingStep) -> Layer:
    return halves


longcat = Net(DecoderNet(layer=_layer, rotary=latent.rotary, norm=normed), mixes=Latent)
