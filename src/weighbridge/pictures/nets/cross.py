"""Transformers of one stream that attend to a text: Sana and SANA-Video.

Source: diffusers 0.42 models/transformers/{sana_transformer, transformer_sana_video}.py.
"""

from math import prod

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import embed, timestep
from weighbridge.pictures.nets.ltx import scaled
from weighbridge.pictures.nets.wan import turned
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend

Turns = tuple[Value, Value]


def patches(n: NetPlace, c: ComponentConfig, s: Sizes, d: int) -> tuple[Value, int, int]:
    """PatchEmbed: tokens that lie channels first, and rows and columns of them."""
    k = c.patch_size
    x = n.run.constant(s.batch, c.in_channels, s.height, s.width)
    x = n.conv("proj", x, d, k, k, 0)
    height, width = x.shape[2:]
    return x.view(s.batch, height * width, d), height, width


def projected(
    a: NetPlace, x: Value, seen: Value, d: int, *, bias: bool, norms: bool
) -> list[Value]:
    """Queries, keys and values, with norms over the whole width where there are norms."""
    query, key, value = (
        a.linear(name, y, d, bias) for name, y in (("to_q", x), ("to_k", seen), ("to_v", seen))
    )
    if norms:
        query = a.rms_norm("norm_q", query)
        key = a.rms_norm("norm_k", key)
    return [query, key, value]


def modulation(p: NetPlace, temb: Value, count: int = 6) -> list[Value]:
    """A table's rows beside those of an item, or of each token."""
    d = temb.shape[-1] // count
    rows = p.value("scale_shift_table", count, d) + temb.view(*temb.shape[:-1], count, d)
    return [part.view(*temb.shape[:-1], d) for part in rows.chunk(count, dim=-2)]


def ended(n: NetPlace, x: Value, times: Value, out: int) -> Value:
    """The last norm, which the embedding of time modulates, and patches as pixels."""
    d = x.shape[-1]
    table = n.value("scale_shift_table", 2, d)
    shift, scale = (table + times.view(*times.shape[:-1], 1, d)).chunk(2, dim=-2)
    x = n.layer_norm("", x, affine=False)
    x = scaled(x, scale.view(*times.shape), shift.view(*times.shape))
    x = n.linear("proj_out", x, out)
    return x.copy()


# ---- Sana


def linear_attention(a: NetPlace, x: Value, c: ComponentConfig) -> Value:
    """SanaLinearAttnProcessor2_0: no scores of tokens; a row of ones makes what divides."""
    d, heads = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads
    query, key, value = projected(a, x, x, d, bias=bool(c.attention_bias), norms=bool(c.qk_norm))
    query = query.act("result")
    key = key.act("result")
    query, key, value = query.float(), key.float(), value.float()
    b, tokens = x.shape[:2]
    head, longer = d // heads, d // heads + 1
    value = value.resized(b, heads, longer, tokens)
    scores = value.matmul(key.view(b, heads, tokens, head), head)
    h = scores.matmul(query.view(b, heads, head, tokens), tokens)
    last = h.part(b, heads, 1, tokens) + 1e-15
    h = h.part(b, heads, head, tokens) / last
    del last
    h = h.like(x).view(b, tokens, d)
    return (a / "to_out").linear("0", h, x.shape[-1])


def turned_attention(a: NetPlace, x: Value, c: ComponentConfig, turns: Turns) -> Value:
    """SanaLinearAttnProcessor3_0: the same with positions, and without them for what divides."""
    d, heads = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads
    (b, tokens), head = x.shape[:2], d // heads
    query, key, value = projected(a, x, x, d, bias=bool(c.attention_bias), norms=bool(c.qk_norm))
    query = query.act("result").view(b, tokens, heads, head)
    key = key.act("result").view(b, tokens, heads, head)
    query_rotate = turned(query, turns)
    key_rotate = turned(key, turns)
    query_rotate, key_rotate, value = query_rotate.float(), key_rotate.float(), value.float()
    total = key.resized(b, heads, 1, head)
    z = total.matmul(query.view(b, heads, head, tokens), tokens) + 1e-15
    z = z * 1.0
    scores = value.view(b, heads, head, tokens).matmul(
        key_rotate.view(b, heads, tokens, head), head
    )
    h = scores.matmul(query_rotate.view(b, heads, head, tokens), tokens)
    h = h * z
    h = h.like(x).view(b, tokens, d)
    return (a / "to_out").linear("0", h, x.shape[-1])


def crossed(a: NetPlace, x: Value, y: Value, c: ComponentConfig) -> Value:
    """SanaAttnProcessor2_0"""
    d = c.num_cross_attention_heads * c.cross_attention_head_dim
    query, key, value = projected(a, x, y, d, bias=True, norms=bool(c.qk_norm))
    h = attend(query, key, value, c.num_cross_attention_heads, masked=True)
    h = (a / "to_out").linear("0", h, x.shape[-1])
    return h * 1.0  # rescale_output_factor


def gated(f: NetPlace, x: Value, inside: int) -> Value:
    """GLUMBConv of [batch, channels, height, width], whose channels lie last."""
    d = x.shape[1]
    h = f.conv("conv_inverted", x, 2 * inside, 1, last=True)
    h = h.act()
    h = f.conv("conv_depth", h, 2 * inside, 3, groups=2 * inside)
    h, gate = h.chunk(2, dim=1)
    h = h * gate.act()
    return f.conv("conv_point", h, d, 1, bias=False, last=True)


def sana_times(n: NetPlace, c: ComponentConfig, s: Sizes, d: int, rows: int) -> tuple[Value, Value]:
    """Modulation and embedding of time, and of guidance where it is distilled."""
    e = n / "time_embed"
    if c.guidance_embeds:
        times = timestep(e / "timestep_embedder", rows, d)
        times = times + timestep(e / "guidance_embedder", rows, d)
    else:
        times = timestep(e / "emb" / "timestep_embedder", rows, d)
    temb = e.linear("linear", times.act(), 6 * d)
    shape = s.batch, rows // s.batch
    return temb.view(*shape, 6 * d), times.view(*shape, d)


def sana(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    video = n.run.cls == "SanaVideoTransformer3DModel"
    d, run, k = c.num_attention_heads * c.attention_head_dim, n.run, c.patch_size
    frames, turns = 1, None
    if video:
        frames, height, width = s.frames // k[0], s.height // k[1], s.width // k[2]
        tokens = frames * height * width
        cos, sin = (run.new(1, tokens, 1, c.attention_head_dim, dtype=FLOAT32) for _ in range(2))
        turns = (cos, sin)
        x = run.constant(s.batch, c.in_channels, s.frames, s.height, s.width)
        x = n.conv("patch_embedding", x, d, tuple(k), tuple(k), 0).view(s.batch, tokens, d)
    else:
        x, height, width = patches(n / "patch_embed", c, s, d)
    rows = s.batch * (x.shape[1] if s.token_times else 1)
    temb, times = sana_times(n, c, s, d, rows)
    y = embed(n / "caption_projection", run.constant(s.batch, s.text, c.caption_channels), d)
    y = n.rms_norm("caption_norm", y)

    def look(a: NetPlace, h: Value, c: ComponentConfig) -> Value:
        return linear_attention(a, h, c) if turns is None else turned_attention(a, h, c, turns)

    def block(p: NetPlace, x: Value) -> Value:
        shift, scale, gate, shift2, scale2, gate2 = modulation(p, temb)
        h = p.layer_norm("", x, affine=False)
        h = scaled(h, scale, shift)
        a, q = look(p / "attn1", h, c), x.shape[0]
        x = x + gate * a
        a = crossed(p / "attn2", x, y, c)
        x = a + x
        h = p.layer_norm("", x, affine=False)
        h = scaled(h, scale2, shift2)
        f = gated(p / "ff", h.view(q * frames, d, height, width), int(c.mlp_ratio * d))
        if video:
            f = f.view(q, d, frames, height * width)
            f = f + (p / "ff").conv("conv_temp", f, d, (3, 1), 1, (1, 0), bias=False)
        f = f.view(*x.shape)
        return x + gate2 * f

    for p in n.each("transformer_blocks", c.num_layers):
        x = p.block(block, x)
    size = prod(k) if video else k**2
    return ended(n, x, times, size * (c.out_channels or c.in_channels))


PROGRAMS = {
    "SanaTransformer2DModel": sana,
    "SanaVideoTransformer3DModel": sana,
}
