"""CogVideoX's autoencoder: two latent frames at a time, with norms conditioned on the latents.

Source: diffusers 0.42 models/autoencoders/autoencoder_kl_cogvideox.py, models/{downsampling,
upsampling}.py.
"""

from math import log2, prod

from weighbridge.base.units import GIB
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import framed
from weighbridge.pictures.nets.tiles import tile, tiled
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, cat

SAFE = 2  # GiB at two bytes per element: a convolution's largest input
CHUNK = 2  # latent frames
PIXEL_CHUNK = 8  # frames encoded at once


class Caches:
    """Frames that convolutions keep for the next chunk (conv_cache): those of the last chunk, held
    until this one is done, and those of this one."""

    def __init__(self, *, replaced: bool) -> None:
        self.replaced = replaced  # in place, up to diffusers 0.30
        self.before: dict[str, Value] = {}
        self.frames: dict[str, Value] = {}

    def earlier(self, path: str) -> Value | None:
        """Return a convolution's frames of the last chunk, which an in-place cache frees."""
        return self.before.pop(path, None) if self.replaced else self.before.get(path)

    def next(self) -> None:
        self.before = self.frames
        if not self.replaced:
            self.frames = {}


def causal(p: NetPlace, name: str, x: Value, out: int, caches: Caches) -> Value:
    """Return CogVideoXCausalConv3d of `x`, with a kernel of three frames."""
    q = p / name
    earlier = caches.earlier(q.path)
    if earlier is None:
        frame = x.part(*framed(x, 1))
        inputs = cat([frame, frame, x], 2)
    else:
        inputs = cat([earlier, x], 2)
    del earlier
    caches.frames[q.path] = inputs.part(*framed(x, 2)).copy()
    if caches.replaced:
        inputs = inputs.pad(space=1)
    return safe(q, inputs, out, (0, 0, 0) if caches.replaced else (0, 1, 1))


def point(p: NetPlace, name: str, x: Value, out: int, caches: Caches) -> Value:
    """Convolve with a kernel of one frame, which "keeps its last 0 frames", [:, :, -0:]: all."""
    q = p / name
    caches.earlier(q.path)
    caches.frames[q.path] = x.copy()
    inputs = x.copy() if caches.replaced else x  # a pad of zero
    return q.conv("conv", inputs, out, 1, pad=0)


def safe(
    q: NetPlace, x: Value, out: int, pads: tuple[int, int, int] = (0, 0, 0), kernel: int = 3
) -> Value:
    """Return CogVideoXSafeConv3d of `x`, in pieces of at most 2 GiB along the frames."""
    size = prod(x.shape) * 2 / GIB
    if size <= SAFE:
        return q.conv("conv", x, out, kernel, pad=pads)
    frames = -(-x.shape[2] // (int(size / SAFE) + 1))
    chunks = [x.part(*framed(x, frames))]
    for start in range(frames, x.shape[2], frames):
        chunk = x.part(*framed(x, min(frames, x.shape[2] - start)))
        chunks.append(cat([x.part(*framed(x, kernel - 1)), chunk], 2) if kernel > 1 else chunk)
    outputs = [q.conv("conv", chunk, out, kernel, pad=pads) for chunk in chunks]
    return cat(outputs, 2)


def norm(p: NetPlace, name: str, x: Value, z: Value | None, caches: Caches) -> Value:
    """Return CogVideoXSpatialNorm3D of `x`; the encoder has plain group norms."""
    if z is None:
        return p.group_norm(name, x)
    q, grown = p / name, (z.shape[0], z.shape[1], *x.shape[2:])
    first = later = None
    if x.shape[2] > 1 and x.shape[2] % 2:
        first, later = (
            z.resized(*framed(z, 1)[:3], *grown[3:]),
            z.resized(*grown[:2], grown[2] - 1, *grown[3:]),
        )
        z = cat([first, later], 2)
    else:
        z = z.resized(*grown)
    if caches.replaced:
        norm_f = q.group_norm("norm_layer", x)
        return norm_f * point(q, "conv_y", z, x.shape[1], caches) + point(
            q, "conv_b", z, x.shape[1], caches
        )
    conv_y = point(q, "conv_y", z, x.shape[1], caches)
    conv_b = point(q, "conv_b", z, x.shape[1], caches)
    norm_f = q.group_norm("norm_layer", x)
    return norm_f * conv_y + conv_b


def resnet(p: NetPlace, x: Value, out: int, z: Value | None, caches: Caches) -> Value:
    """CogVideoXResnetBlock3D"""
    h = norm(p, "norm1", x, z, caches)
    h = h.act()
    h = causal(p, "conv1", h, out, caches)
    h = norm(p, "norm2", h, z, caches)
    h = h.act()
    h = causal(p, "conv2", h, out, caches)
    if x.shape[1] != out:
        x = p.conv("conv_shortcut", x, out, 1, pad=0)
    return h + x


def middle(p: NetPlace, x: Value, z: Value | None, caches: Caches) -> Value:
    """CogVideoXMidBlock3D"""
    for i in range(2):
        x = resnet(p / "resnets" / i, x, x.shape[1], z, caches)
    return x


def images(x: Value) -> tuple[int, ...]:
    return x.shape[0] * x.shape[2], x.shape[1], *x.shape[3:]


def downsampled(p: NetPlace, x: Value, *, time: bool) -> Value:
    """Return CogVideoXDownsample3D: frames are averaged in pairs, then each is convolved."""
    b, c, t, height, width = x.shape
    if time:
        first = later = None
        x = x.copy()
        if t % 2:
            later = x.resized(b, c, t // 2, height, width)
            first = x.part(b, c, 1, height, width)
            x = cat([first, later], 2)
        else:
            x = x.resized(b, c, t // 2, height, width)
    t = x.shape[2]
    x = x.resized(b, c, t, height + 1, width + 1)
    x = x.view(*images(x)) if t == 1 else x.copy(*images(x))
    x = p.conv("conv", x, c, 3, 2, 0)
    return x.view(b, c, t, *x.shape[2:])


def upsampled(p: NetPlace, x: Value, *, time: bool) -> Value:
    """CogVideoXUpsample3D: the first of an odd number of frames is not doubled."""
    b, c, t, height, width = x.shape
    first = later = None
    if time and t > 1:
        if t % 2:
            first = x.resized(b, c, 1, 2 * height, 2 * width)
            later = x.resized(b, c, 2 * t - 2, 2 * height, 2 * width)
            x = cat([first, later], 2)
        else:
            x = x.resized(b, c, 2 * t, 2 * height, 2 * width)
        x = x.copy()
    else:
        x = x.copy() if t > 1 else x
        x = x.upsample()
    t = x.shape[2]
    x = p.conv("conv", x.view(*images(x)), c)
    return x.view(b, c, t, *x.shape[2:])


def down_block(p: NetPlace, c: ComponentConfig, x: Value, level: int, caches: Caches) -> Value:
    """CogVideoXDownBlock3D"""
    for i in range(c.layers_per_block):
        x = resnet(p / "resnets" / i, x, c.block_out_channels[level], None, caches)
    if level == len(c.block_out_channels) - 1:
        return x
    return downsampled(p / "downsamplers" / 0, x, time=level < log2(c.temporal_compression_ratio))


def encode(n: NetPlace, c: ComponentConfig, x: Value, caches: Caches) -> Value:
    """Return CogVideoXEncoder3D's output for one chunk of frames."""
    x = causal(n, "conv_in", x, c.block_out_channels[0], caches)
    for level in range(len(c.block_out_channels)):
        x = down_block(n / "down_blocks" / level, c, x, level, caches)
    x = middle(n / "mid_block", x, None, caches)
    x = n.group_norm("norm_out", x)
    x = x.act()
    return causal(n, "conv_out", x, 2 * c.latent_channels, caches)


def up_block(
    p: NetPlace, c: ComponentConfig, x: Value, z: Value, level: int, caches: Caches
) -> Value:
    """CogVideoXUpBlock3D"""
    for i in range(c.layers_per_block + 1):
        x = resnet(p / "resnets" / i, x, c.block_out_channels[::-1][level], z, caches)
    if level == len(c.block_out_channels) - 1:
        return x
    return upsampled(p / "upsamplers" / 0, x, time=level < log2(c.temporal_compression_ratio))


def decode(n: NetPlace, c: ComponentConfig, z: Value, caches: Caches) -> Value:
    """Return CogVideoXDecoder3D's output for one chunk of frames."""
    x = causal(n, "conv_in", z, c.block_out_channels[-1], caches)
    x = middle(n / "mid_block", x, z, caches)
    for level in range(len(c.block_out_channels)):
        x = up_block(n / "up_blocks" / level, c, x, z, level, caches)
    x = norm(n, "norm_out", x, z, caches)
    x = x.act()
    return causal(n, "conv_out", x, c.out_channels, caches)


def chunks(frames: int, chunk: int) -> list[int]:
    """Return the frames of each chunk: the remainder goes to the first."""
    count = max(frames // chunk, 1)
    return [min(frames, chunk + frames % chunk), *[chunk] * (count - 1)]


def cog_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value | None:
    replaced = n.run.caches_in_place
    side, time = 2 ** (len(c.block_out_channels) - 1), c.temporal_compression_ratio
    if s.side != "decode":
        video = n.run.constant(*s.pixels(c.in_channels, side, time))
        moments = joined(n / "encoder", c, video, Caches(replaced=replaced), PIXEL_CHUNK)
        if s.side == "encode":
            return moments
        del moments

    def one(s: Sizes) -> Value:
        z = n.run.constant(*s.latents(c.latent_channels))
        return joined(n / "decoder", c, z, Caches(replaced=replaced), CHUNK)

    def shape(s: Sizes) -> tuple[int, ...]:
        return s.pixels(c.out_channels, side, time)

    return tiled(n.run, s, tile(n.run.cls, c, side), one, shape)[0]


def joined(n: NetPlace, c: ComponentConfig, whole: Value, caches: Caches, chunk: int) -> Value:
    """_encode and _decode. Chunks after the second are like it, but for earlier outputs."""
    one, done = encode if chunk == PIXEL_CHUNK else decode, list[Value]()
    sizes = chunks(whole.shape[2], chunk)
    for number, frames in enumerate(sizes):
        if 1 < number < len(sizes) - 1:
            done.append(done[1].resized(*done[1].shape))
            continue
        done.append(one(n, c, whole.part(*framed(whole, frames)), caches))
        caches.next()
    return cat(done, 2)


PROGRAMS = {"AutoencoderKLCogVideoX": cog_vae}
