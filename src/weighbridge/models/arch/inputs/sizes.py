"""Rules by which processors resize an image or cut it into tiles: from a size to another size, or
to a grid of tiles.

Source: transformers 5.23 models/<name>/image_processing_<name>.py, named at each function, and
image_processing_utils.py.
"""

from collections.abc import Sequence
from math import ceil, floor, sqrt

from weighbridge.base.records import NamedTuple


class ImageSize(NamedTuple):
    """Height and width: in pixels of an image, in tiles or patches of a grid."""

    height: int
    width: int

    @property
    def area(self) -> int:
        return self.height * self.width


def rounded(size: ImageSize, factor: int, least: int, most: int) -> ImageSize:
    """Return both sides in pixels, rounded to multiples of `factor`, with `least` to `most` pixels
    in all: qwen2_vl smart_resize."""
    high, wide = (round(side / factor) * factor for side in size)
    if high * wide > most:
        beta = sqrt(size.area / most)
        return ImageSize(*(max(factor, floor(side / beta / factor) * factor) for side in size))
    if high * wide < least:
        beta = sqrt(least / size.area)
        return ImageSize(*(ceil(side * beta / factor) * factor for side in size))
    return ImageSize(high, wide)


def padded(size: ImageSize, *, patch: int, merge: int, most: int, side: int) -> ImageSize:
    """Return the size in pixels, scaled down to at most `most` patches and `side` patches per side:
    kimi_k25 navit_resize."""
    count = max(1.0, size.height // patch) * max(1.0, size.width // patch)
    scale = min(1.0, sqrt(most / count), side * patch / size.height, side * patch / size.width)
    factor = merge * patch
    small = (min(max(1, int(length * scale)), side * patch) for length in size)
    return ImageSize(*(ceil(length / factor) * factor for length in small))


def fitted(size: ImageSize, longest: int, step: int) -> ImageSize:
    """Return the grid of steps of `step` pixels that covers an image whose longer side is scaled
    down to at most `longest`: pixtral get_resize_output_image_size."""
    ratio = max(1.0, size.height / longest, size.width / longest)
    return ImageSize(*((floor(side / ratio) - 1) // step + 1 for side in size))


def filling(size: ImageSize, *, patch: int, kernel: int, most: int) -> ImageSize:
    """Return the largest grid with the image's shape and at most `most` patches, counted in pools
    of `kernel` x `kernel`: gemma4 get_aspect_ratio_preserving_size."""
    step, factor = kernel * patch, sqrt(most * patch**2 / size.area)
    high, wide = (floor(side * factor / step) for side in size)
    longest = most // kernel**2
    if not high:
        return ImageSize(1, max(1, min(size.width // size.height, longest)))
    return ImageSize(high, wide) if wide else ImageSize(min(size.height // size.width, longest), 1)


def grids(least: int, most: int) -> list[ImageSize]:
    """Return all grids of `least` to `most` tiles, fewest tiles first; grids with equal counts by
    width."""
    shapes = (ImageSize(h, w) for w in range(1, most + 1) for h in range(1, most + 1))
    return sorted((g for g in shapes if least <= g.area <= most), key=lambda g: g.area)


def closest(size: ImageSize, tile: ImageSize, options: Sequence[ImageSize]) -> ImageSize:
    """Return the grid with the nearest aspect ratio; of equally near ones the larger, if the image
    fills half of it: got_ocr2 get_optimal_tiled_canvas."""
    shape, best, least = size.width / size.height, ImageSize(1, 1), float("inf")
    for grid in options:
        off = abs(shape - grid.width / grid.height)
        if off < least or (off == least and size.area > 0.5 * tile.area * grid.area):
            best, least = grid, off
    return best


def least_enlarged(size: ImageSize, tile: int, options: Sequence[ImageSize]) -> ImageSize:
    """Return the grid that enlarges the image least, else the one that shrinks it least:
    cohere2_vision get_optimal_tiled_canvas."""

    def scale(grid: ImageSize) -> float:
        return min(tile * grid.width / size.width, tile * grid.height / size.height)

    growing = [grid for grid in options if scale(grid) >= 1]
    return min(growing, key=scale) if growing else max(options, key=scale)


def smallest_canvas(size: ImageSize, tile: int, options: Sequence[ImageSize]) -> ImageSize:
    """Return the grid that enlarges the image least, else shrinks it least; of equal ones the
    smallest: mllama and llama4."""

    def scale(grid: ImageSize) -> float:
        return min(tile * grid.width / size.width, tile * grid.height / size.height)

    growing = [scale(grid) for grid in options if scale(grid) >= 1]
    chosen = min(growing) if growing else max(map(scale, options))
    return min((g for g in options if scale(g) == chosen), key=lambda g: g.area)


def best_resolution(size: ImageSize, options: Sequence[ImageSize]) -> ImageSize:
    """Return the option that keeps most of the image and wastes least: image_processing_utils.py
    select_best_resolution."""

    def kept(option: ImageSize) -> int:
        scale = min(option.width / size.width, option.height / size.height)
        return min(int(size.width * scale) * int(size.height * scale), size.area)

    return max(options, key=lambda o: (kept(o), kept(o) - o.area))


def unpadded(size: ImageSize, canvas: ImageSize) -> ImageSize:
    """Return the part of a canvas of patches that the image covers: llava_next
    _get_unpadded_features."""
    if size.width / size.height > canvas.width / canvas.height:
        high = int(round(size.height * (canvas.width / size.width), 7))
        return ImageSize(canvas.height - (canvas.height - high) // 2 * 2, canvas.width)
    wide = int(round(size.width * (canvas.height / size.height), 7))
    return ImageSize(canvas.height, canvas.width - (canvas.width - wide) // 2 * 2)


def longest_side(size: ImageSize, side: int) -> ImageSize:
    """Return the size in pixels, scaled so that the longer side is `side`, the other made even:
    idefics3 _resize_output_size_rescale_to_max_len."""
    shape = size.width / size.height
    if size.width >= size.height:
        high = int(side / shape)
        return ImageSize(max(1, high + high % 2), side)
    wide = int(side * shape)
    return ImageSize(side, max(1, wide + wide % 2))
