"""RegNet X and Y: widths of all blocks from one line of four numbers, quantized.

    u_j = w_0 + w_a j;  s_j = round(log(u_j / w_0) / log w_m);  w_j = w_0 w_m^s_j, in multiples
    of 8; blocks of one width are a stage; then each is made a multiple of its group's width

Source: timm 1.0.31 models/regnet.py; the rule: arXiv 2003.13678, section 3.3.
"""

from itertools import groupby
from math import log
from typing import NamedTuple

from weighbridge.arch.timm_nets.layers import Net, classifier, convolved, divisible, pointwise

STEM = 32


class WidthLine(NamedTuple):
    first: int  # w_0
    slope: float  # w_a
    step: float  # w_m
    group: int
    depth: int

    def widths(self) -> list[int]:
        """One for each block."""
        found = []
        for j in range(self.depth):
            exponent = round(log((self.first + self.slope * j) / self.first) / log(self.step))
            found.append(round(self.first * self.step**exponent / 8) * 8)
        return found

    def stages(self, *, wider: bool = False) -> list[tuple[int, int, int]]:
        """(blocks, width, width of a group) of each; torchvision's loses at most a tenth of a
        width where it makes it a multiple, which some are `wider` for."""
        found = []
        for width, run in groupby(self.widths()):
            group = min(self.group, width)
            fitted = divisible(width, group) if wider else round(width / group) * group
            found.append((len(list(run)), fitted, group))
        return found


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


def conv_bn(at: str, outputs: int, inputs: int, kernel: int = 1) -> Net:
    return convolved(f"{at}.conv", f"{at}.bn", outputs, inputs, kernel)


def block(at: str, width: int, group: int, inputs: int, *, excited: bool) -> Net:
    yield from conv_bn(f"{at}conv1", width, inputs)
    yield from conv_bn(f"{at}conv2", width, group, 3)
    if excited:  # to a quarter of what comes in
        squeezed = round(inputs / 4)
        yield from pointwise(f"{at}se.fc1", squeezed, width)
        yield from pointwise(f"{at}se.fc2", width, squeezed)
    yield from conv_bn(f"{at}conv3", width, width)


def regnet(kind: str, size: str, wider: str | None = None, *, classes: int) -> Net:
    yield from conv_bn("stem", STEM, 3, 3)
    inputs = STEM
    stages = LINES[f"{kind}_{size}"].stages(wider=bool(wider))
    for i, (count, width, group) in enumerate(stages, 1):
        for j in range(1, count + 1):
            at = f"s{i}.b{j}."
            yield from block(at, width, group, inputs, excited=kind == "y")
            if j == 1:  # halves the resolution
                yield from conv_bn(f"{at}downsample", width, inputs)
            inputs = width
    yield from classifier("head.fc", classes, inputs)
