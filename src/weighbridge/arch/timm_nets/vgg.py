"""VGG: 3 x 3 convolutions with bias in five stages, and two wide layers of 4,096.

timm writes the wide layers as convolutions: 7 x 7 over the last stage, and 1 x 1. Numbers of
modules count activations and poolings too.

Source: timm 1.0.31 models/vgg.py; sizes: arXiv 1409.1556, table 1 (A, B, D, E).
"""

from weighbridge.arch.blueprint import conv
from weighbridge.arch.timm_nets.layers import Net, batchnorm, classifier

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {
    "11": (1, 1, 2, 2, 2),
    "13": (2, 2, 2, 2, 2),
    "16": (2, 2, 3, 3, 3),
    "19": (2, 2, 4, 4, 4),
}


def features(depths: tuple[int, ...], *, norms: bool) -> Net:
    at, inputs = 0, 3
    for width, depth in zip(WIDTHS, depths, strict=True):
        for _ in range(depth):
            yield from conv(f"features.{at}", (width, inputs, 3, 3))
            if norms:
                yield from batchnorm(f"features.{at + 1}", width)
            at, inputs = at + (3 if norms else 2), width
        at += 1  # the pooling


def vgg(size: str, norms: str | None = None, *, classes: int) -> Net:
    yield from features(DEPTHS[size], norms=bool(norms))
    yield from conv("pre_logits.fc1", (4096, WIDTHS[-1], 7, 7))
    yield from conv("pre_logits.fc2", (4096, 4096, 1, 1))
    yield from classifier("head.fc", classes, 4096)
