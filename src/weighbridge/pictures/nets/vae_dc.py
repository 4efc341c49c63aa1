"""Sana's deep-compression autoencoder.

Source: diffusers 0.42 models/autoencoders/autoencoder_dc.py, models/attention_processor.py.
"""

from typing import Any

from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.tiles import tile, tiled
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, cat

EXPANDED = 4  # channels inside GLUMBConv, per input channel


def each(value: Any, level: int) -> Any:
    """Return a level's value, from a list or from one for all."""
    return value[level] if isinstance(value, list | tuple) else value


def normed(p: NetPlace, name: str, x: Value) -> Value:
    """Return an RMSNorm over channels, with a bias."""
    moved = x.view(x.shape[0], *x.shape[2:], x.shape[1])
    y = p.rms_norm(name, moved)
    y = y + p.value(f"{name}.bias", x.shape[1], kind="norm")
    return y.view(*x.shape)


def res_block(p: NetPlace, x: Value) -> Value:
    """ResBlock"""
    d = x.shape[1]
    h = p.conv("conv1", x, d)
    h = h.act()
    h = p.conv("conv2", h, d, bias=False)
    h = normed(p, "norm", h)
    return h + x


def multiscale(p: NetPlace, x: Value, head: int, kernels: list[int]) -> Value:
    """SanaMultiscaleLinearAttention; channels are last in memory after its first linears."""
    b, d, height, width = x.shape
    pixels, tokens = (b, height, width), height * width
    moved, heads = x.view(*pixels, d), d // head
    query, key, value = (p.linear(name, moved, d, bias=False) for name in ("to_q", "to_k", "to_v"))
    h = cat([query, key, value], 3).view(b, 3 * d, height, width)
    scales = [h]
    for i, kernel in enumerate(kernels):
        q = p / "to_qkv_multiscale" / i
        y = q.conv("proj_in", h, 3 * d, kernel, bias=False, groups=3 * d)
        scales.append(q.conv("proj_out", y, 3 * d, 1, bias=False, groups=3 * heads, last=True))
        del y
    h = cat(scales, 1)
    whole = heads * (1 + len(kernels))
    if tokens > head:
        h = h.float()
    h = h.copy(b, whole, 3 * head, tokens)
    query, key, value = h.chunk(3, dim=2)
    query = query.act("result")
    key = key.act("result")
    h = linear(query, key, value, x) if tokens > head else quadratic(query, key, value)
    h = h.copy(b, height, width, whole * head)
    h = p.linear("to_out", h, d, bias=False)
    h = normed(p, "norm_out", h.view(b, d, height, width))
    return h + x


def linear(query: Value, key: Value, value: Value, x: Value) -> Value:
    """Return apply_linear_attention; a row of ones in the values gives the divisor."""
    b, heads, head, tokens = query.shape
    value = value.resized(b, heads, head + 1, tokens)
    scores = value.matmul(key.view(b, heads, tokens, head), head)
    h = scores.matmul(query, tokens)
    last = h.part(b, heads, 1, tokens) + 1e-15
    h = h.part(b, heads, head, tokens) / last
    return h.like(x)


def quadratic(query: Value, key: Value, value: Value) -> Value:
    """Return apply_quadratic_attention, which is used for few pixels."""
    b, heads, head, tokens = query.shape
    scores = key.view(b, heads, tokens, head).matmul(query, tokens)
    scores = scores.float()
    scores = scores * 1.0
    return value.matmul(scores.like(query), tokens)


def gated(p: NetPlace, x: Value) -> Value:
    """Return GLUMBConv of `x`, with its norm."""
    d, inside = x.shape[1], EXPANDED * x.shape[1]
    h = p.conv("conv_inverted", x, 2 * inside, 1, last=True)
    h = h.act()
    h = p.conv("conv_depth", h, 2 * inside, 3, groups=2 * inside)
    h, gate = h.chunk(2, dim=1)
    h = h * gate.act()
    h = p.conv("conv_point", h, d, 1, bias=False, last=True)
    h = normed(p, "norm", h)
    return h + x


def block(p: NetPlace, x: Value, kind: str, head: int, kernels: list[int]) -> Value:
    """Return `x` after ResBlock or EfficientViTBlock, as `kind` says."""
    if kind == "ResBlock":
        return res_block(p, x)
    x = multiscale(p / "attn", x, head, kernels)
    return gated(p / "conv_out", x)


def downsampled(
    p: NetPlace, x: Value, out: int, c: ComponentConfig, *, shortcut: bool = True
) -> Value:
    """Return `x` after DCDownBlock2d: pixels become channels, or a convolution has a stride."""
    unshuffled = c.downsample_block_type == "pixel_unshuffle"
    h = p.conv("conv", x, out // 4 if unshuffled else out, 3, 1 if unshuffled else 2, 1)
    b, _, height, width = x.shape
    half = height // 2, width // 2
    h = h.copy(b, out, *half) if unshuffled else h
    if not shortcut:
        return h
    y = x.copy(b, 4 * x.shape[1], *half)
    y = y.resized(b, out, *half)
    return h + y


def upsampled(
    p: NetPlace, x: Value, out: int, c: ComponentConfig, *, shortcut: bool = True
) -> Value:
    """Return `x` after DCUpBlock2d: channels become pixels, or it interpolates."""
    b, _, height, width = x.shape
    twice = b, out, 2 * height, 2 * width
    if c.upsample_block_type == "interpolate":
        h = x.upsample()
        h = p.conv("conv", h, out)
    else:
        h = p.conv("conv", x, 4 * out)
        h = h.copy(*twice)
    if not shortcut:
        return h
    y = x.resized(b, 4 * out, height, width)
    y = y.copy(*twice)
    return h + y


def encoder(n: NetPlace, c: ComponentConfig, x: Value) -> Value:
    widths, layers = c.encoder_block_out_channels, c.encoder_layers_per_block
    if layers[0] > 0:
        x = n.conv("conv_in", x, widths[0])
    else:
        x = downsampled(n / "conv_in", x, widths[1], c, shortcut=False)
    for level in range(len(widths)):
        x = down_level(n / "down_blocks" / level, c, x, level)
    if not c.encoder_out_shortcut:
        return n.conv("conv_out", x, c.latent_channels)
    mean = x.resized(x.shape[0], c.latent_channels, *x.shape[2:])
    return n.conv("conv_out", x, c.latent_channels) + mean


def down_level(p: NetPlace, c: ComponentConfig, x: Value, level: int) -> Value:
    widths, layers = c.encoder_block_out_channels, c.encoder_layers_per_block[level]
    kind, kernels = each(c.encoder_block_types, level), c.encoder_qkv_multiscales[level]
    for i in range(layers):
        x = block(p / i, x, kind, c.attention_head_dim, kernels)
    if level < len(widths) - 1 and layers:
        x = downsampled(p / layers, x, widths[level + 1], c)
    return x


def up_level(p: NetPlace, c: ComponentConfig, x: Value, level: int) -> Value:
    widths, layers = c.decoder_block_out_channels, c.decoder_layers_per_block[level]
    kind, kernels = each(c.decoder_block_types, level), c.decoder_qkv_multiscales[level]
    first = 0
    if level < len(widths) - 1 and layers:
        x = upsampled(p / 0, x, widths[level], c)
        first = 1
    for i in range(layers):
        x = block(p / (first + i), x, kind, c.attention_head_dim, kernels)
    return x


def decoder(n: NetPlace, c: ComponentConfig, z: Value) -> Value:
    widths, layers = c.decoder_block_out_channels, c.decoder_layers_per_block
    if c.decoder_in_shortcut:
        repeated = z.resized(z.shape[0], widths[-1], *z.shape[2:])
        x = n.conv("conv_in", z, widths[-1]) + repeated
    else:
        x = n.conv("conv_in", z, widths[-1])
    for level in reversed(range(len(widths))):
        x = up_level(n / "up_blocks" / level, c, x, level)
    x = normed(n, "norm_out", x)
    x = x.act("result")
    if layers[0] > 0:
        return n.conv("conv_out", x, c.in_channels)
    return upsampled(n / "conv_out", x, c.in_channels, c, shortcut=False)


def dc_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value | None:
    run, factor = n.run, 2 ** (len(c.encoder_block_out_channels) - 1)
    if s.side != "decode":
        picture = run.constant(s.batch, c.in_channels, factor * s.height, factor * s.width)
        latents = encoder(n / "encoder", c, picture)
        if s.side == "encode":
            return latents
        del latents

    def one(s: Sizes) -> Value:
        z = run.constant(s.batch, c.latent_channels, s.height, s.width)
        return decoder(n / "decoder", c, z)

    def shape(s: Sizes) -> tuple[int, ...]:
        return s.batch, c.in_channels, factor * s.height, factor * s.width

    return tiled(run, s, tile(run.cls, c, factor), one, shape)[0]


PROGRAMS = {"AutoencoderDC": dc_vae}
