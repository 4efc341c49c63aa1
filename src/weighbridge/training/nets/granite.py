"""Granite 4: Mamba-2 or attention in each layer, and beside experts, where there are some, a
feed-forward for all tokens.

Source: transformers 5.23 models/granitemoehybrid/modeling_granitemoehybrid.py.
"""

from weighbridge.arch.mixers import Mamba2
from weighbridge.autograd.ops.experts import topk
from weighbridge.autograd.ops.losses import embedding
from weighbridge.autograd.ops.matrix import linear
from weighbridge.autograd.ops.norms import rms_norm
from weighbridge.autograd.ops.pointwise import add, cast, scale, softmax
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.training.modules import Module
from weighbridge.training.nets.decoder import (
    Masks,
    Rotary,
    attention_and_weights,
    mask,
    rotary_of,
    run,
)
from weighbridge.training.nets.mamba2 import mixer, scan_of
from weighbridge.training.nets.moe import experts, experts_of, gated
from weighbridge.training.nets.sparse import GRANITE
from weighbridge.training.step import Step


def forward(s: Step) -> Tensor:
    """GraniteMoeHybridModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = scale(m, embedding(m, ids, built.base.weight("embed_tokens")))
    position_ids = m.new((1, s.length), INT64)
    masks = {None: mask(s, None)}
    turns = built.config.get("position_embedding_type") == "rope"
    width = int(built.config.get("hidden_size")) // int(built.config.get("num_attention_heads"))
    positions = rotary_of(s, width) if turns else None
    x = inputs_embeds
    for i, p in enumerate(built.layers):
        x = run(s, decoder_layer, x, p, i, positions, masks)
    del position_ids
    return rms_norm(m, x, built.base.weight("norm"))


def decoder_layer(
    x: Tensor, s: Step, p: Module, number: int, positions: Rotary | None, masks: Masks
) -> Tensor:
    """GraniteMoeHybridDecoderLayer.forward"""
    m, mixers = s.m, s.built.body.blocks[number].mixers
    residual = x
    x = rms_norm(m, x, p.weight("input_layernorm"))
    if any(isinstance(each, Mamba2) for each in mixers):
        x = mixer(s, p.at("mamba"), x, scan_of(s, number))
    else:
        x, _ = attention_and_weights(s, p.at("self_attn"), x, number, positions, masks)
    x = add(m, residual, scale(m, x))
    residual = x
    x = rms_norm(m, x, p.weight("post_attention_layernorm"))
    if experts_of(s, number) is None:
        x = shared(s, p.at("shared_mlp"), x)
    else:
        moe_x = sparse(s, p.at("block_sparse_moe"), x, number)
        x = add(m, moe_x, shared(s, p.at("shared_mlp"), x))
    return add(m, residual, scale(m, x))


def shared(s: Step, p: Module, x: Tensor) -> Tensor:
    """GraniteMoeHybridMLP.forward"""
    x = p.linear(s.m, x, "input_linear")
    return p.linear(s.m, gated(s, x), "output_linear")


def sparse(s: Step, p: Module, x: Tensor, number: int) -> Tensor:
    """GraniteMoeHybridMoE.forward"""
    m, shape, e = s.m, x.shape, experts_of(s, number)
    assert e is not None
    x = x.view(s.rows, shape[-1])
    logits = cast(m, linear(m, x, p.stacked(m, "router.layer.weight")), FLOAT32)
    best, numbers = topk(m, logits, e.top_k)
    weights = cast(m, softmax(m, best), x.dtype)
    del logits, best
    return experts(s, p, x, weights, numbers, GRANITE).view(*shape)
