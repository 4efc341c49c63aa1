"""Krea 2 and CogView4.

Source: diffusers 0.42 models/transformers/{transformer_krea2, transformer_cogview4}.py.
"""

from weighbridge.base.records import dataclass
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    Turns,
    attended,
    attends,
    continuous,
    feed,
    latent,
    norm,
    normed,
    packed,
    qkv,
    rows,
    scaled,
    swiglu,
    timestep,
    turned,
    turns_of,
    width_of,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat, headed

Pair = tuple[Value, Value]


# ---- Krea 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """One kind of Krea 2's blocks: heads, those of keys, the width of the feed-forward."""

    heads: int
    kv_heads: int
    inside: int


def rms(p: NetPlace, name: str, x: Value) -> Value:
    """Krea2RMSNorm"""
    return p.rms_norm(name, x, how="float")


@attends
def gated_attention(n: NetPlace, x: Value, k: Gated, turns: Turns | None = None) -> Value:
    """Krea2AttnProcessor: keys and values are repeated for all heads, and a gate behind."""
    d, kv = x.shape[-1], x.shape[-1] // k.heads * k.kv_heads
    q, key, v = qkv(n, x, d, False, kv=kv)
    gate = n.linear("to_gate", x, d, False)
    q = normed(n, "norm_q", q, k.heads, "float")
    key = normed(n, "norm_k", key, k.kv_heads, "float")
    v = headed(v, k.kv_heads)
    if turns is not None:
        q = turned(q, turns)
        key = turned(key, turns)
    if k.heads > k.kv_heads:
        key = key.resized(*q.shape)
        v = v.resized(*q.shape)
    h = attended(q, key, v)
    h = h * gate.act("result")
    return (n / "to_out").linear("0", h, d, False)


def gated_feed(p: NetPlace, x: Value, inside: int) -> Value:
    """Krea2SwiGLU"""
    return swiglu(p, x, inside, ("gate", "up", "down"))


def fused_text(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Krea2TextFusion: across layers of the text encoder, then across tokens."""
    layers, width = c.num_text_layers, c.text_hidden_dim
    k = Gated(
        heads=c.text_num_attention_heads,
        kv_heads=c.text_num_key_value_heads,
        inside=c.text_intermediate_size,
    )

    def plain(p: NetPlace, x: Value) -> Value:
        x = x + gated_attention(p / "attn", rms(p, "norm1", x), k)
        return x + gated_feed(p / "ff", rms(p, "norm2", x), k.inside)

    y = n.run.constant(s.batch * s.text, layers, width)
    for p in n.each("layerwise_blocks", c.num_layerwise_text_blocks):
        y = plain(p, y)
    y = n.linear("projector", y.copy(s.batch, s.text, width, layers), 1, False)
    y = y.view(s.batch, s.text, width)
    for p in n.each("refiner_blocks", c.num_refiner_text_blocks):
        y = plain(p, y)
    return y


def krea2(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    (d, heads), run = width_of(c), n.run
    k = Gated(heads=heads, kv_heads=c.num_key_value_heads, inside=c.intermediate_size)
    t = timestep(n / "time_embed", s.batch, d, inputs=c.timestep_embed_dim)
    temb = n.linear("time_mod_proj", t.act(), 6 * d)
    x = n.linear("img_in", latent(n, s, c.in_channels, s.tokens or packed(s)), d)
    image = x.shape[1]
    y = fused_text(n / "text_fusion", c, s)
    i = n / "txt_in"
    y = i.linear("linear_2", i.linear("linear_1", rms(i, "norm", y), d).act(), d)
    turns = turns_of(run, s.text + image, c.attention_head_dim)

    def block(p: NetPlace, x: Value) -> Value:
        mod = p.value("scale_shift_table", 6, d) + temb.view(s.batch, 6, d)
        parts = [part.view(s.batch, 1, d) for part in mod.chunk(6, dim=1)]
        h = scaled(rms(p, "norm1", x), parts[0], parts[1])
        a = gated_attention(p / "attn", h, k, turns)
        del h
        x = x + parts[2] * a
        h = scaled(rms(p, "norm2", x), parts[3], parts[4])
        f = gated_feed(p / "ff", h, k.inside)
        return x + parts[5] * f

    x = cat([y, x])
    for p in n.each("transformer_blocks", c.num_layers):
        x = p.block(block, x)
    x = x.part(s.batch, image, d)
    final, row = n / "final_layer", run.new(s.batch, 1, d)
    final.param("scale_shift_table", 2, d)
    return final.linear("linear", scaled(rms(final, "norm", x), row, row), c.in_channels)


# ---- CogView4


def cog_attention(n: NetPlace, x: Value, y: Value, heads: int, turns: Turns) -> Pair:
    """CogView4AttnProcessor: positions are written into the latents' part, in place."""
    (b, image, d), text = x.shape, y.shape[1]
    z = cat([y, x])
    q, k, v = qkv(n, z, d)
    q = n.layer_norm("", headed(q, heads), affine=False, dense=False)
    k = n.layer_norm("", headed(k, heads), affine=False, dense=False)
    part = b, image, heads, d // heads
    q = q.written(turned(q.part(*part), turns))
    k = k.written(turned(k.part(*part), turns))
    z = attend(flat(q), flat(k), v, heads, first=True)
    z = (n / "to_out").linear("0", z, d)
    y, x = z.split(text, image, dim=1)
    return x, y


def cog_block(p: NetPlace, streams: Pair, temb: Value, heads: int, turns: Turns) -> Pair:
    """CogView4TransformerBlock; both streams share a feed-forward."""
    x, y = streams
    del streams
    d = x.shape[-1]
    normed_x = norm(p, x)
    normed_y = norm(p, y)
    mod = rows((p / "norm1").linear("linear", temb, 12 * d), 12)
    h = scaled(normed_x, mod[2], mod[0])
    g = scaled(normed_y, mod[3], mod[1])
    del normed_x, normed_y
    a, b = cog_attention(p / "attn1", h, g, heads, turns)
    x = x + a * mod[4]
    y = y + b * mod[5]
    h = scaled(norm(p, x), mod[8], mod[6])
    g = scaled(norm(p, y), mod[9], mod[7])
    f = feed(p / "ff", h, 4 * d)
    f2 = feed(p / "ff", g, 4 * d)
    x = x + f * mod[10]
    y = y + f2 * mod[11]
    return x, y


def cogview4(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    (d, heads), t, embedder = width_of(c), c.time_embed_dim, n / "patch_embed"
    size, image = c.patch_size**2 * c.in_channels, packed(s, c.patch_size)
    turns = turns_of(n.run, image, c.attention_head_dim)
    x = embedder.linear("proj", n.run.new(s.batch, image, size), d)
    y = embedder.linear("text_proj", latent(n, s, c.text_embed_dim, s.text), d)
    e = n / "time_condition_embed"
    temb = timestep(e / "timestep_embedder", s.batch, t, inputs=d)
    sizes = timestep(e / "condition_embedder", s.batch, t, inputs=6 * c.condition_dim)
    temb = (temb + sizes).act()
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(lambda p, x, y: cog_block(p, (x, y), temb, heads, turns), x, y)
    x = continuous(n / "norm_out", x, temb)
    return n.linear("proj_out", x, c.patch_size**2 * c.out_channels)


PROGRAMS = {"Krea2Transformer2DModel": krea2, "CogView4Transformer2DModel": cogview4}
