"""DenseNet: every layer adds G features to all that came before.

    layer: norm, 1 x 1 to 4 G, norm, 3 x 3 to G; between blocks: norm, 1 x 1 to half

Source: timm 1.0.31 models/densenet.py; sizes: arXiv 1608.06993, table 1.
"""

from weighbridge.arch.blueprint import conv
from weighbridge.arch.timm_nets.layers import Net, batchnorm, classifier, convolved

SIZES = {  # layers of the blocks, G
    "121": ((6, 12, 24, 16), 32),
    "161": ((6, 12, 36, 24), 48),
    "169": ((6, 12, 32, 32), 32),
    "201": ((6, 12, 48, 32), 32),
}


def layer(at: str, inputs: int, growth: int) -> Net:
    yield from batchnorm(f"{at}norm1", inputs)
    yield from convolved(f"{at}conv1", f"{at}norm2", 4 * growth, inputs)
    yield from conv(f"{at}conv2", (growth, 4 * growth, 3, 3), bias=False)


def transition(at: str, inputs: int) -> Net:
    yield from batchnorm(f"{at}norm", inputs)
    yield from conv(f"{at}conv", (inputs // 2, inputs, 1, 1), bias=False)


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
