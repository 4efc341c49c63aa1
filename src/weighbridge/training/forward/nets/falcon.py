"""Falcon: attention and feed-forward beside each other, keys and values of one head, or of groups.

    7B            one head of keys and values, which products broadcast: only the math kernel can
    40B, 180B     groups: keys and values copied for every head; two norms
    RW            biases of distance in the mask instead of positions; one after the other

A mask is always made. Autocast casts weights each time: FalconLinear multiplies with weight.T,
which is no leaf.
Source: transformers 5.23 models/falcon/modeling_falcon.py.
"""

from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64, DType
from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.training.forward.machine import Machine, remade
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.ops.attention import AttentionHeads, contiguous
from weighbridge.training.forward.ops.attention import product as of_heads
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.pointwise import (
    add,
    add_,
    cast,
    dropout,
    scale_,
    several,
    softmax,
)
from weighbridge.training.forward.ops.shaping import copied, cut, cuts, embedding, expand, shaped
from weighbridge.training.forward.parts.attention import attended, heads, mask
from weighbridge.training.forward.parts.layer import normed, run
from weighbridge.training.forward.parts.rotary import Rotary, rotary, rotated
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Tensor

Held = list[Tensor]  # attention weights of the previous layer, held until the next is over


class FalconInputs(NamedTuple):
    """Tensors that every layer takes as input; `alibi` are distance biases."""

    positions: Rotary
    mask: Tensor | None
    alibi: Tensor | None


def falcon(s: TrainingStep) -> Tensor:
    """FalconModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, built.base.weight("word_embeddings")))
    position_ids = m.new((1, s.length), INT64)
    biased = bool(built.config.get("alibi"))
    if biased and s.kernel == "flash":
        raise UsageError(sentence("flash_biases", kind=built.kind))
    alibi = m.new((s.batch, heads(s, 0).heads, 1, s.length), s.dtype) if biased else None
    causal_mask = mask(s, None, always=True)
    if alibi is not None and causal_mask is not None:
        causal_mask = with_biases(m, causal_mask, alibi)
    inputs = FalconInputs(rotary(s), causal_mask, alibi)
    x = inputs_embeds
    outputs: Held = []
    for i, layer in enumerate(built.layers):
        x = run(s, block, x, layer, i, inputs, outputs)
    x = normed(m, x, built.base, "ln_f")
    outputs.clear()
    del position_ids
    return x


def with_biases(m: Machine, causal_mask: Tensor, alibi: Tensor) -> Tensor:
    """Return the additive mask, with distance biases for the tokens it lets through."""
    shape = *alibi.shape[:2], *causal_mask.shape[2:]
    if causal_mask.dtype == BOOL:
        causal_mask = m.new(causal_mask.shape, alibi.dtype)
    shared = m.new(alibi.shape, alibi.dtype)
    hidden = m.new(causal_mask.shape, BOOL)
    out = m.new(shape, alibi.dtype)
    del shared, hidden
    return out


def block(
    x: Tensor, s: TrainingStep, p: Module, number: int, inputs: FalconInputs, outputs: Held
) -> Tensor:
    """FalconDecoderLayer.forward"""
    m, after = s.m, p.has("post_attention_layernorm")
    residual = x
    normed_x = mlp_in = normed(m, x, p, p.first("ln_attn", "input_layernorm"))
    if p.has("ln_mlp"):
        mlp_in = normed(m, x, p, "ln_mlp")
    output, weights = attention(s, p.at("self_attention"), normed_x, number, inputs)
    if after:
        residual = add(m, residual, dropout(m, output, s.rate("attention_dropout")))
        mlp_in = normed(m, residual, p, "post_attention_layernorm")
    out = mlp(s, p.at("mlp"), mlp_in)
    if not after:
        out = add_(m, out, output)
    out = add(m, residual, dropout(m, out, s.rate("hidden_dropout")))
    outputs[:] = [weights] if weights is not None else []
    return out


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, inputs: FalconInputs
) -> tuple[Tensor, Tensor | None]:
    """FalconAttention.forward"""
    m, h, (positions, causal_mask, alibi) = s.m, heads(s, number), inputs
    fused = product(m, p, x, "query_key_value")
    query, key, value = split_heads(s, fused, h)
    if s.built.config.get("new_decoder_architecture"):
        h = h.repeated
    rate = s.rate("attention_dropout") if alibi is not None else 0.0
    if alibi is None:
        query, key = rotated(m, query, key, positions)
    shared = h.groups > 1
    weights: Tensor | None
    if s.kernel == "eager":
        out, weights = written(s, (query, key, value), h, inputs, x.dtype)
    else:
        kernel = "math" if shared and causal_mask is not None else None
        more: dict[str, Any] = {"mask": causal_mask, "p": rate, "shared": shared}
        out, weights = attended(s, query, key, value, h, kernel, **more)
    out = out.view(*h.joined)
    return product(m, p, out, "dense"), weights


def written(
    s: TrainingStep,
    three: tuple[Tensor, Tensor, Tensor],
    heads: AttentionHeads,
    inputs: FalconInputs,
    dtype: DType,
) -> tuple[Tensor, Tensor]:
    """Return eager FalconAttention.forward: scaled in place, with the softmax in the input's
    dtype."""
    m, (query, key, value), (_, causal_mask, alibi) = s.m, three, inputs
    assert causal_mask is not None
    if heads.groups > 1:
        whole = heads.queries
        key, value = expand(m, key, *whole), expand(m, value, *whole)
        heads = heads.repeated
    matmul_result = of_heads(m, query, key, heads)
    if alibi is None:
        scores = scale_(m, matmul_result)
        del matmul_result
        scores = softmax(m, cast(m, add(m, scores, causal_mask), dtype))
    else:  # all of these live until the function returns
        wide = cast(m, matmul_result, FLOAT32)
        logits = scale_(m, add(m, wide, alibi))
        hidden = add(m, logits, causal_mask)
        scores = softmax(m, cast(m, hidden, dtype))
        del hidden
        scores = dropout(m, scores, s.rate("attention_dropout"))
    out = of_heads(m, scores, value, heads, columns=heads.value_dim)
    return contiguous(m, out, heads), scores


def split_heads(
    s: TrainingStep, fused: Tensor, heads: AttentionHeads
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (queries, keys, values) of FalconAttention._split_heads, which picks keys and values
    by a list, a copy."""
    m, whole = s.m, heads.queries
    new, width = s.built.config.get("new_decoder_architecture"), heads.heads * heads.key_dim
    if heads.kv_heads == heads.heads and not new:
        query, key, value = (third.view(*whole) for third in cuts(m, fused, [width] * 3))
        return query, key, value
    query = cut(m, fused, width).view(*whole)
    shape = heads.keys
    key, value = picked(m, fused, shape), picked(m, fused, shape)
    if not new:
        return query, key, value
    key, value = expand(m, key, *whole), expand(m, value, *whole)
    return copied(m, query), copied(m, key), copied(m, value)


def picked(m: Machine, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return x[..., [n], :], a copy of `shape`."""
    out = m.new(shape, x.dtype)
    numbers = m.new((1,), INT64)
    return remade(m, x, out, numbers)


def mlp(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    """FalconMLP.forward"""
    m = s.m
    x = product(m, p, x, "dense_h_to_4h")
    x = several(m, x, str(s.built.config.get("activation") or "gelu"))
    return product(m, p, x, "dense_4h_to_h")


def product(m: Machine, p: Module, x: Tensor, name: str) -> Tensor:
    """Return FalconLinear.forward: x @ weight.T + bias."""
    if p.wraps.get(p.path + name) is not None:
        return p.linear(m, x, name)
    weight, bias = p.weight(name), p.bias(name)
    x = linear(m, x, shaped(m, weight, *weight.shape))
    return x if bias is None else add(m, x, bias)
