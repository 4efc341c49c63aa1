"""Autoencoders of CogVideoX, two latent frames at a time, and of HunyuanVideo."""

from math import prod

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.vae_image import middle
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, cat

# ---- CogVideoX: two latent frames at a time, spatially conditioned norms


def keep(kept, key, tensor):
    kept[key] = tensor


def causal(p, name, x, out, k=3, kept=None):
    """conv_cache: the last two frames of the padded input, cloned for the next chunk."""
    q = p / name
    if k == 1:
        return q.conv("conv", x, out, 1, pad=(0, 0, 0))
    frame = x.part(*x.shape[:2], 2, *x.shape[3:])
    h = cat([frame, x], 2)
    keep(kept, q.path, h.run.new(*h.shape[:2], 2, *h.shape[3:]))
    return safe(q, h, out, 3, (0, 1, 1))


def safe(q, h, out, k, pads):
    """CogVideoXSafeConv3d: pieces of at most 2 GiB along the frames."""
    gib = prod(h.shape) * 2 / 2**30
    if gib <= 2:
        return q.conv("conv", h, out, k, pad=pads)
    count = int(gib / 2) + 1
    frames, outs = -(-h.shape[2] // count), []
    whole = []
    for at in range(0, h.shape[2], frames):
        size = min(frames, h.shape[2] - at)
        shape = (*h.shape[:2], size + (2 if at and k > 1 else 0), *h.shape[3:])
        whole.append(h.resized(*shape) if at else h.part(*shape))
    for piece in whole:
        outs.append(q.conv("conv", piece, out, k, pad=pads))
    return cat(outs, 2)


def spatial(p, name, x, z, kept):
    """A kernel of one frame "keeps its last 0 frames", [:, :, -0:], which is a copy of the whole."""
    q = p / name
    y = z.run.new(z.shape[0], z.shape[1], *x.shape[2:])
    keep(kept, q.path + "y", y.copy())
    a = (q / "conv_y").conv("conv", y, x.shape[1], 1, pad=(0, 0, 0))
    keep(kept, q.path + "b", y.copy())
    b = (q / "conv_b").conv("conv", y, x.shape[1], 1, pad=(0, 0, 0))
    return q.group_norm("norm_layer", x) * a + b


def cog_resnet(z, kept, shortcut=1):
    def fn(p, x, out):
        h = spatial(p, "norm1", x, z, kept) if z else p.group_norm("norm1", x)
        h = h.act()
        h = causal(p, "conv1", h, out, kept=kept)
        h = spatial(p, "norm2", h, z, kept) if z else p.group_norm("norm2", h)
        h = h.act()
        h = causal(p, "conv2", h, out, kept=kept)
        if x.shape[1] != out:
            x = p.conv("conv_shortcut", x, out, 1, pad=(0, 0, 0))
        return h + x

    return fn


def frames_conv(p, x, out, stride=1, pad=None):
    """A 2-D convolution of every frame."""
    b, c, t, h, w = x.shape
    y = p.conv(
        "conv", x.copy(b * t, c, h, w) if t > 1 else x.view(b * t, c, h, w), out, 3, stride, pad
    )
    return y.view(b, out, t, *y.shape[2:])


def cog_up(q, x, width, fn, layers, up, time):
    for j in range(layers):
        x = fn(q / "resnets" / j, x, width)
    if not up:
        return x
    m, odd = x.run, x.shape[2] % 2 and x.shape[2] > 1
    t = x.shape[2] * 2 - odd if time and x.shape[2] > 1 else x.shape[2]
    shape = (x.shape[0], width, t, 2 * x.shape[3], 2 * x.shape[4])
    y = m.new(*shape)
    if odd and time:  # first frame and the others apart, then joined
        whole = m.new(*shape)
        del y
        y = whole
        del whole
    return frames_conv(q / "upsamplers" / 0, y, width)


def cog_vae(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    m, widths, latent = n.run, c.block_out_channels, c.latent_channels
    compress = {4: 2, 8: 3}[c.temporal_compression_ratio]
    if s.side != "decode":
        p, f, kept = n / "encoder", 2 ** (len(widths) - 1), {}
        x = m.new(s.batch, c.in_channels, 9 if s.frames > 1 else 1, f * s.height, f * s.width)
        x, fn = causal(p, "conv_in", x, widths[0], kept=kept), cog_resnet(None, kept)
        for i, width in enumerate(widths):
            for j in range(c.layers_per_block):
                x = fn(p / "down_blocks" / i / "resnets" / j, x, width)
            if i < len(widths) - 1:
                t = x.shape[2] // 2 + 1 if i < compress and x.shape[2] > 1 else x.shape[2]
                x = frames_conv(
                    p / "down_blocks" / i / "downsamplers" / 0,
                    m.new(s.batch, width, t, x.shape[3] + 1, x.shape[4] + 1),
                    width,
                    2,
                    0,
                )
        x = middle(p / "mid_block", x, fn, False)
        x = p.group_norm("norm_out", x).act()
        causal(p, "conv_out", x, 2 * latent, kept=kept)
        del x, kept, fn
    if s.side == "encode":
        return None
    p, kept = n / "decoder", {}
    chunk = 2 + s.frames % 2 if s.frames > 1 else 1
    for size in [chunk] + ([2] if s.frames > 3 else []):
        old, kept = kept, kept if n.run.caches_in_place else {}
        z = m.new(s.batch, latent, size, s.height, s.width)
        x, fn = causal(p, "conv_in", z, widths[-1], kept=kept), cog_resnet(z, kept)
        x = middle(p / "mid_block", x, fn, False)
        for i, width in enumerate(widths[::-1]):
            x = cog_up(
                p / "up_blocks" / i,
                x,
                width,
                fn,
                c.layers_per_block + 1,
                i < len(widths) - 1,
                i < compress,
            )
        x = spatial(p, "norm_out", x, z, kept).act()
        x = causal(p, "conv_out", x, c.out_channels, kept=kept)
        done = m.new(s.batch, c.out_channels, 4 * s.frames - 3, *x.shape[3:])
        del old
    return done


# ---- HunyuanVideo, and Mochi by its decoder


def hunyuan_up(q, x, width, fn, conv, layers, up, time):
    for j in range(layers):
        x = fn(q / "resnets" / j, x, width)
    if not up:
        return x
    t = 2 * x.shape[2] - 1 if time else x.shape[2]
    shape = (x.shape[0], width, t, 2 * x.shape[3], 2 * x.shape[4])
    others, part = x.copy(), x.run.new(*shape)
    y = x.run.new(*shape)
    h = conv(q / "upsamplers" / 0, "conv", y, width)
    del others, part
    return h


def hunyuan_vae(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    m, widths, latent = n.run, c.block_out_channels, c.latent_channels

    def conv(p, name, x, out, k=3):
        return (p / name).conv("conv", x.pad(time=k - 1, space=k // 2), out, k, pad=(0, 0, 0))

    def fn(p, x, out):
        h = p.group_norm("norm1", x).act()
        h = conv(p, "conv1", h, out)
        h = p.group_norm("norm2", h).act()
        h = conv(p, "conv2", h, out)
        if x.shape[1] != out:
            x = conv(p, "conv_shortcut", x, out, 1)
        return h + x

    steps = len(widths) - 1
    if s.side != "decode":
        p, f = n / "encoder", 8
        x = conv(
            p,
            "conv_in",
            m.new(s.batch, c.in_channels, 4 * s.frames - 3, f * s.height, f * s.width),
            widths[0],
        )
        for i, width in enumerate(widths):
            for j in range(c.layers_per_block):
                x = fn(p / "down_blocks" / i / "resnets" / j, x, width)
            if i < steps:
                time = 2 if i >= steps - 2 else 1
                q = p / "down_blocks" / i / "downsamplers" / 0 / "conv"
                x = q.conv("conv", x.pad(time=2, space=1), width, 3, (time, 2, 2), (0, 0, 0))
        x = middle(p / "mid_block", x, fn, c.mid_block_add_attention is not False)
        x = conv(p, "conv_out", p.group_norm("conv_norm_out", x).act(), 2 * latent)
        n.conv("quant_conv", x, 2 * latent, 1, pad=(0, 0, 0))
    if s.side == "encode":
        return None
    p = n / "decoder"
    x = n.conv(
        "post_quant_conv",
        m.new(s.batch, latent, s.frames, s.height, s.width),
        latent,
        1,
        pad=(0, 0, 0),
    )
    x = conv(p, "conv_in", x, widths[-1])
    x = middle(p / "mid_block", x, fn, c.mid_block_add_attention is not False)
    for i, width in enumerate(widths[::-1]):
        x = hunyuan_up(
            p / "up_blocks" / i,
            x,
            width,
            fn,
            conv,
            c.layers_per_block + 1,
            i < steps,
            i >= steps - 2,
        )
    x = p.group_norm("conv_norm_out", x).act()
    return conv(p, "conv_out", x, c.out_channels)


PROGRAMS = {"AutoencoderKLCogVideoX": cog_vae, "AutoencoderKLHunyuanVideo": hunyuan_vae}
