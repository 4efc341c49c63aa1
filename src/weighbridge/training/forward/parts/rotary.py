"""Rotary positions: cosines and sines of the step's tokens, and the rotation of queries and keys.

Some classes (DeepSeek-V2, Llama 4) write positions as complex numbers, one per two elements of a
head; each is two of float32 here, and mere views are not made:

    freqs_cis    [1, length, width / 2] of 8 bytes each, in float32 whatever the model's dtype
    turned       pairs as complex numbers, times freqs_cis, which backward needs; back in 16 bits

Source: transformers 5.23 models/llama/modeling_llama.py, and as each function says;
models/deepseek_v2/modeling_deepseek_v2.py (apply_rotary_emb), models/llama4/modeling_llama4.py.
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.memory.components.weights import MERGES
from weighbridge.models.arch.model_types import differs
from weighbridge.training.forward.machine import Grads, Machine, Needs, ahead, record
from weighbridge.training.forward.ops.pointwise import add, cast, mul, scale
from weighbridge.training.forward.ops.shaping import cut, join
from weighbridge.training.forward.parts.attention import heads, window
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Shape, Tensor

Rotary = tuple[Tensor, Tensor]
INTERVAL = 4  # every INTERVALth layer is not rotated


def rotary(s: TrainingStep) -> Rotary:
    """Return (cosines, sines) of the step's tokens, computed in float32."""
    return rotary_of(s, heads(s, 0).key_dim)


def shared_rotary(s: TrainingStep) -> Rotary | None:
    """Return (cosines, sines) that all layers share; None before transformers 5, where each layer
    of such a class makes its own."""
    return None if s.transformers < (MERGES,) else rotary(s)


def rotary_of(
    s: TrainingStep, width: int, *, wide: bool = False, dtype: DType | None = None
) -> Rotary:
    """Return (cosines, sines) of LlamaRotaryEmbedding.forward, for `width` elements per head."""
    m, shape, dtype = s.m, (1, s.length, 1, width), dtype or s.dtype
    freqs = m.new((1, s.length, width // 2), FLOAT32)
    emb = m.new((1, s.length, width), FLOAT32)
    cos = angles(m, shape)
    sin = angles(m, shape)
    if wide or dtype == FLOAT32:
        return cos, sin
    lower_cos, lower_sin = m.new(shape, dtype), m.new(shape, dtype)
    del freqs, emb
    return lower_cos, lower_sin


def turned_width(s: TrainingStep, number: int = 0) -> int:
    """Return how many elements per head rotary positions rotate in layer `number`."""
    config = s.built.config
    rope = config.get("rope_parameters", "rope_scaling")
    part = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    part = part or config.get("partial_rotary_factor", "rotary_pct") or 1.0
    return int(heads(s, number).key_dim * float(part))


def has_positions(s: TrainingStep, number: int) -> bool:
    """Return whether rotary positions apply in layer `number`: SmolLM3, Llama 4 and Cohere2
    (without a window) have layers without."""
    config = s.built.config
    listed = config.get("no_rope_layers")
    if isinstance(listed, list) and len(listed) > number:
        return bool(listed[number])
    if differs(s.built.kind, "every_fourth_unrotated"):
        interval = config.num("no_rope_layer_interval", default=0) or INTERVAL
        return (number + 1) % interval != 0
    whole = differs(config.model_type, "whole_layers_unrotated")
    return not (whole and window(s, number) is None)


def angles(m: Machine, shape: Shape) -> Tensor:
    """Return emb.cos() * attention_scaling."""
    plain = m.new(shape, FLOAT32)
    scaled = m.new(shape, FLOAT32)
    del plain
    return scaled


def rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb"""
    cos, sin = positions
    q_embed = rotated_one(m, q, cos, sin)
    k_embed = rotated_one(m, k, cos, sin)
    return q_embed, k_embed


def rotated_one(m: Machine, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return (x * cos) + (rotate_half(x) * sin)."""
    return add(m, mul(m, x, cos), mul(m, half(m, x), sin))


def part_rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """Return rotated queries and keys (apply_rotary_pos_emb). Only the first elements of each head
    rotate; they are joined with the others, even if there are none."""
    cos, sin = positions
    width = cos.shape[-1]
    q_rot, q_pass = cut(m, q, width), cut(m, q, q.shape[-1] - width)
    k_rot, k_pass = cut(m, k, width), cut(m, k, k.shape[-1] - width)
    q_embed = rotated_one(m, q_rot, cos, sin)
    k_embed = rotated_one(m, k_rot, cos, sin)
    q_embed = join(m, q_embed, q_pass)
    k_embed = join(m, k_embed, k_pass)
    return q_embed, k_embed


def half(m: Machine, x: Tensor) -> Tensor:
    """rotate_half"""
    half = x.shape[-1] // 2
    x1 = cut(m, x, half)
    x2 = cut(m, x, x.shape[-1] - half)
    return join(m, scale(m, x2), x1)


def nowhere(s: TrainingStep) -> None:
    """Return None, for classes without positions."""


def part_rotary(s: TrainingStep) -> Rotary:
    """Return (cosines, sines) as wide as the part of a head that is rotated."""
    return rotary_of(s, turned_width(s))


def wide_rotary(s: TrainingStep) -> Rotary:
    """Return (cosines, sines) that stay in float32."""
    return rotary_of(s, heads(s, 0).key_dim, wide=True)


def interleaved_halves(m: Machine, positions: Rotary) -> Rotary:
    """Return a layer's own (cosines, sines), by repeat_interleave of halves."""
    cos, sin = (m.new(t.shape, t.dtype) for t in positions)
    return cos, sin


def interleaved(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """Return rotated queries and keys by Helium's apply_rotary_pos_emb."""
    return rotated(m, q, k, interleaved_halves(m, positions))


def part_interleaved(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """Return rotated queries and keys by GLM's apply_rotary_pos_emb."""
    return part_rotated(m, q, k, interleaved_halves(m, positions))


def narrowed(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """Return rotated queries and keys by OLMo's apply_rotary_pos_emb, cast back to the input's
    dtype."""
    q_type, k_type = q.dtype, k.dtype
    q_embed, k_embed = rotated(m, q, k, positions)
    return cast(m, q_embed, q_type), cast(m, k_embed, k_type)


def in_float(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """Return rotated queries and keys by Cohere's apply_rotary_pos_emb, in float32 and cast
    back."""
    dtype = q.dtype
    q, k = cast(m, q, FLOAT32), cast(m, k, FLOAT32)
    q_embed, k_embed = rotated(m, q, k, positions)
    return cast(m, q_embed, dtype), cast(m, k_embed, dtype)


def products_in_float(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """Return rotated queries and keys by ERNIE 4.5's apply_rotary_pos_emb: rotate_half runs in the
    input's dtype, products in float32."""
    dtype = q.dtype
    cos, sin = interleaved_halves(m, positions)
    q_embed = _wide_one(m, q, cos, sin)
    k_embed = _wide_one(m, k, cos, sin)
    return cast(m, q_embed, dtype), cast(m, k_embed, dtype)


def _wide_one(m: Machine, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first = mul(m, cast(m, x, FLOAT32), cos)
    return add(m, first, mul(m, cast(m, half(m, x), FLOAT32), sin))


def scaled_rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """Return rotated queries and keys of Ministral 3 (apply_rotary_pos_emb); queries are scaled by
    position (get_llama_4_attn_scale)."""
    q, k = rotated(m, q, k, positions)
    scale = m.new((1, q.shape[1], 1, 1), FLOAT32)
    return mul(m, q, cast(m, scale, q.dtype)), k


def grids(s: TrainingStep) -> Rotary:
    """Return (cosines, sines) of Qwen2_5_VLRotaryEmbedding.forward, from positions in time, height
    and width for every sequence."""
    m, width = s.m, heads(s, 0).key_dim
    half, whole = (3, s.batch, s.length, width // 2), (s.batch, s.length, 1, width)
    freqs = m.new(half, FLOAT32)
    halves = m.new(half, FLOAT32), m.new(half, FLOAT32)
    cos, sin = m.new(whole, FLOAT32), m.new(whole, FLOAT32)
    del halves
    if s.dtype == FLOAT32:
        return cos, sin
    lower = m.new(whole, s.dtype), m.new(whole, s.dtype)
    del freqs
    return lower


# Positions as complex numbers


def complex_rotary(s: TrainingStep, width: int) -> Tensor:
    """Return DeepseekV2RotaryEmbedding.forward, complex numbers; `width` elements per head are
    rotated."""
    m, shape = s.m, (1, s.length, 1, width)
    freqs = m.new((1, s.length, width // 2), FLOAT32)
    ones = m.new(freqs.shape, FLOAT32)
    freqs_cis = m.new(shape, FLOAT32)
    del ones
    scaled = m.new(shape, FLOAT32)
    del freqs, freqs_cis
    return scaled


def complex_rotated(m: Machine, q: Tensor, k: Tensor, freqs_cis: Tensor) -> tuple[Tensor, Tensor]:
    """apply_rotary_emb"""
    xq_, xk_ = cast(m, q, FLOAT32), cast(m, k, FLOAT32)
    xq_out = cast(m, times(m, xq_, freqs_cis), q.dtype)
    xk_out = cast(m, times(m, xk_, freqs_cis), k.dtype)
    return xq_out, xk_out


def times(m: Machine, x: Tensor, factors: Tensor) -> Tensor:
    """Return a complex product of `x` and `factors`; backward copies the factors' conjugates."""
    ahead(m, [x], [factors])
    out = m.new(x.shape, FLOAT32)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(grads[0].shape, FLOAT32)]

    record(m, back, [x], [factors], out)
    return out
