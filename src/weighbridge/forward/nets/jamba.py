"""Jamba: Mamba 1 and attention without positions in one model, experts in some layers.

Source: transformers 5.23 models/jamba/modeling_jamba.py.
"""

from weighbridge.arch.body import Experts
from weighbridge.arch.mixers import Attention, Mamba1
from weighbridge.forward.machine import Machine
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net
from weighbridge.forward.nets.mamba import mixer
from weighbridge.forward.ops.experts import softmax, topk
from weighbridge.forward.ops.matrix import linear
from weighbridge.forward.ops.norms import rms_norm
from weighbridge.forward.ops.pointwise import cast
from weighbridge.forward.parts.attention import Masks
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import LLAMA_ATTENTION, LayerShape, by_weight, mlp
from weighbridge.forward.parts.moe import experts, experts_of
from weighbridge.forward.parts.rotary import nowhere
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor


def mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, _nowhere: None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Attention, or Mamba."""
    if any(isinstance(each, Attention) for each in s.built.body.blocks[number].mixers):
        return LLAMA_ATTENTION(s, p.at("self_attn"), x, number, None, masks)
    return mixer(s, p.at("mamba"), x, number, normed), None


def feed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """A dense feed-forward, or experts."""
    found, inner = experts_of(s, number), p.at("feed_forward")
    return mlp(s, inner, x) if found is None else sparse(s, inner, x, found)


def normed(m: Machine, p: Module, x: Tensor, name: str) -> Tensor:
    return rms_norm(m, x, p.weight(name))


def sparse(s: TrainingStep, p: Module, x: Tensor, e: Experts) -> Tensor:
    """JambaSparseMoeBlock.forward"""
    shape = x.shape
    x = x.view(s.rows, shape[-1])
    weights, numbers = router(s, p, x, e)
    return experts(s, p.at("experts"), x, weights, numbers).view(*shape)


def router(s: TrainingStep, p: Module, x: Tensor, e: Experts) -> tuple[Tensor, Tensor]:
    """JambaTopKRouter.forward: weights that are not normed"""
    m = s.m
    logits = linear(m, x, p.stacked(m, "router.weight"))
    weights, numbers = topk(m, softmax(m, logits), e.top_k)
    return cast(m, weights, x.dtype), numbers


NORMS = ("input_layernorm", "pre_ff_layernorm")
LAYER = LayerShape(attend=mixed, norm=by_weight(rms_norm), feed=feed, at="", before=NORMS)
jamba = Net(DecoderNet(layer=LAYER, rotary=nowhere), mixes=(Mamba1, Attention))
