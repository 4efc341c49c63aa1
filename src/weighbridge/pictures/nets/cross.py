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


def cogvideox(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads, t = (
        c.num_attention_heads * c.attention_head_dim,
        c.num_attention_heads,
        c.time_embed_dim,
    )
    temb, k = timestep(n / "time_embedding", s.batch, t, inputs=d), c.patch_size
    p = n / "patch_embed"
    y = p.linear("text_proj", latent(n, s, c.text_embed_dim, s.text), d)
    if c.patch_size_t:
        x = p.linear(
            "proj",
            latent(
                n,
                s,
                c.in_channels * k * k * c.patch_size_t,
                -(-s.frames // c.patch_size_t) * (s.height // k) * (s.width // k),
            ),
            d,
        )
    else:
        x = p.conv(
            "proj", n.run.new(s.batch * s.frames, c.in_channels, s.height, s.width), d, k, k, 0
        )
        x = x.view(s.batch, s.frames * x.shape[2] * x.shape[3], d)
    if c.use_learned_positional_embeddings:
        frames = (c.sample_frames - 1) // c.temporal_compression_ratio + 1
        p.param(
            "pos_embedding",
            1,
            frames * (c.sample_height // k) * (c.sample_width // k) + c.max_text_seq_length,
            d,
        )
    x = cat([y, x])
    y, x = x.split(s.text, x.shape[1] - s.text, dim=1)

    def zero(p, x, y):
        parts = rows(p.linear("linear", temb.act(), 6 * d), 6)
        return (
            scaled(p.layer_norm("norm", x), parts[1], parts[0]),
            scaled(p.layer_norm("norm", y), parts[4], parts[3]),
            parts[2],
            parts[5],
        )

    def block(p, x, y):
        h, g, gate, gate_y = zero(p / "norm1", x, y)
        a, z = p / "attn1", cat([g, h])
        q, k, v = qkv(a, z, d)
        q, k = (
            flat(a.layer_norm("norm_q", headed(q, heads))),
            flat(a.layer_norm("norm_k", headed(k, heads))),
        )
        if c.use_rotary_positional_embeddings:
            rope(headed(q, heads), "real")
            rope(headed(k, heads), "real")
        z = attend(q, k, v, heads)
        del q, k, v
        b, a_ = (a / "to_out").linear("0", z, d).split(s.text, x.shape[1], dim=1)
        del z
        x = x + gate * a_
        y = y + gate_y * b
        h, g, gate, gate_y = zero(p / "norm2", x, y)
        h = cat([g, h])
        f, e = feed(p / "ff", h, 4 * d).split(s.text, x.shape[1], dim=1)
        b, a_ = f, e
        return x + gate * a_, y + gate_y * b

    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(block, x, y)
    x = n.layer_norm("norm_final", cat([y, x])).split(s.text, x.shape[1], dim=1)[1]
    scale, shift = rows((n / "norm_out").linear("linear", temb.act(), 2 * d), 2)
    x = scaled((n / "norm_out").layer_norm("norm", x), scale, shift)
    return n.linear("proj_out", x, k * k * (c.patch_size_t or 1) * c.out_channels)


def mochi(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads, e = (
        c.num_attention_heads * c.attention_head_dim,
        c.num_attention_heads,
        c.pooled_projection_dim,
    )
    n.param("pos_frequencies", 3, heads, c.attention_head_dim // 2)
    x = (n / "patch_embed").conv(
        "proj",
        n.run.new(s.batch * s.frames, c.in_channels, s.height, s.width),
        d,
        c.patch_size,
        c.patch_size,
        0,
    )
    x = x.view(s.batch, s.frames * x.shape[2] * x.shape[3], d)
    p, text = n / "time_embed", latent(n, s, c.text_embed_dim, s.text)
    temb = timestep(p / "timestep_embedder", s.batch, d)
    (p / "pooler").linear("to_kv", text, 2 * c.text_embed_dim)
    pooled = (p / "pooler").linear("to_q", n.run.new(s.batch, c.text_embed_dim), c.text_embed_dim)
    temb = temb + (p / "pooler").linear("to_out", pooled, d)
    y = p.linear("caption_proj", text, e)

    def rms(x, gate):
        return (x.float() * x.float().power().mean() * gate.float()).like(x)

    def block(p, x, y):
        last = p.path.endswith(f".{c.num_layers - 1}.")
        scale, gate, scale2, gate2 = rows((p / "norm1").linear("linear", temb.act(), 4 * d), 4)
        h = rms(x, scale)
        if last:
            m = (p / "norm1_context").linear("linear_1", temb.act(), e).view(s.batch, 1, e)
            g = rms(y, m)
        else:
            m = rows((p / "norm1_context").linear("linear", temb.act(), 4 * e), 4)
            g = rms(y, m[0])
        a, b = joint(
            p / "attn1",
            h,
            g,
            d,
            heads,
            bias=False,
            turn="real",
            text_first=False,
            each=True,
            out=not last,
            dy=e,
            joined=None,
            out_bias=True,
        )
        x = x + rms(a, gate)
        x = x + rms(feed(p / "ff", rms(x, scale2), 4 * d * 2 // 3, how="swiglu", bias=False), gate2)
        if last:
            return x, y
        y = y + rms(b, m[1])
        return x, y + rms(
            feed(p / "ff_context", rms(y, m[2]), 4 * e * 2 // 3, how="swiglu", bias=False), m[3]
        )

    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(block, x, y)
    x = continuous(n / "norm_out", x, temb)
    return n.linear("proj_out", x, c.patch_size**2 * (c.out_channels or c.in_channels))


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


def cosmos(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads, low = (
        c.num_attention_heads * c.attention_head_dim,
        c.num_attention_heads,
        c.adaln_lora_dim,
    )
    k, channels = c.patch_size, c.in_channels + bool(c.concat_padding_mask)
    x = (n / "patch_embed").linear(
        "proj",
        latent(n, s, channels * k[0] * k[1] * k[2], s.frames * s.height * s.width // 4),
        d,
        False,
    )
    if c.extra_pos_embed_type == "learnable":
        for axis, size, step in zip("thw", c.max_size, k):
            (n / "learnable_pos_embed").param(f"pos_emb_{axis}", size // step, d)
    e = n / "time_embed"
    t = n.run.new(s.batch, d)
    temb = (e / "t_embedder").linear(
        "linear_2", (e / "t_embedder").linear("linear_1", t, d, False).act(), 3 * d, False
    )
    t = e.rms_norm("norm", t)
    if c.use_crossattn_projection:
        y = n.linear(
            "crossattn_proj.0",
            latent(n, s, c.crossattn_proj_in_channels, s.text),
            c.encoder_hidden_states_channels,
        )
    y = latent(n, s, c.text_embed_dim, s.text)

    def zero(p, x):
        mod = p.linear("linear_2", p.linear("linear_1", t.act(), low, False), 3 * d, False) + temb
        mod = rows(mod, 3)
        return scaled(norm(p, x), mod[1], mod[0]), mod[2]

    def block(p, x):
        if c.extra_pos_embed_type:
            x = x + p.run.constant(1)
        h, gate = zero(p / "norm1", x)
        a = attention(
            p / "attn1", h, heads, bias=False, out_bias=False, qk="head", turn="real", how="torch"
        )
        x = x + gate * a
        h, gate = zero(p / "norm2", x)
        a = attention(
            p / "attn2", h, heads, seen=y, bias=False, out_bias=False, qk="head", how="torch"
        )
        x = x + gate * a
        h, gate = zero(p / "norm3", x)
        return x + gate * feed(p / "ff", h, int(c.mlp_ratio * d), bias=False)

    for p in n.each("transformer_blocks", c.num_layers):
        x = p.block(block, x)
    o = n / "norm_out"
    mod = rows(o.linear("linear_2", o.linear("linear_1", t.act(), low, False), 2 * d, False), 2)
    return n.linear(
        "proj_out", scaled(norm(o, x), mod[1], mod[0]), k[0] * k[1] * k[2] * c.out_channels, False
    )


PROGRAMS = {
    "CogVideoXTransformer3DModel": cogvideox,
    "MochiTransformer3DModel": mochi,
    "SanaTransformer2DModel": sana,
    "SanaVideoTransformer3DModel": sana,
    "PixArtTransformer2DModel": pixart,
    "Transformer2DModel": pixart,
    "CosmosTransformer3DModel": cosmos,
}
