"""Autoencoders of Wan and Qwen-Image: one latent frame at a time; every causal convolution keeps
the last two frames of its input.

Source: diffusers 0.42 models/autoencoders/{autoencoder_kl_wan, autoencoder_kl_qwenimage}.py.
"""

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import framed
from weighbridge.pictures.nets.tiles import tile, tiled
from weighbridge.pictures.places import NetPlace, Side
from weighbridge.pictures.values import Sizes, Value, attend, cat

CHUNKS = 3  # the first, one that finds caches, and the last represent all
POINT = (1, 1, 1)


class CausalCaches:
    """Frames of a video's last chunk that causal convolutions keep (feat_cache)."""

    def __init__(self) -> None:
        self.frames: dict[str, Value] = {}
        self.first = True  # in the chunk of one frame

    def conv(self, n: NetPlace, name: str, x: Value, out: int, kernel: Side = (3, 3, 3)) -> Value:
        """Return WanCausalConv3d of `x`, with its cache of earlier frames."""
        key = n.path + name
        before = self.frames.get(key)
        latest = last_frames(x, 2)
        if latest.shape[2] < 2 and (before is not None or name == "time_conv"):
            latest = cat([latest.part(*framed(x, 1)), latest], 2)
        y = causal(n, name, x, out, kernel, before)
        self.frames[key] = latest
        return y


def last_frames(x: Value, count: int) -> Value:
    """Return x[:, :, -count:].clone()."""
    return x.part(*framed(x, min(count, x.shape[2]))).copy()


def causal(
    n: NetPlace, name: str, x: Value, out: int, kernel: Side = POINT, before: Value | None = None
) -> Value:
    """WanCausalConv3d: earlier frames are joined, then padding, which copies even if it is zero."""
    assert isinstance(kernel, tuple)
    lacking = kernel[0] - 1
    if before is not None:
        x = cat([before, x], 2)
        lacking -= before.shape[2]
    side = kernel[1] // 2
    grown = *x.shape[:2], x.shape[2] + lacking, x.shape[3] + 2 * side, x.shape[4] + 2 * side
    x = x.resized(*grown)
    return n.conv(name, x, out, kernel, 1, 0)


def gamma(p: NetPlace, name: str, x: Value, *, images: bool = False) -> Value:
    """WanRMS_norm"""
    weight = p.value(f"{name}.gamma", x.shape[1], *((1, 1) if images else (1, 1, 1)), kind="norm")
    normalized = normalize(x).like(x)
    return normalized * 1.0 * weight + 0.0


def normalize(x: Value) -> Value:
    """Return F.normalize of a float32 copy, over channels."""
    x = x.float()
    norms = x.run.new(x.shape[0], 1, *x.shape[2:], dtype=FLOAT32)
    return x * norms


def residual(p: NetPlace, x: Value, out: int, caches: CausalCaches) -> Value:
    """WanResidualBlock"""
    h = causal(p, "conv_shortcut", x, out) if x.shape[1] != out else x
    x = gamma(p, "norm1", x)
    x = x.act()
    x = caches.conv(p, "conv1", x, out)
    x = gamma(p, "norm2", x)
    x = x.act()
    x = caches.conv(p, "conv2", x, out)
    return x + h


def as_images(x: Value) -> Value:
    """Return [batch * frames, channels, height, width], a copy if there are several frames."""
    shape = x.shape[0] * x.shape[2], x.shape[1], *x.shape[3:]
    return x.view(*shape) if x.shape[2] == 1 else x.copy(*shape)


def pixel_attention(p: NetPlace, x: Value) -> Value:
    """Return WanAttentionBlock: attention of one head over a frame's pixels."""
    identity, (b, d, t, height, width) = x, x.shape
    x = as_images(x)
    x = gamma(p, "norm", x, images=True)
    qkv = p.conv("to_qkv", x, 3 * d, 1)
    qkv = qkv.copy(b * t, height * width, 3 * d)
    q, k, v = qkv.chunk(3)
    x = attend(q, k, v, 1)
    x = x.copy(b * t, d, height, width)
    x = p.conv("proj", x, d, 1)
    return x.view(b, d, t, height, width) + identity


def middle(p: NetPlace, x: Value, caches: CausalCaches) -> Value:
    """WanMidBlock"""
    x = residual(p / "resnets" / 0, x, x.shape[1], caches)
    x = pixel_attention(p / "attentions" / 0, x)
    return residual(p / "resnets" / 1, x, x.shape[1], caches)


# ---- changes of size


def declared(p: NetPlace, out: int, inside: int) -> None:
    """Declare the weights of a convolution in time, which the first chunk does not run."""
    p.param("time_conv.weight", out, inside, 3, 1, 1, kind="conv")
    p.param("time_conv.bias", out, kind="bias")


def upsampled(p: NetPlace, x: Value, out: int, caches: CausalCaches, *, time: bool) -> Value:
    """Return `x` upsampled by WanResample."""
    b, c = x.shape[:2]
    if time and caches.first:
        declared(p, 2 * c, c)
    elif time:
        x = caches.conv(p, "time_conv", x, 2 * c, (3, 1, 1))
        x = x.copy(b, c, 2 * x.shape[2], *x.shape[3:])
    t = x.shape[2]
    x = as_images(x)
    y = larger(x)
    y = p.conv("resample.1", y, out)
    return y.view(b, out, t, *y.shape[2:])


def larger(x: Value) -> Value:
    """Return WanUpsample of `x`, in float32."""
    wide = x.float().upsample()
    return wide.like(x)


def downsampled(p: NetPlace, x: Value, caches: CausalCaches, *, time: bool) -> Value:
    """Return `x` downsampled by WanResample."""
    b, c, t = x.shape[:3]
    x = as_images(x)
    y = x.resized(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1)
    y = p.conv("resample.1", y, c, 3, 2, 0)
    x = y.view(b, c, t, *y.shape[2:])
    del y
    if time and caches.first:
        declared(p, c, c)
        caches.frames[p.path] = x.copy()
    elif time:
        before, latest = caches.frames[p.path], last_frames(x, 1)
        x = cat([before.part(*framed(x, 1)), x], 2)
        x = x.copy()
        x = p.conv("time_conv", x, c, (3, 1, 1), (2, 1, 1), 0)
        caches.frames[p.path] = latest
    return x


def averaged(x: Value, out: int, *, time: bool, space: bool) -> Value:
    """AvgDown3D"""
    b, c, t, height, width = x.shape
    steps, side = (2 if time else 1), (2 if space else 1)
    x = x.resized(b, c, t + t % steps, height, width)
    if space:
        x = x.copy()
    return x.resized(b, out, x.shape[2] // steps, height // side, width // side)


def repeated(x: Value, out: int, caches: CausalCaches, *, time: bool) -> Value:
    """DupUp3D"""
    b, _, t, height, width = x.shape
    steps = 2 if time else 1
    x = x.resized(b, out, t * steps, 2 * height, 2 * width)
    x = x.copy()
    return x.part(*framed(x, 1)) if caches.first else x


# ---- encoder and decoder


def down_block(
    p: NetPlace, c: ComponentConfig, x: Value, level: int, caches: CausalCaches
) -> Value:
    """WanResidualDownBlock"""
    width, last = c.base_dim * c.dim_mult[level], level == len(c.dim_mult) - 1
    time = not last and bool(c.temperal_downsample[level])
    x_copy = x.copy()
    for i in range(c.num_res_blocks):
        x = residual(p / "resnets" / i, x, width, caches)
    if not last:
        x = downsampled(p / "downsampler", x, caches, time=time)
    return x + averaged(x_copy, width, time=time, space=not last)


def encode(n: NetPlace, c: ComponentConfig, x: Value, caches: CausalCaches) -> Value:
    """Return WanEncoder3d's output for one chunk of frames."""
    x = caches.conv(n, "conv_in", x, c.base_dim * c.dim_mult[0])
    number, levels = 0, len(c.dim_mult)
    for level, times in enumerate(c.dim_mult):
        if c.is_residual:
            x = down_block(n / "down_blocks" / level, c, x, level, caches)
            continue
        for _ in range(c.num_res_blocks):
            x = residual(n / "down_blocks" / number, x, c.base_dim * times, caches)
            number += 1
        if level < levels - 1:
            time = bool(c.temperal_downsample[level])
            x = downsampled(n / "down_blocks" / number, x, caches, time=time)
            number += 1
    x = middle(n / "mid_block", x, caches)
    x = gamma(n, "norm_out", x)
    x = x.act()
    return caches.conv(n, "conv_out", x, 2 * c.z_dim)


def up_block(p: NetPlace, c: ComponentConfig, x: Value, level: int, caches: CausalCaches) -> Value:
    """WanUpBlock and WanResidualUpBlock"""
    width = (c.decoder_base_dim or c.base_dim) * c.dim_mult[::-1][level]
    last = level == len(c.dim_mult) - 1
    time = not last and bool(c.temperal_downsample[::-1][level])
    x_copy = x.copy() if c.is_residual else None
    for i in range(c.num_res_blocks + 1):
        x = residual(p / "resnets" / i, x, width, caches)
    if last:
        return x
    if x_copy is None:
        return upsampled(p / "upsamplers" / 0, x, width // 2, caches, time=time)
    x = upsampled(p / "upsampler", x, width, caches, time=time)
    return x + repeated(x_copy, width, caches, time=time)


def decode(n: NetPlace, c: ComponentConfig, x: Value, caches: CausalCaches) -> Value:
    """Return WanDecoder3d's output for one chunk of frames."""
    x = caches.conv(n, "conv_in", x, (c.decoder_base_dim or c.base_dim) * c.dim_mult[-1])
    x = middle(n / "mid_block", x, caches)
    for level in range(len(c.dim_mult)):
        x = up_block(n / "up_blocks" / level, c, x, level, caches)
    x = gamma(n, "norm_out", x)
    x = x.act()
    return caches.conv(n, "conv_out", x, c.input_channels or c.out_channels)


def encoded(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return _encode's latents: one frame first, then four at a time."""
    run, caches, patch = n.run, CausalCaches(), c.patch_size or 1
    channels, sides = c.input_channels or c.in_channels, (8 * s.height, 8 * s.width)
    frames = 1 + 4 * (s.frames - 1)
    video = run.constant(s.batch, channels, frames, *sides)
    if patch > 1:  # patchify; the config's channels are those after it
        video = run.new(*video.shape)
    for chunk in range(min(s.frames, CHUNKS)):
        x = video.part(s.batch, channels, 4 if chunk else 1, *sides)
        y = encode(n / "encoder", c, x, caches)
        if caches.first:
            out, caches.first = y, False
        else:
            out = cat([out, y], 2)
    out = out.resized(*framed(out, s.frames)) if out.shape[2] < s.frames else out
    return causal(n, "quant_conv", out, 2 * c.z_dim)


def shape(c: ComponentConfig, s: Sizes) -> tuple[int, ...]:
    """Return the decoder's output shape, before patches become pixels."""
    channels = c.input_channels or c.out_channels
    return s.pixels(channels, 8, 4)


def decoded(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return _decode's video, grown by one latent frame at a time, by concatenation."""
    run, caches, chunks = n.run, CausalCaches(), min(s.frames, CHUNKS)
    z = run.constant(*s.latents(c.z_dim))
    x = causal(n, "post_quant_conv", z, c.z_dim)
    for chunk in range(chunks):
        latent = x.part(*framed(x, 1))
        y = decode(n / "decoder", c, latent, caches)
        if caches.first:
            out, caches.first = y, False
            continue
        out = run.new(*framed(y, 4 * s.frames - 7))
        if chunk == chunks - 1:
            out = cat([out, y], 2)
    return finished(c, out)


def finished(c: ComponentConfig, out: Value) -> Value:
    if (c.patch_size or 1) > 1:
        out = out.copy()  # unpatchify
    return out * 1.0  # clamp


def tile_decoded(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return a tile of tiled_decode: its chunks are listed, and joined at the end."""
    run, caches, chunks = n.run, CausalCaches(), min(s.frames, CHUNKS)
    z = run.constant(*s.latents(c.z_dim))
    time = list[Value]()
    for chunk in range(chunks):
        latent = causal(n, "post_quant_conv", z.part(*framed(z, 1)), c.z_dim)
        if chunk == CHUNKS - 1:
            time += [run.new(*time[1].shape) for _ in range(s.frames - CHUNKS)]
        time.append(decode(n / "decoder", c, latent, caches))
        caches.first = False
    return cat(time, 2)


def wan_vae(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value | None:
    if s.side != "decode":
        moments = encoded(n, c, s)
        if s.side == "encode":
            return moments
        del moments
    grid = tile(n.run.cls, c, 8 * (c.patch_size or 1))
    if grid is None or not s.tiled or (s.height <= grid.height and s.width <= grid.width):
        return decoded(n, c, s)
    out, _tiles = tiled(
        n.run, s, grid, lambda size: tile_decoded(n, c, size), lambda size: shape(c, size)
    )
    return finished(c, out)


PROGRAMS = {"AutoencoderKLWan": wan_vae, "AutoencoderKLQwenImage": wan_vae}
