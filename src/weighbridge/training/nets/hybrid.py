"""Layers of classes that mix tokens by attention in some layers only.

Source: transformers 5.23 masking_utils.py (create_recurrent_attention_mask),
models/lfm2/modeling_lfm2.py (apply_mask_to_padding_states).
"""

from collections.abc import Callable
from typing import Any

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.pointwise import cast, mul
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import INT64
from weighbridge.training.modules import Module
from weighbridge.training.step import Step

Seen = tuple[Any, ...]  # positions and masks, which only attention reads
Layer = Callable[[Tensor, Step, Module, int, Seen, Tensor | None], Tensor]


def hybrid(s: Step, layer: Layer) -> Callable[..., Tensor]:
    """Wrap `layer` so that a decoder can run it. Its last argument is the padding mask, which only
    mixers other than attention read; None where nothing is padded."""
    padding = s.m.new((s.batch, s.length, 1), INT64) if s.padded else None

    def run(x: Tensor, s: Step, p: Module, number: int, *seen: Any) -> Tensor:
        return layer(x, s, p, number, seen, padding)

    return run


def unpadded(m: Machine, x: Tensor, padding: Tensor | None) -> Tensor:
    return x if padding is None else cast(m, mul(m, x, padding), x.dtype)
