"""ConvNeXt and ConvNeXt V2: stages of 7 x 7 depthwise convolutions and pointwise Linears.

    block: dwconv W x 1 x 7 x 7, LayerNorm, W -> 4W -> W; V1 scales its output, V2 normalises
    the inner responses (GRN)

Source: transformers 5.23 models/{convnext,convnextv2}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, ParamRule, conv, linear
from weighbridge.arch.config import Config
from weighbridge.arch.heads import labels
from weighbridge.arch.model_types import ModelType
from weighbridge.arch.vision import layernorm, patch_shape

SIZES, DEPTHS = (96, 192, 384, 768), (3, 3, 9, 3)  # ConvNextConfig.__post_init__


def widths(c: Config) -> tuple[int, ...]:
    return c.nums("hidden_sizes") or SIZES


def v1(c: Config, at: str, width: int) -> Iterator[Param]:
    if c.ratio("layer_scale_init_value", default=1e-6) > 0:
        yield Param(f"{at}layer_scale_parameter", (width,), "other")


def v2(c: Config, at: str, width: int) -> Iterator[Param]:
    yield Param(f"{at}grn.weight", (1, 1, 1, 4 * width), "norm")
    yield Param(f"{at}grn.bias", (1, 1, 1, 4 * width), "norm")


def block(at: str, width: int) -> Iterator[Param]:
    yield from conv(f"{at}dwconv", (width, 1, 7, 7))
    yield from layernorm(f"{at}layernorm", width)
    yield from linear(f"{at}pwconv1", 4 * width, width, bias=True)
    yield from linear(f"{at}pwconv2", width, 4 * width, bias=True)


def body(version: int) -> ParamRule:
    extra = {1: v1, 2: v2}[version]

    def convnext(c: Config, at: str) -> Iterator[Param]:
        sizes = widths(c)
        depths = c.per_layer("depths", count=len(sizes)) if c.has("depths") else DEPTHS
        yield from conv(f"{at}embeddings.patch_embeddings", patch_shape(c, sizes[0]))
        yield from layernorm(f"{at}embeddings.layernorm", sizes[0])
        for i, (width, depth) in enumerate(zip(sizes, depths, strict=True)):
            path = f"{at}encoder.stages.{i}."
            if i:
                yield from layernorm(f"{path}downsampling_layer.0", sizes[i - 1])
                yield from conv(f"{path}downsampling_layer.1", (width, sizes[i - 1], 2, 2))
            for j in range(depth):
                yield from block(f"{path}layers.{j}.", width)
                yield from extra(c, f"{path}layers.{j}.", width)
        yield from layernorm(f"{at}layernorm", sizes[-1])

    return convnext


def classifier(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}classifier", labels(c), widths(c)[-1], bias=True)


CONVNEXT = Family(
    body=body(1),
    base="convnext",
    cls="ConvNextModel",
    heads={"ForImageClassification": classifier},
    blocks=("encoder.stages.*",),
)
CONVNEXT_V2 = Family(
    body=body(2),
    base="convnextv2",
    cls="ConvNextV2Model",
    heads={"ForImageClassification": classifier},
    blocks=("encoder.stages.*.layers.*",),
)

TYPES = {
    "convnext": ModelType(CONVNEXT, no_cache="image", encodes="pyramid"),
    "convnextv2": ModelType(CONVNEXT_V2, no_cache="image", encodes="pyramid"),
}
