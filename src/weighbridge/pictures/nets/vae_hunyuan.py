"""Autoencoders of HunyuanVideo 1.0 and 1.5: causal convolutions with edge padding.

Source: diffusers 0.42 models/autoencoders/{autoencoder_kl_hunyuan_video,
autoencoder_kl_hunyuanvideo15}.py.
"""

from math import log2, prod

from weighbridge.base.dtypes import BOOL, FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import framed
from weighbridge.pictures.nets.tiles import FrameTile, in_frames, tile, tiled
from weighbridge.pictures.nets.vae_wan import gamma
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat

Sides = tuple[int, int, int]
FRAMES = FrameTile(5, 3)  # latent frames at once; use_framewise_decoding is on by default


def conv(
    p: NetPlace, name: str, x: Value, out: int, kernel: int = 3, stride: Sides = (1, 1, 1)
) -> Value:
    """Return HunyuanVideoCausalConv3d of a padded copy, made even if the padding is zero."""
    side = kernel // 2
    padded = x.resized(
        *x.shape[:2], x.shape[2] + kernel - 1, x.shape[3] + 2 * side, x.shape[4] + 2 * side
    )
    return (p / name).conv("conv", padded, out, kernel, stride, 0)


def resnet(p: NetPlace, x: Value, out: int) -> Value:
    """HunyuanVideoResnetBlockCausal3D"""
    h = p.group_norm("norm1", x)
    h = h.act()
    h = conv(p, "conv1", h, out)
    h = p.group_norm("norm2", h)
    h = h.act()
    h = conv(p, "conv2", h, out)
    if x.shape[1] != out:
        x = conv(p, "conv_shortcut", x, out, 1)
    return h + x


def causal_mask(x: Value) -> Value:
    """prepare_causal_attention_mask: an element per pair of pixels, first in float32."""
    tokens = prod(x.shape[2:])
    seen = x.run.new(tokens, tokens, dtype=BOOL)
    wide = x.run.new(tokens, tokens, dtype=FLOAT32)
    del seen
    return wide.like(x)


def pixel_attention(p: NetPlace, x: Value) -> Value:
    """Return attention over all pixels of all frames, with one head."""
    b, d = x.shape[:2]
    tokens = b, prod(x.shape[2:]), d
    h = p.group_norm("group_norm", x).view(*tokens)
    q, k, v = (p.linear(name, h, d) for name in ("to_q", "to_k", "to_v"))
    h = attend(q, k, v, 1, masked=True)
    h = (p / "to_out").linear("0", h, d)
    h = h + x.view(*tokens)
    return (h * 1.0).view(*x.shape)


def middle(p: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """HunyuanVideoMidBlock3D"""
    x = resnet(p / "resnets" / 0, x, x.shape[1])
    mask = None
    if c.mid_block_add_attention is not False:
        mask = causal_mask(x)
        x = pixel_attention(p / "attentions" / 0, x)
    x = resnet(p / "resnets" / 1, x, x.shape[1])
    del mask
    return x


def strides(c: ComponentConfig, level: int) -> Sides:
    """Return a level's factors in time and space; those in time are at the last levels."""
    steps, levels = len(c.block_out_channels) - 1, log2(c.temporal_compression_ratio)
    time = 2 if steps - levels <= level < steps else 1
    space = 2 if level < log2(c.spatial_compression_ratio) else 1
    return time, space, space


def down_block(p: NetPlace, c: ComponentConfig, x: Value, level: int) -> Value:
    """HunyuanVideoDownBlock3D"""
    for i in range(c.layers_per_block):
        x = resnet(p / "resnets" / i, x, c.block_out_channels[level])
    stride = strides(c, level)
    if max(stride) > 1:
        x = conv(p / "downsamplers" / 0, "conv", x, x.shape[1], 3, stride)
    return x


def upsampled(p: NetPlace, x: Value, factor: Sides) -> Value:
    """Return `x` after HunyuanVideoUpsampleCausal3D, which upsamples the first frame separately."""
    t, height, width = x.shape[2], x.shape[3] * factor[1], x.shape[4] * factor[2]
    first = x.resized(*x.shape[:2], 1, height, width)
    if t > 1:
        others = x.part(*framed(x, t - 1)).copy()
        others = others.resized(*x.shape[:2], (t - 1) * factor[0], height, width)
        x = cat([first, others], 2)
    else:
        x = first
    return conv(p, "conv", x, x.shape[1])


def up_block(p: NetPlace, c: ComponentConfig, x: Value, level: int) -> Value:
    """HunyuanVideoUpBlock3D"""
    for i in range(c.layers_per_block + 1):
        x = resnet(p / "resnets" / i, x, c.block_out_channels[::-1][level])
    factor = strides(c, level)
    return upsampled(p / "upsamplers" / 0, x, factor) if max(factor) > 1 else x


def encoder(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """HunyuanVideoEncoder3D"""
    x = conv(n, "conv_in", x, c.block_out_channels[0])
    for level in range(len(c.block_out_channels)):
        x = down_block(n / "down_blocks" / level, c, x, level)
    x = middle(n / "mid_block", c, x)
    x = n.group_norm("conv_norm_out", x)
    x = x.act()
    return conv(n, "conv_out", x, 2 * c.latent_channels)


def decoder(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """HunyuanVideoDecoder3D"""
    x = conv(n, "conv_in", x, c.block_out_channels[-1])
    x = middle(n / "mid_block", c, x)
    for level in range(len(c.block_out_channels)):
        x = up_block(n / "up_blocks" / level, c, x, level)
    x = n.group_norm("conv_norm_out", x)
    x = x.act()
    return conv(n, "conv_out", x, c.out_channels)


def hunyuan_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value | None:
    run, factor, time = n.run, c.spatial_compression_ratio, c.temporal_compression_ratio
    if s.side != "decode":
        video = run.constant(*s.pixels(c.in_channels, factor, time))
        x = encoder(n / "encoder", c, video)
        moments = n.conv("quant_conv", x, 2 * c.latent_channels, 1, pad=0)
        del x
        if s.side == "encode":
            return moments
        del moments

    def one(s: Sizes) -> Value:
        z = run.constant(*s.latents(c.latent_channels))
        z = n.conv("post_quant_conv", z, c.latent_channels, 1, pad=0)
        return decoder(n / "decoder", c, z)

    def shape(s: Sizes) -> tuple[int, ...]:
        return s.pixels(c.out_channels, factor, time)

    def frames_of(s: Sizes) -> Value:
        return tiled(run, s, tile(run.cls, c, factor), one, shape)[0]

    return in_frames(run, s, FRAMES, frames_of, shape)


# ---- 1.5


def resnet15(p: NetPlace, x: Value, out: int) -> Value:
    """HunyuanVideo15ResnetBlock"""
    h = gamma(p, "norm1", x)
    h = h.act()
    h = conv(p, "conv1", h, out)
    h = gamma(p, "norm2", h)
    h = h.act()
    h = conv(p, "conv2", h, out)
    if x.shape[1] != out:
        x = p.conv("conv_shortcut", x, out, 1, pad=0)
    return h + x


def pixel_attention15(p: NetPlace, x: Value) -> Value:
    """HunyuanVideo15AttnBlock: pixel attention by convolutions, whose results are copied."""
    b, d = x.shape[:2]
    tokens = b, prod(x.shape[2:]), d
    h = gamma(p, "norm", x)
    query, key, value = (p.conv(name, h, d, 1, pad=0) for name in ("to_q", "to_k", "to_v"))
    query = query.copy(*tokens)
    key = key.copy(*tokens)
    value = value.copy(*tokens)
    mask = x.run.new(tokens[1], tokens[1])
    h = attend(query, key, value, 1, masked=True)
    h = p.conv("proj_out", h.view(*x.shape), d, 1, pad=0)
    h = h + x
    del mask
    return h


def middle15(p: NetPlace, x: Value) -> Value:
    """HunyuanVideo15MidBlock"""
    x = resnet15(p / "resnets" / 0, x, x.shape[1])
    x = pixel_attention15(p / "attentions" / 0, x)
    return resnet15(p / "resnets" / 1, x, x.shape[1])


def smaller(x: Value, time: int) -> Value:
    """Return `x` with pixels moved to channels (_dcae_downsample_rearrange)."""
    b, c, t, height, width = x.shape
    return x.copy(b, 4 * time * c, t // time, height // 2, width // 2)


def larger(x: Value, time: int) -> Value:
    """Return `x` with channels moved to pixels (_dcae_upsample_rearrange)."""
    b, c, t, height, width = x.shape
    return x.copy(b, c // (4 * time), t * time, 2 * height, 2 * width)


def downsampled15(p: NetPlace, x: Value, out: int, *, time: bool) -> Value:
    """HunyuanVideo15Downsample: the first frame separately, and means of the input are added."""
    t = x.shape[2]
    h = conv(p, "conv", x, out // (8 if time else 4))
    if not time:
        h = smaller(h, 1)
        shortcut = smaller(x, 1)
        shortcut = shortcut.resized(*h.shape)
        return h + shortcut
    h_first = smaller(h.part(*framed(h, 1)), 1)
    h_first = cat([h_first, h_first])
    h_next = smaller(h.part(*framed(h, t - 1)), 2)
    h = cat([h_first, h_next], 2)
    x_first = smaller(x.part(*framed(x, 1)), 1)
    x_first = x_first.resized(*h_first.shape)
    x_next = smaller(x.part(*framed(x, t - 1)), 2)
    x_next = x_next.resized(*h_next.shape)
    shortcut = cat([x_first, x_next], 2)
    return h + shortcut


def upsampled15(p: NetPlace, x: Value, out: int, *, time: bool) -> Value:
    """HunyuanVideo15Upsample"""
    t, repeats = x.shape[2], (8 if time else 4) * out // x.shape[1]
    h = conv(p, "conv", x, out * (8 if time else 4))
    if not time:
        h = larger(h, 1)
        shortcut = repeated(x, repeats)
        shortcut = larger(shortcut, 1)
        return h + shortcut
    h_first = larger(h.part(*framed(h, 1)), 1)
    h_first = h_first.part(h.shape[0], out, *h_first.shape[2:])
    h_next = larger(h.part(*framed(h, t - 1)), 2)
    h = cat([h_first, h_next], 2)
    x_first = larger(x.part(*framed(x, 1)), 1)
    x_first = repeated(x_first, repeats // 2)
    x_next = larger(x.part(*framed(x, t - 1)), 2)
    x_next = repeated(x_next, repeats)
    shortcut = cat([x_first, x_next], 2)
    return h + shortcut


def repeated(x: Value, times: int) -> Value:
    """Return `x` with each channel repeated `times` times."""
    return x.resized(x.shape[0], x.shape[1] * times, *x.shape[2:])


def next_width(c: ComponentConfig, level: int, *, up: bool) -> int:
    """Return the channels after a change of size, 0 without one."""
    widths = c.block_out_channels[::-1] if up else c.block_out_channels
    matched = c.upsample_match_channel if up else c.downsample_match_channel
    if level >= log2(c.spatial_compression_ratio):
        return 0
    return int(widths[level + 1] if matched else widths[level])


def down_block15(p: NetPlace, c: ComponentConfig, x: Value, level: int) -> Value:
    """HunyuanVideo15DownBlock3D"""
    for i in range(c.layers_per_block):
        x = resnet15(p / "resnets" / i, x, c.block_out_channels[level])
    out = next_width(c, level, up=False)
    if not out:
        return x
    time = level >= log2(c.spatial_compression_ratio // c.temporal_compression_ratio)
    return downsampled15(p / "downsamplers" / 0, x, out, time=time)


def up_block15(p: NetPlace, c: ComponentConfig, x: Value, level: int) -> Value:
    """HunyuanVideo15UpBlock3D"""
    for i in range(c.layers_per_block + 1):
        x = resnet15(p / "resnets" / i, x, c.block_out_channels[::-1][level])
    out = next_width(c, level, up=True)
    if not out:
        return x
    time = level < log2(c.temporal_compression_ratio)
    return upsampled15(p / "upsamplers" / 0, x, out, time=time)


def encoder15(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """HunyuanVideo15Encoder3D"""
    x = conv(n, "conv_in", x, c.block_out_channels[0])
    for level in range(len(c.block_out_channels)):
        x = down_block15(n / "down_blocks" / level, c, x, level)
    x = middle15(n / "mid_block", x)
    short_cut = x.resized(x.shape[0], 2 * c.latent_channels, *x.shape[2:])
    x = gamma(n, "norm_out", x)
    x = x.act()
    x = conv(n, "conv_out", x, 2 * c.latent_channels)
    return x.written(short_cut)


def decoder15(n: NetPlace, c: ComponentConfig, z: Value) -> Value:
    """HunyuanVideo15Decoder3D"""
    width = c.block_out_channels[-1]
    x = conv(n, "conv_in", z, width) + repeated(z, width // c.latent_channels)
    x = middle15(n / "mid_block", x)
    for level in range(len(c.block_out_channels)):
        x = up_block15(n / "up_blocks" / level, c, x, level)
    x = gamma(n, "norm_out", x)
    x = x.act()
    return conv(n, "conv_out", x, c.out_channels)


def hunyuan15_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value | None:
    run, factor, time = n.run, c.spatial_compression_ratio, c.temporal_compression_ratio
    if s.side != "decode":
        video = run.constant(*s.pixels(c.in_channels, factor, time))
        moments = encoder15(n / "encoder", c, video)
        if s.side == "encode":
            return moments
        del moments

    def one(s: Sizes) -> Value:
        z = run.constant(*s.latents(c.latent_channels))
        return decoder15(n / "decoder", c, z)

    def shape(s: Sizes) -> tuple[int, ...]:
        return s.pixels(c.out_channels, factor, time)

    return tiled(run, s, tile(run.cls, c, factor), one, shape)[0]


PROGRAMS = {
    "AutoencoderKLHunyuanVideo": hunyuan_vae,
    "AutoencoderKLHunyuanVideo15": hunyuan15_vae,
}
