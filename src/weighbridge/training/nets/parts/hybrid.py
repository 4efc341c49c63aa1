"""Layers of classes that mix tokens by attention in some layers only.

Source: transformers 5.23 masking_utils.py (create_recurrent_attention_mask),
models/lfm2/modeling_lfm2.py (apply_mask_to_padding_states).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.pointwise import cast, mul
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import INT64
from weighbridge.training.nets.parts.layer import LayerShape
from weighbridge.training.step import TrainingStep


def with_padding(shape: LayerShape) -> Callable[[TrainingStep], LayerShape]:
    """The layer whose `attend` takes `padding` besides, the mask of tokens [batch, length, 1] that
    only mixers other than attention read; None where nothing is padded."""

    def made(s: TrainingStep) -> LayerShape:
        padding = s.m.new((s.batch, s.length, 1), INT64) if s.padded else None
        return replace(shape, attend=partial(shape.attend, padding=padding))

    return made


def unpadded(m: Machine, x: Tensor, padding: Tensor | None) -> Tensor:
    return x if padding is None else cast(m, mul(m, x, padding), x.dtype)
