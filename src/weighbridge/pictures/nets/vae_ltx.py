"""Video autoencoders of LTX-Video and LTX-2: all frames at once, in patches of four pixels.

Source: diffusers 0.42 models/autoencoders/{autoencoder_kl_ltx, autoencoder_kl_ltx2}.py.
"""

from math import prod

from weighbridge.base.records import frozen_record
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import timestep
from weighbridge.pictures.nets.tiles import tile, tiled
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, cat

STRIDES = {
    "conv": (2, 2, 2),
    "spatial": (1, 2, 2),
    "temporal": (2, 1, 1),
    "spatiotemporal": (2, 2, 2),
}


@frozen_record
class Manner:
    """Options of the encoder or decoder of one class: `second`: LTX-2, whose norms are in the
    model's dtype; `reflected`: pixels are padded before a convolution."""

    second: bool = False
    causal: bool = True
    reflected: bool = False
    timed: bool = False
    noise: bool = False

    def noisy(self, noise: object) -> "Manner":
        return Manner(
            second=self.second,
            causal=self.causal,
            reflected=self.reflected,
            timed=self.timed,
            noise=bool(noise),
        )


def conv(
    p: NetPlace, name: str, x: Value, out: int, k: Manner, size: tuple[int, int] = (3, 1)
) -> Value:
    """LTXVideoCausalConv3d: copies of the frames at the ends, then one joined tensor. `size`:
    kernel and stride."""
    kernel, stride = size
    before = x.resized(*x.shape[:2], (kernel - 1) if k.causal else kernel // 2, *x.shape[3:])
    after = x.resized(*before.shape) if not k.causal else None
    x = cat([before, x] if after is None else [before, x, after], 2)
    side = kernel // 2
    if k.reflected:
        padded = x.pad(space=side)
        return (p / name).conv("conv", padded, out, kernel, stride, 0)
    return (p / name).conv("conv", x, out, kernel, stride, (0, side, side))


def normed(x: Value, k: Manner) -> Value:
    """Return an RMSNorm over channels."""
    if k.second:
        rms = x.power().resized(x.shape[0], 1, *x.shape[2:])
        return x * rms
    last = (x.shape[0], *x.shape[2:], x.shape[1])
    return NetPlace(x.run).rms_norm("", x.view(*last), affine=False).view(*x.shape)


def shortcut(p: NetPlace, x: Value, out: int, k: Manner) -> Value:
    """Return a norm over channels moved last, a copy, and a convolution of one pixel."""
    moved = x.copy(x.shape[0], *x.shape[2:], x.shape[1])
    y = p.layer_norm("norm3", moved)
    del moved
    y = y.view(*x.shape)
    if k.second:
        return p.conv("conv_shortcut", y, out, 1)
    return conv(p, "conv_shortcut", y, out, k, (1, 1))


def resnet(p: NetPlace, x: Value, out: int, k: Manner) -> Value:
    """LTXVideoResnetBlock3d"""
    width = x.shape[1]
    if k.noise:
        p.param("per_channel_scale1", width, 1, 1)
        p.param("per_channel_scale2", width, 1, 1)
    if k.timed:
        p.param("scale_shift_table", 4, width)
    h = normed(x, k)
    h = modulated(h) if k.timed else h
    h = h.act()
    h = conv(p, "conv1", h, out, k)
    h = noised(h) if k.noise else h
    h = normed(h, k)
    h = modulated(h) if k.timed else h
    h = h.act()
    h = conv(p, "conv2", h, out, k)
    h = noised(h) if k.noise else h
    y = shortcut(p, x, out, k) if width != out else x
    return h + y


def modulated(h: Value) -> Value:
    part = h.run.new(h.shape[0], h.shape[1], 1, 1, 1)
    h = h * part
    return h + part


def noised(h: Value) -> Value:
    """Return `h` with noise added, per pixel, times a scale per channel."""
    noise = h.run.new(1, h.shape[1], 1, *h.shape[3:])
    return h + noise


def time_embedder(p: NetPlace, batch: int, width: int, k: Manner) -> None:
    if k.timed:
        timestep(p / "time_embedder" / "timestep_embedder", batch, width)


def downsampled(p: NetPlace, x: Value, out: int, kind: str, k: Manner) -> Value:
    """Return `x` after LTXVideoDownsampler3d: pixels become channels, and their means are added."""
    if kind == "conv":
        return conv(p, "downsamplers.0", x, x.shape[1], k, (3, 2))
    a, b, w = STRIDES[kind]
    x = cat([x.part(*x.shape[:2], a - 1, *x.shape[3:]), x], 2)
    shape = x.shape[0], out, x.shape[2] // a, x.shape[3] // b, x.shape[4] // w
    residual = x.copy()
    residual = residual.resized(*shape)
    x = conv(p / "downsamplers" / 0, "conv", x, out // (a * b * w), k)
    x = x.copy(*shape)
    return x + residual


def down_block(p: NetPlace, c: ComponentConfig, x: Value, level: int, k: Manner) -> Value:
    """LTXVideoDownBlock3D, and LTXVideo095DownBlock3D, whose downsampler changes the width."""
    widths, earlier = c.block_out_channels, c.down_block_types[0] == "LTXVideoDownBlock3D"
    out = widths[level] if k.second else widths[min(level + 1, len(widths) - 1)]
    for i in range(c.layers_per_block[level]):
        x = resnet(p / "resnets" / i, x, x.shape[1], k)
    if c.spatio_temporal_scaling[level]:
        x = downsampled(p, x, out, c.downsample_type[level], k)
    if earlier and out != x.shape[1]:
        x = resnet(p / "conv_out", x, out, k)
    return x


def middle(p: NetPlace, x: Value, layers: int, k: Manner) -> Value:
    """LTXVideoMidBlock3d"""
    time_embedder(p, x.shape[0], 4 * x.shape[1], k)
    for i in range(layers):
        x = resnet(p / "resnets" / i, x, x.shape[1], k)
    return x


def encoder(n: NetPlace, c: ComponentConfig, s: Sizes, k: Manner) -> Value:
    """LTXVideoEncoder3d"""
    patch, widths, frames = c.patch_size, c.block_out_channels, 8 * s.frames - 7
    pixels = 32 * s.height, 32 * s.width
    video = n.run.constant(s.batch, c.in_channels, frames, *pixels)
    x = video.copy(s.batch, c.in_channels * patch**2, frames, *(side // patch for side in pixels))
    x = conv(n, "conv_in", x, c.latent_channels if k.second else widths[0], k)
    earlier = c.down_block_types[0] == "LTXVideoDownBlock3D"
    for level in range(len(widths) if k.second or earlier else len(widths) - 1):
        x = down_block(n / "down_blocks" / level, c, x, level, k)
    x = middle(n / "mid_block", x, c.layers_per_block[-1], k)
    x = normed(x, k)
    x = x.act()
    x = conv(n, "conv_out", x, c.latent_channels + 1, k)
    last = x.part(s.batch, 1, *x.shape[2:])
    last = last.resized(s.batch, c.latent_channels - 1, *x.shape[2:])
    return cat([x, last], 1)


def upsampled(
    p: NetPlace, x: Value, out: int, stride: tuple[int, ...], k: Manner, *, added: bool
) -> Value:
    """LTXVideoUpsampler3d: channels become pixels, without the first frames."""
    b, _, t, height, width = x.shape
    grown = b, out, t * stride[0], height * stride[1], width * stride[2]
    later = *grown[:2], grown[2] - stride[0] + 1, *grown[3:]
    residual = None
    if added:
        residual = x.copy()
        residual = residual.resized(*grown).part(*later)
    x = conv(p, "conv", x, out * prod(stride), k)
    x = x.copy(*grown).part(*later)
    return x if residual is None else x + residual


def up_block(p: NetPlace, c: ComponentConfig, x: Value, level: int, k: Manner) -> Value:
    """LTXVideoUpBlock3d"""
    factor = c.upsample_factor[::-1][level]
    inside, out = x.shape[1] // factor, c.decoder_block_out_channels[::-1][level] // factor
    if inside != out:
        x = resnet(p / "conv_in", x, out, k)
    time_embedder(p, x.shape[0], 4 * inside, k)
    if c.decoder_spatio_temporal_scaling[::-1][level]:
        stride = STRIDES[c.upsample_type[level]] if c.upsample_type else (2, 2, 2)
        added = bool(c.upsample_residual[::-1][level])
        x = upsampled(p / "upsamplers" / 0, x, out, stride, k, added=added)
    for i in range(c.decoder_layers_per_block[::-1][level + 1]):
        x = resnet(p / "resnets" / i, x, out, k)
    return x


def decoder(n: NetPlace, c: ComponentConfig, s: Sizes, k: Manner) -> Value:
    """LTXVideoDecoder3d"""
    widths, noise = c.decoder_block_out_channels[::-1], c.decoder_inject_noise[::-1]
    if k.timed:
        n.param("timestep_scale_multiplier")
    z = n.run.constant(*s.latents(c.latent_channels))
    x = conv(n, "conv_in", z, widths[0], k)
    x = middle(n / "mid_block", x, c.decoder_layers_per_block[-1], k.noisy(noise[0]))
    for level in range(len(widths)):
        x = up_block(n / "up_blocks" / level, c, x, level, k.noisy(noise[level + 1]))
    x = normed(x, k)
    if k.timed:
        time_embedder(n, s.batch, 2 * x.shape[1], k)
        n.param("scale_shift_table", 2, x.shape[1])
        x = modulated(x)
    x = x.act()
    x = conv(n, "conv_out", x, c.out_channels * c.patch_size**2, k)
    return x.copy()


def ltx_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value | None:
    second = n.run.cls == "AutoencoderKLLTX2Video"
    if s.side != "decode":
        manner = Manner(
            second=second,
            causal=bool(c.encoder_causal),
            reflected=c.encoder_spatial_padding_mode == "reflect",
        )
        moments = encoder(n / "encoder", c, s, manner)
        if s.side == "encode":
            return moments
        del moments
    manner = Manner(
        second=second,
        causal=bool(c.decoder_causal),
        reflected=c.decoder_spatial_padding_mode == "reflect",
        timed=bool(c.timestep_conditioning),
    )

    def one(s: Sizes) -> Value:
        return decoder(n / "decoder", c, s, manner)

    def shape(s: Sizes) -> tuple[int, ...]:
        return s.pixels(c.out_channels, 32, 8)

    return tiled(n.run, s, tile(n.run.cls, c, 32), one, shape)[0]


PROGRAMS = {"AutoencoderKLLTXVideo": ltx_vae, "AutoencoderKLLTX2Video": ltx_vae}
