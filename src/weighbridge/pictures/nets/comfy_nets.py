"""FLUX and Wan as ComfyUI runs them: modulations in one kernel each, sums in place. Queries and
keys are rotated in float32, since 0.16 by a separate kernel. Parameters have ComfyUI's names; the
tree that the estimate counts is diffusers', of equal size.

Source: ComfyUI 0.3.64 comfy/ldm/flux/{model, layers, math}.py, comfy/ldm/wan/model.py; of 2026 @
980c56ce comfy/ldm/flux/math.py (comfy_kitchen's apply_rope), @ 0c9a69ae comfy/ldm/wan/model.py.
"""

from math import prod

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import embed, latent, norm, packed, rows, width_of
from weighbridge.pictures.nets.wan import patches
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat, headed

Streams = tuple[Value, Value]
LAYERS = "in_layer", "out_layer"  # of MLPEmbedder


def turned(x: Value) -> Value:
    """Return `x` rotated: products with two columns of a matrix per pair, summed, in float32."""
    if not x.run.turns_wide:
        return x * 1.0
    wide = x.float()
    return (wide * 1.0 + wide * 1.0).like(x)


# ---- FLUX


def moded(n: NetPlace, temb: Value, count: int, d: int) -> list[Value]:
    return rows(n.linear("lin", temb.act(), count * d), count)


def parts_of(n: NetPlace, h: Value, heads: int) -> tuple[Value, Value, Value]:
    """Return normalized queries and keys, and values as a view of the fused projection."""
    q, k, v = (headed(one, heads) for one in h.chunk(3))
    q = n.rms_norm("norm.query_norm", q, how="torch")
    k = n.rms_norm("norm.key_norm", k, how="torch")
    return q, k, v


def attended(q: Value, k: Value, v: Value) -> Value:
    """Return the attention output; queries and keys are both cast before either is rotated."""
    heads = q.shape[2]
    if q.run.turns_wide:
        wide_q, wide_k = q.float(), k.float()
        q = (wide_q * 1.0 + wide_q * 1.0).like(v)
        k = (wide_k * 1.0 + wide_k * 1.0).like(v)
        del wide_q, wide_k
    else:
        q, k = q * 1.0, k * 1.0
    return attend(flat(q), flat(k), flat(v), heads, first=True)


def added(x: Value, n: NetPlace, gate: Value, h: Value, inside: int = 0) -> Value:
    """Return x += gate f(h), with the projection of an attention or an MLP."""
    if inside:
        f = n.linear("2", n.linear("0", h, inside).act(), x.shape[-1])
    else:
        f = n.linear("proj", h, x.shape[-1])
    return x.written(gate * f)


def two(p: NetPlace, img: Value, txt: Value, temb: Value, heads: int) -> Streams:
    """DoubleStreamBlock"""
    d, image, text = img.shape[-1], img.shape[1], txt.shape[1]
    img_mods = moded(p / "img_mod", temb, 6, d)
    txt_mods = moded(p / "txt_mod", temb, 6, d)
    img_modulated = norm(p, img) * img_mods[1]
    img_qkv = (p / "img_attn").linear("qkv", img_modulated, 3 * d)
    img_q, img_k, img_v = parts_of(p / "img_attn", img_qkv, heads)
    txt_modulated = norm(p, txt) * txt_mods[1]
    txt_qkv = (p / "txt_attn").linear("qkv", txt_modulated, 3 * d)
    txt_q, txt_k, txt_v = parts_of(p / "txt_attn", txt_qkv, heads)
    attn = attended(cat([txt_q, img_q]), cat([txt_k, img_k]), cat([txt_v, img_v]))
    txt_attn, img_attn = attn.split(text, image, dim=1)
    img = img + img_mods[2] * (p / "img_attn").linear("proj", img_attn, d)
    f = norm(p, img) * img_mods[4]
    f = (p / "img_mlp").linear("2", (p / "img_mlp").linear("0", f, 4 * d).act(), d)
    img = img + img_mods[5] * f
    txt = added(txt, p / "txt_attn", txt_mods[2], txt_attn)
    txt = added(txt, p / "txt_mlp", txt_mods[5], norm(p, txt) * txt_mods[4], 4 * d)
    return img, txt


def one(p: NetPlace, x: Value, temb: Value, heads: int) -> Value:
    """SingleStreamBlock"""
    d = x.shape[-1]
    mods = moded(p / "modulation", temb, 3, d)
    h = p.linear("linear1", norm(p, x) * mods[1], 7 * d)
    qkv, mlp = h.split(3 * d, 4 * d)
    q, k, v = parts_of(p, qkv, heads)
    attn = attended(q, k, v)
    output = p.linear("linear2", cat([attn, mlp.act()], -1), d)
    return x.written(mods[2] * output)


def flux(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = width_of(c)
    run = n.run
    img = n.linear("img_in", latent(n, s, c.in_channels, s.tokens or packed(s)), d)
    temb = embed(n / "time_in", run.new(s.batch, 256), d, names=LAYERS)
    if c.guidance_embeds:
        temb = temb + embed(n / "guidance_in", run.new(s.batch, 256), d, names=LAYERS)
    pooled = run.constant(s.batch, c.pooled_projection_dim)
    temb = temb + embed(n / "vector_in", pooled, d, names=LAYERS)
    txt = n.linear("txt_in", latent(n, s, c.joint_attention_dim, s.text), d)
    turns = run.new(1, s.text + img.shape[1], 2 * c.attention_head_dim, dtype=FLOAT32)
    for p in n.each("double_blocks", c.num_layers):
        img, txt = p.block(lambda p, img, txt: two(p, img, txt, temb, heads), img, txt)
    image = img.shape[1]
    img = cat([txt, img])
    for p in n.each("single_blocks", c.num_single_layers):
        img = p.block(lambda p, x: one(p, x, temb, heads), img)
    img = img.part(s.batch, image, d)
    del turns
    final = n / "final_layer"
    scale = rows((final / "adaLN_modulation").linear("1", temb.act(), 2 * d), 2)[1]
    return final.linear("linear", norm(final, img) * scale, c.out_channels or c.in_channels)


# ---- Wan


def wan_attention(a: NetPlace, x: Value, heads: int, seen: Value | None = None) -> Value:
    """Return WanSelfAttention of `x`, or WanT2VCrossAttention to the text `seen`."""
    d, source = x.shape[-1], x if seen is None else seen
    q = a.rms_norm("norm_q", a.linear("q", x, d), how="torch")
    if seen is None:
        q = turned(q)
    k = a.rms_norm("norm_k", a.linear("k", source, d), how="torch")
    if seen is None:
        k = turned(k)
    h = attend(q, k, a.linear("v", source, d), heads)
    return a.linear("o", h, d)


def wan(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    (d, heads), run = width_of(c), n.run
    x = patches(n, "patch_embedding", c, s, c.in_channels)
    x = x.copy()
    times = s.batch, 1
    temb = embed(n / "time_embedding", run.new(*times, c.freq_dim), d, names=("0", "2"))
    mods = (n / "time_projection").linear("1", temb.act(), 6 * d).view(*times, 6, d)
    text = embed(
        n / "text_embedding", run.constant(s.batch, s.text, c.text_dim), d, names=("0", "2")
    )
    turns = run.new(1, x.shape[1], 2 * c.attention_head_dim, dtype=FLOAT32)

    def block(p: NetPlace, x: Value) -> Value:
        e = [one.view(*times, d) for one in (mods + run.constant(1, 6, d)).chunk(6, dim=-2)]
        h = p.layer_norm("norm1", x, affine=False) * e[1]
        y = wan_attention(p / "self_attn", h, heads)
        del h
        x = y * e[2]  # addcmul(x, y, e[2]): one result
        del y
        h = p.layer_norm("norm3", x) if c.cross_attn_norm else x
        x = x + wan_attention(p / "cross_attn", h, heads, text)
        h = p.layer_norm("norm2", x, affine=False) * e[4]
        ffn = p / "ffn"
        y = ffn.linear("2", ffn.linear("0", h, c.ffn_dim).act(), d)
        return y * e[5]  # addcmul(x, y, e[5])

    for p in n.each("blocks", c.num_layers):
        x = p.block(block, x)
    del turns
    h = (n / "head").layer_norm("norm", x, affine=False) * 1.0
    return (n / "head").linear("head", h, prod(c.patch_size) * (c.out_channels or c.in_channels))


PROGRAMS = {"FluxTransformer2DModel": flux, "WanTransformer3DModel": wan}
