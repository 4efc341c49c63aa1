"""Nemotron-H and Nemotron 3: a layer is one of Mamba-2, attention without positions, a feed-forward
or experts, none of which are gated.

Source: transformers 5.23 models/nemotron_h/modeling_nemotron_h.py.
"""

from weighbridge.arch.mixers import Attention, Mamba2
from weighbridge.autograd.ops.norms import float_norm
from weighbridge.autograd.ops.pointwise import add, cast, several
from weighbridge.autograd.tensors import Tensor
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder
from weighbridge.training.nets.decoder import Masks, attention_and_weights
from weighbridge.training.nets.mamba2 import loss, mixer, scan_of
from weighbridge.training.nets.moe import Form, experts, experts_of
from weighbridge.training.nets.routers import by_sigmoid
from weighbridge.training.step import Step

MIXES = (Mamba2, Attention)
CAUSAL = True
ALSO_FEEDS_ALONE = True

__all__ = ["forward", "loss"]


def forward(s: Step) -> Tensor:
    """NemotronHModel.forward"""
    return decoder.forward(s, block, decoder.nowhere, norm=float_norm)


def block(
    x: Tensor, s: Step, p: Module, number: int, _nowhere: None, masks: Masks, _position_ids: Tensor
) -> Tensor:
    """NemotronHBlock.forward"""
    m, weight, mixers = s.m, p.weight("norm"), s.built.body.blocks[number].mixers
    residual = x
    x = float_norm(m, cast(m, x, weight.dtype), weight)
    inner = p.at("mixer")
    if any(isinstance(each, Mamba2) for each in mixers):
        x = mixer(s, inner, x, scan_of(s, number))
    elif any(isinstance(each, Attention) for each in mixers):
        x, _ = attention_and_weights(s, inner, x, number, None, masks)
    elif experts_of(s, number) is not None:
        x = sparse(s, inner, x, number)
    else:
        x = mlp(s, inner, x)
    return add(m, residual, x)


def mlp(s: Step, p: Module, x: Tensor) -> Tensor:
    """NemotronHMLP.forward"""
    return p.linear(s.m, several(s.m, p.linear(s.m, x, "up_proj"), activation(s)), "down_proj")


def activation(s: Step) -> str:
    return str(s.built.config.get("mlp_hidden_act") or "relu2")


def activated(s: Step, x: Tensor) -> Tensor:
    return several(s.m, x, activation(s))


PLAIN = Form(up="up_proj", gate=activated)  # experts that are not gated


def sparse(s: Step, p: Module, x: Tensor, number: int) -> Tensor:
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
