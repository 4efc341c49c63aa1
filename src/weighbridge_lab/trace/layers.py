"""Layers that torch computes as one operation without gradients: what they allocate.

    _native_multi_head_attention     nn.MultiheadAttention in evaluation
    _transformer_encoder_layer_fwd   nn.TransformerEncoderLayer

They are composed as in aten/src/ATen/native/transformers (cuda/attention.cu, transformer.cpp):
attention by a fused kernel if neither weights nor a mask are asked for, else by scores; a layer's
two sums are made in place.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

aten = torch.ops.aten
FUSED_HEADS = 8  # a fused kernel is tried if head widths are multiples of it


def layers() -> dict[Any, Callable[..., Any]]:
    """Return the stand-in for each operation."""
    return {
        aten._native_multi_head_attention.default: _attention,
        aten._transformer_encoder_layer_fwd.default: _layer,
    }


def _attention(  # noqa: PLR0913  torch's own arguments
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    width: int,
    heads: int,
    weight: torch.Tensor,
    bias: torch.Tensor,
    out_weight: torch.Tensor,
    out_bias: torch.Tensor,
    mask: torch.Tensor | None = None,
    need_weights: bool = True,
    average: bool = True,
    mask_type: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    alone = query is key and key is value
    if alone and mask is None and not need_weights and not width // heads % FUSED_HEADS:
        parts = linear(query, weight, bias).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        return linear(mixed, out_weight, out_bias), None
    joint = _projected((query, key, value), weight)
    batch, length = joint.shape[:2]  # one buffer of _transform_bias_rescale_qkv
    q, k, v = joint.new_empty(3, batch, heads, length, width // heads).unbind()
    del joint
    scores = q @ k.transpose(-1, -2)
    if mask is None:
        aten._softmax.out(scores, -1, False, out=scores)
    else:
        scores = torch.empty_like(scores)
    aten.matmul.out(scores, v, out=q)
    out = linear(q.transpose(1, 2).flatten(2), out_weight, out_bias)
    if not need_weights:
        return out, None
    return out, scores.sum(1).div_(heads) if average else scores


def _projected(inputs: tuple[torch.Tensor, ...], weight: torch.Tensor) -> torch.Tensor:
    """Return three projections side by side: one product for equal inputs, else three and a
    copy."""
    first, second, third = inputs
    if first is second and second is third:
        return linear(first, weight)
    each = zip(inputs, weight.chunk(3), strict=True)
    return torch.cat([linear(*pair) for pair in each], -1)


def _layer(  # noqa: PLR0913  torch's own arguments
    source: torch.Tensor,
    width: int,
    heads: int,
    weight: torch.Tensor,
    bias: torch.Tensor,
    out_weight: torch.Tensor,
    out_bias: torch.Tensor,
    gelu: bool,
    norm_first: bool,
    eps: float,
    first_weight: torch.Tensor,
    first_bias: torch.Tensor,
    second_weight: torch.Tensor,
    second_bias: torch.Tensor,
    up: torch.Tensor,
    up_bias: torch.Tensor,
    down: torch.Tensor,
    down_bias: torch.Tensor,
    mask: torch.Tensor | None = None,
    mask_type: int | None = None,
) -> torch.Tensor:
    def first(x: torch.Tensor) -> torch.Tensor:
        return layer_norm(x, (width,), first_weight, first_bias, eps)

    def second(x: torch.Tensor) -> torch.Tensor:
        return layer_norm(x, (width,), second_weight, second_bias, eps)

    x = first(source) if norm_first else source
    projections = weight, bias, out_weight, out_bias
    x, _ = _attention(x, x, x, width, heads, *projections, mask, False, True, mask_type)
    x.add_(source)
    x = x if norm_first else first(x)
    before = x
    x = second(x) if norm_first else x
    flat = aten._addmm_activation(up_bias, x.flatten(0, 1), up.t(), use_gelu=gelu)
    x = linear(flat.view(*x.shape[:-1], -1), down, down_bias)
    x.add_(before)
    return x if norm_first else second(x)
