"""Mochi's transformer: a video and its text are one sequence in attention.

Source: diffusers 0.42 models/transformers/transformer_mochi.py,
models/{attention_processor, embeddings, normalization}.py.
"""

from collections.abc import Callable
from math import prod

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import continuous, feed, rows, timestep
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat, headed

Turns = tuple[Value, Value]  # cosines and sines of positions
Pair = tuple[Value, Value]  # (video, text)


def modulated(x: Value, scale: Value) -> Value:
    """Return MochiModulatedRMSNorm of `x`, in float32."""
    h = x.float()
    h = NetPlace(x.run).rms_norm("", h, affine=False)
    h = h * scale
    return h.like(x)


def rms_zero(p: NetPlace, x: Value, temb: Value) -> tuple[Value, Value, Value, Value]:
    """MochiRMSNormZero"""
    scale, gate, scale2, gate2 = rows(p.linear("linear", temb.act(), 4 * x.shape[-1]), 4)
    return modulated(x, scale.float() + 1.0), gate, scale2, gate2


def halves(x: Value, turns: Turns) -> Value:
    """Return `x` with the even and odd elements of a head rotated in float32."""
    half, (freqs_cos, freqs_sin) = x.shape[-1] // 2, turns
    even, odd = x.split(half, half)
    x_even = even.float()
    x_odd = odd.float()
    cos = (x_even * freqs_cos - x_odd * freqs_sin).like(x)
    sin = (x_even * freqs_sin + x_odd * freqs_cos).like(x)
    return cat([cos, sin], -1)


def projected(
    a: NetPlace, x: Value, d: int, heads: int, *, added: bool
) -> tuple[Value, Value, Value]:
    """Return queries, keys and values of a stream; the first two are normalized per head."""
    q, k, v = ("add_q_proj", "add_k_proj", "add_v_proj") if added else ("to_q", "to_k", "to_v")
    norm = "norm_added_" if added else "norm_"
    query, key, value = (headed(a.linear(name, x, d, bias=False), heads) for name in (q, k, v))
    query = a.rms_norm(f"{norm}q", query)
    key = a.rms_norm(f"{norm}k", key)
    return query, key, value


def valid(a: NetPlace, x: Value, y: Value, heads: int, turns: Turns, *, last: bool) -> Pair:
    """Return both streams after MochiAttnProcessor2_0, which copies the valid tokens for each item
    of a batch."""
    d, e = x.shape[-1], y.shape[-1]
    query, key, value = projected(a, x, d, heads, added=False)
    y_query, y_key, y_value = projected(a, y, d, heads, added=True)
    query = halves(query, turns)
    key = halves(key, turns)
    outputs = []
    for _ in range(x.shape[0]):
        texts = [one.part(1, *one.shape[1:]).copy() for one in (y_query, y_key, y_value)]
        valid_query, valid_key, valid_value = (
            flat(cat([one.part(1, *one.shape[1:]), text]))
            for one, text in zip((query, key, value), texts, strict=True)
        )
        output = attend(valid_query, valid_key, valid_value, heads)
        output = output.copy()
        outputs.append(output)
    h = cat(outputs, 0)
    h = h.copy()
    of_x, of_y = h.split(x.shape[1], y.shape[1], dim=1)
    of_x = (a / "to_out").linear("0", of_x, d)
    if not last:
        of_y = a.linear("to_add_out", of_y, e)
    return of_x, of_y


def mochi_block(c: ComponentConfig, temb: Value, turns: Turns) -> Callable[..., Pair]:
    """Return a function that runs MochiTransformerBlock; the last block leaves the text
    unchanged."""
    heads, e = c.num_attention_heads, c.pooled_projection_dim

    def block(p: NetPlace, x: Value, y: Value) -> Pair:
        last, d = p.number == c.num_layers - 1, x.shape[-1]
        h, gate, scale2, gate2 = rms_zero(p / "norm1", x, temb)
        if last:
            scale = (p / "norm1_context").linear("linear_1", temb.act(), e)
            g = modulated(y, scale.view(y.shape[0], 1, e).float() + 1.0)
        else:
            g, y_gate, y_scale2, y_gate2 = rms_zero(p / "norm1_context", y, temb)
        a, b = valid(p / "attn1", h, g, heads, turns, last=last)
        x = x + modulated(a, gate.act("result"))
        h = modulated(x, scale2.float() + 1.0)
        f = feed(p / "ff", h, 4 * d * 2 // 3, how="swiglu", bias=False)
        x = x + modulated(f, gate2.act("result"))
        if last:
            return x, y
        y = y + modulated(b, y_gate.act("result"))
        g = modulated(y, y_scale2.float() + 1.0)
        f_y = feed(p / "ff_context", g, 4 * e * 2 // 3, how="swiglu", bias=False)
        return x, y + modulated(f_y, y_gate2.act("result"))

    return block


def mochi(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    heads, run, k = c.num_attention_heads, n.run, c.patch_size
    d, p, text = heads * c.attention_head_dim, n / "time_embed", c.text_embed_dim
    n.param("pos_frequencies", 3, heads, c.attention_head_dim // 2)
    words = run.constant(s.batch, s.text, text)
    temb = timestep(p / "timestep_embedder", s.batch, d, inputs=c.time_embed_dim)
    q = p / "pooler"
    q.linear("to_kv", run.new(s.batch, s.text + 1, text), 2 * text)
    pooled = q.linear("to_q", run.new(s.batch, text), text)
    temb = temb + q.linear("to_out", pooled, d)
    y = p.linear("caption_proj", words, c.pooled_projection_dim)
    x = run.constant(s.batch * s.frames, c.in_channels, s.height, s.width)
    x = (n / "patch_embed").conv("proj", x, d, k, k, 0)
    x = x.copy(s.batch, s.frames * prod(x.shape[2:]), d)
    turns = tuple(
        run.new(x.shape[1], heads, c.attention_head_dim // 2, dtype=FLOAT32) for _ in range(2)
    )
    block = mochi_block(c, temb, (turns[0], turns[1]))
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(block, x, y)
    x = continuous(n / "norm_out", x, temb)
    x = n.linear("proj_out", x, k**2 * (c.out_channels or c.in_channels))
    return x.copy()


PROGRAMS = {"MochiTransformer3DModel": mochi}
