"""Convolutional networks as timm writes them, and what they are made of.

What timm's networks are made of: convolutions, each with a BatchNorm behind it, and LayerNorms.

A network is told as one run of parameters and buffers, in the order of its modules.

VGG: 3 x 3 convolutions with bias in five stages, and two wide layers of 4,096.

timm writes the wide layers as convolutions: 7 x 7 over the last stage, and 1 x 1. Numbers of
modules count activations and poolings too.

Source: timm 1.0.31 models/vgg.py; sizes: arXiv 1409.1556, table 1 (A, B, D, E).

DenseNet: every layer adds G features to all that came before.

    layer: norm, 1 x 1 to 4 G, norm, 3 x 3 to G; between blocks: norm, 1 x 1 to half

Source: timm 1.0.31 models/densenet.py; sizes: arXiv 1608.06993, table 1.

ResNet, ResNeXt and Wide ResNet.

    basic: two 3 x 3 of W; bottleneck: 1 x 1 to w, 3 x 3 in g groups, 1 x 1 to 4 W,
    w = W b / 64 times g; a 1 x 1 shortcut where the width or the resolution changes

Source: timm 1.0.31 models/resnet.py; torchvision 0.28 models/resnet.py has the same modules.

RegNet X and Y: widths of all blocks from one line of four numbers, quantized.

    u_j = w_0 + w_a j;  s_j = round(log(u_j / w_0) / log w_m);  w_j = w_0 w_m^s_j, in multiples
    of 8; blocks of one width are a stage; then each is made a multiple of its group's width

Source: timm 1.0.31 models/regnet.py; the rule: arXiv 2003.13678, section 3.3.

ConvNeXt as timm writes it: the sizes of the paper, and smaller ones with 1 x 1 convolutions.

Source: timm 1.0.31 models/convnext.py; sizes of tiny to xlarge: arXiv 2201.03545, section 3.
"""

from collections.abc import Iterator
from itertools import groupby
from math import log

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import Buffer, Param, conv, linear
from weighbridge.models.arch.vision import batchnorm_buffers, layernorm

Net = Iterator[Param | Buffer]


def batchnorm(path: str, width: int) -> Net:
    yield from layernorm(path, width)
    yield from batchnorm_buffers(path, width)


def convolved(path: str, bn: str, outputs: int, inputs: int, kernel: int = 1) -> Net:
    """A square convolution without bias and its BatchNorm; `inputs` are those of one group."""
    yield from conv(path, (outputs, inputs, kernel, kernel), bias=False)
    yield from batchnorm(bn, outputs)


def pointwise(path: str, outputs: int, inputs: int) -> Net:
    """A 1 x 1 convolution with bias, as squeeze-and-excite has two."""
    yield from conv(path, (outputs, inputs, 1, 1))


def classifier(path: str, classes: int, width: int) -> Net:
    """The last Linear, which a model without classes does not have."""
    if classes:
        yield from linear(path, classes, width, bias=True)


def divisible(width: float, by: int = 8, limit: float = 0.9) -> int:
    """The multiple of `by` that is nearest to `width`, and no less than `limit` of it.

    Source: timm 1.0.31 layers/helpers.py, make_divisible.
    """
    near = max(by, int(width + by / 2) // by * by)
    return near + by if near < limit * width else near


WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {
    "11": (1, 1, 2, 2, 2),
    "13": (2, 2, 2, 2, 2),
    "16": (2, 2, 3, 3, 3),
    "19": (2, 2, 4, 4, 4),
}


def features(depths: tuple[int, ...], *, norms: bool) -> Net:
    number, inputs = 0, 3
    for width, depth in zip(WIDTHS, depths, strict=True):
        for _ in range(depth):
            yield from conv(f"features.{number}", (width, inputs, 3, 3))
            if norms:
                yield from batchnorm(f"features.{number + 1}", width)
            number, inputs = number + (3 if norms else 2), width
        number += 1  # the pooling


def vgg(size: str, norms: str | None = None, *, classes: int) -> Net:
    yield from features(DEPTHS[size], norms=bool(norms))
    yield from conv("pre_logits.fc1", (4096, WIDTHS[-1], 7, 7))
    yield from conv("pre_logits.fc2", (4096, 4096, 1, 1))
    yield from classifier("head.fc", classes, 4096)


SIZES = {  # layers of the blocks, G
    "121": ((6, 12, 24, 16), 32),
    "161": ((6, 12, 36, 24), 48),
    "169": ((6, 12, 32, 32), 32),
    "201": ((6, 12, 48, 32), 32),
}


def layer(prefix: str, inputs: int, growth: int) -> Net:
    yield from batchnorm(f"{prefix}norm1", inputs)
    yield from convolved(f"{prefix}conv1", f"{prefix}norm2", 4 * growth, inputs)
    yield from conv(f"{prefix}conv2", (growth, 4 * growth, 3, 3), bias=False)


def transition(prefix: str, inputs: int) -> Net:
    yield from batchnorm(f"{prefix}norm", inputs)
    yield from conv(f"{prefix}conv", (inputs // 2, inputs, 1, 1), bias=False)


def densenet(size: str, *, classes: int) -> Net:
    layers, growth = SIZES[size]
    width = 2 * growth
    yield from convolved("features.conv0", "features.norm0", width, 3, 7)
    for i, count in enumerate(layers, 1):
        for j in range(1, count + 1):
            yield from layer(f"features.denseblock{i}.denselayer{j}.", width, growth)
            width += growth
        if i < len(layers):
            yield from transition(f"features.transition{i}.", width)
            width //= 2
    yield from batchnorm("features.norm5", width)
    yield from classifier("classifier", classes, width)


RESNET_DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class ResnetShape(NamedTuple):
    bottleneck: bool
    groups: int = 1
    base: int = 64  # width of a group where W is 64

    def inner(self, width: int) -> int:
        return width * self.base // 64 * self.groups


def block(prefix: str, shape: ResnetShape, width: int, inputs: int) -> Net:
    if not shape.bottleneck:
        yield from convolved(f"{prefix}conv1", f"{prefix}bn1", width, inputs, 3)
        yield from convolved(f"{prefix}conv2", f"{prefix}bn2", width, width, 3)
        return
    inner = shape.inner(width)
    yield from convolved(f"{prefix}conv1", f"{prefix}bn1", inner, inputs)
    yield from convolved(f"{prefix}conv2", f"{prefix}bn2", inner, inner // shape.groups, 3)
    yield from convolved(f"{prefix}conv3", f"{prefix}bn3", 4 * width, inner)


def stages(depths: tuple[int, ...], shape: ResnetShape) -> Net:
    inputs = 64
    for i, depth in enumerate(depths):
        width = 64 << i
        outputs = 4 * width if shape.bottleneck else width
        for j in range(depth):
            prefix = f"layer{i + 1}.{j}."
            yield from block(prefix, shape, width, inputs)
            if j == 0 and (i or inputs != outputs):
                yield from convolved(
                    f"{prefix}downsample.0", f"{prefix}downsample.1", outputs, inputs
                )
            inputs = outputs


def network(depth: int, shape: ResnetShape, classes: int) -> Net:
    yield from convolved("conv1", "bn1", 64, 3, 7)
    yield from stages(RESNET_DEPTHS[depth], shape)
    yield from classifier("fc", classes, 2048 if shape.bottleneck else 512)


def resnet(depth: str, *, classes: int) -> Net:
    return network(int(depth), ResnetShape(int(depth) >= 50), classes)


def resnext(depth: str, groups: str, width: str, *, classes: int) -> Net:
    return network(int(depth), ResnetShape(True, int(groups), int(width)), classes)


def wide(depth: str, *, classes: int) -> Net:
    return network(int(depth), ResnetShape(True, base=128), classes)


STEM = 32


class WidthLine(NamedTuple):
    first: int  # w_0
    slope: float  # w_a
    step: float  # w_m
    group: int
    depth: int

    def widths(self) -> list[int]:
        """One for each block."""
        stages = []
        for j in range(self.depth):
            exponent = round(log((self.first + self.slope * j) / self.first) / log(self.step))
            stages.append(round(self.first * self.step**exponent / 8) * 8)
        return stages

    def stages(self, *, wider: bool = False) -> list[tuple[int, int, int]]:
        """(blocks, width, width of a group) of each; torchvision's loses at most a tenth of a
        width where it makes it a multiple, which some are `wider` for."""
        blocks = []
        for width, run in groupby(self.widths()):
            group = min(self.group, width)
            fitted = divisible(width, group) if wider else round(width / group) * group
            blocks.append((len(list(run)), fitted, group))
        return blocks


LINES = {
    "x_002": WidthLine(24, 36.44, 2.49, 8, 13),
    "x_004": WidthLine(24, 24.48, 2.54, 16, 22),
    "x_006": WidthLine(48, 36.97, 2.24, 24, 16),
    "x_008": WidthLine(56, 35.73, 2.28, 16, 16),
    "x_016": WidthLine(80, 34.01, 2.25, 24, 18),
    "x_032": WidthLine(88, 26.31, 2.25, 48, 25),
    "x_040": WidthLine(96, 38.65, 2.43, 40, 23),
    "x_064": WidthLine(184, 60.83, 2.07, 56, 17),
    "x_080": WidthLine(80, 49.56, 2.88, 120, 23),
    "x_120": WidthLine(168, 73.36, 2.37, 112, 19),
    "x_160": WidthLine(216, 55.59, 2.1, 128, 22),
    "x_320": WidthLine(320, 69.86, 2.0, 168, 23),
    "y_002": WidthLine(24, 36.44, 2.49, 8, 13),
    "y_004": WidthLine(48, 27.89, 2.09, 8, 16),
    "y_006": WidthLine(48, 32.54, 2.32, 16, 15),
    "y_008": WidthLine(56, 38.84, 2.4, 16, 14),
    "y_016": WidthLine(48, 20.71, 2.65, 24, 27),
    "y_032": WidthLine(80, 42.63, 2.66, 24, 21),
    "y_040": WidthLine(96, 31.41, 2.24, 64, 22),
    "y_064": WidthLine(112, 33.22, 2.27, 72, 25),
    "y_080": WidthLine(192, 76.82, 2.19, 56, 17),
    "y_120": WidthLine(168, 73.36, 2.37, 112, 19),
    "y_160": WidthLine(200, 106.23, 2.48, 112, 18),
    "y_320": WidthLine(232, 115.89, 2.53, 232, 20),
}


def conv_bn(prefix: str, outputs: int, inputs: int, kernel: int = 1) -> Net:
    return convolved(f"{prefix}.conv", f"{prefix}.bn", outputs, inputs, kernel)


def regnet_block(prefix: str, width: int, group: int, inputs: int, *, excited: bool) -> Net:
    yield from conv_bn(f"{prefix}conv1", width, inputs)
    yield from conv_bn(f"{prefix}conv2", width, group, 3)
    if excited:  # to a quarter of what comes in
        squeezed = round(inputs / 4)
        yield from pointwise(f"{prefix}se.fc1", squeezed, width)
        yield from pointwise(f"{prefix}se.fc2", width, squeezed)
    yield from conv_bn(f"{prefix}conv3", width, width)


def regnet(kind: str, size: str, wider: str | None = None, *, classes: int) -> Net:
    yield from conv_bn("stem", STEM, 3, 3)
    inputs = STEM
    stages = LINES[f"{kind}_{size}"].stages(wider=bool(wider))
    for i, (count, width, group) in enumerate(stages, 1):
        for j in range(1, count + 1):
            prefix = f"s{i}.b{j}."
            yield from regnet_block(prefix, width, group, inputs, excited=kind == "y")
            if j == 1:  # halves the resolution
                yield from conv_bn(f"{prefix}downsample", width, inputs)
            inputs = width
    yield from classifier("head.fc", classes, inputs)


# depths of the stages, width of the first, whether its MLPs are convolutions
CONVNEXT_SIZES = {
    "atto": ((2, 2, 6, 2), 40, True),
    "femto": ((2, 2, 6, 2), 48, True),
    "pico": ((2, 2, 6, 2), 64, True),
    "nano": ((2, 2, 8, 2), 80, True),
    "tiny": ((3, 3, 9, 3), 96, False),
    "small": ((3, 3, 27, 3), 96, False),
    "base": ((3, 3, 27, 3), 128, False),
    "large": ((3, 3, 27, 3), 192, False),
    "xlarge": ((3, 3, 27, 3), 256, False),
    "huge": ((3, 3, 27, 3), 352, False),
}


def convnext_pointwise(path: str, outputs: int, inputs: int, *, convolved: bool) -> Net:
    if convolved:
        yield from conv(path, (outputs, inputs, 1, 1))
    else:
        yield from linear(path, outputs, inputs, bias=True)


def convnext_block(prefix: str, width: int, *, convolved: bool, responses: bool) -> Net:
    """The second version norms inner responses in place of a scale."""
    if not responses:
        yield Param(f"{prefix}gamma", (width,), "other")
    yield from conv(f"{prefix}conv_dw", (width, 1, 7, 7))
    yield from layernorm(f"{prefix}norm", width)
    yield from convnext_pointwise(f"{prefix}mlp.fc1", 4 * width, width, convolved=convolved)
    if responses:
        yield from layernorm(f"{prefix}mlp.grn", 4 * width)
    yield from convnext_pointwise(f"{prefix}mlp.fc2", width, 4 * width, convolved=convolved)


def convnext(second: str | None, size: str, *, classes: int) -> Net:
    depths, first, convolved = CONVNEXT_SIZES[size]
    yield from conv("stem.0", (first, 3, 4, 4))
    yield from layernorm("stem.1", first)
    for i, depth in enumerate(depths):
        width = first << i
        if i:
            yield from layernorm(f"stages.{i}.downsample.0", width // 2)
            yield from conv(f"stages.{i}.downsample.1", (width, width // 2, 2, 2))
        for j in range(depth):
            prefix, responses = f"stages.{i}.blocks.{j}.", bool(second)
            yield from convnext_block(prefix, width, convolved=convolved, responses=responses)
    yield from layernorm("head.norm", first << 3)
    yield from classifier("head.fc", classes, first << 3)
