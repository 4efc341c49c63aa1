"""Stable Video Diffusion: a U-Net and a decoder whose blocks mix frames after pixels.

Source: diffusers 0.42 models/unets/{unet_spatio_temporal_condition, unet_3d_blocks}.py,
models/transformers/transformer_temporal.py, models/autoencoders/autoencoder_kl_temporal_decoder.py,
models/{resnet, attention}.py.
"""

from weighbridge.base.records import frozen_record
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import embed, feed
from weighbridge.pictures.nets.unet import resnet as spatial
from weighbridge.pictures.nets.unet import upsampled
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat


@frozen_record
class Clip:
    """Inputs of all blocks: frames per video, the time embedding, and the picture's embedding."""

    frames: int
    temb: Value | None = None
    text: Value | None = None


def temporal(p: NetPlace, x: Value, k: Clip) -> Value:
    """TemporalResnetBlock of [batch, channels, frames, height, width], stored frames first."""
    d = x.shape[1]
    h = p.group_norm("norm1", x.copy())
    h = h.act()
    h = p.conv("conv1", h, d, (3, 1, 1))
    if k.temb is not None:
        temb = p.linear("time_emb_proj", k.temb.act(), d)
        h = h + temb.view(x.shape[0], d, k.frames, 1, 1)
    h = p.group_norm("norm2", h)
    h = h.act()
    h = p.conv("conv2", h, d, (3, 1, 1))
    return x + h


def mixed(p: NetPlace, first: Value, second: Value) -> Value:
    """AlphaBlender"""
    p.param("time_mixer.mix_factor", 1)
    return first * 1.0 + second * 1.0


def resnet(p: NetPlace, x: Value, out: int, k: Clip) -> Value:
    """SpatioTemporalResBlock"""
    x = spatial(p / "spatial_res_block", x, out, k.temb)
    batch, _, height, width = x.shape
    frames = x.view(batch // k.frames, out, k.frames, height, width)
    h = temporal(p / "temporal_res_block", frames, k)
    return mixed(p, frames, h).view(*x.shape)


# ---- the U-Net


def attention(a: NetPlace, x: Value, heads: int, seen: Value) -> Value:
    d = x.shape[-1]
    query, key, value = (
        a.linear(name, y, d, bias=False)
        for name, y in (("to_q", x), ("to_k", seen), ("to_v", seen))
    )
    h = attend(query, key, value, heads)
    h = (a / "to_out").linear("0", h, d)
    return h * 1.0


def basic(
    p: NetPlace, x: Value, heads: int, text: Value | None, *, positions: bool = False
) -> Value:
    """Return `x` after BasicTransformerBlock; without a text it has self-attention twice."""
    h = p.layer_norm("norm1", x)
    h = h + x.run.constant(1) if positions else h
    a = attention(p / "attn1", h, heads, h)
    x = a + x
    h = p.layer_norm("norm2", x)
    h = h + x.run.constant(1) if positions else h
    a = attention(p / "attn2", h, heads, h if text is None else text)
    x = a + x
    h = p.layer_norm("norm3", x)
    f = feed(p / "ff", h, 4 * x.shape[-1], how="geglu")
    return f + x


def of_frames(p: NetPlace, x: Value, heads: int, text: Value, frames: int) -> Value:
    """TemporalBasicTransformerBlock: pixels are the batch, and frames the tokens, which is a view
    of one video and a copy of several."""
    shape, d = x.shape, x.shape[-1]
    several = shape[0] > frames
    tokens = shape[0] // frames * shape[1], frames, d
    residual = x.copy(*tokens) if several else x.view(*tokens)
    x = basic(
        p,
        feed(
            p / "ff_in",
            p.layer_norm("norm_in", residual, dense=several),
            4 * d,
            how="geglu",
        )
        + residual,
        heads,
        text,
    )
    return x.copy(*shape) if several else x.view(*shape)


def transformer(p: NetPlace, x: Value, heads: int, k: Clip) -> Value:
    """TransformerSpatioTemporalModel"""
    assert k.text is not None
    (batch, d, height, width), run = x.shape, x.run
    pixels = height * width
    clips = batch // k.frames
    shape = clips * pixels, k.text.shape[1], k.text.shape[-1]
    time_context = run.new(*shape) if clips > 1 else run.constant(*shape)
    h = p.group_norm("norm", x)
    h = h.copy(batch, pixels, d)
    h = p.linear("proj_in", h, d)
    emb = p.linear("time_pos_embed.linear_1", run.new(batch, d), 4 * d).act()
    emb = p.linear("time_pos_embed.linear_2", emb, d).view(batch, 1, d)
    text = k.text
    h = (p / "transformer_blocks" / 0).block(lambda q, h: basic(q, h, heads, text), h)
    mix = h + emb
    mix = of_frames(p / "temporal_transformer_blocks" / 0, mix, heads, time_context, k.frames)
    h = mixed(p, h, mix)
    h = p.linear("proj_out", h, d)
    h = h.copy(batch, d, height, width)
    return h + x


def down_block(p: NetPlace, c: ComponentConfig, x: Value, level: int, k: Clip) -> list[Value]:
    """CrossAttnDownBlockSpatioTemporal and DownBlockSpatioTemporal"""
    width, heads, states = c.block_out_channels[level], c.num_attention_heads[level], list[Value]()
    for i in range(c.layers_per_block):
        x = (p / "resnets" / i).block(lambda q, x: resnet(q, x, width, k), x)
        if c.down_block_types[level].startswith("CrossAttn"):
            x = transformer(p / "attentions" / i, x, heads, k)
        states.append(x)
    if level < len(c.block_out_channels) - 1:
        x = (p / "downsamplers" / 0).conv("conv", x, width, 3, 2, 1)
        states.append(x)
    return states


def up_block(
    p: NetPlace, c: ComponentConfig, x: Value, skips: list[Value], level: int, k: Clip
) -> Value:
    """CrossAttnUpBlockSpatioTemporal and UpBlockSpatioTemporal"""
    width, heads = c.block_out_channels[::-1][level], c.num_attention_heads[::-1][level]
    for i, skip in enumerate(skips[::-1]):
        x = cat([x, skip])
        x = (p / "resnets" / i).block(lambda q, x: resnet(q, x, width, k), x)
        if c.up_block_types[level].startswith("CrossAttn"):
            x = transformer(p / "attentions" / i, x, heads, k)
    return upsampled(p / "upsamplers" / 0, x) if level < len(c.block_out_channels) - 1 else x


def unet(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """UNetSpatioTemporalConditionModel"""
    run, widths, batch = n.run, c.block_out_channels, s.batch * s.frames
    temb = embed(n / "time_embedding", run.new(s.batch, widths[0]), 4 * widths[0])
    added = run.new(s.batch, c.projection_class_embeddings_input_dim)
    temb = temb + embed(n / "add_embedding", added, 4 * widths[0])
    k = Clip(
        frames=s.frames,
        temb=temb.resized(batch, 4 * widths[0]),
        text=run.new(batch, 1, c.cross_attention_dim),
    )
    x = n.conv("conv_in", run.constant(batch, c.in_channels, s.height, s.width), widths[0])
    skips = [x]
    for level in range(len(widths)):
        skips += down_block(n / "down_blocks" / level, c, x, level, k)
        x = skips[-1]
    p = n / "mid_block"
    x = middle(p, x, c.num_attention_heads[-1], k)
    count = c.layers_per_block + 1
    for level in range(len(widths)):
        joined, skips = skips[-count:], skips[:-count]
        x = up_block(n / "up_blocks" / level, c, x, joined, level, k)
    x = n.group_norm("conv_norm_out", x)
    x = x.act()
    return n.conv("conv_out", x, c.out_channels)


def middle(p: NetPlace, x: Value, heads: int, k: Clip) -> Value:
    """UNetMidBlockSpatioTemporal"""
    x = resnet(p / "resnets" / 0, x, x.shape[1], k)
    x = transformer(p / "attentions" / 0, x, heads, k)
    out: Value = (p / "resnets" / 1).block(lambda q, x: resnet(q, x, x.shape[1], k), x)
    return out


# ---- the autoencoder


def pixel_attention(p: NetPlace, x: Value) -> Value:
    """Return attention over pixels, with one head."""
    b, d, height, width = x.shape
    h = p.group_norm("group_norm", x).view(b, height * width, d)
    query, key, value = (p.linear(name, h, d) for name in ("to_q", "to_k", "to_v"))
    h = attend(query, key, value, 1)
    h = (p / "to_out").linear("0", h, d)
    h = h.view(*x.shape) + x
    return h * 1.0


def encoder(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """Return the output of AutoencoderKL's encoder."""
    k = Clip(frames=1)
    x = n.conv("conv_in", x, c.block_out_channels[0])
    for level in range(len(c.block_out_channels)):
        x = encoder_level(n / "down_blocks" / level, c, x, level)
    p = n / "mid_block"
    x = spatial(p / "resnets" / 0, x, x.shape[1], k.temb)
    x = pixel_attention(p / "attentions" / 0, x)
    x = spatial(p / "resnets" / 1, x, x.shape[1], k.temb)
    x = n.group_norm("conv_norm_out", x)
    x = x.act()
    return n.conv("conv_out", x, 2 * c.latent_channels)


def encoder_level(p: NetPlace, c: ComponentConfig, x: Value, level: int) -> Value:
    for i in range(c.layers_per_block):
        x = spatial(p / "resnets" / i, x, c.block_out_channels[level])
    if level == len(c.block_out_channels) - 1:
        return x
    x = x.resized(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1)
    return (p / "downsamplers" / 0).conv("conv", x, x.shape[1], 3, 2, 0)


def decoder_level(p: NetPlace, c: ComponentConfig, x: Value, level: int, k: Clip) -> Value:
    """UpBlockTemporalDecoder"""
    for i in range(c.layers_per_block + 1):
        x = resnet(p / "resnets" / i, x, c.block_out_channels[::-1][level], k)
    return upsampled(p / "upsamplers" / 0, x) if level < len(c.block_out_channels) - 1 else x


def decoder_middle(p: NetPlace, c: ComponentConfig, x: Value, k: Clip) -> Value:
    """MidBlockTemporalDecoder"""
    x = resnet(p / "resnets" / 0, x, x.shape[1], k)
    y = pixel_attention(p / "attentions" / 0, x)
    if c.layers_per_block == 1:
        return x
    x = y
    del y
    return resnet(p / "resnets" / 1, x, x.shape[1], k)


def decoder(n: NetPlace, c: ComponentConfig, x: Value, k: Clip) -> Value:
    """TemporalDecoder"""
    x = n.conv("conv_in", x, c.block_out_channels[-1])
    x = decoder_middle(n / "mid_block", c, x, k)
    for level in range(len(c.block_out_channels)):
        x = decoder_level(n / "up_blocks" / level, c, x, level, k)
    x = n.group_norm("conv_norm_out", x)
    x = x.act()
    x = n.conv("conv_out", x, c.out_channels)
    batch, channels, height, width = x.shape
    x = x.view(batch // k.frames, channels, k.frames, height, width)
    x = n.conv("time_conv_out", x, channels, (3, 1, 1))
    return x.copy(batch, channels, height, width)


def svd_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value | None:
    run, factor = n.run, 2 ** (len(c.block_out_channels) - 1)
    if s.side != "decode":  # one picture is the input
        picture = run.constant(s.batch, c.in_channels, factor * s.height, factor * s.width)
        moments = encoder(n / "encoder", c, picture)
        moments = n.conv("quant_conv", moments, 2 * c.latent_channels, 1)
        if s.side == "encode":
            return moments
        del moments
    z = run.constant(s.batch * s.frames, c.latent_channels, s.height, s.width)
    return decoder(n / "decoder", c, z, Clip(frames=s.frames))


PROGRAMS = {
    "UNetSpatioTemporalConditionModel": unet,
    "AutoencoderKLTemporalDecoder": svd_vae,
}
