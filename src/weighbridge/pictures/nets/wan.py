"""Wan 2.1 and 2.2 with their relatives: VACE, SkyReels V2 and ChronoEdit.

Source: diffusers 0.42 models/transformers/{transformer_wan, transformer_wan_vace,
transformer_skyreels_v2, transformer_chronoedit}.py.
"""

from collections.abc import Callable
from math import prod

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.records import frozen_record
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    attends,
    embed,
    feed,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat, headed

IMAGE_TOKENS = 257  # of CLIP, per picture


@frozen_record
class VideoConditions:
    """Inputs that all blocks share: the modulation, the text (after `images` tokens of a picture),
    and the rotary frequencies."""

    temb: Value
    text: Value
    images: int
    turns: tuple[Value, Value]


def turned(x: Value, turns: tuple[Value, Value]) -> Value:
    """Return apply_rotary_emb of `x`: halves in float32, each written into an empty tensor."""
    half = x.shape[-1] // 2
    x1, x2 = x.split(half, half)
    cos, sin = (one.part(*one.shape[:-1], half) for one in turns)
    out = x.run.new(*x.shape)
    out = out.written(x1 * cos - x2 * sin)
    return out.written(x1 * sin + x2 * cos)


@attends
def attention(a: NetPlace, x: Value, heads: int, k: VideoConditions, *, crossed: bool) -> Value:
    """Return WanAttention of `x`: norms span the width; picture tokens attend separately."""
    d, seen, picture = heads * (x.shape[-1] // heads), x, None
    if crossed:
        seen = k.text
        if k.images:
            picture, seen = seen.split(k.images, seen.shape[1] - k.images, dim=1)
    query, key, value = (
        a.linear(name, y, d) for name, y in (("to_q", x), ("to_k", seen), ("to_v", seen))
    )
    query = a.rms_norm("norm_q", query, how="torch")
    key = a.rms_norm("norm_k", key, how="torch")
    if not crossed:
        query = flat(turned(headed(query, heads), k.turns))
        key = flat(turned(headed(key, heads), k.turns))
    of_picture = None
    if picture is not None:
        picture_key = a.linear("add_k_proj", picture, d)
        picture_value = a.linear("add_v_proj", picture, d)
        picture_key = a.rms_norm("norm_added_k", picture_key, how="torch")
        of_picture = attend(query, picture_key, picture_value, heads)
    h = attend(query, key, value, heads)
    if of_picture is not None:
        h = h + of_picture
    return (a / "to_out").linear("0", h, d)


def modulation(p: NetPlace, temb: Value) -> list[Value]:
    """Return six rows, added to those that all blocks share, per item of a batch or per token."""
    d = temb.shape[-1]
    rows = p.value("scale_shift_table", 1, 6, d) + temb.float()
    parts = rows.chunk(6, dim=-2)
    return [
        part.view(temb.shape[0], rows.shape[1] if len(rows.shape) > 3 else 1, d) for part in parts
    ]


def shifted(p: NetPlace, x: Value, scale: Value, shift: Value) -> Value:
    """Return (norm(x.float()) * (1 + scale) + shift).type_as(x)."""
    h = p.layer_norm("", x.float(), affine=False, wide=True)
    h = h * (scale + 1.0)
    h = h + shift
    return h.like(x)


def block_of(c: ComponentConfig, k: VideoConditions) -> Callable[[NetPlace, Value], Value]:
    """WanTransformerBlock"""
    heads = c.num_attention_heads

    def block(p: NetPlace, x: Value) -> Value:
        shift, scale, gate, c_shift, c_scale, c_gate = modulation(p, k.temb)
        h = shifted(p, x, scale, shift)
        a = attention(p / "attn1", h, heads, k, crossed=False)
        x = (x.float() + a * gate).like(x)
        h = p.layer_norm("norm2", x.float(), wide=True).like(x) if c.cross_attn_norm else x
        a = attention(p / "attn2", h, heads, k, crossed=True)
        x = x + a
        h = shifted(p, x, c_scale, c_shift)
        f = feed(p / "ffn", h, c.ffn_dim)
        return (x.float() + f.float() * c_gate).like(x)

    return block


def control_of(
    c: ComponentConfig, k: VideoConditions
) -> Callable[[NetPlace, Value, Value], tuple[Value, Value]]:
    """WanVACETransformerBlock: a second stream, whose projection is a hint."""
    block = block_of(c, k)

    def control(p: NetPlace, x: Value, y: Value) -> tuple[Value, Value]:
        if not p.number:
            y = p.linear("proj_in", y, x.shape[-1])
            y = y + x
        y = block(p, y)
        return p.linear("proj_out", y, x.shape[-1]), y

    return control


def image_embedder(p: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """WanImageEmbedding; two pictures of one video are one row if positions are learned."""
    d, rows = c.num_attention_heads * c.attention_head_dim, IMAGE_TOKENS
    if c.pos_embed_seq_len:
        rows = c.pos_embed_seq_len
    x = p.run.constant(s.batch, rows, c.image_dim)
    if c.pos_embed_seq_len:
        x = x + p.value("pos_embed", 1, rows, c.image_dim)
    x = p.layer_norm("norm1", x, wide=True)
    x = feed(p / "ff", x, c.image_dim, d)
    return p.layer_norm("norm2", x, wide=True)


def conditions(
    n: NetPlace, c: ComponentConfig, s: Sizes, tokens: int
) -> tuple[Value, VideoConditions]:
    """WanTimeTextImageEmbedding and WanRotaryPosEmbed."""
    d, e, run = c.num_attention_heads * c.attention_head_dim, n / "condition_embedder", n.run
    rows = (s.batch, tokens) if s.token_times else (s.batch,)
    turns = tuple(run.new(1, tokens, 1, c.attention_head_dim, dtype=FLOAT32) for _ in range(2))
    times = embed(e / "time_embedder", run.new(*rows, c.freq_dim), d)
    temb = e.linear("time_proj", times.act(), 6 * d).view(*rows, 6, d)
    text = embed(e / "text_embedder", run.constant(s.batch, s.text, c.text_dim), d)
    if c.inject_sample_info:
        n.param("fps_embedding.weight", 2, d, kind="embedding")
        temb = temb + feed(n / "fps_projection", run.new(s.batch, d), d, 6 * d).view(s.batch, 6, d)
    images = 0
    if c.image_dim:
        picture = image_embedder(e / "image_embedder", c, s)
        images = picture.shape[1] if c.added_kv_proj_dim else 0
        text = cat([picture, text])
    return times, VideoConditions(temb=temb, text=text, images=images, turns=(turns[0], turns[1]))


def patches(n: NetPlace, name: str, c: ComponentConfig, s: Sizes, channels: int) -> Value:
    """Return tokens of a convolution whose kernel is its stride: a view, stored channels first."""
    d, kernel = c.num_attention_heads * c.attention_head_dim, tuple(c.patch_size)
    x = n.run.constant(s.batch, channels, s.frames, s.height, s.width)
    x = n.conv(name, x, d, kernel, kernel, 0)
    return x.view(s.batch, prod(x.shape[2:]), d)


def wan(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    d, run = c.num_attention_heads * c.attention_head_dim, n.run
    x = patches(n, "patch_embedding", c, s, c.in_channels)
    x = x.copy()
    times, k = conditions(n, c, s, x.shape[1])
    hints = []
    if c.vace_layers:
        y = patches(n, "vace_patch_embedding", c, s, c.vace_in_channels)
        y = y.copy()
        control = control_of(c, k)
        for p in n.each("vace_blocks", len(c.vace_layers)):
            hint, y = p.block(control, x, y)
            hints.append(hint)
            del hint
        hints = hints[::-1]
    block = block_of(c, k)
    for p in n.each("blocks", c.num_layers):
        x = p.block(block, x)
        if c.vace_layers and p.number in c.vace_layers:
            hint = hints.pop()
            x = x + hint * 1.0
    table = n.value("scale_shift_table", 1, 2, d)
    shift, scale = (table + times.view(*times.shape[:-1], 1, d)).chunk(2, dim=-2)
    rows = s.batch, times.numel // d // s.batch, d
    x = shifted(n, x, scale.view(*rows), shift.view(*rows))
    x = n.linear("proj_out", x, prod(c.patch_size) * (c.out_channels or c.in_channels))
    x = x.to(run.dtype)
    return x.copy()


PROGRAMS = {
    "WanTransformer3DModel": wan,
    "SkyReelsV2Transformer3DModel": wan,
    "WanVACETransformer3DModel": wan,
    "ChronoEditTransformer3DModel": wan,
}
