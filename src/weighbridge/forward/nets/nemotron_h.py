"""Nemotron-H and Nemotron 3: a layer is one of Mamba-2, attention without positions, a feed-forward
or experts, none of which are gated.

Source: transformers 5.23 models/nemotron_h/modeling_nemotron_h.py.
"""

from weighbridge.arch.mixers import Attention, Mamba2
from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net
from weighbridge.forward.nets.mamba2 import loss, mixer, scan_of
from weighbridge.forward.ops.norms import float_norm
from weighbridge.forward.ops.pointwise import add, cast, several
from weighbridge.forward.parts.attention import Masks
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import LLAMA_ATTENTION, LayerShape, by_weight
from weighbridge.forward.parts.moe import Form, experts, experts_of
from weighbridge.forward.parts.rotary import nowhere
from weighbridge.forward.parts.routers import by_sigmoid
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor


def mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, _nowhere: None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """One of the four."""
    mixers = s.built.body.blocks[number].mixers
    if any(isinstance(each, Mamba2) for each in mixers):
        return mixer(s, p, x, scan_of(s, number)), None
    if any(isinstance(each, Attention) for each in mixers):
        return LLAMA_ATTENTION(s, p, x, number, None, masks)
    if experts_of(s, number) is not None:
        return sparse(s, p, x, number), None
    return mlp(s, p, x), None


def normed(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """NemotronHRMSNorm.forward, in the weight's dtype."""
    weight = p.weight(name)
    return float_norm(m, cast(m, x, weight.dtype), weight)


def mlp(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """NemotronHMLP.forward"""
    return p.linear(s.m, several(s.m, p.linear(s.m, x, "up_proj"), activation(s)), "down_proj")


def activation(s: TrainingStep) -> str:
    return str(s.built.config.get("mlp_hidden_act") or "relu2")


def activated(s: TrainingStep, x: Tensor) -> Tensor:
    return several(s.m, x, activation(s))


PLAIN = Form(up="up_proj", gate=activated)  # experts that are not gated


def sparse(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
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
    return add(m, x.view(*shape), mlp(s, p.at("shared_experts"), residuals))


LAYER = LayerShape(norm=normed, attend=mixed, at="mixer", before=("norm", ""), sums="alone")
nemotron_h = Net(
    DecoderNet(layer=LAYER, rotary=nowhere, norm=by_weight(float_norm)),
    loss=loss,
    causal=True,
    mixes=(Mamba2, Attention),
    feeds_alone=True,
)
