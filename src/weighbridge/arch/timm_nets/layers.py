"""What timm's networks are made of: convolutions, each with a BatchNorm behind it, and LayerNorms.

A network is told as one run of parameters and buffers, in the order of its modules.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Param, conv, linear
from weighbridge.arch.vision import batchnorm_buffers, layernorm

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


def divisible(width: float, by: int = 8) -> int:
    """The multiple of `by` that is nearest to `width`, and no less than 0.9 of it.

    Source: timm 1.0.31 layers/helpers.py, make_divisible.
    """
    near = max(by, int(width + by / 2) // by * by)
    return near + by if near < 0.9 * width else near
