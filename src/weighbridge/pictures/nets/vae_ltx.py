"""LTX-Video's autoencoder: the whole video at once, in patches of four pixels; Sana's DC-AE."""

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import timestep
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, cat


def conv(p, name, x, out, k=3, stride=1):
    """LTXVideoCausalConv3d: frames repeated at the ends, then joined."""
    if k > 1:
        frame = x.part(*x.shape[:2], 1, *x.shape[3:])
        x = cat([frame, x, frame], 2)
    return (p / name).conv("conv", x, out, k, stride, (0, k // 2, k // 2))


def rms(p, x):
    """RMSNorm over channels that were moved to the end."""
    return p.rms_norm("", x, affine=False)


def block(p, x, out, timed=False, noise=False):
    width = x.shape[1]
    if noise:
        p.param("per_channel_scale1", width, 1, 1)
        p.param("per_channel_scale2", width, 1, 1)
    if timed:
        p.param("scale_shift_table", 4, width)
    part = x.run.new(x.shape[0], width, 1, 1, 1)
    h = rms(p, x)
    h = h * part + part if timed else h
    h = conv(p, "conv1", h.act(), out)
    h = h + part if noise else h
    h = rms(p, h)
    h = h * part + part if timed else h
    h = conv(p, "conv2", h.act(), out)
    h = h + part if noise else h
    if width != out:
        p.param("norm3.weight", width, kind="norm")
        p.param("norm3.bias", width, kind="norm")
        x = conv(p, "conv_shortcut", x.copy(), out, 1)
    return h + x


def embedder(p, b, width):
    return timestep(p / "time_embedder" / "timestep_embedder", b, width)


STRIDES = {
    "conv": (2, 2, 2),
    "spatial": (1, 2, 2),
    "temporal": (2, 1, 1),
    "spatiotemporal": (2, 2, 2),
}


def down(p, x, out, kind):
    if kind == "conv":
        return conv(p, "downsamplers.0", x, x.shape[1], 3, 2)
    a, b, w = STRIDES[kind]
    q = p / "downsamplers" / 0
    h = conv(q, "conv", x, out // (a * b * w))
    shape = (x.shape[0], out, -(-x.shape[2] // a), x.shape[3] // b, x.shape[4] // w)
    return h.copy(*shape) + x.copy(*shape)


def encoder(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    m, k = n.run, c.patch_size
    widths, late = c.block_out_channels, c.down_block_types[0] == "LTXVideo095DownBlock3D"
    x = m.new(s.batch, c.in_channels * k * k, 8 * s.frames - 7, 8 * s.height, 8 * s.width)
    x = conv(n, "conv_in", x, widths[0])
    count = len(widths)
    for i in range(count if not late else count - 1):
        p = n / "down_blocks" / i
        out = widths[min(i + 1, count - 1)]
        for j in range(c.layers_per_block[i]):
            x = block(p / "resnets" / j, x, x.shape[1])
        if c.spatio_temporal_scaling[i]:
            x = down(p, x, out, c.downsample_type[i])
        if not late and out != x.shape[1]:
            x = block(p / "conv_out", x, out)
    for j in range(c.layers_per_block[-1]):
        x = block(n / "mid_block" / "resnets" / j, x, x.shape[1])
    return conv(n, "conv_out", rms(n, x).act(), c.latent_channels + 1)


def decoder(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    m, timed = n.run, c.timestep_conditioning
    widths, layers = c.decoder_block_out_channels[::-1], c.decoder_layers_per_block[::-1]
    noise, factor = c.decoder_inject_noise[::-1], c.upsample_factor[::-1]
    scaling, extra = c.decoder_spatio_temporal_scaling[::-1], c.upsample_residual[::-1]
    if timed:
        n.param("timestep_scale_multiplier")
    x = conv(
        n, "conv_in", m.new(s.batch, c.latent_channels, s.frames, s.height, s.width), widths[0]
    )
    if timed:
        embedder(n / "mid_block", s.batch, 4 * widths[0])
    for j in range(layers[0]):
        x = block(n / "mid_block" / "resnets" / j, x, widths[0], timed, noise[0])
    for i, width in enumerate(widths):
        p, inside, out = n / "up_blocks" / i, x.shape[1] // factor[i], width // factor[i]
        if inside != out:
            x = block(p / "conv_in", x, out, timed, noise[i + 1])
        if timed:
            embedder(p, s.batch, 4 * inside)
        if scaling[i]:
            h = x.copy() if extra[i] else None
            x = conv(p / "upsamplers" / 0, "conv", x, out * factor[i] * 8 // factor[i])
            x = x.copy(s.batch, out, 2 * x.shape[2] - 1, 2 * x.shape[3], 2 * x.shape[4])
            if extra[i]:
                x = x + m.new(*x.shape)
            del h
        for j in range(layers[i + 1]):
            x = block(p / "resnets" / j, x, out, timed, noise[i + 1])
    if timed:
        embedder(n, s.batch, 2 * out)
        n.param("scale_shift_table", 2, out)
    x = rms(n, x).act()
    x = conv(n, "conv_out", x, c.out_channels * c.patch_size**2)
    return x.copy()


def ltx_vae(n: Place, c: ComponentConfig, s: Sizes) -> Value:
    if s.side != "decode":
        encoder(n / "encoder", c, s)
    return decoder(n / "decoder", c, s) if s.side != "encode" else None


PROGRAMS = {"AutoencoderKLLTXVideo": ltx_vae}
