"""Transformers of two joined streams: SD3, FLUX, Chroma, LongCat, Qwen-Image, FLUX.2, AuraFlow, HunyuanVideo.

A program reads (n, c, s): a place in the tree, the config, and the request's sizes:
    b batch   t, h, w latent frames, height, width   text tokens
"""

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.oldblocks import (
    attention,
    continuous,
    double,
    embed,
    feed,
    single,
    timestep,
)
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, cat


def vector(n, b, d, pooled=None, guidance=False, bias=True):
    """CombinedTimestep(Guidance)TextProjEmbeddings"""
    temb = timestep(n / "timestep_embedder", b, d, bias)
    if guidance:
        temb = temb + timestep(n / "guidance_embedder", b, d, bias)
    if pooled:
        temb = temb + embed(n / "text_embedder", n.run.new(b, pooled), d, bias)
    return temb


def packed(s, patch=2):
    return s.frames * (s.height // patch) * (s.width // patch)


def latent(n, s, channels, tokens):
    """The packed latents, given by the pipeline: they are there before the step."""
    return n.run.new(s.batch, tokens, channels)


def refiner(n, c, s, d, heads, pooled):
    """HunyuanVideo's token refiner"""
    y = latent(n, s, pooled, s.text)
    temb = vector(n / "time_text_embed", s.batch, d, pooled)
    y = n.linear("proj_in", y, d)
    for p in (n / "token_refiner").each("refiner_blocks", c.num_refiner_layers):
        h = attention(p / "attn", p.layer_norm("norm1", y), heads)
        gates = (p / "norm_out").linear("linear", temb.act(), 2 * d).chunk(2)
        y = y + h * gates[0].view(s.batch, 1, d)
        y = y + feed(p / "ff", p.layer_norm("norm2", y), int(c.mlp_ratio * d), how="silu") * gates[
            1
        ].view(s.batch, 1, d)
    return y


def hunyuan_video(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    d, heads = c.num_attention_heads * c.attention_head_dim, c.num_attention_heads
    fifteen = n.run.cls == "HunyuanVideo15Transformer3DModel"
    k = (c.patch_size_t, c.patch_size, c.patch_size)
    x = (n / "x_embedder").conv(
        "proj", n.run.new(s.batch, c.in_channels, s.frames, s.height, s.width), d, k, k, (0, 0, 0)
    )
    x = x.view(s.batch, x.shape[2] * x.shape[3] * x.shape[4], d)
    if fifteen:
        temb = timestep(n / "time_embed" / "timestep_embedder", s.batch, d)
        if c.use_meanflow:
            timestep(n / "time_embed" / "timestep_embedder_r", s.batch, d)
        y = refiner(n / "context_embedder", c, s, d, heads, c.text_embed_dim)
        p = n / "context_embedder_2"
        z = p.layer_norm("norm", latent(n, s, c.text_embed_2_dim, 256))
        z = p.linear("linear_3", p.linear("linear_2", p.linear("linear_1", z, d).act(), d).act(), d)
        p = n / "image_embedder"
        i = p.layer_norm("norm_in", latent(n, s, c.image_embed_dim, 729))
        i = p.layer_norm(
            "norm_out", p.linear("linear_2", p.linear("linear_1", i, c.image_embed_dim).act(), d)
        )
        n.param("cond_type_embed.weight", 3, d, kind="embedding")
        y = cat([i, z, y])
        del i, z
    else:
        temb = vector(n / "time_text_embed", s.batch, d, c.pooled_projection_dim, c.guidance_embeds)
        y = refiner(n / "context_embedder", c, s, d, heads, c.text_embed_dim)
    for p in n.each("transformer_blocks", c.num_layers):
        x, y = p.block(
            lambda p, x, y: double(
                p, x, y, temb, heads, ratio=c.mlp_ratio, each=True, text_first=False
            ),
            x,
            y,
        )

    def one(p, x, y):
        x = single(p, cat([x, y]), temb, heads, ratio=c.mlp_ratio)
        return tuple(x.split(x.shape[1] - y.shape[1], y.shape[1], dim=1))

    for p in n.each("single_transformer_blocks", c.num_single_layers or 0):
        x, y = p.block(one, x, y)
    x = continuous(n / "norm_out", x, temb)
    return n.linear("proj_out", x, k[0] * k[1] * k[2] * c.out_channels).copy()


PROGRAMS = {
    "HunyuanVideoTransformer3DModel": hunyuan_video,
    "HunyuanVideo15Transformer3DModel": hunyuan_video,
}
