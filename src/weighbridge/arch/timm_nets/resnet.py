"""ResNet, ResNeXt and Wide ResNet.

    basic: two 3 x 3 of W; bottleneck: 1 x 1 to w, 3 x 3 in g groups, 1 x 1 to 4 W,
    w = W b / 64 times g; a 1 x 1 shortcut where the width or the resolution changes

Source: timm 1.0.31 models/resnet.py; torchvision 0.28 models/resnet.py has the same modules.
"""

from typing import NamedTuple

from weighbridge.arch.timm_nets.layers import Net, classifier, convolved

DEPTHS = {
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


def block(at: str, shape: ResnetShape, width: int, inputs: int) -> Net:
    if not shape.bottleneck:
        yield from convolved(f"{at}conv1", f"{at}bn1", width, inputs, 3)
        yield from convolved(f"{at}conv2", f"{at}bn2", width, width, 3)
        return
    inner = shape.inner(width)
    yield from convolved(f"{at}conv1", f"{at}bn1", inner, inputs)
    yield from convolved(f"{at}conv2", f"{at}bn2", inner, inner // shape.groups, 3)
    yield from convolved(f"{at}conv3", f"{at}bn3", 4 * width, inner)


def stages(depths: tuple[int, ...], shape: ResnetShape) -> Net:
    inputs = 64
    for i, depth in enumerate(depths):
        width = 64 << i
        outputs = 4 * width if shape.bottleneck else width
        for j in range(depth):
            at = f"layer{i + 1}.{j}."
            yield from block(at, shape, width, inputs)
            if j == 0 and (i or inputs != outputs):
                yield from convolved(f"{at}downsample.0", f"{at}downsample.1", outputs, inputs)
            inputs = outputs


def network(depth: int, shape: ResnetShape, classes: int) -> Net:
    yield from convolved("conv1", "bn1", 64, 3, 7)
    yield from stages(DEPTHS[depth], shape)
    yield from classifier("fc", classes, 2048 if shape.bottleneck else 512)


def resnet(depth: str, *, classes: int) -> Net:
    return network(int(depth), ResnetShape(int(depth) >= 50), classes)


def resnext(depth: str, groups: str, width: str, *, classes: int) -> Net:
    return network(int(depth), ResnetShape(True, int(groups), int(width)), classes)


def wide(depth: str, *, classes: int) -> Net:
    return network(int(depth), ResnetShape(True, base=128), classes)
