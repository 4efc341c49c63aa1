"""Tiles of autoencoders: parts of a picture, or of a video's frames, decoded one by one.

Decoded tiles stay until all are done; then they are joined to rows, and these to the whole. So
there are three times the pixels at the end, overlaps included.

Source: diffusers 0.42 models/autoencoders, tiled_decode and _temporal_tiled_decode of each class.
"""

from collections.abc import Callable

from weighbridge.base.records import NamedTuple, replace
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.values import ProgramRun, Sizes, Value, cat

Decode = Callable[[Sizes], Value]
Shape = Callable[[Sizes], tuple[int, ...]]


class DecodedTile(NamedTuple):
    """The latents of one tile, and the stride to the next."""

    height: int
    width: int
    stride_height: int
    stride_width: int


class FrameTile(NamedTuple):
    """The latent frames of one tile, and the stride to the next."""

    frames: int
    stride: int


COG = "AutoencoderKLCogVideoX"
UNTILED = ("AutoencoderKLCosmos", "AutoencoderKLTemporalDecoder")  # classes without tiled_decode
# Pixels of a tile and of its stride, on a side; other classes are in `tile`
PIXELS = {
    "AutoencoderKLWan": (256, 192),
    "AutoencoderKLQwenImage": (256, 192),
    "AutoencoderKLHunyuanVideo": (256, 192),
    "AutoencoderKLHunyuanVideo15": (256, 192),
    "AutoencoderKLMochi": (256, 192),
    "AutoencoderKLLTXVideo": (512, 448),
    "AutoencoderKLLTX2Video": (512, 448),
    "AutoencoderDC": (512, 448),
}


def known(cls: str) -> bool:
    """Return whether the program of a class runs its tiles, or the class has none."""
    return cls in PIXELS or cls == COG or cls in UNTILED


def tile(cls: str, c: ComponentConfig, space: int) -> DecodedTile | None:
    """Return the tile of a class after enable_tiling; None without tiles. `space`: pixels per
    latent on a side."""
    if cls == COG:  # overlaps of a sixth and a fifth
        height, width = c.sample_height // 2 // space, c.sample_width // 2 // space
        return DecodedTile(height, width, int(height * 5 / 6), int(width * 4 / 5))
    if cls not in PIXELS:
        return None
    side, stride = (pixels // space for pixels in PIXELS[cls])
    return DecodedTile(side, side, stride, stride)


def tiled(
    run: ProgramRun, s: Sizes, k: DecodedTile | None, one: Decode, shape: Shape
) -> tuple[Value, object]:
    """Return the decoded whole, and what lives with it until the caller is done. `one` decodes a
    tile, whose output has a `shape`; tiles are only used if there are several."""
    if k is None or not s.tiled or (s.height <= k.height and s.width <= k.width):
        return one(s), None
    heights = parts(s.height, k.height, k.stride_height)
    widths = parts(s.width, k.width, k.stride_width)
    sizes = [replace(s, height=height, width=width) for height in heights for width in widths]
    tiles = _run(run, sizes, one, shape)
    rows = [
        run.new(*shape(replace(s, height=min(height, k.stride_height), width=s.width)))
        for height in heights
    ]
    whole = cat(rows, len(rows[0].shape) - 2)
    return whole, (tiles, rows)


def in_frames(run: ProgramRun, s: Sizes, k: FrameTile, one: Decode, shape: Shape) -> Value:
    """Return the video decoded in groups of `k.frames` latent frames, if it has more."""
    if s.frames < k.frames:
        return one(s)
    sizes = [replace(s, frames=frames) for frames in parts(s.frames, k.frames, k.stride)]
    tiles = _run(run, sizes, one, shape)
    whole = run.new(*shape(s))
    del tiles
    return whole


def parts(whole: int, part: int, stride: int) -> list[int]:
    return [min(part, whole - start) for start in range(0, whole, stride)]


def _run(run: ProgramRun, sizes: list[Sizes], one: Decode, shape: Shape) -> list[Value]:
    """Run the last tile of the largest size, next to the outputs of earlier tiles."""
    last = max(number for number, size in enumerate(sizes) if size == sizes[0])
    tiles = [run.new(*shape(size)) for size in sizes[:last]]
    tiles.append(one(sizes[last]))
    tiles += [run.new(*shape(size)) for size in sizes[last + 1 :]]
    return tiles
