"""ConvNeXt as timm writes it: the sizes of the paper, and smaller ones with 1 x 1 convolutions.

Source: timm 1.0.31 models/convnext.py; sizes of tiny to xlarge: arXiv 2201.03545, section 3.
"""

from weighbridge.arch.blueprint import Param, conv, linear
from weighbridge.arch.timm_nets.layers import Net, classifier
from weighbridge.arch.vision import layernorm

# depths of the stages, width of the first, whether its MLPs are convolutions
SIZES = {
    "atto": ((2, 2, 6, 2), 40, True),
    "femto": ((2, 2, 6, 2), 48, True),
    "pico": ((2, 2, 6, 2), 64, True),
    "nano": ((2, 2, 8, 2), 80, True),
    "tiny": ((3, 3, 9, 3), 96, False),
    "small": ((3, 3, 27, 3), 96, False),
    "base": ((3, 3, 27, 3), 128, False),
    "large": ((3, 3, 27, 3), 192, False),
    "xlarge": ((3, 3, 27, 3), 256, False),
}


def pointwise(path: str, outputs: int, inputs: int, *, convolved: bool) -> Net:
    if convolved:
        yield from conv(path, (outputs, inputs, 1, 1))
    else:
        yield from linear(path, outputs, inputs, bias=True)


def block(at: str, width: int, *, convolved: bool) -> Net:
    yield Param(f"{at}gamma", (width,), "other")
    yield from conv(f"{at}conv_dw", (width, 1, 7, 7))
    yield from layernorm(f"{at}norm", width)
    yield from pointwise(f"{at}mlp.fc1", 4 * width, width, convolved=convolved)
    yield from pointwise(f"{at}mlp.fc2", width, 4 * width, convolved=convolved)


def convnext(size: str, *, classes: int) -> Net:
    depths, first, convolved = SIZES[size]
    yield from conv("stem.0", (first, 3, 4, 4))
    yield from layernorm("stem.1", first)
    for i, depth in enumerate(depths):
        width = first << i
        if i:
            yield from layernorm(f"stages.{i}.downsample.0", width // 2)
            yield from conv(f"stages.{i}.downsample.1", (width, width // 2, 2, 2))
        for j in range(depth):
            yield from block(f"stages.{i}.blocks.{j}.", width, convolved=convolved)
    yield from layernorm("head.norm", first << 3)
    yield from classifier("head.fc", classes, first << 3)
