"""Jamba: Mamba 1 and attention without positions in one model, experts in some layers.

Source: transformers 5.23 models/jamba/modeling_jamba.py.
"""

from weighbridge.arch.body import Experts
from weighbridge.arch.mixers import Attention, Mamba1
from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.experts import softmax, topk
from weighbridge.autograd.ops.matrix import linear
from weighbridge.autograd.ops.norms import rms_norm
from weighbridge.autograd.ops.pointwise import add, cast
from weighbridge.autograd.tensors import Tensor
from weighbridge.training.modules import Module
from weighbridge.training.nets import decoder
from weighbridge.training.nets.decoder import Masks, attention_and_weights, mlp
from weighbridge.training.nets.mamba import mixer
from weighbridge.training.nets.moe import experts, experts_of
from weighbridge.training.step import Step

MIXES = (Mamba1, Attention)


def forward(s: Step) -> Tensor:
    """JambaModel.forward"""
    return decoder.forward(s, decoder_layer, decoder.nowhere)


def decoder_layer(
    x: Tensor, s: Step, p: Module, number: int, _nowhere: None, masks: Masks, _position_ids: Tensor
) -> Tensor:
    """JambaAttentionDecoderLayer.forward, JambaMambaDecoderLayer.forward"""
    m, mixers = s.m, s.built.body.blocks[number].mixers
    residual = x
    x = rms_norm(m, x, p.weight("input_layernorm"))
    if any(isinstance(each, Attention) for each in mixers):
        x, _ = attention_and_weights(s, p.at("self_attn"), x, number, None, masks)
    else:
        x = mixer(s, p.at("mamba"), x, number, normed)
    x = add(m, residual, x)
    residual = x
    x = rms_norm(m, x, p.weight("pre_ff_layernorm"))
    found = experts_of(s, number)
    inner = p.at("feed_forward")
    x = mlp(s, inner, x) if found is None else sparse(s, inner, x, found)
    return add(m, residual, x)


def normed(m: Machine, p: Module, x: Tensor, name: str) -> Tensor:
    return rms_norm(m, x, p.weight(name))


def sparse(s: Step, p: Module, x: Tensor, e: Experts) -> Tensor:
    """JambaSparseMoeBlock.forward"""
    shape = x.shape
    x = x.view(s.rows, shape[-1])
    weights, numbers = router(s, p, x, e)
    return experts(s, p.at("experts"), x, weights, numbers).view(*shape)


def router(s: Step, p: Module, x: Tensor, e: Experts) -> tuple[Tensor, Tensor]:
    """JambaTopKRouter.forward: weights that are not normed"""
    m = s.m
    logits = linear(m, x, p.stacked(m, "router.weight"))
    weights, numbers = topk(m, softmax(m, logits), e.top_k)
    return cast(m, weights, x.dtype), numbers
