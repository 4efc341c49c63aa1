"""Swin: windows of patches in stages that halve the resolution and double the width.

    stage i: width D 2^i, depths[i] blocks with a table of (2w - 1)^2 relative positions each,
    then four neighbours (4 width) become one of 2 width, except after the last

Source: transformers 5.23 models/{swin,donut_swin}/modeling_*.py, names as before 5.0.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, linear
from weighbridge.arch.config import Config
from weighbridge.arch.heads import labels
from weighbridge.arch.model_types import ModelType, TransformersFacts
from weighbridge.arch.vision import layernorm, patch_shape, patches, scaled, sizes


def stages(c: Config) -> list[tuple[int, int, int]]:
    """(width, blocks, heads) of each stage."""
    depths, width = sizes(c, "depths"), c.num("embed_dim")
    heads = c.per_layer("num_heads", count=len(depths))
    return [(width << i, depth, heads[i]) for i, depth in enumerate(depths)]


def last_width(c: Config) -> int:
    return stages(c)[-1][0]


def block(c: Config, at: str, width: int, heads: int) -> Iterator[Param]:
    inner, bias = scaled(c, width, "mlp_ratio"), c.flag("qkv_bias", default=True)
    table = (2 * c.num("window_size") - 1) ** 2
    yield from layernorm(f"{at}layernorm_before", width)
    yield Param(f"{at}attention.self.relative_position_bias_table", (table, heads), "other")
    for name in ("query", "key", "value"):
        yield from linear(f"{at}attention.self.{name}", width, width, bias=bias)
    yield from linear(f"{at}attention.output.dense", width, width, bias=True)
    yield from layernorm(f"{at}layernorm_after", width)
    yield from linear(f"{at}intermediate.dense", inner, width, bias=True)
    yield from linear(f"{at}output.dense", width, inner, bias=True)


def stage(c: Config, at: str, shape: tuple[int, int, int], *, last: bool) -> Iterator[Param]:
    width, depth, heads = shape
    for i in range(depth):
        yield from block(c, f"{at}blocks.{i}.", width, heads)
    if not last:
        yield from linear(f"{at}downsample.reduction", 2 * width, 4 * width)
        yield from layernorm(f"{at}downsample.norm", 4 * width)


def encoder(c: Config, at: str) -> Iterator[Param]:
    width, found = c.num("embed_dim"), stages(c)
    if c.flag("use_absolute_embeddings"):
        yield Param(f"{at}embeddings.position_embeddings", (1, patches(c), width), "other")
    yield from conv(f"{at}embeddings.patch_embeddings.projection", patch_shape(c, width))
    yield from layernorm(f"{at}embeddings.norm", width)
    for i, shape in enumerate(found):
        yield from stage(c, f"{at}encoder.layers.{i}.", shape, last=i == len(found) - 1)


def swin(c: Config, at: str) -> Iterator[Param]:
    yield from encoder(c, at)
    yield from layernorm(f"{at}layernorm", last_width(c))


def masked(c: Config, at: str) -> Iterator[Param]:
    yield Param(f"{at}embeddings.mask_token", (1, 1, c.num("embed_dim")), "other")
    yield from swin(c, at)


def classifier(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}classifier", labels(c), last_width(c), bias=True)


def pixels(c: Config, at: str) -> Iterator[Param]:
    out = c.num("encoder_stride", default=32) ** 2 * c.num("num_channels", default=3)
    yield from conv(f"{at}decoder.0", (out, last_width(c), 1, 1))


def positions(c: Config, at: str) -> Iterator[Buffer]:
    """Yield the buffer that says which entry of the table two patches of a window use."""
    entries = c.num("window_size") ** 4
    for i, (_, depth, _) in enumerate(stages(c)):
        for j in range(depth):
            path = f"{at}encoder.layers.{i}.blocks.{j}.attention.self"
            yield Buffer(f"{path}.relative_position_index", (entries,), "int64")


def square_positions(c: Config, at: str) -> Iterator[Buffer]:
    """Donut's copy of Swin keeps the table square, and in the checkpoint."""
    side = c.num("window_size") ** 2
    for old in positions(c, at):
        yield Buffer(old.name, (side, side), old.dtype, persistent=True)


MASKED = Family(
    body=masked,
    base="swin",
    heads={"ForMaskedImageModeling": pixels},
    buffers=positions,
    blocks=("encoder.layers.*",),
)
SWIN = Family(
    body=swin,
    base="swin",
    cls="SwinModel",
    heads={"ForImageClassification": classifier},
    classes={"ForMaskedImageModeling": MASKED},
    buffers=positions,
    blocks=("encoder.layers.*",),
)
DONUT = Family(
    body=encoder,
    base="donut",
    cls="DonutSwinModel",
    buffers=square_positions,
    blocks=("encoder.layers.*",),
)

TYPES = {
    "donut-swin": ModelType(DONUT, no_cache="image", encodes="pyramid"),
    "swin": ModelType(
        SWIN, no_cache="image", encodes="pyramid", transformers=TransformersFacts(sdpa=(5, 1))
    ),
}
