"""Norms, as torch has them in one kernel and as transformers writes them out.

    layer_norm     saves the input, the weight, and two float32 per row
    rms_norm       Llama's: the input in float32, its inverse root, the normalized input
    gemma_norm     the same, with 1 + weight in float32
    fused_rms_norm torch's in one kernel: the input, the weight, a float32 per row
    batch_norm     the input, the weight, and two float32 per channel
    group_norm     the input, the weight, and two elements per group, of the input's dtype; a factor
                   and a shift per channel are temporary, in float32

Source: torch 2.13 aten/src/ATen/native/cuda/{group_norm_kernel.cu, layer_norm_kernel.cu};
transformers 5.23 models/llama/modeling_llama.py (LlamaRMSNorm), models/gemma3/modeling_gemma3.py
(Gemma3RMSNorm).
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32
from weighbridge.training.forward.machine import Grads, Machine, Needs, made_like, record
from weighbridge.training.forward.ops.pointwise import cast, mean, mul, power, rsqrt, shift, sub
from weighbridge.training.forward.ops.scans import clamped
from weighbridge.training.forward.tensors import Tensor, absent


def layer_norm(
    m: Machine, x: Tensor, weight: Tensor | None, bias: Tensor | None = None, *, dense: bool = True
) -> Tensor:
    """Return the layer norm by one kernel; autocast runs it in float32, its output included.
    `dense` False: `x` is not contiguous, and copied only for the kernel."""
    if absent(weight):
        return x
    if m.autocast is not None:
        bias, weight = (None if t is None else cast(m, t, FLOAT32) for t in (bias, weight))
        x = cast(m, x, FLOAT32)
    copy = None if dense else m.new(x.shape, x.dtype)
    out = m.new(x.shape, x.dtype)
    size = FLOAT32 if x.dtype != FLOAT32 else x.dtype
    centre, spread = m.new((*x.shape[:-1], 1), size), m.new((*x.shape[:-1], 1), size)
    width = x.shape[-1:]
    del copy

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        return [
            m.new(grads[0].shape, dtype) if needs[0] else None,
            m.new(width, dtype) if needs[1] else None,
            m.new(width, dtype) if needs[2] else None,
        ]

    record(m, back, [x, weight, bias], [x, centre, spread, weight, bias], out)
    return out


def fused_rms_norm(m: Machine, x: Tensor, weight: Tensor | None) -> Tensor:
    """Return torch.nn.RMSNorm, one kernel on CUDA since 2.9."""
    out = m.new(x.shape, x.dtype)
    spread = m.new((*x.shape[:-1], 1), FLOAT32)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        of_input = m.new(grads[0].shape, dtype) if needs[0] else None
        return [of_input, m.new(grads[0].shape[-1:], dtype) if needs[1] else None]

    record(m, back, [x, weight], [x, spread, weight], out)
    return out


def group_norm(m: Machine, x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """Return the group norm of x [batch, channels, ...]; autocast runs it in float32."""
    if m.autocast is not None:
        weight, bias, x = (cast(m, t, FLOAT32) for t in (weight, bias, x))
    batch, channels = x.shape[:2]
    out = m.new(x.shape, x.dtype)
    centre, spread = m.new((batch, groups), x.dtype), m.new((batch, groups), x.dtype)
    m.hidden(*[FLOAT32.size(batch * channels)] * 2)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        of_input = m.new(grads[0].shape, dtype) if needs[0] else None
        return [of_input, *(m.new((channels,), dtype) if needed else None for needed in needs[1:])]

    record(m, back, [x, weight, bias], [x, centre, spread, weight], out)
    return out


def batch_norm(m: Machine, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the batch norm of x [batch, channels, ...]; it saves two float32 per channel."""
    out = m.new(x.shape, x.dtype)
    channels = x.shape[1]
    centre, spread = m.new((channels,), FLOAT32), m.new((channels,), FLOAT32)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        of_input = m.new(grads[0].shape, grads[0].dtype) if needs[0] else None
        sums = (m.new((channels,), FLOAT32) if needed else None for needed in needs[1:])
        return [of_input, *sums]

    record(m, back, [x, weight, bias], [x, centre, spread, weight], out)
    return out


def rms_norm(m: Machine, x: Tensor, weight: Tensor) -> Tensor:
    """Return weight * (x.float() * rsqrt(mean(x.float() ** 2))).to(x.dtype)."""
    if absent(weight):
        return x
    dtype = x.dtype
    x = cast(m, x, FLOAT32)
    variance = mean(m, power(m, x))
    x = mul(m, x, rsqrt(m, shift(m, variance)))
    return mul(m, weight, cast(m, x, dtype))


def plain_norm(m: Machine, x: Tensor) -> Tensor:
    """Return the RMS norm without a weight: Llama 4's of queries and keys, Falcon-Mamba's of its
    scan's inputs."""
    wide = cast(m, x, FLOAT32)
    normed = mul(m, wide, rsqrt(m, shift(m, mean(m, power(m, wide)))))
    del wide
    return cast(m, normed, x.dtype)


def gemma_norm(m: Machine, x: Tensor, weight: Tensor) -> Tensor:
    """Return (norm(x.float()) * (1 + weight.float())).to(x.dtype)."""
    if absent(weight):
        return x
    inner = cast(m, x, FLOAT32)
    normed = mul(m, inner, rsqrt(m, shift(m, mean(m, power(m, inner)))))
    del inner
    normed = mul(m, normed, shift(m, cast(m, weight, FLOAT32)))
    return cast(m, normed, x.dtype)


def wide_norm(m: Machine, x: Tensor, weight: Tensor) -> Tensor:
    """Return OLMo 2's norm: (weight * normed float32).to(x.dtype)."""
    dtype = x.dtype
    x = cast(m, x, FLOAT32)
    variance = mean(m, power(m, x))
    x = mul(m, x, rsqrt(m, shift(m, variance)))
    return cast(m, mul(m, weight, x), dtype)


def float_norm(m: Machine, x: Tensor, weight: Tensor) -> Tensor:
    """Return Nemotron-H's and Helium's norm: (weight.float() * normed float32).to(x.dtype)."""
    return x if absent(weight) else wide_norm(m, x, cast(m, weight, FLOAT32))


def cohere_norm(m: Machine, x: Tensor, weight: Tensor) -> Tensor:
    """Return Cohere's norm: a layer norm written out, in float32."""
    if absent(weight):
        return x
    dtype = x.dtype
    x = cast(m, x, FLOAT32)
    middle = mean(m, x)
    variance = mean(m, power(m, sub(m, x, middle)))
    x = mul(m, sub(m, x, middle), rsqrt(m, shift(m, variance)))
    x = mul(m, cast(m, weight, FLOAT32), x)
    return cast(m, x, dtype)


def normalize(m: Machine, x: Tensor) -> Tensor:
    """Return F.normalize: x over its norm, clamped from below; norms save their input and result.
    Autocast has the result in float32, and does not cast the input."""
    norm = m.new((*x.shape[:-1], 1), x.dtype if m.autocast is None else FLOAT32)
    made_like(m, x, norm, x, norm.detach())
    return mul(m, x, clamped(m, norm))
