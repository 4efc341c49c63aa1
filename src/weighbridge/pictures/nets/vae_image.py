"""AutoencoderKL of images, from Stable Diffusion to FLUX.2.

`s.side` is "encode", "decode" or "both"; s.height and s.width are the latents'. Source: diffusers
0.42 models/autoencoders/{autoencoder_kl, autoencoder_kl_flux2, vae}.py.
"""

from math import prod

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.unet import resnet, upsampled
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend


def pixel_attention(p: NetPlace, x: Value) -> Value:
    """Return attention of one head over pixels."""
    b, d, *sides = x.shape
    h = p.group_norm("group_norm", x).view(b, prod(sides), d)
    q, k, v = (p.linear(name, h, d) for name in ("to_q", "to_k", "to_v"))
    h = attend(q, k, v, 1)
    del q, k, v
    h = (p / "to_out").linear("0", h, d)
    return h.copy(b, d, *sides) + x


def middle(p: NetPlace, x: Value, c: ComponentConfig) -> Value:
    """UNetMidBlock2D"""
    x = resnet(p / "resnets" / 0, x, x.shape[1])
    if c.mid_block_add_attention is not False:
        x = pixel_attention(p / "attentions" / 0, x)
    return resnet(p / "resnets" / 1, x, x.shape[1], last=turned(x, c))


def turned(x: Value, c: ComponentConfig) -> bool:
    """Return whether channels are last in memory from the pixel attention on: its output is
    transposed, and a sum keeps the layout of its first operand. The batch stride of a single
    picture hides it from torch (c10/core/MemoryFormat.h, is_channels_last_strides_2d)."""
    return x.shape[0] > 1 and c.mid_block_add_attention is not False


def down_block(p: NetPlace, x: Value, width: int, layers: int, *, last: bool) -> Value:
    """DownEncoderBlock2D. The caller holds the block's input while the block runs."""
    for j in range(layers):
        x = resnet(p / "resnets" / j, x, width)
    if not last:
        x = x.pad(space=1)
        x = (p / "downsamplers" / 0).conv("conv", x, width, 3, 2, 0)
    return x


def up_block(p: NetPlace, c: ComponentConfig, x: Value, width: int, *, last: bool) -> Value:
    """UpDecoderBlock2D"""
    wide = turned(x, c)
    for j in range(c.layers_per_block + 1):
        x = resnet(p / "resnets" / j, x, width, last=wide)
    return x if last else upsampled(p / "upsamplers" / 0, x, last=wide)


def encoder(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    widths = c.block_out_channels
    f = 2 ** (len(widths) - 1)
    pictures = n.run.constant(s.batch, c.in_channels, f * s.height, f * s.width)
    x = n.conv("conv_in", pictures, widths[0])
    for i, width in enumerate(widths):
        last = i == len(widths) - 1
        x = down_block(n / "down_blocks" / i, x, width, c.layers_per_block, last=last)
    x = middle(n / "mid_block", x, c)
    x = n.group_norm("conv_norm_out", x)
    x = x.act()
    return n.conv("conv_out", x, 2 * c.latent_channels)


def decoder(n: NetPlace, c: ComponentConfig, z: Value) -> Value:
    widths = c.block_out_channels[::-1]
    x = n.conv("conv_in", z, widths[0])
    x = middle(n / "mid_block", x, c)
    for i, width in enumerate(widths):
        last = i == len(widths) - 1
        x = up_block(n / "up_blocks" / i, c, x, width, last=last)
    x = n.group_norm("conv_norm_out", x.copy() if turned(x, c) else x)
    x = x.act()
    return n.conv("conv_out", x, c.out_channels)


def image_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    latent, x = c.latent_channels, None
    if s.side != "decode":
        x = encoder(n / "encoder", c, s)
        if c.use_quant_conv is not False:
            x = n.conv("quant_conv", x, 2 * latent, 1)
        if s.side == "encode":
            return x
    z = n.run.constant(s.batch, latent, s.height, s.width)
    if c.use_post_quant_conv is not False:
        z = n.conv("post_quant_conv", z, latent, 1)
    return decoder(n / "decoder", c, z)


# ---- TAESD: modules in one sequence


def tiny_block(p: NetPlace, x: Value) -> Value:
    """Return `x` after AutoencoderTinyBlock: three convolutions are added to their input."""
    width, row = x.shape[1], p / "conv"
    h = row.conv("0", x, width)
    h = h.act("result")
    h = row.conv("2", h, width)
    h = h.act("result")
    h = row.conv("4", h, width)
    h = h + x
    return h.act("result")


def tiny_encoder(p: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """EncoderTiny"""
    f, number = 2 ** (len(c.encoder_block_out_channels) - 1), 0
    x = p.run.constant(s.batch, c.in_channels, f * s.height, f * s.width)
    x = x + 1.0
    x = x * 1.0
    for i, (width, count) in enumerate(
        zip(c.encoder_block_out_channels, c.num_encoder_blocks, strict=True)
    ):
        x = p.conv(str(number), x, width, 3, 2 if i else 1, 1, bias=not i)
        for block in range(number + 1, number + 1 + count):
            x = tiny_block(p / block, x)
        number += 1 + count
    return p.conv(str(number), x, c.latent_channels)


def tiny_decoder(p: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """DecoderTiny"""
    x = p.run.constant(s.batch, c.latent_channels, s.height, s.width)
    widths, number = c.decoder_block_out_channels, 2
    x = (x * 1.0).act("result") * 1.0
    x = p.conv("0", x, widths[0])
    x = x.act("result")
    for i, (width, count) in enumerate(zip(widths, c.num_decoder_blocks, strict=True)):
        last = i == len(widths) - 1
        for block in range(number, number + count):
            x = tiny_block(p / block, x)
        number += count
        if not last:
            x = x.upsample(space=c.upsampling_scaling_factor)
            number += 1
        x = p.conv(str(number), x, c.out_channels if last else width, bias=last)
        number += 1
    return x * 1.0 * 1.0


def tiny_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    x = None
    if s.side != "decode":
        x = tiny_encoder(n / "encoder" / "layers", c, s)
    return tiny_decoder(n / "decoder" / "layers", c, s) if s.side != "encode" or x is None else x


PROGRAMS = {
    "AutoencoderKL": image_vae,
    "AutoencoderKLFlux2": image_vae,
    "AutoencoderTiny": tiny_vae,
}
