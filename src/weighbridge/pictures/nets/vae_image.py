"""Autoencoders: of images, and causal ones of videos that decode a chunk of frames at a time.

`s.side` is "encode", "decode" or "both"; s.height and s.width are of the latents, s.frames latent frames.
"""

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.unet import resnet, upsampled
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, attend, cat


def middle(p, x, fn, attention=True):
    x = fn(p / "resnets" / 0, x, x.shape[1])
    if attention:
        x = pixel_attention(p / "attentions" / 0, x)
    return fn(p / "resnets" / 1, x, x.shape[1])


def pixel_attention(p, x):
    b, d, *sides = x.shape
    tokens = 1
    for side in sides:
        tokens *= side
    h = p.group_norm("group_norm", x).view(b, tokens, d)
    q, k, v = (p.linear(name, h, d) for name in ("to_q", "to_k", "to_v"))
    h = attend(q, k, v, 1)
    del q, k, v
    h = (p / "to_out").linear("0", h, d)
    return h.copy(b, d, *sides) + x


# ---- images


def plain(p, x, out):
    return resnet(p, x, out)


def encoder(n, c, s, latent):
    widths, m = c.block_out_channels, n.run
    f = 2 ** (len(widths) - 1)
    x = n.conv("conv_in", m.new(s.batch, c.in_channels, f * s.height, f * s.width), widths[0])
    for i, width in enumerate(widths):
        x = down_block(n / "down_blocks" / i, x, width, c.layers_per_block, i < len(widths) - 1)
    x = middle(n / "mid_block", x, plain, c.mid_block_add_attention is not False)
    x = n.group_norm("conv_norm_out", x).act()
    return n.conv("conv_out", x, 2 * latent)


def down_block(p, x, width, layers, down):
    """The caller holds the block's input while the block runs."""
    for j in range(layers):
        x = plain(p / "resnets" / j, x, width)
    return (p / "downsamplers" / 0).conv("conv", x.pad(space=1), width, 3, 2, 0) if down else x


def decoder(n, c, z):
    widths = c.block_out_channels[::-1]
    x = n.conv("conv_in", z, widths[0])
    x = middle(n / "mid_block", x, plain, c.mid_block_add_attention is not False)
    for i, width in enumerate(widths):
        x = up_block(n / "up_blocks" / i, x, width, c.layers_per_block + 1, i < len(widths) - 1)
    x = n.group_norm("conv_norm_out", x)
    x = x.act()
    return n.conv("conv_out", x, c.out_channels)


def up_block(p, x, width, layers, up):
    for j in range(layers):
        x = plain(p / "resnets" / j, x, width)
    if up:
        x = upsampled(p / "upsamplers" / 0, x)
    return x


def image_vae(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    latent, m = c.latent_channels, n.run
    x = None
    if s.side != "decode":
        x = encoder(n / "encoder", c, s, latent)
        if c.use_quant_conv is not False:
            x = n.conv("quant_conv", x, 2 * latent, 1)
    if s.side == "encode":
        return x
    z = m.constant(s.batch, latent, s.height, s.width)
    if c.use_post_quant_conv is not False:
        z = n.conv("post_quant_conv", z, latent, 1)
    return decoder(n / "decoder", c, z)


# ---- Wan, Qwen-Image: one latent frame at a time, two frames of each convolution's input kept


class Cached:
    """Causal convolutions of a chunk; what they keep of it stays until the video is done."""

    def __init__(self):
        self.kept = {}

    def conv(self, n, name, x, out, k=3, stride=1, keep=True):
        each = k if isinstance(k, tuple) else (k,) * 3
        key, m, pads = n.path + name, n.run, (0, each[1] // 2, each[2] // 2)
        if each[0] == 1:
            return n.conv(name, x, out, each, stride, pads)
        kept = self.kept.get(key)
        last = min(2, x.shape[2])
        cache = m.new(*x.shape[:2], last, *x.shape[3:])
        if last < 2 and kept:
            cache = m.new(*x.shape[:2], 2, *x.shape[3:])
        if kept:
            h = cat([kept.part(*x.shape[:2], kept.shape[2], *x.shape[3:]), x], 2)
            if h.shape[2] < x.shape[2] + 2:
                h = h.pad(time=x.shape[2] + 2 - h.shape[2], space=each[1] // 2)
            elif each[1] > 1:
                h = h.pad(space=each[1] // 2)
        else:
            h = x.pad(time=2, space=each[1] // 2)
        y = n.conv(name, h, out, each, stride, (0, 0, 0))
        if keep:
            self.kept[key] = cache
        return y


def gamma(p, name, x, images=False):
    p.param(f"{name}.gamma", x.shape[1], 1, 1, *([] if images else [1]))
    h = x.float()
    h = h * h.run.new(x.shape[0], 1, *x.shape[2:], dtype=FLOAT32)
    h = h.like(x)
    return (h * 1.0 * 1.0) + 0.0


def residual(cache):
    def fn(p, x, out):
        h = cache.conv(p, "conv_shortcut", x, out, 1) if x.shape[1] != out else x
        x = gamma(p, "norm1", x).act()
        x = cache.conv(p, "conv1", x, out)
        x = gamma(p, "norm2", x).act()
        x = cache.conv(p, "conv2", x, out)
        return x + h

    return fn


def wan_attention(p, x):
    b, d, t, h, w = x.shape
    z = gamma(p, "norm", x.view(b * t, d, h, w), images=True)
    z = p.conv("to_qkv", z, 3 * d, 1).copy(b * t, h * w, 3 * d)
    z = attend(*z.chunk(3), 1)
    return p.conv("proj", z.copy(b * t, d, h, w), d, 1).view(b, d, t, h, w) + x


def wan_middle(p, x, fn):
    x = fn(p / "resnets" / 0, x, x.shape[1])
    x = wan_attention(p / "attentions" / 0, x)
    return fn(p / "resnets" / 1, x, x.shape[1])


def resample(p, x, mode, cache, out=None, first=True):
    b, c, t, h, w = x.shape
    if mode == "upsample3d":
        if first:
            p.param("time_conv.weight", 2 * c, c, 3, 1, 1, kind="conv")
            p.param("time_conv.bias", 2 * c, kind="bias")
        else:
            x = cache.conv(p, "time_conv", x, 2 * c, (3, 1, 1)).copy(b, c, 2 * t, h, w)
            t *= 2
    z = x.view(b * t, c, h, w)
    if mode.startswith("up"):
        f = z.float()
        f = f.upsample()
        z = f.to(x.run.dtype)
        del f
        z = p.conv("resample.1", z, out or c // 2)
    else:
        z = p.conv("resample.1", z.pad(space=1), c, 3, 2, 0)
    x = z.view(b, z.shape[1], t, *z.shape[2:])
    if mode == "downsample3d":
        if first:
            p.param("time_conv.weight", c, c, 3, 1, 1, kind="conv")
            p.param("time_conv.bias", c, kind="bias")
            cache.kept[p.path] = x.copy()
        else:
            x = p.conv("time_conv", x.pad(time=1), c, (3, 1, 1), (2, 1, 1), (0, 0, 0))
    return x


def wan_encode(n, c, x, cache, first):
    widths, fn, times = [c.base_dim * k for k in c.dim_mult], residual(cache), c.temperal_downsample
    x, i = cache.conv(n, "conv_in", x, widths[0]), 0
    for level, width in enumerate(widths):
        last = level == len(widths) - 1
        mode = "downsample3d" if not last and times[level] else "downsample2d"
        if c.is_residual:
            q = n / "down_blocks" / level
            y = x.copy()
            for j in range(c.num_res_blocks):
                x = fn(q / "resnets" / j, x, width)
            if not last:
                x = resample(q / "downsampler", x, mode, cache, first=first)
            x = x + x.copy()
            del y
            continue
        for _ in range(c.num_res_blocks):
            x = fn(n / "down_blocks" / i, x, width)
            i += 1
        if not last:
            x = resample(n / "down_blocks" / i, x, mode, cache, first=first)
            i += 1
    x = wan_middle(n / "mid_block", x, fn)
    x = gamma(n, "norm_out", x).act()
    return cache.conv(n, "conv_out", x, 2 * c.z_dim)


def wan_up(q, c, x, width, fn, mode, cache, first):
    y = x.copy() if c.is_residual else None
    for j in range(c.num_res_blocks + 1):
        x = fn(q / "resnets" / j, x, width)
    if not mode:
        return x
    place = q / "upsampler" if c.is_residual else q / "upsamplers" / 0
    x = resample(place, x, mode, cache, width if c.is_residual else None, first)
    return x + x.copy() if y else x  # the short cut is repeated to that size


def wan_decode(n, c, x, cache, first):
    base = c.decoder_base_dim or c.base_dim
    widths, fn, times = (
        [base * k for k in c.dim_mult[::-1]],
        residual(cache),
        c.temperal_downsample[::-1],
    )
    x = cache.conv(n, "conv_in", x, widths[0])
    x = wan_middle(n / "mid_block", x, fn)
    for i, width in enumerate(widths):
        mode = i < len(widths) - 1 and ("upsample3d" if times[i] else "upsample2d")
        x = wan_up(n / "up_blocks" / i, c, x, width, fn, mode, cache, first)
    x = gamma(n, "norm_out", x).act()
    return cache.conv(n, "conv_out", x, c.input_channels or c.out_channels or 3)


def wan_vae(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    m, patch = n.run, c.patch_size or 1
    f = 8
    if s.side != "decode":
        cache, out = Cached(), None
        for i in range(min(s.frames, 3)):
            x = m.new(
                s.batch,
                c.input_channels or c.in_channels or 3,
                1 if not i else 4,
                f * s.height,
                f * s.width,
            )
            y = wan_encode(n / "encoder", c, x, cache, not i)
            del x
        n.conv("quant_conv", y, 2 * c.z_dim, 1)
        del cache
    if s.side == "encode":
        return y
    cache, z = Cached(), m.new(s.batch, c.z_dim, s.frames, s.height, s.width)
    z = n.conv("post_quant_conv", z, c.z_dim, 1)
    for i in range(min(s.frames, 3)):
        x = z.part(s.batch, c.z_dim, 1, s.height, s.width)
        y = wan_decode(n / "decoder", c, x, cache, not i)
        if not i:
            video = y
        elif i == min(s.frames, 3) - 1:  # the copy that takes the last chunk in
            done = m.new(s.batch, y.shape[1], 1 + 4 * (s.frames - 2), *y.shape[3:])
            video = cat([done, y], 2)
            del done
        else:
            video = m.new(s.batch, y.shape[1], 1 + 4 * (s.frames - 2), *y.shape[3:])
    del cache
    video = video * 1.0
    return video


PROGRAMS = {
    "AutoencoderKL": image_vae,
    "AutoencoderKLFlux2": image_vae,
    "AutoencoderKLWan": wan_vae,
    "AutoencoderKLQwenImage": wan_vae,
}
