"""Multi-head latent attention, expanded to heads before the kernel: DeepSeek and its kin.

    LongCat-Flash    two halves of attention and feed-forward a layer, and experts beside the
                     second. Queries and keys are scaled. The experts read what the first
                     feed-forward reads, and are added at the layer's end; some do nothing to a
                     token but weigh it; all run one after the other, in transformers 5 too
    DeepSeek-V3.2    and GLM-5: an indexer picks the keys that a token sees. Scores of all keys, [B,
                     S, H, T] in float32, without gradients; keys are copied for every query where
                     there are several sequences: B S D T. Every layer has a mask of its own, [B, 1,
                     S, T], that no kernel of flash attention takes. Nothing gives the indexer's
                     weights a gradient. Kernels for sparse attention are installed apart

Source: transformers 5.23 models/deepseek_v3/modeling_deepseek_v3.py (DeepseekV3Attention),
models/deepseek_v2/modeling_deepseek_v2.py, models/deepseek_v32/modeling_deepseek_v32.py,
models/glm_moe_dsa/modeling_glm_moe_dsa.py; 5.23 and 4.57.6
models/longcat_flash/modeling_longcat_flash.py.
"""

from collections.abc import Callable
from typing import Any

from weighbridge.base.dtypes import BOOL, FLOAT32, INT32, INT64
from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.mixers import Latent
from weighbridge.models.arch.model_types import differs
from weighbridge.training.forward.machine import Grads, Machine, Needs, lower, record
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.experts import topk
from weighbridge.training.forward.ops.matrix import matmul
from weighbridge.training.forward.ops.norms import layer_norm, rms_norm
from weighbridge.training.forward.ops.pointwise import add, cast, mul, of_result, scale, sub
from weighbridge.training.forward.ops.shaping import cut, embedding, join, split
from weighbridge.training.forward.parts import moe
from weighbridge.training.forward.parts.attention import Masks, attended, mask
from weighbridge.training.forward.parts.layer import DecoderNet, Layer, mlp, normed, run
from weighbridge.training.forward.parts.moe import router
from weighbridge.training.forward.parts.rotary import (
    Rotary,
    complex_rotary,
    complex_rotated,
    rotary_of,
    rotated,
)
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Computed, Tensor


def latent_of(s: TrainingStep, number: int) -> Latent:
    return next(m for m in s.built.body.blocks[number].mixers if isinstance(m, Latent))


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """DeepseekV3Attention.forward"""
    latents = states(s, p, x, number, positions)
    return out(s, p, latents, masks[None])


class States(NamedTuple):
    """The tensors that the attention kernel takes, and those that local variables hold besides."""

    query: Tensor
    key: Tensor
    value: Tensor
    a: Latent
    small: Tensor | None  # the input of the query projection, if it is held
    held: tuple[Tensor, ...]


def states(s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary) -> States:
    m, a = s.m, latent_of(s, number)
    lead, small = (s.batch, s.length), None
    if p.has("q_a_proj"):
        small = rms_norm(m, p.linear(m, x, "q_a_proj"), p.weight("q_a_layernorm"))
        q = p.linear(m, small, "q_b_proj")
        small = small if a.indexer else None
    else:
        q = p.linear(m, x, "q_proj")
    q = q.view(*lead, a.heads, a.nope + a.rotary)
    q_pass, q_rot = split(m, q, (a.nope, a.rotary))
    compressed = p.linear(m, x, "kv_a_proj_with_mqa")
    kv, k_rot = split(m, compressed, (a.rank, a.rotary))
    kv = rms_norm(m, kv, p.weight("kv_a_layernorm"))
    k_rot = k_rot.view(*lead, 1, a.rotary)
    q_rot, k_rot = _turn(s)(m, q_rot, k_rot, positions)
    query = join(m, q_pass, q_rot)
    key, value = expanded(s, p, a, kv, k_rot)
    return States(query, key, value, a, small, (q, q_rot, compressed, kv, k_rot))


def out(
    s: TrainingStep, p: Module, latents: States, mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return (output of attention on the expanded heads, eager attention's weights)."""
    a, h = latents.a, heads_of(s, latents.a)
    rate = s.rate("attention_dropout")
    output, weights = attended(s, latents.query, latents.key, latents.value, h, mask=mask, p=rate)
    output = output.view(s.batch, s.length, a.heads * a.value_dim)
    return p.linear(s.m, output, "o_proj"), weights


def heads_of(s: TrainingStep, a: Latent) -> AttentionHeads:
    """Return the sizes of attention after the expansion to heads."""
    return AttentionHeads(
        batch=s.batch,
        length=s.length,
        seen=s.length,
        heads=a.heads,
        kv_heads=a.heads,
        key_dim=a.nope + a.rotary,
        value_dim=a.value_dim,
    )


def _turn(s: TrainingStep) -> Callable[..., tuple[Tensor, Tensor]]:
    if differs(s.built.kind, "complex_rotary"):
        return complex_rotated
    return rotated if s.built.config.get("rope_interleave") is False else interleaved


def expanded(
    s: TrainingStep, p: Module, latent: Latent, kv: Tensor, k_rot: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (keys, values) of expand_kv; keys of all heads are copied together from both parts."""
    m = s.m
    both = p.linear(m, kv, "kv_b_proj").view(
        s.batch, s.length, latent.heads, latent.nope + latent.value_dim
    )
    k_nope, value = split(m, both, (latent.nope, latent.value_dim))
    key = filled(m, k_nope, k_rot, latent)
    return key, value


def filled(m: Machine, k_nope: Tensor, k_rot: Tensor, latent: Latent) -> Tensor:
    """Return new_empty after two copies into slices of it: in backward each copy clones the
    gradient and takes its slice (CopySlices)."""
    lead = k_nope.shape[:-1]
    out = m.new((*lead, latent.nope + latent.rotary), k_nope.dtype)
    first, second = k_nope.shape, k_rot.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        g = grads[0]
        clone = m.new(g.shape, g.dtype)
        rotated = m.new((*lead, latent.rotary), g.dtype)
        summed = m.new(second, g.dtype)
        del rotated
        again = m.new(g.shape, g.dtype)
        plain = m.new(first, g.dtype)
        del clone, again
        return [plain, summed]

    record(m, back, [k_nope, k_rot], [], out)
    return out


def interleaved(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb_interleave"""
    cos, sin = positions
    half = q.shape[-1] // 2
    cos, sin = (Computed((*t.shape[:-1], half), t.dtype, t.storage) for t in (cos, sin))
    q1, q2 = cut(m, q, half), cut(m, q, half)
    k1, k2 = cut(m, k, half), cut(m, k, half)
    q_embed = pairs_turned(m, q1, q2, cos, sin)
    k_embed = pairs_turned(m, k1, k2, cos, sin)
    return q_embed, k_embed


def pairs_turned(m: Machine, a: Tensor, b: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return cat([a * cos - b * sin, b * cos + a * sin])."""
    return join(m, sub(m, mul(m, a, cos), mul(m, b, sin)), add(m, mul(m, b, cos), mul(m, a, sin)))


def rotary(s: TrainingStep) -> Rotary:
    return rotary_of(s, latent_of(s, 0).rotary)


def rotary_2(s: TrainingStep) -> Tensor:
    """Return the rotary positions of DeepSeek-V2, which are complex numbers."""
    return complex_rotary(s, latent_of(s, 0).rotary)


LAYER = replace(moe.LAYER, attend=attention)
deepseek_v3 = Net(DecoderNet(layer=LAYER, rotary=rotary), mixes=Latent)
deepseek_v2 = Net(DecoderNet(layer=LAYER, rotary=rotary_2), mixes=Latent)


# ---- LongCat-Flash


def longcat_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """LongcatFlashMLA.forward"""
    m, a, lead = s.m, latent_of(s, number), (s.batch, s.length)
    small = rms_norm(m, p.linear(m, x, "q_a_proj"), p.weight("q_a_layernorm"))
    q = p.linear(m, small, "q_b_proj").view(*lead, a.heads, a.nope + a.rotary)
    del small
    q_pass, q_rot = split(m, q, (a.nope, a.rotary))
    compressed = p.linear(m, x, "kv_a_proj_with_mqa")
    kv, k_rot = split(m, compressed, (a.rank, a.rotary))
    kv = rms_norm(m, kv, p.weight("kv_a_layernorm"))
    q_pass, q_rot, kv = scale(m, q_pass), scale(m, q_rot), scale(m, kv)
    k_rot = k_rot.view(*lead, 1, a.rotary)
    q_rot, k_rot = interleaved(m, q_rot, k_rot, positions)
    query = join(m, q_pass, q_rot)
    key, value = expanded(s, p, a, kv, k_rot)
    variables = (q, q_pass, q_rot, compressed, kv, k_rot)
    return out(s, p, States(query, key, value, a, None, variables), masks[None])


def experts(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """LongcatFlashMoE.forward"""
    e = moe.experts_of(s, number)
    assert e is not None
    flat, p = x.view(s.rows, x.shape[-1]), p.at("mlp")
    _, weights, numbers = router(s)(s, p, flat, e)
    return moe.experts(s, p.at("experts"), flat, weights, numbers).view(*x.shape)


def halves(
    x: Tensor,
    s: TrainingStep,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    *_more: Tensor,
) -> Tensor:
    """LongcatFlashDecoderLayer.forward"""
    m, shortcut = s.m, None
    for half in ("0", "1"):
        residual = x
        x = normed(m, x, p, f"input_layernorm.{half}")
        x, _ = longcat_attention(s, p.at(f"self_attn.{half}"), x, number, positions, masks)
        x = residual = add(m, residual, x)
        x = normed(m, x, p, f"post_attention_layernorm.{half}")
        if shortcut is None:
            shortcut = experts(s, p, x, number)
        x = mlp(s, p.at(f"mlps.{half}"), x)
        x = add(m, residual, x)
    assert shortcut is not None
    return add(m, x, shortcut)


def _layer(_: TrainingStep) -> Layer:
    return halves


longcat = Net(DecoderNet(layer=_layer, rotary=rotary, norm=normed), mixes=Latent)


# ---- an indexer

MOST_PICKED = 2048  # picked tokens per query, if the config does not say


def indexed_model(s: TrainingStep) -> Tensor:
    """DeepseekV32Model.forward"""
    if s.kernel == "flash":
        raise UsageError(sentence("flash_mask", kind=s.built.kind))
    m, base = s.m, s.built.base
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, base.weight("embed_tokens")))
    position_ids = m.new((1, s.length), INT64)
    mask = causal(s)
    turns = rotary_of(s, latent_of(s, 0).rotary)
    x, picked, layer = inputs_embeds, Picked(), replace(moe.LAYER, attend=indexed_attention)
    for i, p in enumerate(s.built.layers):
        before = picked.numbers
        x = run(s, layer, x, p, i, IndexedInputs(turns, before, picked), mask, position_ids)
        del before
    picked.numbers = None
    return normed(m, x, base, "norm")


class Picked:
    """The key indices that the last indexer picked: in GLM later layers may reuse them."""

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers: Tensor | None = None


class IndexedInputs(NamedTuple):
    """Inputs of a layer besides its states. `before`: picked key indices of an earlier layer, kept
    by a checkpoint."""

    turns: Rotary
    before: Tensor | None
    picked: Picked


def causal(s: TrainingStep) -> Tensor:
    """Return the causal mask, which these classes make even if sdpa needs none."""
    if s.kernel == "eager" or s.padded:
        written = mask(s, None)
        assert written is not None
        return written
    return s.m.new((1, 1, s.length, s.length), BOOL)


def indexed_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, inputs: IndexedInputs, mask: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return (output, weights) of DeepseekV32Attention.forward or GlmMoeDsaAttention.forward."""
    latents = states(s, p, x, number, inputs.turns)
    with s.m.no_grad():
        if p.has("indexer.wk"):
            numbers = indexer(s, p.at("indexer"), x, latents, inputs.turns)
        else:
            assert inputs.before is not None
            numbers = inputs.before
        index_mask, mask = hidden(s, numbers, mask)
    result = out(s, p, latents, mask)
    if differs(s.built.kind, "shared_picks") and not s.m.in_backward:
        inputs.picked.numbers = numbers
    del index_mask
    return result


def indexer(s: TrainingStep, p: Module, x: Tensor, latents: States, positions: Rotary) -> Tensor:
    """Return the indices of the best keys, by DeepseekV32Indexer.forward; local variables live
    until it returns."""
    m, sizes, turned = s.m, latents.a.indexer, latents.a.rotary
    assert sizes is not None
    assert latents.small is not None
    q = p.linear(m, latents.small, "wq_b").view(s.batch, s.length, sizes.heads, sizes.dim)
    k = layer_norm(m, p.linear(m, x, "wk"), p.weight("k_norm"), p.bias("k_norm"))
    k = k.view(s.batch, s.length, 1, sizes.dim)
    (q_rot, q_pass), (k_rot, k_pass) = (split(m, t, (turned, sizes.dim - turned)) for t in (q, k))
    turn = interleaved if differs(s.built.kind, "shared_picks") else rotated
    q_rot, k_rot = turn(m, q_rot, k_rot, positions)
    whole_q, whole_k = join(m, q_rot, q_pass), join(m, k_rot, k_pass)
    scores = scale(m, _compared(m, whole_q, whole_k))
    scores = of_result(m, scores)
    weights = cast(m, p.linear(m, x, "weights_proj"), FLOAT32)
    weights = scale(m, weights)
    index_scores = _weighed(m, weights, scores)
    return _best(s, index_scores)


def _compared(m: Machine, q: Tensor, k: Tensor) -> Tensor:
    """Return queries times keys: [B, S, H, T], in float32 or autocast's dtype."""
    batch, length, _, dim = q.shape
    wide_q, wide_k = cast(m, q, FLOAT32), cast(m, k, FLOAT32)
    low_q, low_k = lower(m, wide_q), lower(m, wide_k)
    copies = m.new((batch, length, dim, length), low_k.dtype) if batch > 1 else low_k
    return matmul(m, low_q, copies, length)


def _weighed(m: Machine, weights: Tensor, scores: Tensor) -> Tensor:
    """Return the weighted sum of scores over heads: [B, S, T]."""
    batch, length, heads, seen = scores.shape
    return matmul(m, weights.view(batch, length, 1, heads), scores, seen).view(batch, length, seen)


def _best(s: TrainingStep, scores: Tensor) -> Tensor:
    m = s.m
    inverse = m.new(scores.shape, BOOL) if s.kernel != "eager" else None
    scores = m.new(scores.shape, FLOAT32)
    del inverse
    most = s.built.config.num("index_topk", default=0) or MOST_PICKED
    count = min(most, scores.shape[-1])
    values, numbers = topk(m, scores, count)
    del values
    return cast(m, numbers, INT32)


def hidden(s: TrainingStep, numbers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return (mask of keys that are not picked, the layer's mask combined with it)."""
    m, shape = s.m, (s.batch, s.length, s.length)
    ones = m.new(shape, BOOL)
    wide = m.new(numbers.shape, INT64)
    index_mask = m.new((shape[0], 1, *shape[1:]), BOOL)
    del ones, wide
    if mask.dtype == BOOL:
        m.new(index_mask.shape, BOOL)
    return index_mask, m.new(index_mask.shape, mask.dtype)


indexed = Net(indexed_model, mixes=Latent)
