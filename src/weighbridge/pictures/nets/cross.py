"""Transformers that attend to themselves, then to the text, or hold both in one stream."""

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    attention,
    continuous,
    embed,
    feed,
    joint,
    norm,
    qkv,
    rope,
    rows,
    scaled,
    table,
    timestep,
)
from weighbridge.pictures.nets.joint import latent, packed
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat, headed


def patches(n, name, c, s, d, k, channels=None):
    x = n.run.new(s.batch, channels or c.in_channels, s.frames, s.height, s.width)
    x = n.conv(name, x, d, k, k, (0, 0, 0))
    return x.view(s.batch, x.shape[2] * x.shape[3] * x.shape[4], d)


def adaln(n, b, d, count=6):
    """AdaLayerNormSingle"""
    temb = timestep(n / "emb" / "timestep_embedder", b, d)
    return n.linear("linear", temb.act(), count * d), temb


def sana(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads, m = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads, n.run
    cross, video = (
        c.num_cross_attention_heads * c.cross_attention_head_dim,
        n.run.cls == "SanaVideoTransformer3DModel",
    )
    n.param("scale_shift_table", 2, d)
    if video:
        x = patches(n, "patch_embedding", c, s, d, tuple(c.patch_size))
        s.height, s.width = s.height // c.patch_size[1], s.width // c.patch_size[2]
    else:
        x = (n / "patch_embed").conv(
            "proj",
            m.new(s.batch, c.in_channels, s.height, s.width),
            d,
            c.patch_size,
            c.patch_size,
            0,
        )
        s.height, s.width = x.shape[2:]
        x = x.view(s.batch, s.height * s.width, d)
    if c.guidance_embeds:
        for name in ("timestep_embedder", "guidance_embedder"):
            t = timestep(n / "time_embed" / name, s.batch, d)
        temb = (n / "time_embed").linear("linear", t.act(), 6 * d)
    else:
        temb, _ = adaln(n / "time_embed", s.batch, d)
    y = n.rms_norm(
        "caption_norm", embed(n / "caption_projection", latent(n, s, c.caption_channels, s.text), d)
    )
    inside = int(c.mlp_ratio * d)

    def block(p, x):
        mod = table(p, temb, 6)
        h = scaled(norm(p, x), mod[1], mod[0])
        a = p / "attn1"
        q, k, v = qkv(a, h, d, bias=bool(c.attention_bias))
        if c.qk_norm:
            q, k = a.rms_norm("norm_q", q, how="torch"), a.rms_norm("norm_k", k, how="torch")
        q, k = q.act("result"), k.act("result")
        q, k, v = q.float(), k.float(), v.float()
        v = v.copy()  # padded by a row of ones
        h = q, k, v.resized(*q.shape)
        h = h.resized(*h.shape)  # divided by that row's product
        h = h.to(m.dtype)
        del q, k, v
        a = (a / "to_out").linear("0", h, d)
        x = x + mod[2] * a
        a = attention(
            p / "attn2",
            x,
            c.num_cross_attention_heads,
            cross,
            seen=y,
            qk="width" if c.qk_norm else None,
            how="torch",
        )
        x = a + x
        h = scaled(norm(p, x), mod[4], mod[3])
        f, b, t = p / "ff", s.batch * (s.frames if video else 1), s.height
        h = h.view(b, d, s.height, s.width)
        h = f.conv("conv_inverted", h, 2 * inside, 1).act()
        h = f.conv("conv_depth", h, 2 * inside, 3, groups=2 * inside)
        h, gate = h.chunk(2, dim=1)
        h = f.conv("conv_point", h * gate.act(), d, 1, bias=False)
        if video:
            h = h.view(s.batch, d, s.frames, s.height * s.width)
            h = h + f.conv("conv_temp", h, d, (3, 1), 1, (1, 0), bias=False)
        h = h.view(s.batch, x.shape[1], d)
        return x + mod[5] * h

    for p in n.each("transformer_blocks", c.num_layers):
        x = p.block(block, x)
    part = m.new(s.batch, 1, d)
    size = c.patch_size[0] * c.patch_size[1] * c.patch_size[2] if video else c.patch_size**2
    return n.linear("proj_out", scaled(norm(n, x), part, part), size * c.out_channels)


def pixart(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads
    n.param("scale_shift_table", 2, d)
    x = (n / "pos_embed").conv(
        "proj",
        n.run.new(s.batch, c.in_channels, s.height, s.width),
        d,
        c.patch_size,
        c.patch_size,
        0,
    )
    x = x.view(s.batch, x.shape[2] * x.shape[3], d)
    e = n / "adaln_single"
    temb, _ = adaln(e, s.batch, d)
    if c.use_additional_conditions or (
        c.sample_size == 128
        and (n.run.cls == "Transformer2DModel" or c.use_additional_conditions is None)
    ):
        timestep(e / "emb" / "resolution_embedder", s.batch, d // 3)
        timestep(e / "emb" / "aspect_ratio_embedder", s.batch, d // 3)
    y = (
        embed(n / "caption_projection", latent(n, s, c.caption_channels, s.text), d)
        if c.caption_channels
        else latent(n, s, d, s.text)
    )

    def block(p, x):
        mod = table(p, temb, 6)
        h = scaled(norm(p, x), mod[1], mod[0])
        x = mod[2] * attention(p / "attn1", h, heads, bias=c.attention_bias) + x
        x = attention(p / "attn2", x, heads, seen=y, bias=c.attention_bias) + x
        return mod[5] * feed(p / "ff", scaled(norm(p, x), mod[4], mod[3]), 4 * d) + x

    for p in n.each("transformer_blocks", c.num_layers):
        x = p.block(block, x)
    part = n.run.new(s.batch, 1, d)
    return n.linear("proj_out", scaled(norm(n, x), part, part), c.patch_size**2 * c.out_channels)


PROGRAMS = {
    "SanaTransformer2DModel": sana,
    "SanaVideoTransformer3DModel": sana,
    "PixArtTransformer2DModel": pixart,
    "Transformer2DModel": pixart,
}
