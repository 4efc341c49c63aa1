"""Autoencoders: of images, and causal ones of videos that decode a chunk of frames at a time.

`s.side` is "encode", "decode" or "both"; s.height and s.width are of the latents, s.frames latent frames.
"""

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.unet import resnet, upsampled
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Sizes, Value, attend


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


PROGRAMS = {
    "AutoencoderKL": image_vae,
    "AutoencoderKLFlux2": image_vae,
}
