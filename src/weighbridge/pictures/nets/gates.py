"""Transformers of one stream, and those with gates or experts of their own kind."""

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import latent, packed
from weighbridge.pictures.nets.oldblocks import (
    attention,
    continuous,
    embed,
    feed,
    norm,
    qkv,
    rope,
    rows,
    scaled,
    swiglu,
    table,
    timestep,
)
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat, headed


def krea2(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads, kv, m = (
        c.num_attention_heads * c.attention_head_dim,
        c.num_attention_heads,
        c.num_key_value_heads,
        n.run,
    )
    w = c.text_hidden_dim
    t = embed(n / "time_embed", m.new(s.batch, c.timestep_embed_dim), d)
    temb = n.linear("time_mod_proj", t.act(), 6 * d)

    def ff(p, x, inside):
        return swiglu(p, x, inside, ("gate", "up", "down"))

    def plain(p, x):
        x = x + attention(
            p / "attn",
            p.rms_norm("norm1", x, how="float"),
            c.text_num_attention_heads,
            kv_heads=c.text_num_key_value_heads,
            bias=False,
            out_bias=False,
            qk="head",
            how="float",
            gate="to_gate",
        )
        return x + ff(p / "ff", p.rms_norm("norm2", x, how="float"), c.text_intermediate_size)

    f, layers = n / "text_fusion", c.num_text_layers
    y = m.new(s.batch * s.text, layers, w)
    for p in (f).each("layerwise_blocks", c.num_layerwise_text_blocks):
        y = plain(p, y)
    y = f.linear("projector", y.view(s.batch, s.text, w, layers), 1, False).view(s.batch, s.text, w)
    for p in (f).each("refiner_blocks", c.num_refiner_text_blocks):
        y = plain(p, y)
    i = n / "txt_in"
    y = embed(i, i.rms_norm("norm", y, how="float"), d)
    x = n.linear("img_in", latent(n, s, c.in_channels, s.tokens or packed(s)), d)

    def block(p, x):
        mod = table(p, temb, 6)
        h = scaled(p.rms_norm("norm1", x, how="float"), mod[0], mod[1])
        x = x + mod[2] * attention(
            p / "attn",
            h,
            heads,
            bias=False,
            out_bias=False,
            qk="head",
            turn="real",
            kv_heads=kv,
            how="float",
            gate="to_gate",
        )
        return x + mod[5] * ff(
            p / "ff",
            scaled(p.rms_norm("norm2", x, how="float"), mod[3], mod[4]),
            c.intermediate_size,
        )

    x = cat([y, x])
    for p in n.each("transformer_blocks", c.num_layers):
        x = p.block(block, x)
    o, part = n / "final_layer", m.new(s.batch, 1, d)
    o.param("scale_shift_table", 2, d)
    return o.linear("linear", scaled(o.rms_norm("norm", x, how="float"), part, part), c.in_channels)


def cogview4(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads, t, m = (
        c.num_attention_heads * c.attention_head_dim,
        c.num_attention_heads,
        c.time_embed_dim,
        n.run,
    )
    e = n / "time_condition_embed"
    temb = timestep(e / "timestep_embedder", s.batch, t, inputs=d) + timestep(
        e / "condition_embedder", s.batch, t, inputs=6 * c.condition_dim
    )
    x = (n / "patch_embed").linear(
        "proj", latent(n, s, c.patch_size**2 * c.in_channels, packed(s)), d
    )
    y = (n / "patch_embed").linear("text_proj", latent(n, s, c.text_embed_dim, s.text), d)

    def block(p, x, y):
        mod = rows((p / "norm1").linear("linear", temb, 12 * d), 12)
        h, g = scaled(norm(p, x), mod[2], mod[0]), scaled(norm(p, y), mod[3], mod[1])
        z = cat([g, h])
        a = p / "attn1"
        q, k, v = qkv(a, z, d)
        q, k = norm(a, headed(q, heads)), norm(a, headed(k, heads))
        q = flat(rope(q, "real"))
        k = flat(rope(k, "real"))
        z = attend(q, k, v, heads)
        del q, k, v
        b, a_ = (a / "to_out").linear("0", z, d).split(s.text, x.shape[1], dim=1)
        x, y = x + a_ * mod[4], y + b * mod[5]
        h, g = scaled(norm(p, x), mod[8], mod[6]), scaled(norm(p, y), mod[9], mod[7])
        h, g = feed(p / "ff", h, 4 * d), feed(p / "ff", g, 4 * d)
        return x + h * mod[10], y + g * mod[11]

    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(block, x, y)
    x = continuous(n / "norm_out", x, temb)
    return n.linear("proj_out", x, c.patch_size**2 * c.out_channels)


def kandinsky5(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads, t, m = c.model_dim, c.model_dim // sum(c.axes_dims), c.time_dim, n.run
    k = c.patch_size
    channels = 2 * c.in_visual_dim + 1 if c.visual_cond else c.in_visual_dim
    temb = embed(n / "time_embeddings", m.new(s.batch, d), t, names=("in_layer", "out_layer"))
    y = (n / "text_embeddings").linear("in_layer", latent(n, s, c.in_text_dim, s.text), d)
    y = (n / "text_embeddings").layer_norm("norm", y)
    p = n / "pooled_text_embeddings"
    temb = temb + p.layer_norm("norm", p.linear("in_layer", m.new(s.batch, c.in_text_dim2), t))
    x = (n / "visual_embeddings").linear(
        "in_layer",
        latent(n, s, channels * k[0] * k[1] * k[2], s.frames * s.height * s.width // (k[1] * k[2])),
        d,
    )

    def at(p, x, seen=None):
        q, key, v = qkv(p, x, d, names=("to_query", "to_key", "to_value"), seen=seen)
        q = p.rms_norm("query_norm", headed(q, heads).float(), how="torch").to(m.dtype)
        key = p.rms_norm("key_norm", headed(key, heads).float(), how="torch").to(m.dtype)
        if not seen:
            q = rope(q, "real")
            key = rope(key, "real")
        return p.linear("out_layer", attend(flat(q), flat(key), v, heads), d)

    def part(p, x, mod, fn):
        h = scaled(norm(p, x.float()), mod[1].float(), mod[0].float()).like(x)
        f = fn(h)
        h = f
        return (x.float() + mod[2].float() * h.float()).like(x)

    def ff(p, x):
        f = p / "feed_forward"
        return f.linear("out_layer", f.linear("in_layer", x, c.ff_dim, False).act(), d, False)

    for p in n.each("text_transformer_blocks", c.num_text_blocks):
        mod = rows((p / "text_modulation").linear("out_layer", temb.act(), 6 * d), 6)
        y = part(p, y, mod[:3], lambda h: at(p / "self_attention", h))
        y = part(p, y, mod[3:], lambda h: ff(p, h))

    def block(p, x):
        mod = rows((p / "visual_modulation").linear("out_layer", temb.act(), 9 * d), 9)
        x = part(p, x, mod[:3], lambda h: at(p / "self_attention", h))
        x = part(p, x, mod[3:6], lambda h: at(p / "cross_attention", h, y))
        return part(p, x, mod[6:], lambda h: ff(p, h))

    for p in n.each("visual_transformer_blocks", c.num_visual_blocks):
        x = p.block(block, x)
    o = n / "out_layer"
    mod = rows((o / "modulation").linear("out_layer", temb.act(), 2 * d), 2)
    return o.linear(
        "out_layer", scaled(norm(o, x), mod[1], mod[0]), k[0] * k[1] * k[2] * c.out_visual_dim
    )


PROGRAMS = {
    "Krea2Transformer2DModel": krea2,
    "CogView4Transformer2DModel": cogview4,
    "Kandinsky5Transformer3DModel": kandinsky5,
}
