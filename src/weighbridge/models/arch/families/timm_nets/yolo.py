"""YOLOv8 and YOLO11: convolutions with a BatchNorm each, features of three resolutions, a head.

    C2f      1 x 1 to 2 c, n bottlenecks of c after each other, 1 x 1 of all (2 + n) c
    C3k2     the same, whose bottlenecks are half as wide inside, or a C3k each
    C2PSA    attention between pixels of the coarsest, of half its channels
    head     for each resolution: boxes (4 x 16 numbers) and classes, by two convolutions and 1 x 1

Source: ultralytics 8.4 cfg/models/{v8/yolov8,11/yolo11}.yaml, whose headings have the counts;
nn/modules/{conv,block,head}.py, nn/tasks.py (parse_model).
"""

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import Param, conv
from weighbridge.models.arch.families.timm_nets.convolutions import Net, convolved

BINS = 16  # of the distance to a side of a box


class YoloScale(NamedTuple):
    """Factors of depth and width, and the most channels before the width's."""

    depth: float
    width: float
    most: int

    def channels(self, count: int) -> int:
        return -(-int(min(count, self.most) * self.width) // 8) * 8

    def repeats(self, count: int) -> int:
        return max(round(count * self.depth), 1)


SCALES = {
    "v8": {
        "n": YoloScale(0.33, 0.25, 1024),
        "s": YoloScale(0.33, 0.50, 1024),
        "m": YoloScale(0.67, 0.75, 768),
        "l": YoloScale(1.00, 1.00, 512),
        "x": YoloScale(1.00, 1.25, 512),
    },
    "11": {
        "n": YoloScale(0.50, 0.25, 1024),
        "s": YoloScale(0.50, 0.50, 1024),
        "m": YoloScale(0.50, 1.00, 512),
        "l": YoloScale(1.00, 1.00, 512),
        "x": YoloScale(1.00, 1.50, 512),
    },
}
DEEP = ("m", "l", "x")  # scales of YOLO11 whose C3k2 have a C3k everywhere


def unit(prefix: str, outputs: int, inputs: int, kernel: int = 1, groups: int = 1) -> Net:
    yield from convolved(f"{prefix}conv", f"{prefix}bn", outputs, inputs // groups, kernel)


def bottleneck(prefix: str, width: int, inner: int) -> Net:
    yield from unit(f"{prefix}cv1.", inner, width, 3)
    yield from unit(f"{prefix}cv2.", width, inner, 3)


def c3k(prefix: str, width: int) -> Net:
    inner = width // 2
    yield from unit(f"{prefix}cv1.", inner, width)
    yield from unit(f"{prefix}cv2.", inner, width)
    yield from unit(f"{prefix}cv3.", width, 2 * inner)
    for number in range(2):
        yield from bottleneck(f"{prefix}m.{number}.", inner, inner)


def c2f(prefix: str, outputs: int, inputs: int, count: int) -> Net:
    width = outputs // 2
    yield from unit(f"{prefix}cv1.", 2 * width, inputs)
    yield from unit(f"{prefix}cv2.", outputs, (2 + count) * width)
    for number in range(count):
        yield from bottleneck(f"{prefix}m.{number}.", width, width)


def c3k2(prefix: str, outputs: int, inputs: int, count: int, *, deep: bool, narrow: bool) -> Net:
    width = outputs // (4 if narrow else 2)
    yield from unit(f"{prefix}cv1.", 2 * width, inputs)
    yield from unit(f"{prefix}cv2.", outputs, (2 + count) * width)
    for number in range(count):
        inside = f"{prefix}m.{number}."
        yield from c3k(inside, width) if deep else bottleneck(inside, width, width // 2)


def pyramid_pooling(prefix: str, width: int) -> Net:
    yield from unit(f"{prefix}cv1.", width // 2, width)
    yield from unit(f"{prefix}cv2.", width, 2 * width)


def c2psa(prefix: str, width: int, count: int) -> Net:
    inner = width // 2
    yield from unit(f"{prefix}cv1.", 2 * inner, width)
    yield from unit(f"{prefix}cv2.", width, 2 * inner)
    for number in range(count):
        block = f"{prefix}m.{number}."
        yield from unit(f"{block}attn.qkv.", 2 * inner, inner)
        yield from unit(f"{block}attn.proj.", inner, inner)
        yield from unit(f"{block}attn.pe.", inner, inner, 3, inner)
        yield from unit(f"{block}ffn.0.", 2 * inner, inner)
        yield from unit(f"{block}ffn.1.", inner, 2 * inner)


def detect(prefix: str, widths: tuple[int, ...], classes: int, *, separable: bool) -> Net:
    boxes = max(16, widths[0] // 4, 4 * BINS)
    kinds = max(widths[0], min(classes, 100))
    for number, width in enumerate(widths):
        path = f"{prefix}cv2.{number}."
        yield from unit(f"{path}0.", boxes, width, 3)
        yield from unit(f"{path}1.", boxes, boxes, 3)
        yield from conv(f"{path}2", (4 * BINS, boxes, 1, 1))
    for number, width in enumerate(widths):
        path = f"{prefix}cv3.{number}."
        for step, inputs in enumerate((width, kinds)):
            if separable:
                yield from unit(f"{path}{step}.0.", inputs, inputs, 3, inputs)
                yield from unit(f"{path}{step}.1.", kinds, inputs)
            else:
                yield from unit(f"{path}{step}.", kinds, inputs, 3)
        yield from conv(f"{path}2", (classes, kinds, 1, 1))
    yield Param(f"{prefix}dfl.conv.weight", (1, BINS, 1, 1), "other")


def yolo(version: str, size: str, *, classes: int) -> Net:
    """`classes`: 80 of COCO where nobody says."""
    scale, eleven = SCALES[version][size], version == "11"
    one, two, four, eight, last = (scale.channels(64 << i) for i in range(5))
    three, six = (2, 2) if eleven else (3, 6)

    def block(number: int, outputs: int, inputs: int, *, count: int, kind: str = "") -> Net:
        path, count = f"model.{number}.", scale.repeats(count)
        if not eleven:
            return c2f(path, outputs, inputs, count)
        deep, narrow = kind == "deep" or size in DEEP, kind == "narrow"
        return c3k2(path, outputs, inputs, count, deep=deep, narrow=narrow)

    yield from unit("model.0.", one, 3, 3)
    yield from unit("model.1.", two, one, 3)
    second, third = (four, eight) if eleven else (two, four)
    yield from block(2, second, two, count=three, kind="narrow")
    yield from unit("model.3.", four, second, 3)
    yield from block(4, third, four, count=six, kind="narrow")
    yield from unit("model.5.", eight, third, 3)
    yield from block(6, eight, eight, count=six, kind="deep")
    yield from unit("model.7.", last, eight, 3)
    yield from block(8, last, last, count=three, kind="deep")
    yield from pyramid_pooling("model.9.", last)
    if eleven:
        yield from c2psa("model.10.", last, scale.repeats(2))
    first = 13 if eleven else 12
    yield from block(first, eight, last + eight, count=three)
    yield from block(first + 3, four, eight + third, count=three)
    yield from unit(f"model.{first + 4}.", four, four, 3)
    yield from block(first + 6, eight, four + eight, count=three)
    yield from unit(f"model.{first + 7}.", eight, eight, 3)
    yield from block(first + 9, last, eight + last, count=three, kind="deep")
    yield from detect(f"model.{first + 10}.", (four, eight, last), classes or 80, separable=eleven)
