"""Decoders that mix tokens in several ways: by state spaces or convolutions, and by attention.

    Bamba        Mamba-2 or attention in each layer, positions on a part of each head
    Jamba        Mamba 1 and attention without positions in one model, experts in some layers
    Nemotron-H   and Nemotron 3: a layer is one of Mamba-2, attention without positions, a
                 feed-forward or experts, none of which are gated
    Granite 4    Mamba-2 or attention in each layer, and beside experts, where there are some, a
                 feed-forward for all tokens; attention in every layer of GraniteMoeShared
    LFM2         gated convolutions over the last few tokens, and attention in some layers; dense,
                 or with experts that are scored by sigmoids

Source: transformers 5.23
models/{bamba,jamba,nemotron_h,granitemoehybrid,granitemoeshared,lfm2,lfm2_moe}/modeling_*.py.
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32
from weighbridge.models.arch.body import Experts, LayerBlock
from weighbridge.models.arch.mixers import Attention, Mamba1, Mamba2, ShortConv
from weighbridge.models.arch.rotary import head_dim
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net
from weighbridge.training.forward.nets.mamba import convolved, loss, mamba2_mixer, mixer, scan_of
from weighbridge.training.forward.nets.sparse import GRANITE, named_experts
from weighbridge.training.forward.ops.experts import gather, softmax, topk
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.norms import float_norm, rms_norm
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    divide,
    mul,
    of_input,
    of_result,
    scale,
    several,
    shift,
)
from weighbridge.training.forward.ops.pointwise import total as summed_up
from weighbridge.training.forward.ops.shaping import split, turned
from weighbridge.training.forward.parts import moe
from weighbridge.training.forward.parts.attention import Masks
from weighbridge.training.forward.parts.layer import (
    LLAMA_ATTENTION,
    AttentionShape,
    DecoderNet,
    Held,
    LayerShape,
    by_weight,
    mlp,
    unpadded,
    with_padding,
)
from weighbridge.training.forward.parts.moe import Form, by_sigmoid, experts, experts_of, gated
from weighbridge.training.forward.parts.rotary import (
    Rotary,
    nowhere,
    part_rotated,
    rotary_of,
    turned_width,
)
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Tensor


def bamba_positions(s: TrainingStep) -> Rotary | None:
    """Return the rotary positions of the first layer with attention; None if no layer has it."""
    first = next((i for i, b in enumerate(s.built.body.blocks) if not _is_mamba_layer(b)), None)
    return None if first is None else rotary_of(s, turned_width(s, first))


def bamba_mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary | None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Return (output of Mamba-2 or attention, whichever the layer has; attention weights)."""
    if _is_mamba_layer(s.built.body.blocks[number]):
        return mamba2_mixer(s, p.at("mamba"), x, scan_of(s, number)), None
    return PART(s, p.at("self_attn"), x, number, positions, masks)


def bamba_feed(s: TrainingStep, p: Module, x: Tensor, _number: int) -> Tensor:
    return mlp(s, p.at("feed_forward"), x)


def _is_mamba_layer(block: LayerBlock) -> bool:
    return any(isinstance(each, Mamba2) for each in block.mixers)


PART = AttentionShape(rotate=part_rotated, late=True, first=True)
BAMBA_NORMS = ("input_layernorm", "pre_ff_layernorm")
BAMBA_LAYER = LayerShape(
    attend=bamba_mixed, norm=by_weight(rms_norm), feed=bamba_feed, at="", before=BAMBA_NORMS
)
bamba = Net(DecoderNet(layer=BAMBA_LAYER, rotary=bamba_positions), mixes=(Mamba2, Attention))


# ---- Jamba


def jamba_mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, _nowhere: None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Return (output of attention or Mamba 1, whichever the layer has; attention weights)."""
    if any(isinstance(each, Attention) for each in s.built.body.blocks[number].mixers):
        return LLAMA_ATTENTION(s, p.at("self_attn"), x, number, None, masks)
    return mixer(s, p.at("mamba"), x, number, jamba_normed), None


def jamba_feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """Return the output of a dense MLP, or of the experts if the layer has some."""
    experts, inner = experts_of(s, number), p.at("feed_forward")
    return mlp(s, inner, x) if experts is None else jamba_sparse(s, inner, x, experts)


def jamba_normed(m: Machine, p: Module, x: Tensor, name: str) -> Tensor:
    return rms_norm(m, x, p.weight(name))


def jamba_sparse(s: TrainingStep, p: Module, x: Tensor, mixture: Experts) -> Tensor:
    """JambaSparseMoeBlock.forward"""
    shape = x.shape
    x = x.view(s.rows, shape[-1])
    weights, numbers = router(s, p, x, mixture)
    return experts(s, p.at("experts"), x, weights, numbers).view(*shape)


def router(s: TrainingStep, p: Module, x: Tensor, experts: Experts) -> tuple[Tensor, Tensor]:
    """Return (weights, expert indices) of JambaTopKRouter.forward; weights are not normalized."""
    m = s.m
    logits = linear(m, x, p.stacked(m, "router.weight"))
    weights, numbers = topk(m, softmax(m, logits), experts.top_k)
    return cast(m, weights, x.dtype), numbers


JAMBA_NORMS = ("input_layernorm", "pre_ff_layernorm")
JAMBA_LAYER = LayerShape(
    attend=jamba_mixed, norm=by_weight(rms_norm), feed=jamba_feed, at="", before=JAMBA_NORMS
)
jamba = Net(DecoderNet(layer=JAMBA_LAYER, rotary=nowhere), mixes=(Mamba1, Attention))


# ---- Nemotron-H


def nemotron_h_mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, _nowhere: None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Return the output of the only part of a Nemotron-H layer: Mamba-2, attention, an MLP or
    experts."""
    mixers = s.built.body.blocks[number].mixers
    if any(isinstance(each, Mamba2) for each in mixers):
        return mamba2_mixer(s, p, x, scan_of(s, number)), None
    if any(isinstance(each, Attention) for each in mixers):
        return LLAMA_ATTENTION(s, p, x, number, None, masks)
    if experts_of(s, number) is not None:
        return nemotron_h_sparse(s, p, x, number), None
    return nemotron_h_mlp(s, p, x), None


def nemotron_h_normed(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """NemotronHRMSNorm.forward, in the weight's dtype."""
    weight = p.weight(name)
    return float_norm(m, cast(m, x, weight.dtype), weight)


def nemotron_h_mlp(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """NemotronHMLP.forward"""
    return p.linear(s.m, several(s.m, p.linear(s.m, x, "up_proj"), activation(s)), "down_proj")


def activation(s: TrainingStep) -> str:
    return str(s.built.config.get("mlp_hidden_act") or "relu2")


def activated(s: TrainingStep, x: Tensor) -> Tensor:
    return several(s.m, x, activation(s))


PLAIN = Form(up="up_proj", gate=activated)  # experts without a gate


def nemotron_h_sparse(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """NemotronHMoE.forward"""
    m, shape, e = s.m, x.shape, experts_of(s, number)
    assert e is not None
    residuals = x
    x = x.view(s.rows, shape[-1])
    _, weights, numbers = by_sigmoid(s, p, x, e)
    if p.has("fc1_latent_proj"):
        x = p.linear(m, x, "fc1_latent_proj")
    x = experts(s, p.at("experts"), x, weights, numbers, PLAIN)
    if p.has("fc2_latent_proj"):
        x = p.linear(m, x, "fc2_latent_proj")
    return add(m, x.view(*shape), nemotron_h_mlp(s, p.at("shared_experts"), residuals))


NEMOTRON_H_LAYER = LayerShape(
    norm=nemotron_h_normed, attend=nemotron_h_mixed, at="mixer", before=("norm", ""), sums="alone"
)
nemotron_h = Net(
    DecoderNet(layer=NEMOTRON_H_LAYER, rotary=nowhere, norm=by_weight(float_norm)),
    loss=loss,
    causal=True,
    mixes=(Mamba2, Attention),
    feeds_alone=True,
)


# ---- Granite 4


def granite_positions(s: TrainingStep) -> Rotary | None:
    """Return rotary positions as wide as a head, even if no layer has attention; None without
    RoPE."""
    config = s.built.config
    if config.get("position_embedding_type") != "rope":
        return None
    return rotary_of(s, config.num("hidden_size") // config.num("num_attention_heads"))


def granite_mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary | None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Return (output of Mamba-2 or attention, whichever the layer has; attention weights)."""
    if any(isinstance(each, Mamba2) for each in s.built.body.blocks[number].mixers):
        return mamba2_mixer(s, p.at("mamba"), x, scan_of(s, number)), None
    return LLAMA_ATTENTION(s, p.at("self_attn"), x, number, positions, masks)


def granite_feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Held:
    """Return (output, tensor held until the layer returns): an MLP for all tokens, plus experts,
    whose output is held."""
    if experts_of(s, number) is None:
        return shared(s, p.at("shared_mlp"), x), None
    moe_x = named_experts(s, p, x, number, GRANITE)
    if not p.has("shared_mlp.input_linear"):
        return moe_x, None
    return add(s.m, moe_x, shared(s, p.at("shared_mlp"), x)), moe_x


def shared(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """GraniteMoeHybridMLP.forward"""
    x = p.linear(s.m, x, "input_linear")
    return p.linear(s.m, gated(s, x), "output_linear")


GRANITE_LAYER = LayerShape(attend=granite_mixed, norm=by_weight(rms_norm), feed=granite_feed, at="")
granite_hybrid = Net(
    DecoderNet(layer=GRANITE_LAYER, rotary=granite_positions), mixes=(Mamba2, Attention)
)
granite_shared = Net(
    DecoderNet(layer=LayerShape(norm=by_weight(rms_norm), feed=granite_feed)),
    mixes=(Mamba2, Attention),
)


# ---- LFM2


def lfm2_mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, *seen: Any, padding: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return (output of attention or a gated convolution, whichever the layer has; attention
    weights)."""
    if p.has("self_attn.q_proj"):
        return ATTENTION(s, p.at("self_attn"), x, number, *seen)
    return short_conv(s.m, p.at("conv"), unpadded(s.m, x, padding)), None


def rotary(s: TrainingStep) -> Rotary:
    return rotary_of(s, head_dim(s.built.config))


def short_conv(m: Machine, p: Module, x: Tensor) -> Tensor:
    """Lfm2ShortConv.forward"""
    both = turned(m, p.linear(m, x, "in_proj"))
    width = both.shape[-1] // 3
    b, c, x = split(m, both, (width, width, width))
    hidden = mul(m, b, x)
    hidden = convolved(m, p, hidden, "conv")
    y = mul(m, c, hidden)
    return p.linear(m, y, "out_proj")


def lfm2_feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """Lfm2MLP.forward, Lfm2MoeSparseMoeBlock.forward"""
    p = p.at("feed_forward")
    m, experts = s.m, moe.experts_of(s, number)
    if experts is None:
        inner = mul(m, of_input(m, p.linear(m, x, "w1")), p.linear(m, x, "w3"))
        return p.linear(m, inner, "w2")
    flat = x.view(s.rows, x.shape[-1])
    logits, weights, numbers = routed(s, p, flat, experts)
    out = moe.experts(s, p.at("experts"), flat, weights, numbers)
    del logits
    return out.view(*x.shape)


def routed(
    s: TrainingStep, p: Module, x: Tensor, experts: Experts
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (logits, weights, expert indices) of Lfm2MoeTopKRouter.forward: a float32 bias affects
    the choice, not the weights."""
    m, config = s.m, s.built.config
    logits = linear(m, x, p.stacked(m, "gate.weight"))
    scores = of_result(m, logits)
    if config.get("use_expert_bias") is not False:
        biased = add(m, scores, m.new((experts.count,), FLOAT32))
        chosen, numbers = topk(m, biased, experts.top_k)
        weights = gather(m, scores, numbers)
        del chosen
    else:
        weights, numbers = topk(m, scores, experts.top_k)
    if config.get("norm_topk_prob") is not False:
        weights = divide(m, weights, shift(m, summed_up(m, weights)))
    return logits, scale(m, weights), numbers


ATTENTION = AttentionShape(out="out_proj")
LFM2_LAYER = LayerShape(
    attend=lfm2_mixed,
    norm=by_weight(rms_norm),
    feed=lfm2_feed,
    at="",
    before=("operator_norm", "ffn_norm"),
    handed=True,
)
lfm2 = Net(DecoderNet(layer=with_padding(LFM2_LAYER), rotary=rotary), mixes=(Attention, ShortConv))
