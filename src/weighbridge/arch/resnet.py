"""ResNet as transformers writes it: convolutions without bias, each followed by a BatchNorm.

    bottleneck: 1 x 1 to W / 4, 3 x 3, 1 x 1 to W; basic: two of 3 x 3; a 1 x 1 shortcut where
    the width or the resolution changes

Source: transformers 5.23 models/resnet/modeling_resnet.py.
"""

from collections.abc import Iterator
from typing import NamedTuple

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, linear
from weighbridge.arch.config import Config
from weighbridge.arch.heads import labels
from weighbridge.arch.model_types import ModelType
from weighbridge.arch.vision import batchnorm_buffers, layernorm, nothing, sizes


class Conv(NamedTuple):
    path: str
    outputs: int
    inputs: int
    kernel: int


def shortcut(path: str, outputs: int, inputs: int) -> Conv:
    return Conv(f"{path}shortcut", outputs, inputs, 1)


def block(c: Config, path: str, outputs: int, inputs: int) -> Iterator[Conv]:
    if c.word("layer_type", default="bottleneck") == "bottleneck":
        inner = outputs // 4
        shapes = [(inner, inputs, 1), (inner, inner, 3), (outputs, inner, 1)]
    else:
        shapes = [(outputs, inputs, 3), (outputs, outputs, 3)]
    for i, (out, into, kernel) in enumerate(shapes):
        yield Conv(f"{path}layer.{i}", out, into, kernel)


def strided(c: Config, stage: int) -> bool:
    """Whether a stage halves the resolution."""
    return stage > 0 or c.flag("downsample_in_first_stage")


def convolutions(c: Config, at: str) -> Iterator[Conv]:
    width = c.num("embedding_size")
    yield Conv(f"{at}embedder.embedder", width, c.num("num_channels", default=3), 7)
    widths = sizes(c, "hidden_sizes")
    depths = c.per_layer("depths", count=len(widths))
    for i, (outputs, depth) in enumerate(zip(widths, depths, strict=True)):
        for j in range(depth):
            path = f"{at}encoder.stages.{i}.layers.{j}."
            if j == 0 and (outputs != width or strided(c, i)):
                yield shortcut(path, outputs, width)
            yield from block(c, path, outputs, outputs if j else width)
        width = outputs


def resnet(c: Config, at: str) -> Iterator[Param]:
    for path, outputs, inputs, kernel in convolutions(c, at):
        yield from conv(f"{path}.convolution", (outputs, inputs, kernel, kernel), bias=False)
        yield from layernorm(f"{path}.normalization", outputs)


def statistics(c: Config, at: str) -> Iterator[Buffer]:
    for path, outputs, _, _ in convolutions(c, at):
        yield from batchnorm_buffers(f"{path}.normalization", outputs)


def classifier(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}classifier.1", labels(c), sizes(c, "hidden_sizes")[-1], bias=True)


RESNET = Family(
    body=resnet,
    base="resnet",
    bases={"Backbone": ""},
    cls="ResNetModel",
    heads={"ForImageClassification": classifier, "Backbone": nothing},
    buffers=statistics,
    blocks=(
        "embedder.embedder",
        "encoder.stages.*.layers.*.shortcut",
        "encoder.stages.*.layers.*.layer.*",
    ),
)

TYPES = {
    "resnet": ModelType(RESNET, no_cache="image", encodes="pyramid"),
}
