"""Decoders whose positions are complex numbers, one for two numbers of a head.

    freqs_cis    [1, length, width / 2] of 8 bytes each, in float32 whatever the model is in
    turned       pairs as complex numbers, times freqs_cis, which backward needs; back in 16 bits

A complex number is written as two of float32 here, and what is only another view is not.

Source: transformers 5.23 models/deepseek_v2/modeling_deepseek_v2.py (apply_rotary_emb),
models/llama4/modeling_llama4.py.
"""

from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, ahead, record
from weighbridge.autograd.ops.pointwise import cast
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import FLOAT32
from weighbridge.training.step import TrainingStep


def rotary(s: TrainingStep, width: int) -> Tensor:
    """DeepseekV2RotaryEmbedding.forward; `width` of a head has positions."""
    m, shape = s.m, (1, s.length, 1, width)
    freqs = m.new((1, s.length, width // 2), FLOAT32)
    ones = m.new(freqs.shape, FLOAT32)
    freqs_cis = m.new(shape, FLOAT32)
    del ones
    scaled = m.new(shape, FLOAT32)
    del freqs, freqs_cis
    return scaled


def turned(m: Machine, q: Tensor, k: Tensor, freqs_cis: Tensor) -> tuple[Tensor, Tensor]:
    """apply_rotary_emb"""
    xq_, xk_ = cast(m, q, FLOAT32), cast(m, k, FLOAT32)
    xq_out = cast(m, times(m, xq_, freqs_cis), q.dtype)
    xk_out = cast(m, times(m, xk_, freqs_cis), k.dtype)
    return xq_out, xk_out


def times(m: Machine, x: Tensor, factors: Tensor) -> Tensor:
    """A product of complex numbers; in backward with the factors' conjugates, which are copied."""
    ahead(m, [x], [factors])
    out = m.new(x.shape, FLOAT32)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(grads[0].shape, FLOAT32)]

    record(m, back, [x], [factors], out)
    return out
