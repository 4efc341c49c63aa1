"""Kandinsky 5, of pictures and videos.

Source: diffusers 0.42 models/transformers/transformer_kandinsky.py.
"""

from collections.abc import Callable
from math import prod

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    attended,
    embed,
    latent,
    norm,
    rows,
    scaled,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, headed


def turned(x: Value, rope: Value) -> Value:
    """apply_rotary: products with a matrix of two by two for each pair, summed, in float32."""
    x_ = x.float()
    x_out = x_.resized(*x.shape[:-1], rope.shape[-1]).resized(*x.shape)
    return x_out.like(x)


def attention(
    n: NetPlace, x: Value, head: int, turns: Value | None, seen: Value | None = None
) -> Value:
    """Kandinsky5AttnProcessor: norms in float32; positions where it attends to itself."""
    d, heads, source = x.shape[-1], x.shape[-1] // head, x if seen is None else seen
    q = n.linear("to_query", x, d)
    k = n.linear("to_key", source, d)
    v = headed(n.linear("to_value", source, d), heads)
    q = n.rms_norm("query_norm", headed(q, heads).float(), how="torch").like(x)
    k = n.rms_norm("key_norm", headed(k, heads).float(), how="torch").like(x)
    if turns is not None:
        q = turned(q, turns)
        k = turned(k, turns)
    with n.run.m.sending("all" if n.run.attention_away else ""):
        h = attended(q, k, v)
    del q, k, v
    return n.linear("out_layer", h, d)


def feed(n: NetPlace, x: Value, inside: int) -> Value:
    """Kandinsky5FeedForward"""
    h = n.linear("in_layer", x, inside, False)
    return n.linear("out_layer", h.act(), x.shape[-1], False)


def part(p: NetPlace, x: Value, mod: list[Value], call: Callable[[Value], Value]) -> Value:
    """What is modulated and gated in float32: an attention, or the feed-forward."""
    shift, scale, gate = mod
    h = scaled(norm(p, x.float()), scale.float(), shift.float()).like(x)
    f = call(h)
    h = f
    return (x.float() + gate.float() * h.float()).like(x)


def kandinsky5(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    d, head, t, run = c.model_dim, sum(c.axes_dims), c.time_dim, n.run
    patch = c.patch_size
    channels = 2 * c.in_visual_dim + 1 if c.visual_cond else c.in_visual_dim
    tokens = s.frames * s.height * s.width // prod(patch)
    temb = embed(n / "time_embeddings", run.new(s.batch, d), t, names=("in_layer", "out_layer"))
    p = n / "text_embeddings"
    y = p.layer_norm("norm", p.linear("in_layer", latent(n, s, c.in_text_dim, s.text), d))
    p = n / "pooled_text_embeddings"
    pooled = p.linear("in_layer", run.constant(s.batch, c.in_text_dim2), t)
    temb = temb + p.layer_norm("norm", pooled)
    picture = latent(n, s, channels * prod(patch), tokens)
    x = (n / "visual_embeddings").linear("in_layer", picture, d)
    text_turns = run.new(s.text, 2 * head, dtype=FLOAT32)
    turns = run.new(tokens, 2 * head, dtype=FLOAT32)

    def text_block(p: NetPlace, y: Value) -> Value:
        mod = rows((p / "text_modulation").linear("out_layer", temb.act(), 6 * d), 6)
        y = part(p, y, mod[:3], lambda h: attention(p / "self_attention", h, head, text_turns))
        return part(p, y, mod[3:], lambda h: feed(p / "feed_forward", h, c.ff_dim))

    def block(p: NetPlace, x: Value) -> Value:
        mod = rows((p / "visual_modulation").linear("out_layer", temb.act(), 9 * d), 9)
        x = part(p, x, mod[:3], lambda h: attention(p / "self_attention", h, head, turns))
        x = part(p, x, mod[3:6], lambda h: attention(p / "cross_attention", h, head, None, y))
        return part(p, x, mod[6:], lambda h: feed(p / "feed_forward", h, c.ff_dim))

    for p in n.each("text_transformer_blocks", c.num_text_blocks):
        y = p.block(text_block, y)
    for p in n.each("visual_transformer_blocks", c.num_visual_blocks):
        x = p.block(block, x)
    final = n / "out_layer"
    shift, scale = rows((final / "modulation").linear("out_layer", temb.act(), 2 * d), 2)
    x = scaled(norm(final, x.float()), scale.float(), shift.float()).like(x)
    return final.linear("out_layer", x, prod(patch) * c.out_visual_dim)


PROGRAMS = {"Kandinsky5Transformer3DModel": kandinsky5}
