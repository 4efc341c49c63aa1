"""Mochi's autoencoder: a whole video at once, with norms of eight frames each.

Source: diffusers 0.42 models/autoencoders/autoencoder_kl_mochi.py.
"""

from math import prod

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.tiles import tile, tiled
from weighbridge.pictures.nets.vae_cog import safe
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat

CHUNK = 8  # frames per norm
HEAD = 32


def norm(p: NetPlace, name: str, x: Value) -> Value:
    """MochiChunkedGroupNorm3D: frames before channels, and each chunk copied for its norm."""
    b, c, t, height, width = x.shape
    frames = x.view(b * t, c, height, width) if b == 1 else x.copy(b * t, c, height, width)
    normed = []
    for start in range(0, b * t, CHUNK):
        chunk = frames.part(min(CHUNK, b * t - start), c, height, width).copy()
        normed.append((p / name).group_norm("norm_layer", chunk))
        del chunk
    return cat(normed, 0).view(*x.shape)


def conv(p: NetPlace, name: str, x: Value, out: int, kernel: int = 3) -> Value:
    """Return CogVideoXCausalConv3d of `x`, with edge padding."""
    side = kernel // 2
    grown = x.shape[2] + kernel - 1, x.shape[3] + 2 * side, x.shape[4] + 2 * side
    padded = x.resized(*x.shape[:2], *grown)
    return safe(p / name, padded, out, kernel=kernel)


def resnet(p: NetPlace, x: Value) -> Value:
    """MochiResnetBlock3D"""
    h = norm(p, "norm1", x)
    h = h.act()
    h = conv(p, "conv1", h, x.shape[1])
    h = norm(p, "norm2", h)
    h = h.act()
    h = conv(p, "conv2", h, x.shape[1])
    return h + x


def frames_attention(p: NetPlace, x: Value) -> Value:
    """Return MochiVaeAttnProcessor2_0: each pixel attends to its earlier frames."""
    b, d, t, height, width = x.shape
    h = x.copy(b * height * width, t, d)
    if t == 1:
        for name in ("to_q", "to_k"):
            p.param(f"{name}.weight", d, d, kind="linear")
        h = p.linear("to_v", h, d, bias=False)
        return (p / "to_out").linear("0", h, d).view(*x.shape)
    query, key, value = (p.linear(name, h, d, bias=False) for name in ("to_q", "to_k", "to_v"))
    norms = x.run.new(*h.shape[:2], d // HEAD)
    query = query.resized(*query.shape)
    key = key.resized(*key.shape)
    del norms
    h = attend(query, key, value, d // HEAD)
    h = (p / "to_out").linear("0", h, d)
    return (h * 1.0).view(*x.shape)


def layers(p: NetPlace, x: Value, count: int, *, attention: bool) -> Value:
    """MochiMidBlock3D"""
    for i in range(count):
        x = resnet(p / "resnets" / i, x)
        if attention:
            residual = x
            x = norm(p / "norms", str(i), x)
            x = frames_attention(p / "attentions" / i, x)
            x = residual + x
            del residual
    return x


def down_block(p: NetPlace, c: ComponentConfig, x: Value, level: int) -> Value:
    """MochiDownBlock3D"""
    steps, side = c.temporal_expansions[level], c.spatial_expansions[level]
    kernel = (steps, side, side)
    padded = x.resized(*x.shape[:2], x.shape[2] + steps - 1, *x.shape[3:])
    width = c.encoder_block_out_channels[level + 1]
    x = (p / "conv_in").conv("conv", padded, width, kernel, kernel, 0)
    del padded
    added = bool(c.add_attention_block[level + 1])
    return layers(p, x, c.layers_per_block[level + 1], attention=added)


def projected(n: NetPlace, name: str, x: Value, out: int, *, bias: bool = True) -> Value:
    """Return a linear of every pixel."""
    pixels = x.view(x.shape[0], *x.shape[2:], x.shape[1])
    return n.linear(name, pixels, out, bias).view(x.shape[0], out, *x.shape[2:])


def encoder(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """FourierFeatures and MochiEncoder3D"""
    widths, attention = c.encoder_block_out_channels, c.add_attention_block
    wide = x.float()
    h = wide.resized(x.shape[0], (c.in_channels - x.shape[1]) // 2, *x.shape[2:])
    h = h * 1.0
    x = cat([wide, h.act(), h.act()], 1).like(x)
    del wide, h
    x = projected(n, "proj_in", x, widths[0])
    x = layers(n / "block_in", x, c.layers_per_block[0], attention=bool(attention[0]))
    for level in range(len(widths) - 1):
        x = down_block(n / "down_blocks" / level, c, x, level)
    x = layers(n / "block_out", x, c.layers_per_block[-1], attention=bool(attention[-1]))
    x = norm(n, "norm_out", x)
    x = x.act()
    return projected(n, "proj_out", x, 2 * c.latent_channels, bias=False)


def up_block(p: NetPlace, c: ComponentConfig, x: Value, level: int) -> Value:
    """Return `x` after MochiUpBlock3D: channels become frames and pixels."""
    steps, side = c.temporal_expansions[::-1][level], c.spatial_expansions[::-1][level]
    out = c.decoder_block_out_channels[::-1][level + 1]
    for i in range(c.layers_per_block[::-1][level + 1]):
        x = resnet(p / "resnets" / i, x)
    x = projected(p, "proj", x, out * steps * side**2)
    b, _, t, height, width = x.shape
    return x.copy(b, out, t * steps, height * side, width * side)


def decoder(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """MochiDecoder3D"""
    widths = c.decoder_block_out_channels
    x = n.conv("conv_in", x, widths[-1], 1, pad=0)
    x = layers(n / "block_in", x, c.layers_per_block[-1], attention=False)
    for level in range(len(widths) - 1):
        x = up_block(n / "up_blocks" / level, c, x, level)
    x = layers(n / "block_out", x, c.layers_per_block[0], attention=False)
    x = x.act()
    return projected(n, "proj_out", x, c.out_channels)


def mochi_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value | None:
    run = n.run
    time, space = prod(c.temporal_expansions), prod(c.spatial_expansions)
    if s.side != "decode":
        video = run.constant(*s.pixels(c.out_channels, space, time))
        moments = encoder(n / "encoder", c, video)
        if s.side == "encode":
            return moments
        del moments

    def one(s: Sizes) -> Value:
        z = run.constant(*s.latents(c.latent_channels))
        return decoder(n / "decoder", c, z)

    def shape(s: Sizes) -> tuple[int, ...]:
        return s.batch, c.out_channels, time * s.frames, space * s.height, space * s.width

    return tiled(run, s, tile(run.cls, c, space), one, shape)[0]


PROGRAMS = {"AutoencoderKLMochi": mochi_vae}
