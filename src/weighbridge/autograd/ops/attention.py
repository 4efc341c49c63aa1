"""Kernels of attention, forward and backward.

    flash       saves q, k, v, the output and a float32 a row and head
                backward: float32 sums a row, dq in float32, keys and values for all query heads
    efficient   the same saved; sums, and dq in float32 where blocks do not hold it
    eager       written out: scores, softmax in float32, its copy, dropout

Source: torch aten/src/ATen/native/transformers/cuda/{flash_attn/flash_api.cpp,
attention_backward.cu}; transformers integrations/sdpa_attention.py.
"""

from dataclasses import dataclass, replace
from typing import Any

from weighbridge.autograd.machine import Grads, Machine, Needs, lower, record
from weighbridge.autograd.ops.matrix import matmul
from weighbridge.autograd.ops.pointwise import add, cast, dropout, of_result, scale
from weighbridge.autograd.ops.shaping import repeat
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.units import ceil_div

ROWS = 128  # that flash attention's backward rounds to


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """q [batch, length, heads, key_dim], k [batch, seen, kv_heads, key_dim], v [..., value_dim]."""

    batch: int
    length: int
    seen: int
    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int

    @property
    def groups(self) -> int:
        return self.heads // self.kv_heads

    @property
    def repeated(self) -> "Heads":
        """The same with keys and values for every head."""
        return replace(self, kv_heads=self.heads)


def flash(m: Machine, q: Tensor, k: Tensor, v: Tensor, h: Heads, *, p: float = 0.0) -> Tensor:
    """torch's scaled_dot_product_attention through its flash kernel; it knows groups."""
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    out = m.new((h.batch, h.length, h.heads, h.value_dim), q.dtype)
    sums = m.new((h.batch, h.heads, h.length), FLOAT32)
    state, offset = m.new((2,), INT64), m.new((), INT64)
    shapes = q.shape, k.shape, v.shape
    rows = ceil_div(h.length, ROWS) * ROWS
    wide = _rounded(h.key_dim)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = saved[0].dtype
        made = [m.new(shape, dtype) for shape in shapes]
        repeated = 2 * saved[1].nbytes * h.groups if h.groups > 1 else 0
        m.hidden(
            4 * h.batch * h.heads * rows,
            4 * h.batch * h.heads * rows * wide,
            *([repeated // 2] * 2 if repeated else []),
        )
        return made

    kept = [q, k, v, Tensor(out.shape, out.dtype, out.storage), sums, state, offset]
    record(m, back, [q, k, v], kept, out)
    return out


def _rounded(dim: int) -> int:
    """The head size that the kernel works with."""
    return ceil_div(dim, 32) * 32 if dim <= 192 else 256


def efficient(
    m: Machine,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    h: Heads,
    *,
    mask: Tensor | None = None,
    p: float = 0.0,
) -> Tensor:
    """The same through the memory-efficient kernel; it has no groups. A bool mask becomes one in
    the queries' dtype."""
    bias = m.new(mask.shape, q.dtype) if mask is not None else None
    out = m.new((h.batch, h.length, h.heads, h.value_dim), q.dtype)
    sums = m.new((h.batch, h.heads, ceil_div(h.length, 32) * 32), FLOAT32)
    state, offset = m.new((), INT64), m.new((), INT64)
    shapes = q.shape, k.shape, v.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = saved[0].dtype
        made = [m.new(shape, dtype) for shape in shapes]
        m.hidden(4 * h.batch * h.heads * h.length, *_workspace(h, dtype.nbytes))
        return made

    kept = [q, k, v, bias, Tensor(out.shape, out.dtype, out.storage), sums, state, offset]
    record(m, back, [q, k, v], kept, out)
    return out


def _workspace(h: Heads, size: int) -> tuple[int, ...]:
    """Gradients of queries are summed in float32 where they are in 16 bits."""
    if size == 4:
        return ()
    return (4 * h.batch * h.heads * h.length * ceil_div(h.key_dim, 64) * 64,)


def eager(
    m: Machine, q: Tensor, k: Tensor, v: Tensor, h: Heads, *, p: float = 0.0, mask: bool = True
) -> Tensor:
    """softmax(q k^T * scale + mask, float32).to(q.dtype) @ v, keys and values repeated."""
    k = repeat(m, k, h.groups, (h.batch, h.heads, h.seen, h.key_dim))
    v = repeat(m, v, h.groups, (h.batch, h.heads, h.seen, h.value_dim))
    q = q.view(h.batch, h.heads, h.length, h.key_dim)
    scores = scale(m, matmul(m, q, k, h.seen))
    if mask:
        scores = add(m, scores, Tensor((1, 1, h.length, h.seen), scores.dtype, None))
    soft = cast(m, of_result(m, cast(m, scores, FLOAT32)), q.dtype)
    soft = dropout(m, soft, p)
    return matmul(m, soft, v, h.value_dim).view(h.batch, h.length, h.heads, h.value_dim)


def math(
    m: Machine,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    h: Heads,
    *,
    mask: Tensor | None = None,
    p: float = 0.0,
) -> Tensor:
    """_scaled_dot_product_attention_math: queries and keys scaled, scores, softmax, product."""
    q, k = scale(m, q), scale(m, k)
    k = repeat(m, k, h.groups, (h.batch, h.heads, h.seen, h.key_dim))
    v = repeat(m, v, h.groups, (h.batch, h.heads, h.seen, h.value_dim))
    q = q.view(h.batch, h.heads, h.length, h.key_dim)
    scores = matmul(m, q, k, h.seen)
    soft = dropout(m, of_result(m, scores), p)
    return matmul(m, soft, v, h.value_dim).view(h.batch, h.length, h.heads, h.value_dim)
