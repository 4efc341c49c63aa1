"""LitGPT's GPT: one class for every family, its LoRA, a head and a loss in chunks of 128 tokens.

    attention   queries, keys and values from one linear, turned, joined again before the kernel
    LoRA        beside the one linear of queries, keys and values: zeros in the place of what has no
                adapter; in the base's dtype
    full        fine-tuning of all weights has the head at once, and the loss of 128 rows at a time
    outputs     Fabric casts them to float32; the loop holds them until the next forward has run,
                and the loss with its graph until there is another

The class in memory is built by training/litgpt.py.
Source: litgpt model.py, lora.py (GPT.forward, LoRALinear, LoRAQKVLinear), utils.py
(chunked_cross_entropy), finetune/{lora,full}.py, pretrain.py of April 2024 (5895df10) and September
2024 (00af8b0d, 0.4.13); lightning fabric/plugins/precision/{half,bitsandbytes}.py (convert_output).
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.base.records import frozen_record
from weighbridge.models.arch.model_types import facts
from weighbridge.training.forward.losses import cross_entropy
from weighbridge.training.forward.machine import Grads, Machine, Needs, lower, record, remade
from weighbridge.training.forward.modules import Module, Wrap
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.norms import layer_norm
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    dropout,
    mean,
    mul,
    of_input,
    of_result,
    rsqrt,
    scale,
    shift,
)
from weighbridge.training.forward.ops.shaping import copied, cut, embedding, join, split
from weighbridge.training.forward.parts.attention import attended, heads, window
from weighbridge.training.forward.parts.layer import run
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, LeafTensor, Shape, Tensor

CHUNK = 128  # tokens per product with the head
LATER = (0, 4)  # f84b610, May 2024: zeros are filled in place
WIDE_NORMS = (0, 4, 6)  # 916a84c, July 2024: norm weights are in float32


def layout(model_type: str) -> str:
    """Return LitGPT's layer layout of a model type: `usual`, `parallel` (attention beside MLP) or
    `unit_norms` (Gemma); "" if it has none."""
    return facts(model_type).training.litgpt


def forward(s: TrainingStep) -> Tensor:
    """Return the hidden states of GPT.forward, before the head."""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    x = embedding(m, ids, built.base.weight("wte"))
    if layout(built.kind) == "unit_norms":
        x = scale(m, x)
    cos, sin = built.buffers[:2]
    for i, p in enumerate(built.layers):
        x = run(s, block, x, p, i, (cos, sin))
    return norm(s, x, built.base, "ln_f")


def norm(s: TrainingStep, x: Tensor, p: Module, name: str) -> Tensor:
    m, w, bias = s.m, p.weight(name), p.bias(name)
    if bias is not None:
        return layer_norm(m, x, w, bias)
    dtype = x.dtype
    x = cast(m, x, FLOAT32)
    norm_x = mean(m, mul(m, x, x))
    x_normed = mul(m, x, rsqrt(m, shift(m, norm_x)))
    unit = layout(s.built.kind) == "unit_norms"
    if newer(s.release, WIDE_NORMS):
        weight = cast(m, shift(m, w) if unit else w, FLOAT32)
        return cast(m, mul(m, x_normed, weight), dtype)
    x_normed = cast(m, x_normed, dtype)
    return mul(m, x_normed, shift(m, w) if unit else w)


def newer(release: tuple[int, ...] | None, other: tuple[int, ...]) -> bool:
    """Return whether a release is not older than `other`; "0.4" counts as the last 0.4.x, and None
    as the newest of all."""
    return release is None or release >= other[: len(release)]


def block(
    x: Tensor, s: TrainingStep, p: Module, number: int, positions: tuple[Tensor, Tensor]
) -> Tensor:
    """Block.forward"""
    m = s.m
    x_normed = norm(s, x, p, "norm_1")
    attention_output = attention(s, p.at("attn"), x_normed, number, positions)
    if p.has("post_attention_norm"):
        attention_output = norm(s, attention_output, p, "post_attention_norm")
    if layout(s.built.kind) == "parallel":
        x_normed = norm(s, x, p, "norm_2") if p.has("norm_2") else x_normed
        return add(m, add(m, mlp(s, p.at("mlp"), x_normed), attention_output), x)
    x = add(m, attention_output, x)
    out = mlp(s, p.at("mlp"), norm(s, x, p, "norm_2"))
    if p.has("post_mlp_norm"):
        out = norm(s, out, p, "post_mlp_norm")
    return add(m, out, x)


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: tuple[Tensor, Tensor]
) -> Tensor:
    """CausalSelfAttention.forward"""
    m, h = s.m, heads(s, number)
    cos, sin = positions
    qkv = p.linear(m, x, "attn")
    wide, narrow = h.heads * h.key_dim, h.kv_heads * h.key_dim
    q, k, v = split(m, qkv, (wide, narrow, narrow))
    some = 1 < h.kv_heads < h.heads
    whole = (h.batch, h.heads, h.length, h.key_dim)
    q = copied(m, q).view(*whole) if some else q.view(*whole)
    k, v = (_expanded(m, t, whole, copy=some, few=h.groups > 1) for t in (k, v))
    q_roped = rope(m, _first(m, q, cos), cos, sin)
    k_roped = rope(m, _first(m, k, cos), cos, sin)
    unturned = h.key_dim - cos.shape[-1]
    q = join(m, q_roped, cut(m, q, unturned))
    k = join(m, k_roped, cut(m, k, unturned))
    y = attended_(s, q, k, v, h.repeated, number)
    return p.linear(m, y.view(h.batch, h.length, wide), "proj")


def _expanded(m: Machine, x: Tensor, whole: Shape, *, copy: bool, few: bool) -> Tensor:
    """Return keys or values for every query head: a view of a single KV head, a copy of several."""
    if not few:
        return x.view(*whole)
    return remade(m, x, m.new(whole, x.dtype) if copy else Computed(whole, x.dtype, x.storage))


def _first(m: Machine, x: Tensor, cos: Tensor) -> Tensor:
    """Return x[..., :n], n the width of `cos`; `x` itself if it has that width."""
    return x if x.shape[-1] == cos.shape[-1] else cut(m, x, cos.shape[-1])


def rope(m: Machine, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """apply_rope"""
    half = x.shape[-1] // 2
    x1 = cut(m, x, half)
    x2 = cut(m, x, half)
    rotated = join(m, scale(m, x2), x1)
    roped = add(m, mul(m, x, cos), mul(m, rotated, sin))
    return cast(m, roped, x.dtype)


def attended_(
    s: TrainingStep, q: Tensor, k: Tensor, v: Tensor, heads: AttentionHeads, number: int
) -> Tensor:
    """Return scaled_dot_product_attention; if scores are capped, attention is written out."""
    m = s.m
    capped = bool(s.built.config.get("attn_logit_softcapping"))
    reach = window(s, number)
    if not capped:
        return attended(s, q, k, v, heads, first=True)[0]
    mask = m.new((heads.length, heads.length), q.dtype) if reach is not None else None
    scores = scale(m, product(m, q, k, heads.scores))
    scores = scale(m, of_result(m, scale(m, scores)))
    if mask is None:
        mask = m.new((heads.length, heads.length), q.dtype)
    scores = add(m, scores, mask.view(1, 1, *mask.shape))
    scores = cast(m, of_result(m, cast(m, scores, FLOAT32)), q.dtype)
    y = product(m, scores, v, q.shape)
    return copied(m, y)


def product(m: Machine, a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    """Return `a @ b`, of `shape`, heads by heads; an expanded view is copied first."""
    a, b = lower(m, a), lower(m, b)
    out = m.new(shape, a.dtype)
    m.product()
    left, right = a.shape, b.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        m.product()
        dtype = grads[0].dtype
        return [m.new(left, dtype) if needs[0] else None, m.new(right, dtype) if needs[1] else None]

    record(m, back, [a, b], [a, b], out)
    return out


def mlp(s: TrainingStep, p: Module, x: Tensor) -> Tensor:
    m = s.m
    if p.has("fc"):
        x = p.linear(m, x, "fc")
        x = of_input(m, x)
        return p.linear(m, x, "proj")
    x_fc_1 = p.linear(m, x, "fc_1")
    x_fc_2 = p.linear(m, x, "fc_2")
    x = mul(m, of_input(m, x_fc_1), x_fc_2)
    return p.linear(m, x, "proj")


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return (loss, logits): the head runs on a chunk of tokens of every sequence at a time, then
    chunked_cross_entropy. The loop holds all logits, and the loss with its graph, until it has the
    next."""
    m, root, before = s.m, s.built.root, s.held[-1:]
    targets = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        sizes = [min(CHUNK, s.length - start) for start in range(0, s.length, CHUNK)]
        flat = hidden.view(s.batch, s.length * hidden.shape[-1])
        pieces = split(m, flat, [n * hidden.shape[-1] for n in sizes])
        rows = [x.view(s.batch, n, hidden.shape[-1]) for x, n in zip(pieces, sizes, strict=True)]
        logits = [_head(s, root, x) for x in rows]
        logits = [cast(m, x, FLOAT32) for x in logits]
        s.held = [*logits, *before]
        last = logits[-1]
        shorter = (s.batch, last.shape[1] - 1, last.shape[2])
        logits[-1] = cut(m, last.view(s.batch, last.shape[1] * last.shape[2]), _per(shorter))
        logits[-1] = logits[-1].view(*shorter)
        ends = [x if s.batch == 1 or x is not logits[-1] else copied(m, x) for x in logits]
        losses = [cross_entropy(m, x.view(x.rows, x.shape[-1]), targets) for x in ends]
        del ends
        total = losses[0]
        for one in losses[1:]:
            total = add(m, total, one)
        s.held = [*logits, total]
        return total, None


def pretraining(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return (loss, logits) of pretraining: all logits at once, cast to float32, and the loss of
    128 rows at a time."""
    return _at_once(s, hidden, tuned=False)


def tuning(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return (loss, logits) of full fine-tuning: as `pretraining`, of all tokens but the last,
    without a chunked head."""
    return _at_once(s, hidden, tuned=True)


def _at_once(s: TrainingStep, hidden: Tensor, *, tuned: bool) -> tuple[Tensor, Tensor | None]:
    m = s.m
    targets = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        logits = cast(m, _head(s, s.built.root, hidden), FLOAT32)
        vocab = logits.shape[-1]
        s.held = [logits]
        if tuned:
            kept = (s.batch, s.length - 1, vocab)
            logits = cut(m, logits.view(s.batch, s.length * vocab), _per(kept)).view(*kept)
            logits = copied(m, logits) if s.batch > 1 else logits
        sizes = [min(CHUNK, logits.rows - start) for start in range(0, logits.rows, CHUNK)]
        flat = logits.view(logits.numel)
        pieces = split(m, flat, [n * vocab for n in sizes])
        total: Tensor | None = None
        for piece, n in zip(pieces, sizes, strict=True):
            one = cross_entropy(m, piece.view(n, vocab), targets)
            total = one if total is None else add(m, total, one)
    assert total is not None
    return total, None


def _per(shape: Shape) -> int:
    return shape[1] * shape[2]


def _head(s: TrainingStep, root: Module, x: Tensor) -> Tensor:
    return root.linear(s.m, x, "lm_head")


# ---- adapters


class LitgptLora:
    """Replaces a linear by LoRALinear: pretrained + (dropout(x) @ A @ B) * scaling."""

    __slots__ = ("a", "b", "base", "dropped")

    def __init__(self, base: Wrap, a: LeafTensor, b: LeafTensor, dropped: float) -> None:
        self.base = base
        self.a = a
        self.b = b
        self.dropped = dropped

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        pretrained = self.base(m, x)
        lora = scale(m, linear(m, linear(m, dropout(m, x, self.dropped), self.a), self.b))
        return add(m, pretrained, lora)


@frozen_record
class LoraQkv:
    """Replaces a linear by LoRAQKVLinear: B is a grouped convolution; `rows` are the outputs with
    adapters."""

    base: Wrap
    a: LeafTensor
    b: LeafTensor
    dropped: float
    rows: list[int]
    grouped: bool  # fewer KV heads than query heads
    later: bool

    def __call__(self, m: Machine, x: Tensor) -> Tensor:
        pretrained = self.base(m, x)
        after_a = linear(m, dropout(m, x, self.dropped), self.a)
        after_b = self._convolved(m, after_a)
        lora = self._padded(m, after_b, pretrained.shape[-1])
        if self.later and len(self.rows) < 3:
            lora = scale(m, lora)
        return add(m, pretrained, lora)

    def _convolved(self, m: Machine, x: Tensor) -> Tensor:
        """Return x times B: queries, keys and values of equal width at once, else one after the
        other and concatenated."""
        if not self.grouped:
            return convolution(m, x, self.b, sum(self.rows))
        count, rank = len(self.rows), x.shape[-1] // len(self.rows)
        parts = split(m, x, [rank] * count)
        weights = split(m, Computed((rank, self.b.shape[0]), x.dtype, self.b.storage), self.rows)
        del weights
        parts_out = [
            convolution(m, part, self.b, n) for part, n in zip(parts, self.rows, strict=True)
        ]
        return join(m, *parts_out)

    def _padded(self, m: Machine, x: Tensor, outside: int) -> Tensor:
        """Return zero_pad(x) * scaling, as this release of litgpt computes it."""
        if len(self.rows) == 3:
            return scale(m, x)
        if self.later:
            return filled(m, x, outside)
        result = m.new((*x.shape[:-1], outside), x.dtype)
        wide = filled(m, copied(m, x) if x.shape[0] > 1 else x, outside)
        del result
        return scale(m, wide)


def convolution(m: Machine, x: Tensor, weight: LeafTensor, outside: int) -> Tensor:
    """Return conv1d over tokens with a width of one. Channels come before tokens: cuDNN needs its
    input contiguous, and in backward the gradient."""
    out = m.new((*x.shape[:-1], outside), x.dtype)
    m.hidden(x.nbytes)
    reads, holds = x.shape, weight.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        dtype = grads[0].dtype
        piece = m.new(grads[0].shape, dtype)
        of_input = m.new(reads, dtype) if needs[0] else None
        of_weight = m.new(holds, dtype)
        del piece
        return [of_input, of_weight]

    record(m, back, [x, weight], [x, weight], out)
    return out


def filled(m: Machine, x: Tensor, outside: int) -> Tensor:
    """Return zeros of width `outside` after index_copy of `x`. `x` is saved only for its shape (its
    formula has expand_as); its gradient is picked by index."""
    out = m.new((*x.shape[:-1], outside), x.dtype)
    index = m.new((x.shape[-1],), INT64)
    before = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(before, grads[0].dtype)]

    record(m, back, [x], [index, x], out)
    return out
