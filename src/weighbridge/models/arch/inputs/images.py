"""Rules for one image: positions that a tower computes on, and tokens that the language model gets.

    a rule takes the whole model's config, the tower's own, and the image in pixels

Tokens are counted as processors count them: with the separators that they put between tiles and
rows. Values that preprocessor_config.json may change are those of the published files, else the
processor's default. Tiles are images of a batch: each attends only to itself (`window`).

Source: transformers 5.23 models/<name>/processing_<name>.py (_get_num_multimodal_tokens,
replace_image_token) and image_processing_<name>.py; the published preprocessor_config.json of each.
"""

from collections.abc import Callable, Mapping
from math import ceil, sqrt
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs.sizes import (
    ImageSize,
    best_resolution,
    closest,
    filling,
    fitted,
    grids,
    least_enlarged,
    longest_side,
    padded,
    rounded,
    smallest_canvas,
    unpadded,
)
from weighbridge.models.arch.model_types import facts
from weighbridge.models.arch.vision import patches


class TowerTokens(NamedTuple):
    positions: int
    tokens: int
    window: int | None = None


Rule = Callable[[Config, Config, ImageSize], TowerTokens]


def beside(tower: Config) -> int:
    """Return the number of class, distillation and register tokens next to an image's patches."""
    return facts(tower.model_type).beside_patches + tower.num("num_register_tokens", default=0)


def native(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of an image resized to the tower's size: one token per
    position. Each stage of a pyramid but the first halves both sides."""
    stages = tower.many("depths")
    count = patches(tower) // 4 ** (len(stages) - 1) if stages else patches(tower) + beside(tower)
    return TowerTokens(count, count)


def siglip2(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of an image of any shape, padded to the config's
    `num_patches`."""
    return TowerTokens(tower.num("num_patches"), tower.num("num_patches"))


def patches_alone(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of an image resized to the tower's size; the class token is
    no token unless the config selects it."""
    count, more = patches(tower), beside(tower)
    full = whole.word("vision_feature_select_strategy", default="default") == "full"
    return TowerTokens(count + more, count + (more if full else 0))


def queries(name: str, default: int) -> Rule:
    """Return a rule for towers whose output learned queries read: an image has as many tokens as
    the config has queries under `name`."""

    def rule(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
        return TowerTokens(patches(tower) + beside(tower), whole.num(name, default=default))

    return rule


def inner_queries(key: str, name: str, default: int) -> Rule:
    """Return the rule of `queries` for a number in the nested config `key`."""

    def rule(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
        inner = whole.sub(key) if whole.has(key) else whole
        return TowerTokens(patches(tower) + beside(tower), inner.num(name, default=default))

    return rule


def aria(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of an image of 980 pixels per side: as many tokens as the
    config has queries for its patches, else 256."""
    count = patches(tower)
    table = whole.get("projector_patch_to_query_dict")
    tokens = table.get(str(count), table.get(count)) if isinstance(table, Mapping) else None
    return TowerTokens(count, tokens if isinstance(tokens, int) else 256)


# Any size: patches in a grid, merged s x s


def merged(least: int, most: int, *, patch: int = 14, merge: int = 2) -> Rule:
    """Return the rule of Qwen2-VL and its successors: an image is resized to `least` to `most`
    pixels, and squares of patches become one token."""

    def rule(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
        step = tower.num("patch_size", "spatial_patch_size", default=patch)
        into = tower.num("spatial_merge_size", default=merge)
        grid = rounded(size, step * into, least, most)
        count = grid.area // step**2
        return TowerTokens(count, count // into**2)

    return rule


def kimi(most: int) -> Rule:
    def rule(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
        patch = tower.num("patch_size", default=14)
        kernel = tower.many("merge_kernel_size") or [2, 2]
        grid = padded(size, patch=patch, merge=int(kernel[0]), most=most, side=512)
        count = grid.area // patch**2
        return TowerTokens(count, count // (int(kernel[0]) * int(kernel[-1])))

    return rule


def pixtral(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of an image, with one more token at the end of each row."""
    merge, patch = whole.num("spatial_merge_size", default=1), tower.num("patch_size")
    grid = fitted(size, tower.num("image_size"), patch * merge)
    return TowerTokens(grid.area * merge**2, grid.height * (grid.width + 1))


def gemma4(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the maximum number of patches, on which the tower computes, and the pooled tokens of
    the real ones."""
    kernel = tower.num("pooling_kernel_size", default=3)
    most = whole.num("vision_soft_tokens_per_image", default=280) * kernel**2
    grid = filling(size, patch=tower.num("patch_size", default=16), kernel=kernel, most=most)
    return TowerTokens(most, grid.area)


# Tiles


def llava_next(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of the whole image and of tiles at the best listed
    resolution; one more token ends each row."""
    side, count, more = tower.num("image_size"), patches(tower), beside(tower)
    canvas = best_resolution(size, _pinpoints(whole, side))
    tiles = ImageSize(canvas.height // side, canvas.width // side)
    rows = tower.num("image_size") // tower.num("patch_size")
    kept = unpadded(size, ImageSize(rows * tiles.height, rows * tiles.width))
    kept, newlines = _bounded_grid(whole, kept, rows)
    window = count + more
    return TowerTokens((tiles.area + 1) * window, kept.area + newlines + count, window)


def _pinpoints(whole: Config, side: int) -> list[ImageSize]:
    pinpoints = whole.many("image_grid_pinpoints")
    usual = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
    return [ImageSize(int(h), int(w)) for h, w in pinpoints] or [
        ImageSize(h * side, w * side) for h, w in usual
    ]


def _bounded_grid(whole: Config, kept: ImageSize, rows: int) -> tuple[ImageSize, int]:
    """Return the grid and its newline tokens, shrunk to at most nine tiles for LLaVA-OneVision's
    `anyres_max_9`."""
    word = whole.word("vision_aspect_ratio")
    if not word.startswith("anyres_max_"):
        return kept, kept.height
    ratio = sqrt(kept.area / (int(word.removeprefix("anyres_max_")) * rows**2))
    if ratio > 1.1:
        kept = ImageSize(int(kept.height // ratio), int(kept.width // ratio))
    return kept, kept.height


def _tokens_of_tile(whole: Config, tower: Config) -> int:
    """Return the tokens of one tile, its patches merged by `downsample_ratio` per side."""
    ratio = whole.ratio("downsample_ratio", default=0.5)
    return int(patches(tower) * ratio**2)


def internvl(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    side = tower.pair("image_size")
    options = grids(
        whole.num("min_dynamic_patch", default=1), whole.num("max_dynamic_patch", default=12)
    )
    tiles = _tiles_with_thumbnail(closest(size, ImageSize(*side), options))
    window = patches(tower) + beside(tower)
    return TowerTokens(tiles * window, 2 + tiles * _tokens_of_tile(whole, tower), window)


def _tiles_with_thumbnail(grid: ImageSize) -> int:
    return grid.area + (1 if grid.area > 1 else 0)


def aya(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    side = tower.num("image_size")
    tiles = _tiles_with_thumbnail(closest(size, ImageSize(side, side), grids(1, 12)))
    window = patches(tower)
    each = window // whole.num("downsample_factor", default=2) ** 2
    return TowerTokens(tiles * window, each + 3 + (tiles - 1) * (each + 1), window)


def cohere2(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    tiles = _tiles_with_thumbnail(least_enlarged(size, tower.num("image_size"), grids(1, 12)))
    window = patches(tower)
    each = window // whole.num("downsample_factor", default=2) ** 2
    return TowerTokens(tiles * window, 2 + tiles * (each + 1), window)


def llama4(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of an image's tiles. Each has a class token in the tower;
    separators stand between columns and rows."""
    grid = smallest_canvas(size, tower.num("image_size"), grids(1, 16))
    window, ratio = patches(tower) + 1, tower.ratio("pixel_shuffle_ratio", default=0.5)
    each = int(patches(tower) * ratio**2)
    if grid.area == 1:
        return TowerTokens(window, each + 3, window)
    return TowerTokens((grid.area + 1) * window, (grid.area + 1) * each + grid.area + 3, window)


def step(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of the whole view and of tiles of 504 pixels: step3p7
    _plan_patches. Two marker tokens surround each, and one follows each row of tiles but the
    last."""
    side, patch, tile = tower.num("image_size"), tower.num("patch_size"), 504
    shrunk = ImageSize(*(int(length * min(1.0, 3024 / max(size))) for length in size))
    shape = max(shrunk) / max(1, min(shrunk))
    window = min(*shrunk, tile) if shape > 4 else tile
    if max(shrunk) <= side:
        window = min(shrunk) if shape > 1.5 else 0
    grid = (
        ImageSize(*(_tiles_along(length, window) for length in shrunk))
        if window
        else ImageSize(0, 1)
    )
    seen, near = (side // patch) ** 2, (tile // patch) ** 2
    marks = 2 * (grid.area + 1) + max(0, grid.height - 1)
    return TowerTokens(seen + grid.area * near, (seen + grid.area * near) // 16 + marks)


def _tiles_along(length: float, window: float) -> int:
    """Return the number of tiles along one side; a remainder above a fifth of a tile becomes a
    tile."""
    return max(1, int(length // window + (length % window > 0.2 * window)))


def mllama(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of the maximum number of tiles; the tower pads each to
    multiples of 8: modeling_mllama.py (num_padding_patches)."""
    most, one = tower.num("max_num_tiles"), patches(tower) + 1
    return TowerTokens(most * ceil(one / 8) * 8, most * one)


def idefics2(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of an image and its quarters, padded to one size: 64 latents
    each, with a marker token between them."""
    side, patch = tower.num("image_size"), tower.num("patch_size")
    scale = min(1.0, side / max(size))
    grid = ImageSize(*(max(1, int(length * scale) // patch) for length in size))
    latents = 64
    if whole.has("perceiver_config"):
        latents = whole.sub("perceiver_config").num("resampler_n_latents", default=latents)
    return TowerTokens(5 * grid.area, 5 * (latents + 1) + 1, grid.area)


def idefics3(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of the whole image, and of its tiles after it is scaled to
    four times the tower's size."""
    side = tower.num("image_size")
    longest = _longest_edge(tower, "size", 4 * side)
    scaled = longest_side(size, longest)
    grid = ImageSize(*(ceil(length / side) for length in scaled))
    window = (side // tower.num("patch_size")) ** 2
    each = window // whole.num("scale_factor", default=2) ** 2
    if grid.area == 1:
        return TowerTokens(window, each + 3, window)
    rows = grid.height * (grid.width * (each + 2) + 1)
    return TowerTokens((grid.area + 1) * window, each + 3 + rows, window)


def _longest_edge(tower: Config, name: str, default: int) -> int:
    configured: Any = tower.get(name)
    edge = configured.get("longest_edge") if isinstance(configured, Mapping) else None
    return edge if isinstance(edge, int) else default


def ovis2(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of one tile (the default), with the markers START, GRID and
    END."""
    each = patches(tower) // max(1, tower.num("hidden_stride", default=1)) ** 2
    return TowerTokens(patches(tower), each + 3)


def lfm2(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions of an image and its 64 to 256 tokens; above twice that size it also has
    tiles of 512 pixels. The tower pads each to the maximum number of patches."""
    patch, down = tower.num("patch_size"), whole.num("downsample_factor", default=2)
    step, most = patch * down, whole.num("max_image_tokens", default=256)
    small = rounded(size, step, whole.num("min_image_tokens", default=64) * step**2, most * step**2)
    tile = whole.num("tile_size", default=512)
    window = max(most * down**2, (tile // patch) ** 2)
    exact = ImageSize(*(max(patch, round(side / step) * step) for side in size))
    if exact.area <= 2 * most * step**2:
        return TowerTokens(window, small.area // step**2 + 2, window)
    options = grids(whole.num("min_tiles", default=2), whole.num("max_tiles", default=10))
    tiles, each = closest(size, ImageSize(tile, tile), options).area, (tile // step) ** 2
    tokens = tiles * (each + 1) + small.area // step**2 + 3
    return TowerTokens((tiles + 1) * window, tokens, window)


def phi3_v(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of up to four crops of 336 pixels and of the whole image: 12
    x 12 tokens each, and one more per row (image_processing_phi3_v.py of the repository, num_crops
    4)."""
    ratio, scale = max(size) / max(1, min(size)), 1
    while scale * ceil(scale / ratio) <= 4:
        scale += 1
    scale -= 1
    short = ceil(int(scale * 336 / ratio) / 336)
    grid = ImageSize(short, scale) if size.width >= size.height else ImageSize(scale, short)
    tokens = (grid.area + 1) * 144 + 1 + (grid.height + 1) * 12
    return TowerTokens((grid.area + 1) * 577, tokens, 577)


def phi4(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of up to 36 crops of 448 pixels and of the whole image, 16 x
    16 tokens each. Crops of only padding are dropped."""
    side, most = 448, 36
    grid = ImageSize(*(ceil(length / side) for length in size))
    if grid.area > most:
        grid = closest(size, ImageSize(side, side), grids(1, most))
    scale = min(grid.width * side / size.width, grid.height * side / size.height)
    real = ImageSize(
        *(
            _real_patches_along(int(length * scale), n * side)
            for length, n in zip(size, grid, strict=True)
        )
    )
    window = (side // 14) ** 2
    return TowerTokens((grid.area + 1) * window, 256 + 1 + real.area + real.height + 16, window)


def _real_patches_along(length: int, whole: int) -> int:
    """Return the count of every other patch along `length` pixels of a side, without patches of
    only padding."""
    return ceil((whole // 14 - (whole - length) // 14) / 2)


def minicpmv(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return the positions and tokens of up to nine slices of about 448 pixels per side and of the
    whole image, `query_num` tokens each (modeling_minicpmv.py and image_processing_minicpmv.py of
    the repositories)."""
    each, patch = whole.num("query_num", default=64), tower.num("patch_size", default=14)
    count = min(9, ceil(size.area / 448**2))
    slices = _slices(size, count).area if count > 1 else 0
    window = (448 // patch) ** 2
    return TowerTokens((slices + 1) * window, (slices + 1) * (each + 2), window)


def _slices(size: ImageSize, count: int) -> ImageSize:
    """Return the grid of `count - 1` to `count + 1` slices whose aspect ratio is nearest, by
    logarithm."""
    options = [
        ImageSize(n // w, w)
        for n in (count - 1, count, count + 1)
        if 1 < n <= 9
        for w in ([d for d in range(1, n + 1) if n % d == 0])
    ]
    shape = size.width / size.height
    return min(options, key=lambda g: max(shape * g.height / g.width, g.width / g.height / shape))


def fuyu(whole: Config, tower: Config, size: ImageSize) -> TowerTokens:
    """Return one position and token per patch of 30 pixels, which need no tower, and one more token
    per row. Images are never enlarged."""
    scale = min(1.0, 1080 / size.height, 1920 / size.width)
    grid = ImageSize(*(ceil(int(length * scale) / 30) for length in size))
    return TowerTokens(grid.area, grid.height * (grid.width + 1))


def fixed(tokens: int) -> Rule:
    """Return a rule with a fixed number of tokens, for convolutions without positions."""
    return lambda whole, tower, size: TowerTokens(tokens, tokens)


# Rules with their numbers, as the table of model types names them
one_frame = merged(56 * 56, 28 * 28 * 16384)
one_frame_of_16 = merged(256 * 256, 4096 * 4096, patch=16)
one_frame_heard = merged(56 * 56, 28 * 28 * 16384, patch=16)
two_frames = merged(112 * 112 // 2, 28 * 28 * 6144)  # an image counts as two
by_ernie = merged(56 * 56, 28 * 28 * 6177)
by_paddle = merged(147_384, 2_822_400)
to_4096 = kimi(4096)
to_16384 = kimi(16384)
queried = queries("num_query_tokens", 32)
perceived = inner_queries("perceiver_config", "resampler_n_latents", 64)
pooled = queries("mm_tokens_per_image", 256)
latent = queries("latent_query_num", 64)
always_256, always_577, always_1026 = fixed(256), fixed(577), fixed(1026)
