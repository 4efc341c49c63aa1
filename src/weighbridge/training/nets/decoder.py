"""Decoders of Llama's shape: RMS norms, rotary positions, grouped heads, gated feed-forwards.

Source: transformers 5.23 models/llama/modeling_llama.py, models/qwen3/modeling_qwen3.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weighbridge.arch.mixers import Attention
from weighbridge.arch.table import differs
from weighbridge.autograd.checkpoint import checkpoint, every_second_product
from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.attention import Heads
from weighbridge.autograd.ops.losses import embedding
from weighbridge.autograd.ops.norms import layer_norm, rms_norm
from weighbridge.autograd.ops.pointwise import add, dropout, mul, scale, several
from weighbridge.autograd.ops.shaping import cut, join, turned
from weighbridge.autograd.tensors import Shape, Tensor
from weighbridge.dtypes import BOOL, FLOAT32, INT64, DType
from weighbridge.errors import UsageError
from weighbridge.training.attend import attended
from weighbridge.training.modules import Module
from weighbridge.training.nets import EMBEDDINGS
from weighbridge.training.step import Step, entered

Rotary = tuple[Tensor, Tensor]
Layer = Callable[..., Tensor]
Norm = Callable[[Machine, Tensor, Tensor], Tensor]
NormOf = Callable[[Machine, Tensor, Module, str], Tensor]
Attend = Callable[..., tuple[Tensor, Tensor | None]]
Feeds = Callable[[Step, Module, Tensor, int], Tensor]
Rotate = Callable[[Machine, Tensor, Tensor, Rotary], tuple[Tensor, Tensor]]
QUERY_NORMS = ("q_norm", "query_layernorm", "q_layernorm")
KEY_NORMS = ("k_norm", "key_layernorm", "k_layernorm")
INTERVAL = 4  # of layers, one of which is not turned
Masks = dict[int | None, Tensor | None]  # by how many tokens back are seen
FINAL = ("norm", "ln_f", "final_layernorm", "final_layer_norm", "norm_f", "embedding_norm")


def forward(
    s: Step,
    layer: Layer | None = None,
    rotary: int | Callable[[Step], Any] = 0,
    *,
    norm: Norm | None = None,
    wide: bool = False,
    rate: float = 0.0,
) -> Tensor:
    """LlamaModel.forward; with another `layer`, that of classes of its shape. `wide`: cosines stay
    in float32. `rate`: of a dropout of the embeddings. `rotary`: how many numbers of a head turn,
    or what makes the positions that layers are given."""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, built.base.weight(built.base.first(*EMBEDDINGS))))
    if scaled(s, "embedding_multiplier"):
        inputs_embeds = scale(m, inputs_embeds)
    position_ids = m.new((1, s.length), INT64)
    masks = {window: mask(s, window) for window in windows(s)}
    if isinstance(rotary, int):
        positions = rotary_of(s, rotary or heads(s, 0).key_dim, wide=wide)
    else:
        positions = rotary(s)
    x = dropout(m, inputs_embeds, rate)
    for i, p in enumerate(built.layers):
        x = run(s, layer or LAYER, x, p, i, positions, masks, position_ids)
    name = built.base.first(*FINAL)
    if norm is not None:
        return norm(m, x, built.base.weight(name)) if name else norm(m, x, x)
    return normed(m, x, built.base, name)


def normed(m: Machine, x: Tensor, p: Module, name: str) -> Tensor:
    """Normalize `x`: layer norm if the norm has a bias, else RMS norm."""
    bias = p.bias(name)
    if bias is not None:
        return layer_norm(m, x, p.weight(name), bias)
    return rms_norm(m, x, p.weight(name))


def run(s: Step, layer: Callable[..., Tensor], x: Tensor, p: Module, *rest: Any) -> Tensor:
    """A layer, under the checkpointing and the sharding of the step."""
    again = s.checkpointing != "none" and s.m.training

    def whole(x: Tensor) -> Tensor:
        if not again:
            return layer(x, s, p, *rest)
        kind = s.checkpointing
        made: Tensor = checkpoint(
            s.m,
            layer,
            x,
            s,
            p,
            *rest,
            reentrant=s.reentrant and kind == "full",
            away=kind == "offload",
            chooses=every_second_product() if kind == "selective" else None,
        )
        return made

    if s.alike is None:
        return s.around.layer(s.m, p, whole, x)
    called = (layer, again, s.checkpointing, *rest)
    return s.around.layer(s.m, p, s.alike.run(s.m, p, called, whole), x)


def nowhere(s: Step) -> None:
    """The positions of classes that have none."""


def dense(s: Step, p: Module, x: Tensor, _number: int) -> Tensor:
    return mlp(s, p.at("mlp"), x)


def layers(attend: Attend, *, norm: NormOf = normed, feeds: Feeds = dense) -> Layer:
    """LlamaDecoderLayer.forward, with another attention, norm or feed-forward."""

    def layer(
        x: Tensor,
        s: Step,
        p: Module,
        number: int,
        positions: Any,
        masks: Masks,
        _position_ids: Tensor,
    ) -> Tensor:
        m, scales, rate = s.m, scaled(s, "residual_multiplier"), s.rate("residual_dropout")
        residual = x
        x = norm(m, x, p, "input_layernorm")
        x, _ = attend(s, p.at("self_attn"), x, number, positions, masks)
        x = dropout(m, x, rate)
        x = add(m, residual, scale(m, x) if scales else x)
        residual = x
        x = norm(m, x, p, "post_attention_layernorm")
        x = dropout(m, feeds(s, p, x, number), rate)
        return add(m, residual, scale(m, x) if scales else x)

    return layer


def attention(
    s: Step, p: Module, x: Tensor, number: int, positions: Rotary, masks: Masks
) -> Tensor:
    return attention_and_weights(s, p, x, number, positions, masks)[0]


def attention_and_weights(
    s: Step,
    p: Module,
    x: Tensor,
    number: int,
    positions: Rotary | None,
    masks: Masks,
    **more: Any,
) -> tuple[Tensor, Tensor | None]:
    """LlamaAttention.forward; the weights are eager attention's. `more` is the `kind` of attention,
    and arguments of attend.How. Layers without positions turn nothing."""
    m, h = s.m, heads(s, number)
    kind: Kind = more.pop("kind", LLAMA)
    norm, late = kind.norm, kind.late
    q = p.linear(m, x, "q_proj").view(h.batch, h.length, h.heads, h.key_dim)
    if not late:
        q = head_norm(m, q, p, norm, *QUERY_NORMS)
    k = p.linear(m, x, "k_proj").view(h.batch, h.length, h.kv_heads, h.key_dim)
    if not late:
        k = head_norm(m, k, p, norm, *KEY_NORMS)
    v = p.linear(m, x, "v_proj").view(h.batch, h.length, h.kv_heads, h.value_dim)
    if late:
        q, k = head_norm(m, q, p, norm, *QUERY_NORMS), head_norm(m, k, p, norm, *KEY_NORMS)
    turns = positions is not None and has_positions(s, number)
    if positions is not None and turns:
        q, k = kind.rotate(m, turned(m, q), turned(m, k), positions)
    reach, rate = window(s, number), s.rate("attention_dropout")
    made, weights = attended(s, q, k, v, h, mask=masks[reach], p=rate, views=not turns, **more)
    made = p.linear(m, made.view(h.batch, h.length, h.heads * h.value_dim), kind.out)
    return made, weights


LAYER = layers(attention_and_weights)


def rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb"""
    cos, sin = positions
    q_embed = rotated_one(m, q, cos, sin)
    k_embed = rotated_one(m, k, cos, sin)
    return q_embed, k_embed


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a class differs from Llama's attention. `late`: queries and keys are normed when all
    three are there; `out`: the name of the last linear."""

    norm: Norm = rms_norm
    rotate: Rotate = rotated
    late: bool = False
    out: str = "o_proj"


LLAMA = Kind()


def head_norm(m: Machine, x: Tensor, p: Module, norm: Norm, *names: str) -> Tensor:
    """Normalize queries or keys, where the class has a norm for them."""
    name = p.first(*names)
    return norm(m, x, p.weight(name)) if name else x


def has_positions(s: Step, number: int) -> bool:
    """Tell whether a layer has positions. SmolLM3, Llama 4 and Cohere2 (without a window) have
    layers without."""
    config = s.built.config
    listed = config.get("no_rope_layers")
    if isinstance(listed, list) and len(listed) > number:
        return bool(listed[number])
    if differs(s.built.kind, "every_fourth_unrotated"):
        interval = config.num("no_rope_layer_interval", default=0) or INTERVAL
        return (number + 1) % interval != 0
    whole = differs(config.model_type, "whole_layers_unrotated")
    return not (whole and window(s, number) is None)


def scaled(s: Step, name: str) -> bool:
    """Granite's classes multiply in any case: by 1 where their configs leave it out."""
    return bool(s.built.config.get(name)) or differs(s.built.kind, "multipliers")


def written_out(s: Step) -> None:
    """Set attention to eager for classes that write it out; other kernels raise UsageError."""
    if s.kernel not in (None, "eager"):
        raise UsageError(
            f"--attention {s.kernel}: {s.built.kind} is known with eager attention alone; leave it "
            "out"
        )
    s.kernel = "eager"


def heads(s: Step, number: int) -> Heads:
    """Return the heads of the first attention in layer `number`."""
    found = next(x for x in s.built.body.blocks[number].mixers if isinstance(x, Attention))
    return Heads(
        batch=s.batch,
        length=s.length,
        seen=s.length,
        heads=found.heads,
        kv_heads=found.kv_heads,
        key_dim=found.key_dim,
        value_dim=found.value_dim,
    )


def window(s: Step, number: int) -> int | None:
    found = (x for x in s.built.body.blocks[number].mixers if isinstance(x, Attention))
    return next((x.reach for x in found), None)


def windows(s: Step) -> set[int | None]:
    return {window(s, i) for i in range(len(s.built.layers))}


def mask(s: Step, reach: int | None, *, always: bool = False) -> Tensor | None:
    """Make the attention masks, each [batch, 1, length, length]. SDPA gets none if nothing is
    padded and the window covers the length, else one bool mask. Eager attention gets one mask in
    the model's dtype. FlashAttention 2 never gets one."""
    m, whole = s.m, (s.batch, 1, s.length, s.length)
    if s.kernel == "flash":
        return None
    if s.kernel == "eager":
        return m.new(whole, s.dtype)
    if s.padded:
        return m.new(whole, BOOL)
    if (reach is None or s.length < reach) and not always:
        return None
    return m.new((1, *whole[1:]), BOOL).view(*whole)


def rotary(s: Step) -> Rotary:
    """Cosines and sines of the step's tokens, in float32 first."""
    return rotary_of(s, heads(s, 0).key_dim)


def rotary_of(s: Step, width: int, *, wide: bool = False, dtype: DType | None = None) -> Rotary:
    """LlamaRotaryEmbedding.forward, for `width` numbers of a head."""
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


def turned_width(s: Step, number: int = 0) -> int:
    """Numbers of a head of that layer that have a position."""
    config = s.built.config
    rope = config.get("rope_parameters", "rope_scaling")
    part = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    part = part or config.get("partial_rotary_factor", "rotary_pct") or 1.0
    return int(heads(s, number).key_dim * float(part))


def angles(m: Machine, shape: Shape) -> Tensor:
    """emb.cos() * attention_scaling"""
    plain = m.new(shape, FLOAT32)
    scaled = m.new(shape, FLOAT32)
    del plain
    return scaled


def rotated_one(m: Machine, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(x * cos) + (rotate_half(x) * sin)"""
    return add(m, mul(m, x, cos), mul(m, half(m, x), sin))


def part_rotated(m: Machine, q: Tensor, k: Tensor, positions: Rotary) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb of the first numbers of each head; joined with the others again, also
    where there are none."""
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


def mlp(s: Step, p: Module, x: Tensor) -> Tensor:
    m = s.m
    kind = str(s.built.config.get("hidden_act", "hidden_activation") or "silu")
    if not p.has("gate_proj"):
        return p.linear(m, several(m, p.linear(m, x, "up_proj"), kind), "down_proj")
    return p.linear(
        m,
        mul(m, several(m, p.linear(m, x, "gate_proj"), kind), p.linear(m, x, "up_proj")),
        "down_proj",
    )
