"""torchtitan: Llama's layers as torchtune has them, with sdpa, those of Qwen3 and DeepSeek-V3 with
experts; its losses, by date.

    2025-03-19 on    norms are torch's own (3b39d7ab), one kernel since torch 2.9
    2026-01-27 on    keys and values are not copied for all heads (ff0829c1)
    2026-06-05 on    each layer has its own buffer of positions; Qwen3 turns by cosines and sines in
                     float32, and keeps no casts (02d24f01)

Llama 4: pairs of numbers turn as complex ones; from 2026-02-23 flex attention in blocks, and none
of every fourth layer's turn (9810191b); no class from 2026-06-08 on (d92336fe).

    to April 2025    all logits, and float32 of them; pred lives until the loss is there
    2025-04-02 on    the same, and with --compile the cast is in the loss's kernel (bbb1b616)
    2026-04-27 on    eight chunks of the sequence: of each the head, the loss and its backward at
                     once; the gradient of the hidden states is summed in float32 (786e26f8)

Tensor ranks share the tokens between their layers, and the outputs of the loss (loss_parallel).
Source: torchtitan 0.2.2 models/{qwen3,deepseek_v3,llama4}/model/model.py; models/llama/model.py
(Attention, TransformerBlock), train.py (loss_fn) of December 2024 (9dec370); components/loss.py
(ChunkedLossWrapper, GradAccumulator) of August 2026 (b5bcd76).
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT64, DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.base.versions import since
from weighbridge.models.arch.body import Experts
from weighbridge.models.arch.mixers import Latent
from weighbridge.models.arch.model_types import facts
from weighbridge.training.forward.losses import cross_entropy, head, in_forward, weight_of
from weighbridge.training.forward.machine import Grads, Machine, Needs, lower, passed, record
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import titan_gpt_oss, torchtune
from weighbridge.training.forward.nets.latent import filled, heads_of
from weighbridge.training.forward.nets.titan_experts import LLAMA4, QWEN, mixture
from weighbridge.training.forward.nets.torchtune import (
    CHUNKS,
    Kernel,
    OwnLayers,
    compiled_loss,
    decoded,
    feed_forward,
    fused_norm,
    rope,
    sequence_cut,
    small,
    whole,
)
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.pointwise import add, cast
from weighbridge.training.forward.ops.shaping import join, repeat, split, turned
from weighbridge.training.forward.parts.attention import attend, heads
from weighbridge.training.forward.parts.moe import experts_of
from weighbridge.training.forward.parts.rotary import complex_rotated
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, Tensor

NATIVE, COMPILES = (2025, 3, 19), (2025, 4, 2)
SHARES, CHUNKED = (2026, 1, 27), (2026, 4, 27)
WIDE = (2026, 6, 5)
FLEX, GONE = (2026, 2, 23), (2026, 6, 8)  # dates of Llama 4's flex attention, and of its removal
UNTURNED = 4  # every fourth layer of Llama 4 has no positions since it has flex attention
FUSED = (2, 9)  # torch


def forward(s: TrainingStep) -> Tensor:
    """Return the hidden states of Transformer.forward, before the head."""
    own = (
        None
        if s.compiled
        and not any(isinstance(f, Experts) for b in s.built.body.blocks for f in b.feeds)
        else layer
    )
    if _is_llama4(s) and since(s.release, GONE):
        raise UnsupportedError(sentence("torchtitan_gone", kind=s.built.kind))
    latent = latent_of(s, 0)
    width = heads(s, 0).key_dim if latent is None else latent.rotary
    if not s.built.kept:
        _positions(s, width)
    return decoded(s, _sdpa, OwnLayers(own, norm, 2 if _is_gpt_oss(s) else width))


def _is_gpt_oss(s: TrainingStep) -> bool:
    """Return whether the class is gpt-oss, whose position buffer all layers share."""
    return facts(s.built.kind).training.titan_experts == "with_sinks"


def _is_llama4(s: TrainingStep) -> bool:
    """Return whether the class is Llama 4."""
    return facts(s.built.kind).training.titan_experts == "weighed_first"


def _positions(s: TrainingStep, width: int) -> None:
    """Allocate each layer's buffer of positions, or the one that gpt-oss's layers share: complex
    numbers, or for Qwen3 and gpt-oss cosines and sines of the whole width. `decoded` makes another,
    which stands for none."""
    m, built = s.m, s.built
    each, sinks = since(s.release, WIDE), _is_gpt_oss(s)
    with m.making("buffers"):
        for i, p in enumerate(built.layers):
            both = 2 if sinks or p.has("self_attn.q_norm") else 1
            if each or (sinks and i == 0):
                built.kept[i] = m.new((s.length, both * width), FLOAT32)


def layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, cache: Tensor, kernel: Kernel
) -> Tensor:
    """TransformerBlock.forward"""
    mixed, fed = small(p.at("self_attn"), "o_proj"), small(_feeds(s, p), "down_proj")
    h = add(s.m, x, sequence_cut(s, _attended(s, p, x, number, (cache, kernel)), mixed))
    return add(s.m, h, sequence_cut(s, _fed(s, p, h, number), fed))


def _feeds(s: TrainingStep, p: Module) -> Module:
    return p.at("feed_forward" if _is_llama4(s) else "mlp")


def _attended(
    s: TrainingStep, p: Module, x: Tensor, number: int, how: tuple[Tensor, Kernel]
) -> Tensor:
    normed = whole(s, norm(s, x, p, "input_layernorm"), small(p.at("self_attn"), "q_proj"))
    if _is_gpt_oss(s):
        mixes = titan_gpt_oss.attention
    else:
        mixes = attention if latent_of(s, number) is None else latent_attention
    return mixes(s, p.at("self_attn"), normed, number, *how)


def _fed(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    inner = _feeds(s, p)
    normed = norm(s, x, p, "post_attention_layernorm")
    normed, experts = whole(s, normed, small(inner, "gate_proj")), experts_of(s, number)
    if experts is None:
        return feed_forward(s.m, inner, normed)
    return mixture(s, inner, normed, experts, FORMS[facts(s.built.kind).training.titan_experts])


FORMS = {"usual": QWEN, "with_sinks": titan_gpt_oss.GPT_OSS, "weighed_first": LLAMA4}


def norm(s: TrainingStep, x: Tensor, p: Module, name: str) -> Tensor:
    if since(s.release, NATIVE) and s.torch >= FUSED:
        return fused_norm(s.m, x, p.weight(name))
    return torchtune.norm(s.m, x, p, name)


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, cache: Tensor, kernel: Kernel
) -> Tensor:
    """Return Attention.forward; Qwen3 normalizes queries and keys."""
    m, h = s.m, heads(s, number)
    q, k, v = (p.linear(m, x, name) for name in ("q_proj", "k_proj", "v_proj"))
    q = q.view(*h.queries)
    k = k.view(*h.keys)
    v = v.view(*h.values)
    if p.has("q_norm"):
        q, k = norm(s, q, p, "q_norm"), norm(s, k, p, "k_norm")
        q = q if since(s.release, WIDE) else _low(m, q)
    if not _is_llama4(s):
        q, k, v = turned(m, rope(m, q, cache)), turned(m, rope(m, k, cache)), turned(m, v)
    else:
        if number % UNTURNED or not since(s.release, FLEX):
            q, k = complex_rotated(m, q, k, cache)
        q, k, v = turned(m, q), turned(m, k), turned(m, v)
    if h.groups > 1 and not since(s.release, SHARES):
        for_all = (h.batch, h.heads, h.length, h.key_dim)
        k, v = repeat(m, k, h.groups, for_all), repeat(m, v, h.groups, for_all)
        h = h.repeated
    output = kernel(s, q, k, v, h)
    return p.linear(m, output.view(*h.joined), "o_proj")


def _low(m: Machine, q: Tensor) -> Tensor:
    """Return the queries; saves a layer's cosines and sines, cast to the dtype of queries."""
    casts = [m.new((q.shape[1], q.shape[3]), q.dtype) for _ in ("cos", "sin")]
    return passed(m, q, Computed(q.shape, q.dtype, q.storage), *casts)


def latent_of(s: TrainingStep, number: int) -> Latent | None:
    mixers = s.built.body.blocks[number].mixers
    return next((x for x in mixers if isinstance(x, Latent)), None)


def latent_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, cache: Tensor, kernel: Kernel
) -> Tensor:
    """Return DeepSeek-V3's Attention.forward, with positions as complex numbers."""
    m, a, lead = s.m, latent_of(s, number), (s.batch, s.length)
    assert a is not None
    if p.has("q_a_proj"):
        q = p.linear(m, norm(s, p.linear(m, x, "q_a_proj"), p, "q_a_layernorm"), "q_b_proj")
    else:
        q = p.linear(m, x, "q_proj")
    q_nope, q_pe = split(m, q.view(*lead, a.heads, a.nope + a.rotary), (a.nope, a.rotary))
    kv, k_pe = split(m, p.linear(m, x, "kv_a_proj_with_mqa"), (a.rank, a.rotary))
    q_pe, k_pe = complex_rotated(m, q_pe, k_pe.view(*lead, 1, a.rotary), cache)
    q = join(m, q_nope, q_pe)
    kv = p.linear(m, norm(s, kv, p, "kv_a_layernorm"), "kv_b_proj")
    k_nope, v = split(m, kv.view(*lead, a.heads, a.nope + a.value_dim), (a.nope, a.value_dim))
    k = filled(m, k_nope, k_pe, a)
    h = heads_of(s, a)
    output = kernel(s, turned(m, q), turned(m, k), turned(m, v), h)
    return p.linear(m, output.view(*lead, a.heads * a.value_dim), "o_proj")


def _sdpa(s: TrainingStep, q: Tensor, k: Tensor, v: Tensor, heads: AttentionHeads) -> Tensor:
    if _is_llama4(s) and since(s.release, FLEX):
        return titan_gpt_oss.flex(s.m, q, k, v, heads, told=False)[0]
    return attend(s, q, k, v, heads)


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    if since(s.release, CHUNKED):
        return _chunks(s, hidden), None
    m = s.m
    labels = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        pred = head(s, whole(s, hidden))
        if s.compiled and since(s.release, COMPILES):
            out = compiled_loss(m, pred, labels)
        else:
            entropy = loss_parallel if s.token_ranks > 1 else cross_entropy
            out = entropy(m, cast(m, pred, FLOAT32), labels)
        s.outputs.append(pred.detach())  # which a pipeline may keep
        del pred
    return out, None


def loss_parallel(m: Machine, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of a rank's shard of the outputs. Backward allocates a sum and a
    product of the softmax and the subtrahend at the labels, each a separate tensor (torch
    distributed/tensor/parallel/loss.py, _log_softmax, _nll_loss_and_log_softmax_backward)."""
    shape = logits.shape
    shifted = m.new(shape, FLOAT32)
    m.hidden(shifted.nbytes)
    soft, loss = m.new(shape, FLOAT32), m.new((), FLOAT32)
    del shifted

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        less, exp = m.new(shape, FLOAT32), m.new(shape, FLOAT32)
        summed = m.new(shape, FLOAT32)
        del exp
        gradient = m.new(shape, FLOAT32)
        del less, summed
        return [gradient]

    record(m, back, [logits], [soft, labels], loss)
    return loss


def _chunks(s: TrainingStep, hidden: Tensor) -> Tensor:
    """Return the loss by chunks, of which one is run, as all are alike. The head's gradient is
    summed in float32, too."""
    m, weight = s.m, weight_of(s)
    hidden, used = lower(m, hidden), lower(m, weight)
    rows = s.batch * ceil_div(s.length, CHUNKS)
    first = second = None
    with m.making("logits"):
        m.new((s.batch, s.length), INT64)
        summed = m.new(hidden.shape, FLOAT32) if m.grad else None
        if m.grad and weight.trainable:
            second = m.new(weight.shape, FLOAT32)
        if s.token_ranks > 1:  # the chunk's states, gathered from all ranks
            m.hidden(hidden.dtype.size(rows * hidden.shape[-1]))
        grad = _chunk(s, (rows, weight.shape[0]), hidden.dtype)
        if m.grad:
            parts = [m.new((rows, hidden.shape[-1]), hidden.dtype)]
            if second is not None:
                parts.append(m.new(used.shape, used.dtype))
            del parts
            first = m.new(hidden.shape, hidden.dtype)
        del grad, summed
        total = m.new((), FLOAT32)
    return in_forward(m, (hidden, weight), (first, second), total)


def _chunk(s: TrainingStep, shape: tuple[int, int], dtype: DType) -> Tensor:
    """Return the gradient of a chunk's logits. A compiled loss makes only the logits and this;
    otherwise also float32 logits, their log_softmax and its gradient."""
    m = s.m
    logits = m.new(shape, dtype)
    m.product()
    if not s.compiled:
        copies = m.new(shape, FLOAT32), m.new(shape, FLOAT32)
        out = m.new(shape, FLOAT32)
        del copies, out
    grad = m.new(shape, dtype)
    del logits
    return grad
