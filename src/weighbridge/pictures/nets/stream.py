"""Transformers of one stream of latents and text: Z-Image and Lumina 2.

Source: diffusers 0.42 models/transformers/{transformer_z_image, transformer_lumina2}.py.
"""

from weighbridge.base.dtypes import FLOAT32, FLOAT64, DType
from weighbridge.base.units import align_up
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    attended,
    attends,
    latent,
    norm,
    normed,
    packed,
    qkv,
    rows,
    spun,
    timestep,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat, headed

LOW = 256  # width of the modulation's input: ADALN_EMBED_DIM
PADDED = 32  # tokens: SEQ_MULTI_OF
HIDDEN = 1024  # of Z-Image's time embedding


def freqs_of(n: NetPlace, batch: int, tokens: int, head: int, dtype: DType = FLOAT32) -> Value:
    """Return complex rotary positions, which live as long as the blocks."""
    return n.run.new(batch, tokens, 1, head, dtype=dtype)


# ---- Z-Image


@attends
def z_attention(n: NetPlace, x: Value, c: ComponentConfig, freqs: Value) -> Value:
    """ZSingleStreamAttnProcessor"""
    d, heads = c.dim, c.n_heads
    q, k, v = qkv(n, x, d, False)
    if c.qk_norm:
        q = flat(normed(n, "norm_q", q, heads))
        k = flat(normed(n, "norm_k", k, heads))
    q = spun(headed(q, heads), freqs)
    k = spun(headed(k, heads), freqs)
    h = attended(q, k, headed(v, heads))
    return (n / "to_out").linear("0", h, d, False)


def gated(w1: Value, w3: Value) -> Value:
    """Return FeedForward._forward_silu_gating, which holds both inputs until its end."""
    return w1.act() * w3


def z_feed(n: NetPlace, x: Value) -> Value:
    """FeedForward"""
    d = x.shape[-1]
    inside = int(d / 3 * 8)
    h = gated(n.linear("w1", x, inside, False), n.linear("w3", x, inside, False))
    return n.linear("w2", h, d, False)


def z_plain(p: NetPlace, x: Value, c: ComponentConfig, freqs: Value) -> Value:
    """Return `x` after ZImageTransformerBlock without a modulation."""
    a = z_attention(p / "attention", p.rms_norm("attention_norm1", x), c, freqs)
    x = x + p.rms_norm("attention_norm2", a)
    return x + p.rms_norm("ffn_norm2", z_feed(p / "feed_forward", p.rms_norm("ffn_norm1", x)))


def z_block(p: NetPlace, x: Value, c: ComponentConfig, freqs: Value, temb: Value) -> Value:
    """ZImageTransformerBlock"""
    mod = rows((p / "adaLN_modulation").linear("0", temb, 4 * c.dim), 4)
    gate, gate_mlp = mod[1].act("result"), mod[3].act("result")
    scale, scale_mlp = mod[0] + 1.0, mod[2] + 1.0
    a = z_attention(p / "attention", p.rms_norm("attention_norm1", x) * scale, c, freqs)
    x = x + gate * p.rms_norm("attention_norm2", a)
    return x + gate_mlp * p.rms_norm(
        "ffn_norm2", z_feed(p / "feed_forward", p.rms_norm("ffn_norm1", x) * scale_mlp)
    )


def z_image(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    d, run = c.dim, n.run
    head = d // c.n_heads
    for token in ("x_pad_token", "cap_pad_token"):
        n.param(token, 1, d)
    e = n / "t_embedder" / "mlp"
    temb = e.linear("2", e.linear("0", run.new(s.batch, LOW), HIDDEN).act(), LOW)
    for patch, frames in zip(c.all_patch_size, c.all_f_patch_size, strict=True):
        key, size = f"{patch}-{frames}", frames * patch * patch * c.in_channels
        tokens = align_up(packed(s, patch), PADDED)
        x = (n / "all_x_embedder").linear(key, latent(n, s, size, tokens), d)
        final = n / "all_final_layer" / key
        final.param("linear.weight", size, d, kind="linear")
        final.param("linear.bias", size, kind="bias")
        (final / "adaLN_modulation").linear("1", temb.act(), d)
    x = x.resized(*x.shape)  # pad_sequence
    x_freqs = freqs_of(n, s.batch, tokens, head)
    for p in n.each("noise_refiner", c.n_refiner_layers):
        x = p.block(lambda p, x: z_block(p, x, c, x_freqs, temb), x)
    text = align_up(s.text, PADDED)
    y = n.rms_norm("cap_embedder.0", latent(n, s, c.cap_feat_dim, text))
    y = n.linear("cap_embedder.1", y, d)
    y = y.resized(*y.shape)
    y_freqs = freqs_of(n, s.batch, text, head)
    for p in n.each("context_refiner", c.n_refiner_layers):
        y = p.block(lambda p, y: z_plain(p, y, c, y_freqs), y)
    unified = cat([x, y]).copy()
    freqs = freqs_of(n, s.batch, tokens + text, head)
    for p in n.each("layers", c.n_layers):
        unified = p.block(lambda p, h: z_block(p, h, c, freqs, temb), unified)
    scale = (final / "adaLN_modulation").linear("1", temb.act(), d) + 1.0
    unified = norm(n, unified) * scale.view(s.batch, 1, d)
    return final.linear("linear", unified, size)


# ---- Lumina 2


def lumina_attention(
    n: NetPlace, x: Value, c: ComponentConfig, freqs: Value, *, masked: bool = False
) -> Value:
    """Return Lumina2AttnProcessor2_0; keys and values are repeated for all heads."""
    d, heads = x.shape[-1], c.num_attention_heads
    q, k, v = qkv(n, x, d, False, kv=d // heads * c.num_kv_heads)
    q = normed(n, "norm_q", q, heads)
    k = normed(n, "norm_k", k, c.num_kv_heads)
    q = spun(q, freqs)
    k = spun(k, freqs)
    k = k.resized(*q.shape)
    v = v.resized(*q.shape)
    h = attend(flat(q), flat(k), flat(v), heads, masked=masked)
    return (n / "to_out").linear("0", h, d, False)


def wide_silu(x: Value) -> Value:
    """FP32SiLU"""
    return x.float().act().like(x)


def lumina_feed(n: NetPlace, x: Value, c: ComponentConfig) -> Value:
    """LuminaFeedForward"""
    d = x.shape[-1]
    inside = align_up(int((c.ffn_dim_multiplier or 1) * 4 * d), c.multiple_of)
    h = wide_silu(n.linear("linear_1", x, inside, False)) * n.linear("linear_3", x, inside, False)
    return n.linear("linear_2", h, d, False)


def lumina_plain(p: NetPlace, x: Value, c: ComponentConfig, freqs: Value) -> Value:
    """Return `x`, a text with a mask, after Lumina2TransformerBlock without a modulation."""
    h = p.rms_norm("norm1", x)
    a = lumina_attention(p / "attn", h, c, freqs, masked=True)
    x = x + p.rms_norm("norm2", a)
    f = lumina_feed(p / "feed_forward", p.rms_norm("ffn_norm1", x), c)
    return x + p.rms_norm("ffn_norm2", f)


def lumina_block(p: NetPlace, x: Value, c: ComponentConfig, freqs: Value, temb: Value) -> Value:
    """Lumina2TransformerBlock"""
    mod = rows((p / "norm1").linear("linear", temb.act(), 4 * x.shape[-1]), 4)
    scale, gate, scale_mlp, gate_mlp = mod
    h = (p / "norm1").rms_norm("norm", x) * (scale + 1.0)
    a = lumina_attention(p / "attn", h, c, freqs)
    x = x + gate.act("result") * p.rms_norm("norm2", a)
    f = lumina_feed(p / "feed_forward", p.rms_norm("ffn_norm1", x) * (scale_mlp + 1.0), c)
    return x + gate_mlp.act("result") * p.rms_norm("ffn_norm2", f)


def lumina2(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    d, run = c.hidden_size, n.run
    head, size = d // c.num_attention_heads, c.patch_size**2 * c.in_channels
    e, tokens = n / "time_caption_embed", packed(s, c.patch_size)
    temb = timestep(e / "timestep_embedder", s.batch, min(d, HIDDEN))
    y = e.rms_norm("caption_embedder.0", latent(n, s, c.cap_feat_dim, s.text))
    y = e.linear("caption_embedder.1", y, d)
    freqs = freqs_of(n, s.batch, tokens + s.text, head, FLOAT64)  # torch.polar of float64
    y_freqs, x_freqs = (freqs_of(n, s.batch, count, head, FLOAT64) for count in (s.text, tokens))
    x = n.linear("x_embedder", run.new(s.batch, tokens, size), d)
    for p in n.each("context_refiner", c.num_refiner_layers):
        y = lumina_plain(p, y, c, y_freqs)
    for p in n.each("noise_refiner", c.num_refiner_layers):
        x = lumina_block(p, x, c, x_freqs, temb)
    joint = run.new(s.batch, s.text + tokens, d)
    joint = joint.written(y)
    joint = joint.written(x)
    x = joint
    for p in n.each("layers", c.num_layers):
        x = p.block(lambda p, x: lumina_block(p, x, c, freqs, temb), x)
    o = n / "norm_out"
    x = norm(o, x) * o.linear("linear_1", temb.act(), d).view(s.batch, 1, d)
    return o.linear("linear_2", x, c.patch_size**2 * (c.out_channels or c.in_channels))


PROGRAMS = {
    "ZImageTransformer2DModel": z_image,
    "Lumina2Transformer2DModel": lumina2,
}
