"""Transformers of one stream with a modulation of few inputs: ERNIE-Image and Ideogram 4.

Source: diffusers 0.42 models/transformers/{transformer_ernie_image,
transformer_ideogram4}.py.
"""

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    attends,
    embed,
    latent,
    norm,
    normed,
    packed,
    qkv,
    rows,
    swiglu,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat, headed

Turns = tuple[Value, Value]


def halves_turned(x: Value, turns: Turns) -> Value:
    """x cos + rotated sin, in the dtype of x."""
    cos, sin = turns
    half = x.resized(*x.shape[:-1], x.shape[-1] // 2)
    x_rotated = cat([half, half], -1)
    del half
    return x * cos + x_rotated * sin


# ---- ERNIE-Image


@attends
def ernie_attention(n: NetPlace, x: Value, heads: int, freqs: Value, *, norms: bool) -> Value:
    """ErnieImageSingleStreamAttnProcessor: cosines and sines of each attention anew."""
    q, k, v = qkv(n, x, x.shape[-1], False)
    q, k = headed(q, heads), headed(k, heads)
    if norms:
        q = n.rms_norm("norm_q", q, how="torch")
        k = n.rms_norm("norm_k", k, how="torch")
    run = x.run
    turns = run.new(*freqs.shape), run.new(*freqs.shape)
    q = halves_turned(q, turns).copy()
    k = halves_turned(k, turns).copy()
    h = attend(flat(q), flat(k), v, heads, masked=True)
    return (n / "to_out").linear("0", h, x.shape[-1], False)


def wide_scaled(x: Value, scale: Value, shift: Value) -> Value:
    """(x.float() (1 + scale.float()) + shift.float()).to(x.dtype)"""
    return (x.float() * (scale.float() + 1.0) + shift.float()).like(x)


def ernie(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Modulations are spread over all tokens before the blocks."""
    d, heads, run = c.hidden_size, c.num_attention_heads, n.run
    image = run.constant(s.batch, c.in_channels, s.height, s.width)
    x = (n / "x_embedder").conv("proj", image, d, c.patch_size, c.patch_size, 0)
    tokens = x.shape[2] * x.shape[3]
    picture = x.view(s.batch, tokens, d).copy()
    y = latent(n, s, c.text_in_dim, s.text)
    if c.text_in_dim != d:
        y = n.linear("text_proj", y, d, False)
    x = cat([picture, y])
    freqs = run.new(s.batch, tokens + s.text, 1, d // heads, dtype=FLOAT32)
    temb = embed(n / "time_embedding", run.new(s.batch, d), d)
    mods = rows((n / "adaLN_modulation").linear("1", temb.act(), 6 * d), 6)
    mods = [one.resized(*x.shape) for one in mods]

    def block(p: NetPlace, x: Value) -> Value:
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = mods
        residual = x
        x = p.rms_norm("adaLN_sa_ln", x)
        x = wide_scaled(x, scale, shift)
        by_batch = x
        a = ernie_attention(
            p / "self_attention", by_batch, heads, freqs, norms=bool(c.qk_layernorm)
        )
        x = residual + (gate.float() * a.float()).like(x)
        residual = x
        x = p.rms_norm("adaLN_mlp_ln", x)
        x = wide_scaled(x, scale_mlp, shift_mlp)
        m, wide = p / "mlp", gate_mlp.float()
        up = m.linear("up_proj", x, c.ffn_hidden_size, False)
        h = up * m.linear("gate_proj", x, c.ffn_hidden_size, False).act()
        del up
        f = m.linear("linear_fc2", h, d, False)
        del h
        return residual + (wide * f.float()).like(x)

    for p in n.each("layers", c.num_layers):
        x = p.block(block, x)
    final = n / "final_norm"
    scale, shift = rows(final.linear("linear", temb, 2 * d), 2)
    h = norm(final, x)
    x = (h * (scale + 1.0) + shift).like(x)
    return n.linear("final_linear", x, c.patch_size**2 * c.out_channels)


# ---- Ideogram 4


@attends
def ideogram_attention(n: NetPlace, x: Value, heads: int, turns: Turns) -> Value:
    """Ideogram4AttnProcessor: a mask of tokens that belong to one picture."""
    d = x.shape[-1]
    q, k, v = qkv(n, x, d, False)
    q = normed(n, "norm_q", q, heads)
    k = normed(n, "norm_k", k, heads)
    q = halves_turned(q, turns)
    k = halves_turned(k, turns)
    h = attend(flat(q), flat(k), v, heads, masked=True)
    return (n / "to_out").linear("0", h, d, False)


def ideogram(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """A sequence of text and image, in which each reads its own inputs."""
    heads, run = c.num_attention_heads, n.run
    d, length = heads * c.attention_head_dim, s.text + (s.tokens or packed(s))
    marks = [run.new(s.batch, length, 1) for _ in range(2)]
    y = run.constant(s.batch, length, c.llm_features_dim) * marks[0]
    x = run.constant(s.batch, length, c.in_channels) * marks[1]
    x = n.linear("input_proj", x, d) * marks[1]
    times = embed(n / "t_embedding", run.new(s.batch, d), d, names=("mlp_in", "mlp_out"))
    temb = n.linear("adaln_proj", times, c.adaln_dim).act().view(s.batch, 1, c.adaln_dim)
    y = n.rms_norm("llm_cond_norm", y)
    y = n.linear("llm_cond_proj", y, d) * marks[0]
    x = x + y
    picture = n.embedding("embed_image_indicator", s.batch, length, 2, d)
    x = x + picture
    turns = tuple(run.new(s.batch, length, 1, c.attention_head_dim) for _ in range(2))

    def block(p: NetPlace, x: Value) -> Value:
        scale, gate, scale_mlp, gate_mlp = p.linear("adaln_modulation", temb, 4 * d).chunk(4)
        gate = gate.act("result")
        gate_mlp = gate_mlp.act("result")
        scale = scale + 1.0
        scale_mlp = scale_mlp + 1.0
        h = p.rms_norm("attention_norm1", x) * scale
        a = ideogram_attention(p / "attention", h, heads, (turns[0], turns[1]))
        del h
        x = x + gate * p.rms_norm("attention_norm2", a)
        h = p.rms_norm("ffn_norm1", x) * scale_mlp
        return x + gate_mlp * p.rms_norm(
            "ffn_norm2", swiglu(p / "feed_forward", h, c.intermediate_size)
        )

    for p in n.each("layers", c.num_layers):
        x = p.block(block, x)
    final = n / "final_layer"
    scale = final.linear("adaln_modulation", temb.act(), d) + 1.0
    return final.linear("linear", norm(final, x) * scale, c.in_channels)


PROGRAMS = {
    "ErnieImageTransformer2DModel": ernie,
    "Ideogram4Transformer2DModel": ideogram,
}
