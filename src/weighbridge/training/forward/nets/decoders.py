"""Decoders that differ from Llama's in a row: norms, where they stand, what turns, what is summed.

    Gemma 1 to 3   norms whose weights start at zero, scaled embeddings, and since 2 norms on both
                   sides of attention and feed-forward. Gemma 2 caps its scores, which eager
                   attention alone does
    Persimmon      layer norms, also of queries and keys; those and values of a head side by side,
                   positions on a part of them
    Qwen (first)   queries, keys and values from one linear, positions in float32. Its fine-tuning
                   script takes reentrant checkpoints (transformers 4.32)

Source: transformers 5.23 models/*/modeling_*.py of the model types whose records name them;
modeling_qwen.py beside the checkpoints of the first Qwen (QWenAttention, QWenMLP, RMSNorm,
QWenLMHeadModel).
"""

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.base.records import replace
from weighbridge.engines.transformers.rules import DISTANCES, OVERLAID
from weighbridge.models.arch.model_types import differs
from weighbridge.training.forward.losses import cross_entropy, head
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import EMBEDDINGS, Net
from weighbridge.training.forward.ops.norms import (
    cohere_norm,
    float_norm,
    gemma_norm,
    layer_norm,
    rms_norm,
    wide_norm,
)
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    mul,
    of_input,
    scale,
    several,
    shift,
)
from weighbridge.training.forward.ops.shaping import (
    copied,
    cut,
    cuts,
    embedding,
    join,
    split,
    turned,
)
from weighbridge.training.forward.parts import rotary
from weighbridge.training.forward.parts.attention import (
    Masks,
    attend,
    attended,
    heads,
    mask,
    window,
    windows,
)
from weighbridge.training.forward.parts.layer import (
    AROUND,
    BEHIND,
    FINAL,
    LLAMA,
    AttentionShape,
    DecoderNet,
    LayerShape,
    by_weight,
    run,
    ungated,
)
from weighbridge.training.forward.parts.rotary import Rotary, part_rotary, part_rotated, rotated
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Tensor, absent


def weightless(m: Machine, x: Tensor, _p: Module, _name: str) -> Tensor:
    """OlmoLayerNorm.forward"""
    dtype = x.dtype
    return cast(m, layer_norm(m, cast(m, x, FLOAT32), None), dtype)


def of_all_heads(m: Machine, x: Tensor, weight: Tensor) -> Tensor:
    """Return x, [batch, length, heads, size], normalized over all heads together (OLMo 2)."""
    whole = x.view(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
    return wide_norm(m, whole, weight).view(*x.shape)


def one_more(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """NemotronLayerNorm1P.forward: in the dtype of autocast, where there is one"""
    if absent(p.weight(name)):
        return x
    weight = shift(m, p.weight(name))
    dtype, bias = m.autocast or x.dtype, p.bias(name)
    x, weight = cast(m, x, dtype), cast(m, weight, dtype)
    with m.casting(None):
        return layer_norm(m, x, weight, None if bias is None else cast(m, bias, dtype))


def fused(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Return Phi3Attention.forward; queries, keys and values are slices, each with a gradient in
    zeros of the whole."""
    m, h = s.m, heads(s, number)
    qkv = p.linear(m, x, "qkv_proj")
    widths = h.heads * h.key_dim, h.kv_heads * h.key_dim, h.kv_heads * h.value_dim
    q, k, v = cuts(m, qkv, widths)
    q = q.view(*h.queries)
    k = k.view(*h.keys)
    v = v.view(*h.values)
    q, k = part_rotated(m, turned(m, q), turned(m, k), positions)
    reach, rate = window(s, number), s.rate("attention_dropout")
    out, weights = attended(s, q, k, v, h, mask=masks[reach], p=rate, first=True)
    return p.linear(m, out.view(*h.joined), "o_proj"), weights


def gate_and_up(s: TrainingStep, p: Module, x: Tensor, _number: int) -> Tensor:
    """Return Phi3MLP.forward, with gate and up from one linear."""
    m, p = s.m, p.at("mlp")
    up_states = p.linear(m, x, "gate_up_proj")
    gate, up_states = split(m, up_states, [up_states.shape[-1] // 2] * 2)
    up_states = mul(m, up_states, several(m, gate, str(s.built.config.get("hidden_act") or "silu")))
    return p.linear(m, up_states, "down_proj")


def by_config(key: str, shape: LayerShape, otherwise: LayerShape) -> DecoderNet:
    """Return a decoder with one of two layers: `shape` if the config sets `key`, else
    `otherwise`."""

    def layer(s: TrainingStep) -> LayerShape:
        return shape if s.built.config.get(key) else otherwise

    return DecoderNet(layer=layer, rotary=part_rotary)


PART = AttentionShape(rotate=part_rotated, late=True, first=True)
RESID = ("resid_pdrop", "resid_pdrop")
ONE_NORM = ("input_layernorm", "")
GLM_NORMS = ("post_self_attn_layernorm", "post_mlp_layernorm")
GLM = LayerShape(
    attend=AttentionShape(rotate=rotary.part_interleaved, first=True),
    norm=by_weight(rms_norm),
    feed=gate_and_up,
)

OLMO2_LAYER = replace(
    BEHIND,
    attend=AttentionShape(norm=of_all_heads, rotate=rotary.narrowed),
    norm=by_weight(wide_norm),
)

llama = DecoderNet()
ernie4_5 = DecoderNet(
    layer=replace(LLAMA, attend=AttentionShape(rotate=rotary.products_in_float)),
    rotary=rotary.wide_rotary,
)
helium = DecoderNet(
    layer=replace(
        LLAMA, attend=AttentionShape(rotate=rotary.interleaved), norm=by_weight(float_norm)
    )
)
ministral3 = DecoderNet(layer=replace(LLAMA, attend=AttentionShape(rotate=rotary.scaled_rotated)))
nemotron = DecoderNet(
    layer=replace(LLAMA, attend=AttentionShape(rotate=part_rotated, first=True), norm=one_more),
    rotary=part_rotary,
)
exaone4 = DecoderNet(
    layer=replace(BEHIND, attend=AttentionShape(late=True), norm=by_weight(rms_norm))
)
olmo = DecoderNet(
    layer=LayerShape(attend=AttentionShape(rotate=rotary.narrowed), norm=weightless),
    rotary=rotary.wide_rotary,
)
olmo2 = DecoderNet(layer=OLMO2_LAYER, rotary=rotary.wide_rotary)
cohere = DecoderNet(
    layer=LayerShape(
        attend=AttentionShape(norm=cohere_norm, late=True, rotate=rotary.in_float),
        norm=by_weight(cohere_norm),
        before=ONE_NORM,
        sums="beside",
    )
)
phi = DecoderNet(
    layer=LayerShape(
        attend=replace(PART, out="dense"),
        feed=ungated("fc1", "fc2"),
        before=ONE_NORM,
        rates=RESID,
        sums="together",
    ),
    rotary=part_rotary,
    rate="embd_pdrop",
)
phi3 = DecoderNet(
    layer=LayerShape(
        attend=fused, norm=by_weight(rms_norm), feed=gate_and_up, rates=RESID, holds=("undropped",)
    ),
    rotary=part_rotary,
)
glm = DecoderNet(layer=GLM, rotary=part_rotary)
glm4 = DecoderNet(layer=replace(GLM, after=GLM_NORMS), rotary=part_rotary)
qwen_vl = DecoderNet(rotary=rotary.grids)  # text layers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL
starcoder2 = DecoderNet(
    layer=replace(LLAMA, feed=ungated("c_fc", "c_proj", rate="residual_dropout")),
    rate="embedding_dropout",
)
stablelm = by_config(
    "use_parallel_residual",
    LayerShape(attend=PART, before=ONE_NORM, rates=("", "hidden_dropout"), sums="beside"),
    LayerShape(
        attend=PART,
        rates=("", "hidden_dropout"),
        handed=True,
        holds=("normed", "attended", "undropped"),
    ),
)


# ---- Gemma


CAP = "attn_logit_softcapping"


def gemma(s: TrainingStep) -> Tensor:
    """Return Gemma3TextModel.forward, with cosines and sines for each layer type."""
    m, built, shape = s.m, s.built, layer_of(s)
    ids = m.new((s.batch, s.length), INT64)
    words = built.base.weight(built.base.first(*EMBEDDINGS))
    inputs_embeds = entered(s, scale(m, embedding(m, ids, words)))
    position_ids = m.new((1, s.length), INT64)
    both_ways = built.config.sees_both_ways
    if both_ways and s.kernel not in ("flash", "flex"):
        m.hidden((DISTANCES + OVERLAID) * s.length * s.length)
    masks = {reach: mask(s, reach, always=both_ways) for reach in windows(s)}
    kinds = windows(s) if differs(s.built.kind, "rotary_by_window") else {None}
    positions = {reach: rotary.rotary(s) for reach in kinds}
    x = inputs_embeds
    for i, layer in enumerate(built.layers):
        turns = positions.get(window(s, i)) or positions[None]
        x = run(s, shape, x, layer, i, turns, masks, position_ids)
    return gemma_norm(m, x, built.base.weight(built.base.first(*FINAL)))


GEMMA = AttentionShape(norm=gemma_norm, late=True)
CAPPED = replace(GEMMA, cap=True)
FIRST = LayerShape(attend=GEMMA, norm=by_weight(gemma_norm))
SECOND = replace(AROUND, attend=GEMMA, norm=FIRST.norm)


def layer_of(s: TrainingStep) -> LayerShape:
    """Return Gemma's layer; since Gemma 2 it has four norms. Only eager attention caps scores."""
    if not s.built.config.get(CAP):
        return SECOND if s.built.layers[0].has("pre_feedforward_layernorm") else FIRST
    s.kernel = s.kernel or "eager"
    return replace(SECOND, attend=CAPPED)


# ---- Persimmon


def persimmon_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """PersimmonAttention.forward"""
    m, h, width = s.m, heads(s, number), positions[0].shape[-1]
    fused = p.linear(m, x, "query_key_value")
    shape = h.queries
    thirds = cuts(m, fused, [h.heads * h.key_dim] * 3)
    query, key, value = (third.view(*shape) for third in thirds)
    if p.has("q_layernorm"):
        query = head_norm(m, query, p, "q_layernorm")
        key = head_norm(m, key, p, "k_layernorm")
    query_rot, query_pass = cuts(m, query, (width, h.key_dim - width))
    key_rot, key_pass = cuts(m, key, (width, h.key_dim - width))
    query_rot, key_rot = rotated(m, query_rot, key_rot, positions)
    query, key = join(m, query_rot, query_pass), join(m, key_rot, key_pass)
    rate = s.rate("attention_dropout")
    out, weights = attended(s, query, key, value, h, mask=masks[None], p=rate, first=True)
    return p.linear(m, out.view(*x.shape), "dense"), weights


def head_norm(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """Return the normalized queries or keys of each head; the kernel copies what is not
    contiguous."""
    if m.autocast is None:
        m.hidden(x.nbytes, name="activations")
    return layer_norm(m, turned(m, x), p.weight(name), p.bias(name))


LAYER = LayerShape(
    attend=persimmon_attention,
    feed=ungated("dense_h_to_4h", "dense_4h_to_h", usual="relu2"),
    rates=("", "hidden_dropout"),
)
persimmon = DecoderNet(layer=LAYER, rotary=part_rotary)


# ---- The first Qwen


def qwen_model(s: TrainingStep) -> Tensor:
    """QWenModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    x = entered(s, embedding(m, ids, built.base.weight(built.base.first(*EMBEDDINGS))))
    width = heads(s, 0).key_dim
    positions = m.new((s.length, 1, width), FLOAT32), m.new((s.length, 1, width), FLOAT32)
    seen = mask(s, None)
    for i, p in enumerate(built.layers):
        x = run(s, layer, x, p, i, positions, seen)
    return rms_norm(m, x, built.base.weight(built.base.first(*FINAL)))


def layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, positions: Rotary, seen: Tensor | None
) -> Tensor:
    """QWenBlock.forward"""
    m = s.m
    layernorm_output = rms_norm(m, x, p.weight("ln_1"))
    attn_output = qwen_attention(s, p.at("attn"), layernorm_output, number, positions, seen)
    layernorm_input = add(m, attn_output, x)
    layernorm_output = rms_norm(m, layernorm_input, p.weight("ln_2"))
    return add(m, layernorm_input, mlp(m, p.at("mlp"), layernorm_output))


def qwen_attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary, seen: Tensor | None
) -> Tensor:
    m, h = s.m, heads(s, number)
    mixed_x_layer = p.linear(m, x, "c_attn")
    width = h.heads * h.key_dim
    query, key, value = split(m, mixed_x_layer, (width, width, width))
    shape = h.queries
    query = qwen_turned(m, query.view(*shape), positions)
    key = qwen_turned(m, key.view(*shape), positions)
    value = copied(m, value.view(*shape))
    out = attend(s, query, key, value, h, mask=seen)
    return p.linear(m, out.view(h.batch, h.length, width), "c_proj")


def qwen_turned(m: Machine, t: Tensor, positions: Rotary) -> Tensor:
    """apply_rotary_pos_emb"""
    cos, sin = positions
    t_float = cast(m, t, FLOAT32)
    half = t.shape[-1] // 2
    x1, x2 = cut(m, t_float, half), cut(m, t_float, half)
    rotated = join(m, scale(m, x2), x1)
    return cast(m, add(m, mul(m, t_float, cos), mul(m, rotated, sin)), t.dtype)


def mlp(m: Machine, p: Module, x: Tensor) -> Tensor:
    a1 = p.linear(m, x, "w1")
    a2 = p.linear(m, x, "w2")
    intermediate_parallel = mul(m, a1, of_input(m, a2))
    return p.linear(m, intermediate_parallel, "c_proj")


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return (loss, logits). Shifting copies the logits; autocast runs the loss in float32."""
    m = s.m
    labels = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        lm_logits = head(s, hidden)
        shift_logits = copied(m, lm_logits)
        wide = cast(m, shift_logits, FLOAT32) if m.autocast is not None else shift_logits
        out = cross_entropy(m, wide, labels)
        del shift_logits, wide
    return out, lm_logits


qwen = Net(qwen_model, loss=loss)
