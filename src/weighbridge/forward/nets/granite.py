"""Granite 4: Mamba-2 or attention in each layer, and beside experts, where there are some, a
feed-forward for all tokens.

Source: transformers 5.23 models/granitemoehybrid/modeling_granitemoehybrid.py,
models/granitemoeshared/modeling_granitemoeshared.py (attention in every layer).
"""

from weighbridge.arch.mixers import Attention, Mamba2
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net
from weighbridge.forward.nets.mamba2 import mixer, scan_of
from weighbridge.forward.nets.sparse import GRANITE, named_experts
from weighbridge.forward.ops.norms import rms_norm
from weighbridge.forward.ops.pointwise import add
from weighbridge.forward.parts.attention import Masks
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import LLAMA_ATTENTION, Held, LayerShape, by_weight
from weighbridge.forward.parts.moe import experts_of, gated
from weighbridge.forward.parts.rotary import Rotary, rotary_of
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor


def positions(s: TrainingStep) -> Rotary | None:
    """Make rotary positions as wide as a head, also where no layer has attention; None without
    RoPE."""
    config = s.built.config
    if config.get("position_embedding_type") != "rope":
        return None
    return rotary_of(s, config.num("hidden_size") // config.num("num_attention_heads"))


def mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary | None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Mamba-2, or attention."""
    if any(isinstance(each, Mamba2) for each in s.built.body.blocks[number].mixers):
        return mixer(s, p.at("mamba"), x, scan_of(s, number)), None
    return LLAMA_ATTENTION(s, p.at("self_attn"), x, number, positions, masks)


def feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Held:
    """What all tokens go to, and beside it experts, whose output lives to the layer's end."""
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


LAYER = LayerShape(attend=mixed, norm=by_weight(rms_norm), feed=feed, at="")
granite_hybrid = Net(DecoderNet(layer=LAYER, rotary=positions), mixes=(Mamba2, Attention))
granite_shared = Net(
    DecoderNet(layer=LayerShape(norm=by_weight(rms_norm), feed=feed)), mixes=(Mamba2, Attention)
)
