"""Pyramids: networks of images in stages, each with fewer and wider positions.

Swin: windows of patches in stages that halve the resolution and double the width.

    stage i: width D 2^i, depths[i] blocks with a table of (2w - 1)^2 relative positions each,
    then four neighbours (4 width) become one of 2 width, except after the last

Source: transformers 5.23 models/{swin,donut_swin}/modeling_*.py, names as before 5.0.

SegFormer: overlapping patches, attention over shortened sequences, an all-MLP decoder.

    stage i: patch convolution, depths[i] blocks; keys and values of a block are shortened by
    sr_ratios[i] with a convolution where that is more than 1; the MLP holds a depthwise 3 x 3

Source: transformers 5.23 models/segformer/modeling_segformer.py, names as before 5.0.

ResNet as transformers writes it: convolutions without bias, each followed by a BatchNorm.

    bottleneck: 1 x 1 to W / 4, 3 x 3, 1 x 1 to W; basic: two of 3 x 3; a 1 x 1 shortcut where
    the width or the resolution changes

Source: transformers 5.23 models/resnet/modeling_resnet.py.

ConvNeXt and ConvNeXt V2: stages of 7 x 7 depthwise convolutions and pointwise Linears.

    block: dwconv W x 1 x 7 x 7, LayerNorm, W -> 4W -> W; V1 scales its output, V2 normalises
    the inner responses (GRN)

Source: transformers 5.23 models/{convnext,convnextv2}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import Buffer, Family, Param, ParamRule, affine, conv, linear
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import labels
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.vision import (
    batchnorm_buffers,
    layernorm,
    nothing,
    patch_shape,
    patches,
    scaled,
    scaled_by,
    sizes,
)


def stages(c: Config) -> list[tuple[int, int, int]]:
    """Return (width, blocks, heads) of each stage."""
    depths, width = sizes(c, "depths"), c.num("embed_dim")
    heads = c.per_layer("num_heads", count=len(depths))
    return [(width << i, depth, heads[i]) for i, depth in enumerate(depths)]


def last_width(c: Config) -> int:
    return stages(c)[-1][0]


def block(c: Config, prefix: str, width: int, heads: int) -> Iterator[Param]:
    inner, bias = scaled(c, width, "mlp_ratio"), c.enabled("qkv_bias")
    table = (2 * c.num("window_size") - 1) ** 2
    yield from layernorm(f"{prefix}layernorm_before", width)
    yield Param(f"{prefix}attention.self.relative_position_bias_table", (table, heads), "other")
    for name in ("query", "key", "value"):
        yield from linear(f"{prefix}attention.self.{name}", width, width, bias=bias)
    yield from affine(f"{prefix}attention.output.dense", width, width)
    yield from layernorm(f"{prefix}layernorm_after", width)
    yield from affine(f"{prefix}intermediate.dense", inner, width)
    yield from affine(f"{prefix}output.dense", width, inner)


def stage(c: Config, prefix: str, shape: tuple[int, int, int], *, last: bool) -> Iterator[Param]:
    width, depth, heads = shape
    for i in range(depth):
        yield from block(c, f"{prefix}blocks.{i}.", width, heads)
    if not last:
        yield from linear(f"{prefix}downsample.reduction", 2 * width, 4 * width)
        yield from layernorm(f"{prefix}downsample.norm", 4 * width)


def encoder(c: Config, prefix: str) -> Iterator[Param]:
    width, staged = c.num("embed_dim"), stages(c)
    if c.flag("use_absolute_embeddings"):
        yield Param(f"{prefix}embeddings.position_embeddings", (1, patches(c), width), "other")
    yield from conv(f"{prefix}embeddings.patch_embeddings.projection", patch_shape(c, width))
    yield from layernorm(f"{prefix}embeddings.norm", width)
    for i, shape in enumerate(staged):
        yield from stage(c, f"{prefix}encoder.layers.{i}.", shape, last=i == len(staged) - 1)


def swin(c: Config, prefix: str) -> Iterator[Param]:
    yield from encoder(c, prefix)
    yield from layernorm(f"{prefix}layernorm", last_width(c))


def masked(c: Config, prefix: str) -> Iterator[Param]:
    yield Param(f"{prefix}embeddings.mask_token", (1, 1, c.num("embed_dim")), "other")
    yield from swin(c, prefix)


def classifier(c: Config, prefix: str) -> Iterator[Param]:
    yield from affine(f"{prefix}classifier", labels(c), last_width(c))


def pixels(c: Config, prefix: str) -> Iterator[Param]:
    out = c.num("encoder_stride", default=32) ** 2 * c.num("num_channels", default=3)
    yield from conv(f"{prefix}decoder.0", (out, last_width(c), 1, 1))


def positions(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the buffers of table indexes: the relative position of each two patches in a window."""
    entries = c.num("window_size") ** 4
    for i, (_, depth, _) in enumerate(stages(c)):
        for j in range(depth):
            path = f"{prefix}encoder.layers.{i}.blocks.{j}.attention.self"
            yield Buffer(f"{path}.relative_position_index", (entries,), "int64")


def square_positions(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the table indexes of relative positions for Donut's copy of Swin, which stores them as
    a square in the checkpoint."""
    side = c.num("window_size") ** 2
    for old in positions(c, prefix):
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


def by_stage(c: Config, name: str) -> tuple[int, ...]:
    return c.per_layer(name, count=c.layers("num_encoder_blocks"))


def attention(prefix: str, width: int, shorten: int) -> Iterator[Param]:
    for name in ("query", "key", "value"):
        yield from affine(f"{prefix}self.{name}", width, width)
    if shorten > 1:
        yield from conv(f"{prefix}self.sr", (width, width, shorten, shorten))
        yield from layernorm(f"{prefix}self.layer_norm", width)
    yield from affine(f"{prefix}output.dense", width, width)


def segformer_block(prefix: str, width: int, shorten: int, inner: int) -> Iterator[Param]:
    yield from layernorm(f"{prefix}layer_norm_1", width)
    yield from attention(f"{prefix}attention.", width, shorten)
    yield from layernorm(f"{prefix}layer_norm_2", width)
    yield from affine(f"{prefix}mlp.dense1", inner, width)
    yield from conv(f"{prefix}mlp.dwconv.dwconv", (inner, 1, 3, 3))
    yield from affine(f"{prefix}mlp.dense2", width, inner)


def segformer_stage(c: Config, prefix: str, i: int) -> Iterator[Param]:
    widths, patch = by_stage(c, "hidden_sizes"), by_stage(c, "patch_sizes")[i]
    inputs = widths[i - 1] if i else c.num("num_channels", default=3)
    inner = scaled_by(c, widths[i], "mlp_ratios", i)
    yield from conv(f"{prefix}patch_embeddings.{i}.proj", (widths[i], inputs, patch, patch))
    yield from layernorm(f"{prefix}patch_embeddings.{i}.layer_norm", widths[i])
    shorten = by_stage(c, "sr_ratios")[i]
    for j in range(by_stage(c, "depths")[i]):
        yield from segformer_block(f"{prefix}block.{i}.{j}.", widths[i], shorten, inner)
    yield from layernorm(f"{prefix}layer_norm.{i}", widths[i])


def segformer(c: Config, prefix: str) -> Iterator[Param]:
    for i in range(c.layers("num_encoder_blocks")):
        yield from segformer_stage(c, f"{prefix}encoder.", i)


def segformer_classifier(c: Config, prefix: str) -> Iterator[Param]:
    yield from affine(f"{prefix}classifier", labels(c), sizes(c, "hidden_sizes")[-1])


def decoder(c: Config, prefix: str) -> Iterator[Param]:
    inner, count = c.num("decoder_hidden_size"), c.num("num_encoder_blocks")
    for i in range(count):
        width = by_stage(c, "hidden_sizes")[i]
        yield from affine(f"{prefix}decode_head.linear_c.{i}.proj", inner, width)
    yield from conv(f"{prefix}decode_head.linear_fuse", (inner, inner * count, 1, 1), bias=False)
    yield from layernorm(f"{prefix}decode_head.batch_norm", inner)
    yield from conv(f"{prefix}decode_head.classifier", (labels(c), inner, 1, 1))


def statistics(c: Config, prefix: str) -> Iterator[Buffer]:
    if c.cls.endswith("ForSemanticSegmentation"):
        yield from batchnorm_buffers("decode_head.batch_norm", c.num("decoder_hidden_size"))


SEGFORMER = Family(
    body=segformer,
    base="segformer",
    cls="SegformerModel",
    heads={"ForImageClassification": segformer_classifier, "ForSemanticSegmentation": decoder},
    buffers=statistics,
    blocks=("encoder.block.*",),
)


class Conv(NamedTuple):
    path: str
    outputs: int
    inputs: int
    kernel: int


def shortcut(path: str, outputs: int, inputs: int) -> Conv:
    return Conv(f"{path}shortcut", outputs, inputs, 1)


def resnet_block(c: Config, path: str, outputs: int, inputs: int) -> Iterator[Conv]:
    if c.word("layer_type", default="bottleneck") == "bottleneck":
        inner = outputs // 4
        shapes = [(inner, inputs, 1), (inner, inner, 3), (outputs, inner, 1)]
    else:
        shapes = [(outputs, inputs, 3), (outputs, outputs, 3)]
    for i, (out, into, kernel) in enumerate(shapes):
        yield Conv(f"{path}layer.{i}", out, into, kernel)


def strided(c: Config, stage: int) -> bool:
    """Return whether a stage halves the resolution."""
    return stage > 0 or c.flag("downsample_in_first_stage")


def convolutions(c: Config, prefix: str) -> Iterator[Conv]:
    width = c.num("embedding_size")
    yield Conv(f"{prefix}embedder.embedder", width, c.num("num_channels", default=3), 7)
    widths = sizes(c, "hidden_sizes")
    depths = c.per_layer("depths", count=len(widths))
    for i, (outputs, depth) in enumerate(zip(widths, depths, strict=True)):
        for j in range(depth):
            path = f"{prefix}encoder.stages.{i}.layers.{j}."
            if j == 0 and (outputs != width or strided(c, i)):
                yield shortcut(path, outputs, width)
            yield from resnet_block(c, path, outputs, outputs if j else width)
        width = outputs


def resnet(c: Config, prefix: str) -> Iterator[Param]:
    for path, outputs, inputs, kernel in convolutions(c, prefix):
        yield from conv(f"{path}.convolution", (outputs, inputs, kernel, kernel), bias=False)
        yield from layernorm(f"{path}.normalization", outputs)


def resnet_statistics(c: Config, prefix: str) -> Iterator[Buffer]:
    for path, outputs, _, _ in convolutions(c, prefix):
        yield from batchnorm_buffers(f"{path}.normalization", outputs)


def resnet_classifier(c: Config, prefix: str) -> Iterator[Param]:
    yield from affine(f"{prefix}classifier.1", labels(c), sizes(c, "hidden_sizes")[-1])


RESNET = Family(
    body=resnet,
    base="resnet",
    bases={"Backbone": ""},
    cls="ResNetModel",
    heads={"ForImageClassification": resnet_classifier, "Backbone": nothing},
    buffers=resnet_statistics,
    blocks=(
        "embedder.embedder",
        "encoder.stages.*.layers.*.shortcut",
        "encoder.stages.*.layers.*.layer.*",
    ),
)


SIZES, DEPTHS = (96, 192, 384, 768), (3, 3, 9, 3)  # ConvNextConfig.__post_init__


def widths(c: Config) -> tuple[int, ...]:
    return c.nums("hidden_sizes") or SIZES


def v1(c: Config, prefix: str, width: int) -> Iterator[Param]:
    if c.ratio("layer_scale_init_value", default=1e-6) > 0:
        yield Param(f"{prefix}layer_scale_parameter", (width,), "other")


def v2(c: Config, prefix: str, width: int) -> Iterator[Param]:
    yield Param(f"{prefix}grn.weight", (1, 1, 1, 4 * width), "norm")
    yield Param(f"{prefix}grn.bias", (1, 1, 1, 4 * width), "norm")


def convnext_block(prefix: str, width: int) -> Iterator[Param]:
    yield from conv(f"{prefix}dwconv", (width, 1, 7, 7))
    yield from layernorm(f"{prefix}layernorm", width)
    yield from affine(f"{prefix}pwconv1", 4 * width, width)
    yield from affine(f"{prefix}pwconv2", width, 4 * width)


def body(version: int) -> ParamRule:
    extra = {1: v1, 2: v2}[version]

    def convnext(c: Config, prefix: str) -> Iterator[Param]:
        sizes = widths(c)
        depths = c.per_layer("depths", count=len(sizes)) if c.has("depths") else DEPTHS
        yield from conv(f"{prefix}embeddings.patch_embeddings", patch_shape(c, sizes[0]))
        yield from layernorm(f"{prefix}embeddings.layernorm", sizes[0])
        for i, (width, depth) in enumerate(zip(sizes, depths, strict=True)):
            path = f"{prefix}encoder.stages.{i}."
            if i:
                yield from layernorm(f"{path}downsampling_layer.0", sizes[i - 1])
                yield from conv(f"{path}downsampling_layer.1", (width, sizes[i - 1], 2, 2))
            for j in range(depth):
                yield from convnext_block(f"{path}layers.{j}.", width)
                yield from extra(c, f"{path}layers.{j}.", width)
        yield from layernorm(f"{prefix}layernorm", sizes[-1])

    return convnext


def convnext_classifier(c: Config, prefix: str) -> Iterator[Param]:
    yield from affine(f"{prefix}classifier", labels(c), widths(c)[-1])


CONVNEXT = Family(
    body=body(1),
    base="convnext",
    cls="ConvNextModel",
    heads={"ForImageClassification": convnext_classifier},
    blocks=("encoder.stages.*",),
)
CONVNEXT_V2 = Family(
    body=body(2),
    base="convnextv2",
    cls="ConvNextV2Model",
    heads={"ForImageClassification": convnext_classifier},
    blocks=("encoder.stages.*.layers.*",),
)


TYPES = {
    "donut-swin": ModelType(DONUT, no_cache="image", encodes="pyramid"),
    "swin": ModelType(SWIN, no_cache="image", encodes="pyramid"),
    "segformer": ModelType(SEGFORMER, no_cache="image", encodes="pyramid"),
    "resnet": ModelType(RESNET, no_cache="image", encodes="pyramid"),
    "convnext": ModelType(CONVNEXT, no_cache="image", encodes="pyramid"),
    "convnextv2": ModelType(CONVNEXT_V2, no_cache="image", encodes="pyramid"),
}
