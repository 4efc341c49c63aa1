"""Decoders that differ from Llama's in a row: norms, where they stand, what turns, what is summed.

Source: transformers 5.23 models/*/modeling_*.py of the model types whose records name them.
"""

from dataclasses import replace

from weighbridge.dtypes import FLOAT32
from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.ops.norms import (
    cohere_norm,
    float_norm,
    layer_norm,
    rms_norm,
    wide_norm,
)
from weighbridge.forward.ops.pointwise import cast, mul, several, shift
from weighbridge.forward.ops.shaping import cuts, split, turned
from weighbridge.forward.parts import rotary
from weighbridge.forward.parts.attention import Masks, attended, heads, window
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import (
    BEHIND,
    LLAMA,
    AttentionShape,
    LayerShape,
    by_weight,
    ungated,
)
from weighbridge.forward.parts.rotary import Rotary, part_rotary, part_rotated
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor, absent


def weightless(m: Machine, x: Tensor, _p: Module, _name: str) -> Tensor:
    """OlmoLayerNorm.forward"""
    dtype = x.dtype
    return cast(m, layer_norm(m, cast(m, x, FLOAT32), None), dtype)


def of_all_heads(m: Machine, x: Tensor, w: Tensor) -> Tensor:
    """Normalize x, [batch, length, heads, size], over all heads together (OLMo 2)."""
    whole = x.view(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
    return wide_norm(m, whole, w).view(*x.shape)


def one_more(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """NemotronLayerNorm1P.forward: in the dtype of autocast, where there is one"""
    if absent(p.weight(name)):
        return x
    weight = shift(m, p.weight(name))
    dtype, bias = m.autocast or x.dtype, p.bias(name)
    x, weight = cast(m, x, dtype), cast(m, weight, dtype)
    with m.casting(None):
        return layer_norm(m, x, weight, None if bias is None else cast(m, bias, dtype))


def fused(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Phi3Attention.forward: slices, whose gradients are each put into zeros of the whole."""
    m, h = s.m, heads(s, number)
    qkv = p.linear(m, x, "qkv_proj")
    widths = h.heads * h.key_dim, h.kv_heads * h.key_dim, h.kv_heads * h.value_dim
    q, k, v = cuts(m, qkv, widths)
    q = q.view(h.batch, h.length, h.heads, h.key_dim)
    k = k.view(h.batch, h.length, h.kv_heads, h.key_dim)
    v = v.view(h.batch, h.length, h.kv_heads, h.value_dim)
    q, k = part_rotated(m, turned(m, q), turned(m, k), positions)
    reach, rate = window(s, number), s.rate("attention_dropout")
    out, weights = attended(s, q, k, v, h, mask=masks[reach], p=rate, first=True)
    return p.linear(m, out.view(h.batch, h.length, h.heads * h.value_dim), "o_proj"), weights


def gate_and_up(s: TrainingStep, p: Module, x: Tensor, _number: int) -> Tensor:
    """Phi3MLP.forward: gate and up from one linear."""
    m, p = s.m, p.at("mlp")
    up_states = p.linear(m, x, "gate_up_proj")
    gate, up_states = split(m, up_states, [up_states.shape[-1] // 2] * 2)
    up_states = mul(m, up_states, several(m, gate, str(s.built.config.get("hidden_act") or "silu")))
    return p.linear(m, up_states, "down_proj")


def by_config(key: str, shape: LayerShape, otherwise: LayerShape) -> DecoderNet:
    """A decoder with one of two layers, as `key` of its config says."""

    def layer(s: TrainingStep) -> LayerShape:
        return shape if s.built.config.get(key) else otherwise

    return DecoderNet(layer=layer, rotary=part_rotary)


PART = AttentionShape(rotate=part_rotated, late=True, first=True)
RESID = ("resid_pdrop", "resid_pdrop")
ONE_NORM = ("input_layernorm", "")
GLM_NORMS = ("post_self_attn_layernorm", "post_mlp_layernorm")
GLM = LayerShape(
    attend=AttentionShape(rotate=rotary.part_interleaved, first=True),
    norm=by_weight(rms_norm),
    feed=gate_and_up,
)

OLMO2_LAYER = replace(
    BEHIND,
    attend=AttentionShape(norm=of_all_heads, rotate=rotary.narrowed),
    norm=by_weight(wide_norm),
)

llama = DecoderNet()
ernie4_5 = DecoderNet(
    layer=replace(LLAMA, attend=AttentionShape(rotate=rotary.products_in_float)),
    rotary=rotary.wide_rotary,
)
helium = DecoderNet(
    layer=replace(
        LLAMA,
        attend=AttentionShape(rotate=rotary.interleaved),
        norm=by_weight(float_norm),
    )
)
ministral3 = DecoderNet(layer=replace(LLAMA, attend=AttentionShape(rotate=rotary.scaled_rotated)))
nemotron = DecoderNet(
    layer=replace(LLAMA, attend=AttentionShape(rotate=part_rotated, first=True), norm=one_more),
    rotary=part_rotary,
)
exaone4 = DecoderNet(
    layer=replace(BEHIND, attend=AttentionShape(late=True), norm=by_weight(rms_norm))
)
olmo = DecoderNet(
    layer=LayerShape(attend=AttentionShape(rotate=rotary.narrowed), norm=weightless),
    rotary=rotary.wide_rotary,
)
olmo2 = DecoderNet(layer=OLMO2_LAYER, rotary=rotary.wide_rotary)
cohere = DecoderNet(
    layer=LayerShape(
        attend=AttentionShape(norm=cohere_norm, late=True, rotate=rotary.in_float),
        norm=by_weight(cohere_norm),
        before=ONE_NORM,
        sums="beside",
    )
)
phi = DecoderNet(
    layer=LayerShape(
        attend=replace(PART, out="dense"),
        feed=ungated("fc1", "fc2"),
        before=ONE_NORM,
        rates=RESID,
        sums="together",
    ),
    rotary=part_rotary,
    rate="embd_pdrop",
)
phi3 = DecoderNet(
    layer=LayerShape(
        attend=fused, norm=by_weight(rms_norm), feed=gate_and_up, rates=RESID, holds=("undropped",)
    ),
    rotary=part_rotary,
)
glm = DecoderNet(layer=GLM, rotary=part_rotary)
glm4 = DecoderNet(layer=replace(GLM, after=GLM_NORMS), rotary=part_rotary)
qwen_vl = DecoderNet(rotary=rotary.grids)  # text layers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL
starcoder2 = DecoderNet(
    layer=replace(LLAMA, feed=ungated("c_fc", "c_proj", rate="residual_dropout")),
    rate="embedding_dropout",
)
stablelm = by_config(
    "use_parallel_residual",
    LayerShape(attend=PART, before=ONE_NORM, rates=("", "hidden_dropout"), sums="beside"),
    LayerShape(
        attend=PART,
        rates=("", "hidden_dropout"),
        handed=True,
        holds=("normed", "attended", "undropped"),
    ),
)
