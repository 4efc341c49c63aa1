"""Cosmos' autoencoder of videos: wavelets, and convolutions of space and time in turn.

Source: diffusers 0.42 models/autoencoders/autoencoder_kl_cosmos.py.
"""

from math import log2

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import framed
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat

Sides = tuple[int, int, int]
POINT = (1, 1, 1)


def conv(p: NetPlace, name: str, x: Value, out: int, kernel: Sides, stride: Sides = POINT) -> Value:
    """CosmosCausalConv3d: joined with copies of the first frame, then padded, always by copies."""
    side = kernel[1] // 2 if max(stride) == 1 else 0
    before = x.resized(*framed(x, kernel[0] - stride[0]))
    joined = cat([before, x], 2)
    joined = joined.resized(*joined.shape[:3], x.shape[3] + 2 * side, x.shape[4] + 2 * side)
    return p.conv(name, joined, out, kernel, stride, 0)


def projection(p: NetPlace, x: Value, out: int) -> Value:
    """CosmosConvProjection3d"""
    x = conv(p, "conv_s", x, out, (1, 3, 3))
    return conv(p, "conv_t", x, out, (3, 1, 1))


def norm(p: NetPlace, name: str, x: Value) -> Value:
    """Return CosmosCausalGroupNorm with one group, of a copy with frames before channels."""
    b, c, t, height, width = x.shape
    frames = x.copy(b * t, c, height, width)
    return (p / name).group_norm("norm", frames, 1).view(*x.shape)


def resnet(p: NetPlace, x: Value, out: int) -> Value:
    """CosmosResnetBlock3d"""
    residual = conv(p, "conv_shortcut", x, out, POINT) if x.shape[1] != out else x
    h = norm(p, "norm1", x)
    h = h.act()
    h = projection(p / "conv1", h, out)
    h = norm(p, "norm2", h)
    h = h.act()
    h = projection(p / "conv2", h, out)
    return h + residual


def attention(p: NetPlace, x: Value, *, time: bool) -> Value:
    """Return CosmosSpatialAttentionProcessor2_0's output, or the temporal one's."""
    b, d, t, height, width = x.shape
    tokens = (b * height * width, t, d) if time else (b * t, height * width, d)
    h = norm(p, "norm", x)
    query = conv(p, "to_q", h, d, POINT).view(*tokens)
    key = conv(p, "to_k", h, d, POINT).view(*tokens)
    value = conv(p, "to_v", h, d, POINT).view(*tokens)
    h = attend(query, key, value, 1, masked=time, apart=True)
    h = conv(p / "to_out", "0", h.view(*x.shape), d, POINT)
    return h + x


def attended(p: NetPlace, x: Value, number: int) -> Value:
    x = attention(p / "attentions" / number, x, time=False)
    return attention(p / "temp_attentions" / number, x, time=True)


def middle(p: NetPlace, x: Value) -> Value:
    """CosmosMidBlock3d"""
    x = resnet(p / "resnets" / 0, x, x.shape[1])
    x = attended(p, x, 0)
    return resnet(p / "resnets" / 1, x, x.shape[1])


def layers(p: NetPlace, x: Value, out: int, count: int, *, looks: bool) -> Value:
    for i in range(count):
        x = resnet(p / "resnets" / i, x, out)
        if looks:
            x = attended(p, x, i)
    return x


def downsampled(p: NetPlace, x: Value, *, space: bool, time: bool) -> Value:
    """Return CosmosDownsample3d: a convolution of `x` plus an average pool."""
    d = x.shape[1]
    if space:
        x = x.resized(*x.shape[:3], x.shape[3] + 1, x.shape[4] + 1)
        out = conv(p, "conv1", x, d, (1, 3, 3), (1, 2, 2))
        pool = x.resized(*out.shape)
        x = out + pool
        del out, pool
    if time:
        x = cat([x.part(*framed(x, 1)), x], 2)
        out = conv(p, "conv2", x, d, (3, 1, 1), (2, 1, 1))
        pool = x.resized(*out.shape)
        x = out + pool
        del out, pool
    return conv(p, "conv3", x, d, POINT) if space or time else x


def upsampled(p: NetPlace, x: Value, *, space: bool, time: bool) -> Value:
    """Return CosmosUpsample3d of `x`: frames, then pixels, are repeated."""
    d, t = x.shape[:3][1:]
    if time:
        steps = 2 if t > 1 else 1
        x = x.resized(*framed(x, t * steps)).part(*framed(x, t * steps - steps + 1))
        x = conv(p, "conv1", x, d, (3, 1, 1)) + x
    if space:
        x = x.resized(*x.shape[:3], 2 * x.shape[3], x.shape[4])
        x = x.resized(*x.shape[:4], 2 * x.shape[4])
        x = conv(p, "conv2", x, d, (1, 3, 3)) + x
    return conv(p, "conv3", x, d, POINT) if space or time else x


def steps(c: ComponentConfig) -> tuple[int, int]:
    """Return the levels that change pixels, and frames; patches do the rest."""
    patch = int(log2(c.patch_size))
    return (
        int(log2(c.spatial_compression_ratio)) - patch,
        int(log2(c.temporal_compression_ratio)) - patch,
    )


def patched(x: Value, c: ComponentConfig) -> Value:
    """Return CosmosPatchEmbed3d of `x`: each iteration halves all sides."""
    x = cat([x.resized(*framed(x, c.patch_size)), x.part(*framed(x, x.shape[2] - 1))], 2)
    if c.patch_type != "haar":
        b, channels, t, height, width = x.shape
        k = c.patch_size
        return x.copy(b, channels * k**3, t // k, height // k, width // k)
    for _ in range(int(log2(c.patch_size))):
        b, channels, t, height, width = x.shape
        x = x.resized(*x.shape)
        halves = [x.resized(b, channels, t // 2, height, width) for _ in range(2)]
        halves += [x.resized(b, channels, t // 2, height // 2, width) for _ in range(4)]
        shape = b, channels, t // 2, height // 2, width // 2
        halves += [x.resized(*shape) for _ in range(8)]
        x = cat(halves[6:], 1)
        x = x * 1.0
    return x


def unpatched(x: Value, c: ComponentConfig) -> Value:
    """Return CosmosUnpatcher3d of `x`: transposed filters, each added to the one before."""
    if c.patch_type != "haar":
        b, channels, t, height, width = x.shape
        k = c.patch_size
        return x.copy(b, channels // k**3, t * k, height * k, width * k)
    for _ in range(int(log2(c.patch_size))):
        b, channels, t, height, width = x.shape
        g = channels // 8
        wide = [filtered(x, b, g, t, height, 2 * width) for _ in range(4)]
        high = [filtered(x, b, g, t, 2 * height, 2 * width) for _ in range(2)]
        y = filtered(x, b, g, 2 * t, 2 * height, 2 * width)
        y = y * 1.0
        x = y
        del wide, high
    return x


def filtered(x: Value, *shape: int) -> Value:
    """Return the sum of two transposed convolutions."""
    low = x.resized(*shape)
    high = x.resized(*shape)
    return high + low


def encoder(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """CosmosEncoder3d"""
    widths, (space, time) = c.encoder_block_out_channels, steps(c)
    x = patched(x, c)
    x = projection(n / "conv_in", x, widths[0])
    for level in range(len(widths) - 1):
        p, last = n / "down_blocks" / level, level == len(widths) - 2
        looks = c.resolution // c.patch_size // 2**level in c.attention_resolutions
        x = down_block(
            p,
            x,
            (widths[level + 1], c.num_layers),
            looks=looks,
            sides=(not last and level < space, not last and level < time),
        )
    x = middle(n / "mid_block", x)
    x = norm(n, "norm_out", x)
    x = x.act()
    return projection(n / "conv_out", x, c.latent_channels)


def down_block(
    p: NetPlace, x: Value, size: tuple[int, int], *, looks: bool, sides: tuple[bool, bool]
) -> Value:
    """CosmosDownBlock3d"""
    x = layers(p, x, size[0], size[1], looks=looks)
    return downsampled(p / "downsamplers" / 0, x, space=sides[0], time=sides[1])


def decoder(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    """CosmosDecoder3d"""
    widths, (space, time) = c.decode_block_out_channels[::-1], steps(c)
    x = projection(n / "conv_in", x, widths[0])
    x = middle(n / "mid_block", x)
    smallest = c.resolution // c.patch_size // 2 ** (len(widths) - 2)
    for level in range(len(widths) - 1):
        last = level == len(widths) - 2
        times = not last and 0 < level < time + 1
        sides = times or (not last and level < space and space > time)
        looks = smallest * 2**level in c.attention_resolutions
        x = up_block(
            n / "up_blocks" / level,
            x,
            (widths[level + 1], c.num_layers + 1),
            looks=looks,
            sides=(sides, times),
        )
    x = norm(n, "norm_out", x)
    x = x.act()
    x = projection(n / "conv_out", x, c.out_channels * c.patch_size**3)
    return unpatched(x, c)


def up_block(
    p: NetPlace, x: Value, size: tuple[int, int], *, looks: bool, sides: tuple[bool, bool]
) -> Value:
    """CosmosUpBlock3d"""
    x = layers(p, x, size[0], size[1], looks=looks)
    return upsampled(p / "upsamplers" / 0, x, space=sides[0], time=sides[1])


def cosmos_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value | None:
    run, space, time = n.run, c.spatial_compression_ratio, c.temporal_compression_ratio
    if s.side != "decode":
        x = run.constant(*s.pixels(c.in_channels, space, time))
        x = encoder(n / "encoder", c, x)
        x = conv(n, "quant_conv", x, c.latent_channels, POINT)
        if s.side == "encode":
            return x
        del x
    z = run.constant(*s.latents(c.latent_channels))
    z = conv(n, "post_quant_conv", z, c.latent_channels, POINT)
    return decoder(n / "decoder", c, z)


PROGRAMS = {"AutoencoderKLCosmos": cosmos_vae}
