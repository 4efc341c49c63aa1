"""HunyuanVideo and HunyuanVideo 1.5: two streams, the text second, after a refiner.

Source: diffusers 0.42 models/transformers/{transformer_hunyuan_video,
transformer_hunyuan_video15}.py.
"""

from weighbridge.base.records import frozen_record
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    Turns,
    ada,
    added,
    attended,
    attends,
    continuous,
    feed,
    latent,
    norm,
    normed,
    qkv,
    scaled,
    timestep,
    turned,
    turns_of,
    vector,
    width_of,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat, flat, headed

Pair = tuple[Value, Value]
GLYPHS = 256  # ByT5 tokens in addition to the prompt's, HunyuanVideo 1.5
IMAGE_TOKENS = 729  # SigLIP tokens per picture


@frozen_record
class StreamModulation:
    """Inputs that all blocks share, besides the two streams."""

    temb: Value
    turns: Turns
    heads: int
    ratio: float


@attends
def attention(n: NetPlace, x: Value, y: Value, k: StreamModulation) -> Pair:
    """Return both streams after HunyuanVideoAttnProcessor2_0: only latents have positions, texts
    have a mask."""
    heads, d, text, image = k.heads, x.shape[-1], y.shape[1], x.shape[1]
    apart = n.path.startswith("transformer_blocks")  # the text has separate projections
    if not apart:
        x = cat([x, y])
    query, key, value = qkv(n, x, d)
    query = normed(n, "norm_q", query, heads)
    key = normed(n, "norm_k", key, heads)
    value = headed(value, heads)
    if apart:
        query = turned(query, k.turns)
        key = turned(key, k.turns)
        encoder_query, encoder_key, encoder_value = added(n, y, d)
        encoder_query = normed(n, "norm_added_q", encoder_query, heads)
        encoder_key = normed(n, "norm_added_k", encoder_key, heads)
        query = cat([query, encoder_query])
        key = cat([key, encoder_key])
        value = cat([value, headed(encoder_value, heads)])
        del encoder_query, encoder_key, encoder_value
    else:
        query = cat([turned(lead(query, image), k.turns), lead(query, text)])
        key = cat([turned(lead(key, image), k.turns), lead(key, text)])
    h = attend(flat(query), flat(key), flat(value), heads, masked=True)
    del query, key, value
    x, y = lead(h, image), lead(h, text)
    if apart:
        x = (n / "to_out").linear("0", x, d)
        y = n.linear("to_add_out", y, d)
    return x, y


def lead(x: Value, tokens: int) -> Value:
    """Return a slice of `tokens` tokens."""
    return x.part(x.shape[0], tokens, *x.shape[2:])


def double(p: NetPlace, x: Value, y: Value, k: StreamModulation) -> Pair:
    """HunyuanVideoTransformerBlock"""
    inside = int(k.ratio * x.shape[-1])
    h, (gate, shift, scale, gate_mlp) = ada(p / "norm1", x, k.temb)
    g, (c_gate, c_shift, c_scale, c_gate_mlp) = ada(p / "norm1_context", y, k.temb)
    a, b = attention(p / "attn", h, g, k)
    x = x + a * gate
    y = y + b * c_gate
    h = norm(p, x)
    g = norm(p, y)
    h = scaled(h, scale, shift)
    g = scaled(g, c_scale, c_shift)
    f = feed(p / "ff", h, inside)
    f2 = feed(p / "ff_context", g, inside)
    x = x + gate_mlp * f
    y = y + c_gate_mlp * f2
    return x, y


def single(p: NetPlace, x: Value, y: Value, k: StreamModulation) -> Pair:
    """HunyuanVideoSingleTransformerBlock"""
    d, image, text = x.shape[-1], x.shape[1], y.shape[1]
    x = cat([x, y])
    residual = x
    h, (gate,) = ada(p / "norm", x, k.temb, 3)
    mlp = p.linear("proj_mlp", h, int(k.ratio * d)).act()
    h, g = lead(h, image), lead(h, text)
    a, b = attention(p / "attn", h, g, k)
    a = cat([a, b])
    x = cat([a, mlp], -1)
    x = gate * p.linear("proj_out", x, d)
    x = x + residual
    return lead(x, image), lead(x, text)


def refiner(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """HunyuanVideoTokenRefiner"""
    d, heads = width_of(c)
    temb = vector(n / "time_text_embed", s.batch, d, c.text_embed_dim)
    y = n.linear("proj_in", latent(n, s, c.text_embed_dim, s.text), d)
    for p in (n / "token_refiner").each("refiner_blocks", c.num_refiner_layers):
        h = p.layer_norm("norm1", y)
        query, key, value = (headed(t, heads) for t in qkv(p / "attn", h, d))
        a = (p / "attn" / "to_out").linear("0", attended(query, key, value), d)
        gates = (p / "norm_out").linear("linear", temb.act(), 2 * d).chunk(2)
        y = y + a * gates[0].view(s.batch, 1, d)
        f = feed(p / "ff", p.layer_norm("norm2", y), int(c.mlp_ratio * d), how="silu")
        y = y + f * gates[1].view(s.batch, 1, d)
    return y


def several_texts(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return HunyuanVideo 1.5's text stream: refined prompt, glyphs and a picture, each with its
    type embedding."""
    d, _ = width_of(c)
    y = refiner(n / "context_embedder", c, s)
    p = n / "context_embedder_2"
    z = p.layer_norm("norm", latent(n, s, c.text_embed_2_dim, GLYPHS))
    z = p.linear("linear_2", p.linear("linear_1", z, d).act(), d)
    z = p.linear("linear_3", z.act(), d)
    p = n / "image_embedder"
    i = p.layer_norm("norm_in", latent(n, s, c.image_embed_dim, IMAGE_TOKENS))
    i = p.linear("linear_2", p.linear("linear_1", i, c.image_embed_dim).act(), d)
    i = p.layer_norm("norm_out", i)
    n.param("cond_type_embed.weight", 3, d, kind="embedding")
    return cat([i + n.run.new(*i.shape), z + n.run.new(*z.shape), y + n.run.new(*y.shape)])


def hunyuan_video(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = width_of(c)
    kernel = c.patch_size_t, c.patch_size, c.patch_size
    video = n.run.constant(s.batch, c.in_channels, s.frames, s.height, s.width)
    x = (n / "x_embedder").conv("proj", video, d, kernel, kernel, 0)
    tokens = x.shape[2] * x.shape[3] * x.shape[4]
    turns = turns_of(n.run, tokens, c.attention_head_dim)
    if n.run.cls == "HunyuanVideo15Transformer3DModel":
        temb = timestep(n / "time_embed" / "timestep_embedder", s.batch, d)
        if c.use_meanflow:
            temb = temb + timestep(n / "time_embed" / "timestep_embedder_r", s.batch, d)
        x = x.view(s.batch, tokens, d)
        y = several_texts(n, c, s)
    else:
        pooled, guidance = c.pooled_projection_dim, bool(c.guidance_embeds)
        temb = vector(n / "time_text_embed", s.batch, d, pooled, guidance=guidance)
        x = x.view(s.batch, tokens, d)
        y = refiner(n / "context_embedder", c, s)
    k = StreamModulation(temb=temb, turns=turns, heads=heads, ratio=c.mlp_ratio)
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(lambda p, x, y: double(p, x, y, k), x, y)
    for p in n.each("single_transformer_blocks", c.num_single_layers or 0):
        x, y = p.block(lambda p, x, y: single(p, x, y, k), x, y)
    x = continuous(n / "norm_out", x, temb)
    x = n.linear("proj_out", x, kernel[0] * kernel[1] * kernel[2] * c.out_channels)
    return x.copy()


PROGRAMS = {
    "HunyuanVideoTransformer3DModel": hunyuan_video,
    "HunyuanVideo15Transformer3DModel": hunyuan_video,
}
