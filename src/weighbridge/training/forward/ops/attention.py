"""Kernels of attention, forward and backward.

    flash       saves q, k, v, the output and a float32 per row and head
    efficient   saves that, and the mask as it is added
    cudnn       the same
    math        torch written out: float32 for half types, scores, mask, softmax
    eager       transformers written out: scores, softmax in float32, its copy, dropout

Letters: B batch, H heads, M queries, N keys, D head dimension. In memory tokens come before heads;
matrix products need heads first, and copy tensors that are not so if B > 1. Accumulators of
kernels, in addition to their outputs, are in kernels/attention.py.

Source: torch aten/src/ATen/native/transformers/{attention.cpp, cuda/attention_backward.cu,
cuda/flash_attn/flash_api.cpp, cuda/mem_eff_attention/kernel_backward.h}, native/SoftMax.cpp
(_safe_softmax); transformers integrations/sdpa_attention.py, models/llama/modeling_llama.py.
"""

from math import prod
from typing import Any

from weighbridge.base.dtypes import BFLOAT16, BOOL, FLOAT32, INT64, DType
from weighbridge.base.records import NamedTuple, frozen_record, replace
from weighbridge.base.units import align_up
from weighbridge.machines.kernels import attention as kernels
from weighbridge.training.forward.machine import Grads, Machine, Needs, lower, record, remade
from weighbridge.training.forward.ops.biases import with_sink
from weighbridge.training.forward.ops.matrix import matmul
from weighbridge.training.forward.ops.pointwise import (
    add,
    add_,
    cast,
    dropout,
    of_result,
    scale,
    softmax,
)
from weighbridge.training.forward.ops.shaping import copied, expand, repeat, turned
from weighbridge.training.forward.tensors import Computed, Shape, Tensor, TensorSlice

LOADED = 16  # elements of a mask that the efficient kernel loads at once


@frozen_record
class AttentionHeads:
    """Sizes of q [batch, length, heads, key_dim], k [batch, seen, kv_heads, key_dim] and v."""

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
    def repeated(self) -> "AttentionHeads":
        """Return the sizes with KV heads repeated for every query head."""
        return replace(self, kv_heads=self.heads)

    @property
    def queries(self) -> Shape:
        return self.batch, self.length, self.heads, self.key_dim

    @property
    def keys(self) -> Shape:
        return self.batch, self.length, self.kv_heads, self.key_dim

    @property
    def values(self) -> Shape:
        return self.batch, self.length, self.kv_heads, self.value_dim

    @property
    def outputs(self) -> Shape:
        return self.batch, self.length, self.heads, self.value_dim

    @property
    def joined(self) -> Shape:
        """Return the shape [batch, length, heads x value_dim] of all heads' outputs,
        concatenated."""
        return self.batch, self.length, self.heads * self.value_dim

    def shape(self, dtype: DType) -> kernels.KernelShape:
        """Return these sizes in the form that kernel rules take, for elements in `dtype`."""
        return kernels.KernelShape(
            batch=self.batch,
            heads=self.heads,
            kv_heads=self.kv_heads,
            queries=self.length,
            keys=self.seen,
            key_dim=self.key_dim,
            value_dim=self.value_dim,
            itemsize=dtype.nbytes,
            bfloat16=dtype == BFLOAT16,
        )

    @property
    def scores(self) -> tuple[int, int, int, int]:
        return self.batch, self.heads, self.length, self.seen


class FusedCall(NamedTuple):
    """The facts that decide which fused kernel a GPU uses."""

    call: kernels.AttentionCall
    torch: kernels.Version


@frozen_record
class AttentionOptions:
    """Variants of attention. `mask` [batch, 1, length, seen], bool or additive; `p` of dropout.

    first   queries and keys have heads before tokens in memory, as a join gives them
    views   queries and keys are outputs of linears, with nothing in between
    wide    eager's softmax is in float32
    own     eager's weights keep the dtype of the softmax
    cap     scores are capped: cap * tanh(scores / cap)
    sinks   one element per head that is added to the scores
    shared  one head of keys and values is broadcast to all by the products
    cached  keys and values have heads before tokens in memory, as a cache has
    asked   what decides the fused kernel, if the card chooses
    """

    mask: Tensor | None = None
    p: float = 0.0
    causal: bool = True
    cap: bool = False
    views: bool = False
    wide: bool = True
    own: bool = False
    first: bool = False
    sinks: Tensor | None = None
    shared: bool = False
    cached: bool = False
    asked: FusedCall | None = None


USUAL = AttentionOptions()


def flash(
    m: Machine,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: AttentionHeads,
    options: AttentionOptions = USUAL,
) -> Tensor:
    """Return torch's scaled_dot_product_attention by its flash kernel; it supports grouped heads.
    The output has the queries' layout, and is copied if heads are first."""
    first = options.first
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    real = heads.key_dim
    if real % 8:
        q, k, v = _padded(m, q, heads), _padded(m, k, heads), _padded(m, v, heads)
        heads = replace(heads, key_dim=align_up(real, 8), value_dim=align_up(real, 8))
    out = m.result("attention", heads.outputs, q.dtype)
    sums = m.result("attention", (heads.batch, heads.heads, heads.length), FLOAT32)
    state, offset = m.new((2,), INT64), m.new((), INT64)
    asked = heads.shape(q.dtype)
    m.hidden(*m.ask(kernels.flash_forward, asked, options.p))
    shapes = q.shape, k.shape, v.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = saved[0].dtype
        copy = m.new(saved[3].shape, dtype) if first or apart(grads) else None
        gradients = [m.new(shape, dtype) for shape in shapes]
        m.hidden(*m.ask(kernels.flash_backward, asked))
        del copy
        return gradients

    to_save = [q, k, v, Computed(out.shape, out.dtype, out.storage), sums, state, offset]
    record(m, back, [q, k, v], to_save, out)
    if real != heads.value_dim:
        return remade(m, out, m.new((*out.shape[:-1], real), out.dtype))
    return copied(m, out) if first else out


def apart(grads: list[Any]) -> bool:
    """Return whether an output's incoming gradient is not contiguous, so it must be copied."""
    return type(grads[0]) is TensorSlice


def _padded(m: Machine, t: Tensor, heads: AttentionHeads) -> Tensor:
    """Return `t` with its head dimension padded to a multiple of eight (sdp::pad_last_dim)."""
    return remade(m, t, m.new((*t.shape[:-1], align_up(heads.key_dim, 8)), t.dtype))


def efficient(
    m: Machine,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: AttentionHeads,
    options: AttentionOptions = USUAL,
) -> Tensor:
    """Return attention by the memory-efficient kernel; it has no grouped heads. A bool mask is cast
    to the queries' dtype."""
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    bias = _aligned(m, _added(m, options.mask, q))
    if bias is not None and bias.shape[0] < heads.batch:
        bias = expand(m, bias, heads.batch, *bias.shape[1:])
    out = m.result("attention", heads.outputs, q.dtype)
    sums = m.result("attention", (heads.batch, heads.heads, align_up(heads.length, 32)), FLOAT32)
    state, offset = m.new((), INT64), m.new((), INT64)
    asked, p = heads.shape(q.dtype), options.p
    m.hidden(*kernels.efficient_forward(asked))
    shapes, learned = (q.shape, k.shape, v.shape), bias is not None and bias.requires_grad
    whole = (*heads.scores[:3], align_up(heads.seen, LOADED))

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = saved[0].dtype
        copy = m.new(grads[0].shape, dtype) if apart(grads) else None
        gradients = [m.new(shape, dtype) for shape in shapes]
        of_bias = m.new(whole, dtype) if learned else None
        if dtype.nbytes == 4:
            m.hidden(grads[0].nbytes)  # sum(dO * O), which only half kernels compute themselves
        m.hidden(*m.sizes(kernels.efficient_backward, asked, p))
        del copy
        return [*gradients, of_bias]

    to_save = [q, k, v, bias, Computed(out.shape, out.dtype, out.storage), sums, state, offset]
    record(m, back, [q, k, v, bias], to_save, out)
    return out


def _added(m: Machine, mask: Tensor | None, q: Tensor) -> Tensor | None:
    """Return the mask in additive form, [batch or 1, ...] (convert_boolean_attn_mask); None without
    a mask."""
    if mask is None or mask.dtype != BOOL:
        return lower(m, mask) if mask is not None else None
    inverse = m.new(mask.shape, BOOL)
    bias = m.new(mask.shape, q.dtype)
    del inverse
    return bias


def _aligned(m: Machine, bias: Tensor | None) -> Tensor | None:
    """Return the additive mask with rows padded for alignment (pad_bias); backward undoes slice and
    padding by copies."""
    if bias is None or bias.shape[-1] % LOADED == 0:
        return bias
    before = bias.shape
    shape = (*before[:-1], align_up(before[-1], LOADED))
    out = m.new(shape, bias.dtype).view(*before)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        filled = m.new(shape, grads[0].dtype)
        gradient = m.new(before, grads[0].dtype)
        del filled
        return [gradient]

    record(m, back, [bias], [], out)
    return out


def cudnn(
    m: Machine,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: AttentionHeads,
    options: AttentionOptions = USUAL,
) -> Tensor:
    """Return attention by cuDNN's kernel, which supports grouped heads and masks. The output has
    the queries' layout."""
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    bias = _added(m, options.mask, q)
    out = m.result("attention", heads.outputs, q.dtype)
    sums = m.result("attention", (heads.batch, heads.heads, heads.length, 1), FLOAT32)
    state, offset = m.new((), INT64), m.new((), INT64)
    asked, shapes = heads.shape(q.dtype), (q.shape, k.shape, v.shape)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradients = [m.new(shape, saved[0].dtype) for shape in shapes]
        m.hidden(*kernels.cudnn_backward(asked))
        return gradients

    to_save = [q, k, v, bias, Computed(out.shape, out.dtype, out.storage), sums, state, offset]
    record(m, back, [q, k, v], to_save, out)
    return copied(m, out) if options.first else out


def fused(
    m: Machine, q: Tensor, k: Tensor, v: Tensor, heads: AttentionHeads, options: AttentionOptions
) -> Tensor:
    """Return attention by flash's or cuDNN's kernel, whichever the card prefers: without masks and
    with heads of a multiple of eight they differ only in bytes."""
    first, shape, asked = options.first, heads.shape, options.asked
    assert asked is not None
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    lead = heads.batch, heads.length, heads.heads
    copied_bytes = q.dtype.size(prod(lead) * heads.value_dim)
    sizes = m.sizes(kernels.fused, shape(q.dtype), asked.call, copied_bytes, torch=asked.torch)
    out = m.result("attention", (*lead, heads.value_dim), q.dtype)
    sums = m.result("attention", (heads.batch, heads.heads, heads.length), FLOAT32)
    state, offset = m.said((), INT64, sizes[0]), m.new((), INT64)
    m.hidden(*sizes[1:3])
    shapes = q.shape, k.shape, v.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        copy = m.said((), saved[0].dtype, sizes[3]) if first or apart(grads) else None
        gradients = [m.new(shape, saved[0].dtype) for shape in shapes]
        m.hidden(*sizes[4:])
        del copy
        return gradients

    to_save = [q, k, v, Computed(out.shape, out.dtype, out.storage), sums, state, offset]
    record(m, back, [q, k, v], to_save, out)
    return copied(m, out) if first else out


def math(
    m: Machine,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: AttentionHeads,
    options: AttentionOptions = USUAL,
) -> Tensor:
    """Return attention by _scaled_dot_product_attention_math; autocast casts only its arguments."""
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    with m.casting(None):
        return _math(m, q, k, v, heads, options)


def _math(
    m: Machine, q: Tensor, k: Tensor, v: Tensor, heads: AttentionHeads, options: AttentionOptions
) -> Tensor:
    bias, dtype = _added(m, options.mask, q), q.dtype
    wide_q, wide_k, wide_v = cast(m, q, FLOAT32), cast(m, k, FLOAT32), cast(m, v, FLOAT32)
    scaled = scale(m, wide_q)
    if bias is None and options.causal:
        bias = _triangle(m, heads)
    keys, values = wide_k, wide_v
    if not options.shared:
        keys, values = (
            _spread(m, wide_k, heads, heads.key_dim),
            _spread(m, wide_v, heads, heads.value_dim),
        )
    soft = _scores(m, scaled, keys, heads, bias, options)
    soft = dropout(m, soft, options.p)
    weights = cast(m, soft.detach(), dtype)  # returned with the output, and dropped
    if options.shared:
        values = _spread(m, wide_v, heads, heads.value_dim)
    out = cast(m, product(m, soft, values, heads, options, columns=heads.value_dim), dtype)
    del scaled, wide_q, wide_k, wide_v, keys, values, bias, soft, weights
    return contiguous(m, out, heads)


def _scores(
    m: Machine,
    q: Tensor,
    k: Tensor,
    heads: AttentionHeads,
    bias: Tensor | None,
    options: AttentionOptions,
) -> Tensor:
    keys = scale(m, k)
    if options.shared:
        keys = _spread(m, keys, heads, heads.key_dim)
    scores = product(m, q, keys, heads, options)
    del keys
    if bias is not None:
        scores = add_(m, scores, bias)
    return _safe_softmax(m, scores)


def _triangle(m: Machine, heads: AttentionHeads) -> Tensor:
    """Return the additive causal mask of one sequence, [1, 1, length, seen]: ones, tril, then
    float32."""
    shape = heads.length, heads.seen
    ones = m.new(shape, BOOL)
    lower_half = m.new(shape, BOOL)
    del ones
    bias = m.new(shape, FLOAT32)
    del lower_half
    return bias.view(1, 1, *shape)


def _safe_softmax(m: Machine, x: Tensor) -> Tensor:
    """Return the softmax; rows of -inf become zeros in place, found by a byte per element."""
    out = of_result(m, x)
    m.hidden(x.numel, x.rows)
    return out


def eager(
    m: Machine,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: AttentionHeads,
    options: AttentionOptions = USUAL,
) -> tuple[Tensor, Tensor]:
    """Return (output of eager_attention_forward, weights). The output is softmax(q k^T * scale +
    mask, float32).to(q.dtype) @ v, with repeated keys and values; the layer holds the weights until
    it returns."""
    key_states, value_states = (
        _spread(m, k, heads, heads.key_dim),
        _spread(m, v, heads, heads.value_dim),
    )
    weights = scale(m, product(m, q, key_states, heads, options))
    if options.cap:
        weights = scale(m, weights)
        weights = of_result(m, weights)
        weights = scale(m, weights)
    if options.mask is not None:
        weights = add(m, weights, options.mask)
    if options.sinks is not None:
        probs, _combined = with_sink(m, weights, options.sinks)  # both are held to the end
        weights = cast(m, probs, v.dtype)
    elif options.wide:
        weights = cast(m, softmax(m, cast(m, weights, FLOAT32)), q.dtype)
    else:
        weights = own_softmax(m, weights)
        if not options.own:
            weights = cast(m, weights, v.dtype)
    weights = dropout(m, weights, options.p)
    out = product(m, weights, value_states, heads, options, columns=heads.value_dim)
    out = contiguous(m, out, heads)
    return out, weights


def own_softmax(m: Machine, x: Tensor) -> Tensor:
    """Return the softmax in the dtype of `x`; autocast runs it in float32."""
    return softmax(m, x if m.autocast is None else cast(m, x, FLOAT32))


def product(
    m: Machine,
    a: Tensor,
    b: Tensor,
    heads: AttentionHeads,
    options: AttentionOptions = USUAL,
    *,
    columns: int = 0,
) -> Tensor:
    """Return q k^T, or with `columns` attention weights times values. torch.matmul copies tensors
    of several sequences unless heads come before tokens."""
    a, b, first = lower(m, a), lower(m, b), options.first
    if heads.groups == 1 and not options.cached and (columns or not first):
        b = _before(m, b, heads)
    if columns:
        out = matmul(m, a, b, columns)
        return turned(m, out) if heads.batch > 1 else out
    return matmul(m, a if first else _before(m, a, heads), b, heads.seen).view(*heads.scores)


def _before(m: Machine, x: Tensor, heads: AttentionHeads) -> Tensor:
    """Return `x` with heads before tokens: a view of one sequence, a copy of several."""
    shape = x.shape[0], x.shape[2], x.shape[1], x.shape[3]
    return (copied(m, x) if heads.batch > 1 else x).view(*shape)


def _spread(m: Machine, x: Tensor, heads: AttentionHeads, width: int) -> Tensor:
    """Return keys or values repeated for every query head (repeat_kv), heads before tokens; a view
    for one head of one sequence. The gradient has another order."""
    if heads.groups == 1:
        return x
    if heads.kv_heads == 1 and heads.batch == 1:
        return expand(m, x, heads.batch, heads.heads, heads.seen, width)
    return repeat(m, x, heads.groups, (heads.batch, heads.heads, heads.seen, width))


def contiguous(m: Machine, out: Tensor, heads: AttentionHeads) -> Tensor:
    """Return transpose(1, 2).contiguous() of attention's output: tokens before heads."""
    return copied(m, out).view(*heads.outputs)
