"""YOLOv5u, v8, v9, v10, 11 and 12 as ultralytics runs them: boxes, masks, key points, rotated
boxes.

A version is a line of yolo.txt: scales (depth, width, most channels), the modules down to the
coarsest features, and those of the way back, which joins features of two modules. For inference
norms are folded into their convolutions; in training they are separate. Features that later modules
read live to the end. Boxes above the threshold, and non-maximum suppression, are not included.

Source: ultralytics 8.4 cfg/models/{v5,v8,v9,v10,11,12}/*.yaml, whose headings have the counts;
nn/tasks.py (parse_model, _predict_once, fuse), nn/modules/{conv,block,head}.py.
"""

import re
from collections.abc import Callable
from functools import cache, partial

from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.convnets import halved
from weighbridge.pictures.nets.detr import shown
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.trees import doubled
from weighbridge.pictures.values import Sizes, Value, cat
from weighbridge.training.forward.machine import remade
from weighbridge.training.forward.ops import shaping

BOX, BINS = 4, 16  # sides of a box, and bins of the distance to each
COCO = 80  # classes
POINTS = 17 * 3  # per person: coordinates, and visibility
MASKS, PROTOTYPES = 32, 256
DEEP, RESIDUAL = (
    ("m", "l", "x"),
    ("l", "x"),
)  # scales whose C3k2 have a C3k everywhere, whose Area adds its input
LEGACY = "v5", "v8", "v9"  # whose classes have two plain convolutions
NAME = re.compile(r"yolo(v5|v8|v9|v10|11|12)([ntsmbclx])u?(?:-(?:seg|pose|obb))?")


class YoloScale(NamedTuple):
    """Factors of depth and width, and the most channels before the width factor."""

    letter: str
    depth: float
    width: float
    most: int

    def channels(self, count: int) -> int:
        return -(-int(min(count, self.most) * self.width) // 8) * 8

    def repeats(self, count: int) -> int:
        return max(round(count * self.depth), 1)


class YoloModule(NamedTuple):
    """A word of a plan: a module's kind, its output channels, and its other arguments."""

    kind: str
    out: int
    more: tuple[int, ...]


Plan = tuple[YoloScale, tuple[YoloModule, ...], tuple[YoloModule, ...]]


@cache
def plans() -> dict[tuple[str, str], Plan]:
    """Return the plans by version and the letter of their scale."""
    table = {}
    for line in lines_beside(__file__, "yolo.txt"):
        head, down, back = (part.split(";") for part in line.split("|"))
        version, *scales = head[0].split()
        words = [[word.split() for word in part] for part in (down, back)]
        modules = [tuple(YoloModule(k, int(o), (*map(int, m),)) for k, o, *m in w) for w in words]
        for one in scales:
            letter, _, numbers = one.partition(":")
            depth, width, most = map(float, numbers.split(","))
            scale = YoloScale(letter, depth, width, int(most))
            table[version, letter] = scale, modules[0], modules[1]
    return table


# ---- parts of modules


def unit(  # noqa: PLR0913  as the class has them
    n: NetPlace,
    x: Value,
    out: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    plain: bool = False,
) -> Value:
    """Conv"""
    y = n.conv("conv", x, out, kernel, stride, (kernel - 1) // 2, bias=False, groups=groups)
    if n.run.m.training:
        y = n.batch_norm("bn", y)
    else:
        n.batch_norm("bn", n.run.constant(1, out, 0, 0))
    return y if plain else y.act()


def declared(call: Callable[[Value], Value], x: Value) -> None:
    """Declare the parameters of a part that is folded away for inference."""
    batch, width = x.shape[:2]
    call(x.run.constant(batch, width, 1, 1))


def bottleneck(
    n: NetPlace, x: Value, *, first: int = 3, inner: int = 0, adds: bool = True
) -> Value:
    """Return two convolutions, with a kernel of `first` and of 3, plus the input if `adds`."""
    width = x.shape[1]
    y = unit(n / "cv2", unit(n / "cv1", x, inner or width, first), width, 3)
    return x + y if adds else y


def repeated(n: NetPlace, x: Value) -> Value:
    """RepBottleneck: two parallel convolutions, folded into one for inference."""
    width, first = x.shape[1], n / "cv1"
    y = unit(first / "conv1", x, width, 3, plain=True)
    if n.run.m.training:
        y = y + unit(first / "conv2", x, width, plain=True)
        y = y + 0.0
    else:
        declared(lambda x: unit(first / "conv2", x, width, plain=True), x)
    return x + unit(n / "cv2", y.act(), width, 3)


def csp(n: NetPlace, x: Value, out: int, blocks: list[Callable[[NetPlace, Value], Value]]) -> Value:
    """Return C3 or a relative of it, of `x`: only some channels pass through `blocks`."""
    inner = out // 2
    y = unit(n / "cv1", x, inner)
    for number, call in enumerate(blocks):
        y = call(n / "m" / number, y)
    return unit(n / "cv3", cat([y, unit(n / "cv2", x, inner)]), out)


def c3k(n: NetPlace, x: Value) -> Value:
    return csp(n, x, x.shape[1], [bottleneck, bottleneck])


def c2f(
    n: NetPlace,
    x: Value,
    out: int,
    count: int,
    call: Callable[[NetPlace, Value], Value],
    part: int = 2,
) -> Value:
    """Return C2f, C3k2 or C2fCIB of `x`: the outputs of all blocks are concatenated."""
    width = out // part
    y = unit(n / "cv1", x, 2 * width).chunk(2, 1)
    for number in range(count):
        y.append(call(n / "m" / number, y[-1]))
    return unit(n / "cv2", cat(y), out)


def compact(n: NetPlace, x: Value, *, wide: bool) -> Value:
    """Return CIB of `x`: depthwise and 1 x 1 in turn; `wide`: a 7 x 7 parallel to a 3 x 3."""
    width, m = x.shape[1], n / "cv1"
    y = unit(m / 0, x, width, 3, groups=width)
    y = unit(m / 1, y, 2 * width)
    double = 2 * width
    y = large_kernel(m / 2, y) if wide else unit(m / 2, y, double, 3, groups=double)
    y = unit(m / 3, y, width)
    return x + unit(m / 4, y, width, 3, groups=width)


def large_kernel(n: NetPlace, x: Value) -> Value:
    """Return RepVGGDW of `x`; inference folds its two kernels into one."""
    width = x.shape[1]
    y = unit(n / "conv", x, width, 7, groups=width, plain=True)
    if n.run.m.training:
        y = y + unit(n / "conv1", x, width, 3, groups=width, plain=True)
    else:
        declared(lambda x: unit(n / "conv1", x, width, 3, groups=width, plain=True), x)
    return y.act()


def elan(n: NetPlace, x: Value, out: int, middle: int, inner: int, count: int = 0) -> Value:
    """Return RepNCSPELAN4 of `x`, or ELAN1 if `count` is 0."""
    y = unit(n / "cv1", x, middle).chunk(2, 1)
    for name in ("cv2", "cv3"):
        one = n / name
        if count:
            z = csp_of(one / 0, y[-1], inner, count)
            y.append(unit(one / 1, z, inner, 3))
        else:
            y.append(unit(one, y[-1], inner, 3))
    return unit(n / "cv4", cat(y), out)


def csp_of(n: NetPlace, x: Value, out: int, count: int) -> Value:
    return csp(n, x, out, [repeated] * count)


def pooled(x: Value) -> Value:
    """Return a max pooling that keeps the size."""
    return Value(x.run, shaping.max_pooled(x.run.m, x.tensor, *x.shape[2:]))


def pyramid_pooling(n: NetPlace, x: Value, out: int, inner: int, last: str) -> Value:
    """Return SPPF or SPPELAN of `x`: three max poolings in a row."""
    y = [unit(n / "cv1", x, inner)]
    for _ in range(3):
        y.append(pooled(y[-1]))
    return unit(n / last, cat(y), out)


def averaged(x: Value) -> Value:
    """Return a 2 x 2 average pooling with stride 1; the input is saved."""
    m, (batch, width, height, breadth) = x.run.m, x.shape
    out = m.new((batch, width, height - 1, breadth - 1), x.dtype)
    return Value(x.run, remade(m, x.tensor, out, x.tensor))


def a_down(n: NetPlace, x: Value, out: int) -> Value:
    """Return ADown of `x`: half of the channels pass a strided convolution, half a max pooling."""
    first, second = averaged(x).chunk(2, 1)
    first = unit(n / "cv1", first, out // 2, 3, 2)
    second = halved(second)
    second = unit(n / "cv2", second, out // 2)
    return cat([first, second])


# ---- attention


def softmaxed(x: Value) -> Value:
    """Return a softmax, which autocast computes in float32."""
    return (x if x.run.m.autocast is None else x.float()).softmax()


def psa_block(n: NetPlace, x: Value) -> Value:
    width = x.shape[1]
    y = x + attention(n / "attn", x)
    ffn = n / "ffn"
    return y + unit(ffn / 1, unit(ffn / 0, y, 2 * width), width, plain=True)


def attention(n: NetPlace, x: Value) -> Value:
    """Return attention of all pixels, with keys half as wide as values."""
    batch, width, height, breadth = x.shape
    heads, places = max(width // 64, 1), height * breadth
    head = width // heads
    qkv = unit(n / "qkv", x, 2 * width, plain=True).view(batch, heads, 2 * head, places)
    q, k, v = qkv.split(head // 2, head // 2, head, dim=2)
    q = q * 1.0
    scores = q.view(batch, heads, places, head // 2).matmul(k, places)
    scores = softmaxed(scores)
    y = v.matmul(scores, places).view(*x.shape)
    y = y + unit(n / "pe", v.copy(*x.shape), width, 3, groups=width, plain=True)
    return unit(n / "proj", y, width, plain=True)


def psa(n: NetPlace, x: Value, out: int, count: int) -> Value:
    """Return C2PSA of `x` with `count` blocks, or PSA, which is one block itself."""
    a, b = unit(n / "cv1", x, out).chunk(2, 1)
    if not count:
        b = psa_block(n, b)
    for number in range(count):
        b = psa_block(n / "m" / number, b)
    return unit(n / "cv2", cat([a, b]), out)


def area_attention(n: NetPlace, x: Value, area: int) -> Value:
    """AAttn: places attend to those in their part of the picture, with heads of 32."""
    batch, width, height, breadth = x.shape
    heads, places = width // 32, height * breadth // area
    qkv = unit(n / "qkv", x, 3 * width, plain=True)
    rows = qkv.view(batch, height * breadth, 3 * width)
    rows = rows.copy() if area > 1 and batch > 1 else rows
    q, k, v = rows.view(batch * area, heads, 96, places).split(32, 32, 32, dim=2)
    q = q * 1.0
    scores = q.copy().view(batch * area, heads, places, 32).matmul(k.copy(), places)
    del q
    scores = softmaxed(scores)
    y = v.copy().matmul(scores, places)
    y, v = y.copy(*x.shape), v.copy(*x.shape)
    y = y + unit(n / "pe", v, width, 7, groups=width, plain=True)
    return unit(n / "proj", y, width, plain=True)


def area_block(n: NetPlace, x: Value, area: int, ratio: float) -> Value:
    """ABlock"""
    width, m = x.shape[1], n / "mlp"
    x = x + area_attention(n / "attn", x, area)
    return x + unit(m / 1, unit(m / 0, x, int(width * ratio)), width, plain=True)


def area(n: NetPlace, x: Value, out: int, count: int, parts: int, *, residual: bool) -> Value:
    """A2C2f: blocks that attend within `parts` of a picture, or a C3k each if `parts` is 0."""
    width = out // 2
    y = [unit(n / "cv1", x, width)]
    for number in range(count):
        place, z = n / "m" / number, y[-1]
        if not parts:
            z = c3k(place, z)
        for inner in range(2 if parts else 0):
            z = area_block(place / inner, z, parts, 1.2 if residual else 2.0)
        y.append(z)
    outputs = unit(n / "cv2", cat(y), out)
    if not (parts and residual):
        return outputs
    gamma = n.value("gamma", out).reshaped(out, 1, 1)
    return x + gamma * outputs


# ---- the network


class ToldModule(NamedTuple):
    """A module's arguments: output channels, number of blocks, and the rest of its word."""

    out: int
    blocks: int
    more: tuple[int, ...]
    scale: YoloScale


Module = Callable[[NetPlace, Value, ToldModule], Value]


def stepping(kernel: int, stride: int = 2) -> Module:
    return lambda n, x, words: unit(n, x, words.out, kernel, stride)


def c3(*, adds: bool) -> Module:
    call = partial(bottleneck, first=1, adds=adds)
    return lambda n, x, words: csp(n, x, words.out, [call] * words.blocks)


def c2f_of(call: Callable[[NetPlace, Value], Value]) -> Module:
    return lambda n, x, words: c2f(n, x, words.out, words.blocks, call)


def c3k2(*, deep: bool = False, part: int = 2) -> Module:
    """Return C3k2, whose bottlenecks are half as wide inside, or each a C3k."""

    def module(n: NetPlace, x: Value, words: ToldModule) -> Value:
        narrow = partial(bottleneck, inner=words.out // part // 2)
        call = c3k if deep or words.scale.letter in DEEP else narrow
        return c2f(n, x, words.out, words.blocks, call, part)

    return module


def sc_down(n: NetPlace, x: Value, words: ToldModule) -> Value:
    y = unit(n / "cv1", x, words.out)
    return unit(n / "cv2", y, words.out, 3, 2, groups=words.out, plain=True)


def area_of(parts: int) -> Module:
    return lambda n, x, words: area(
        n, x, words.out, words.blocks, parts, residual=words.scale.letter in RESIDUAL
    )


MODULES: dict[str, Module] = {
    "Conv": stepping(3),
    "Conv1": stepping(1, 1),
    "Conv6": stepping(6),
    "SCDown": sc_down,
    "AConv": lambda n, x, words: unit(n / "cv1", averaged(x), words.out, 3, 2),
    "ADown": lambda n, x, words: a_down(n, x, words.out),
    "C3": c3(adds=True),
    "C3-": c3(adds=False),
    "C2f": c2f_of(bottleneck),
    "C2f-": c2f_of(partial(bottleneck, adds=False)),
    "CIB": c2f_of(partial(compact, wide=False)),
    "CIBwide": c2f_of(partial(compact, wide=True)),
    "C3k2": c3k2(),
    "C3k2deep": c3k2(deep=True),
    "C3k2narrow": c3k2(part=4),
    "ELAN1": lambda n, x, words: elan(n, x, words.out, words.more[0], words.more[1]),
    "ELAN4": lambda n, x, words: elan(n, x, words.out, *words.more),
    "SPPF": lambda n, x, words: pyramid_pooling(n, x, words.out, x.shape[1] // 2, "cv2"),
    "SPPELAN": lambda n, x, words: pyramid_pooling(n, x, words.out, words.more[0], "cv5"),
    "PSA": lambda n, x, words: psa(n, x, words.out, 0),
    "C2PSA": lambda n, x, words: psa(n, x, words.out, words.blocks),
    **{f"Area{parts}": area_of(parts) for parts in (0, 1, 4)},
}


def ran(n: NetPlace, x: Value, module: YoloModule, scale: YoloScale) -> Value:
    """Return the output of one module of a plan."""
    count = scale.repeats(module.more[0]) if module.more else 0
    words = ToldModule(scale.channels(module.out), count, module.more, scale)
    return MODULES[module.kind](n, x, words)


def yolo(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    named = NAME.fullmatch(c.architecture)
    version, letter = (named[1], named[2]) if named else ("", "")
    scale, down, back = plans()[version, letter]
    x, model = shown(n, s), n / "model"
    features_before: dict[int, Value] = {}
    for number, module in enumerate(down):
        x = ran(model / number, x, module, scale)
        if number in FEATURES:
            features_before[number] = x
    laterals: list[Value] = []
    features, last = way_back(model, x, (features_before, laterals), scale, list(back), len(down))
    del x
    out = detect(model / last, c, features, version, scale)
    del features_before, laterals
    return out


def way_back(
    model: NetPlace,
    x: Value,
    before: tuple[dict[int, Value], list[Value]],
    scale: YoloScale,
    back: list[YoloModule],
    number: int,
) -> tuple[list[Value], int]:
    """Return features of three resolutions and the number of the next module: up twice, down twice.
    Upsampling and concatenation have numbers, too. `before`: earlier features, and those read on
    the way down, which live to the end."""
    features, laterals = before
    for other in (features[place] for place in reversed(FEATURES)):
        if back[0].kind == "Conv1":
            x, number = ran(model / number, x, back.pop(0), scale), number + 1
        laterals.append(x)
        x = ran(model / (number + 2), cat([doubled(x), other]), back.pop(0), scale)
        number += 3
    outs = [x]
    for other in reversed(laterals):
        y = cat([ran(model / number, x, back.pop(0), scale), other])
        x = ran(model / (number + 2), y, back.pop(0), scale)
        del y
        outs.append(x)
        number += 3
    return outs, number


FEATURES = 4, 6  # modules whose results the way back reads


# ---- heads


EXTRA = {"SegmentationModel": MASKS, "PoseModel": POINTS, "OBBModel": 1}  # elements per place


def detect(
    n: NetPlace, c: ComponentConfig, features: list[Value], version: str, scale: YoloScale
) -> Value:
    """Return boxes and classes of all places; without gradients, boxes from their bins."""
    run, cls, labels = n.run, n.run.cls, c.num_classes or COCO
    legacy, width = version in LEGACY, features[0].shape[1]
    sides, kinds = max(16, width // 4, 4 * BINS), max(width, min(labels, 100))
    extra = EXTRA.get(cls, 0)
    twins = twin_heads(n, features, (sides, kinds, labels)) if version == "v10" else []
    first = "one2one_" if version == "v10" and not run.m.training else ""
    boxes = branches(n / f"{first}cv2", features, sides, BOX * BINS, plain=True)
    scores = branches(n / f"{first}cv3", features, kinds, labels, plain=legacy)
    more = [boxes, scores, *twins]
    if extra:
        more.append(branches(n / "cv4", features, max(width // 4, extra), extra, plain=True))
    if cls == "OBBModel":
        more[-1] = more[-1].act("result") * 1.0
    outputs = []
    if run.m.training:
        n.param("dfl.conv.weight", 1, BINS, 1, 1)
    else:
        outputs.append(cat([sides_of(n, boxes), scores.act(), *more[2:]]))
    if cls == "SegmentationModel":
        outputs.append(prototypes(n / "proto", features[0], scale.channels(PROTOTYPES)))
    if not run.m.training:
        return outputs[0]
    return cat([one.view(one.numel) for one in (*more, *outputs)], 0)


def sides_of(n: NetPlace, boxes: Value) -> Value:
    """Return the mean of the bins of each side (DFL)."""
    batch, _, places = boxes.shape
    bins = boxes.view(batch, BINS, BOX, places).softmax()
    out = (n / "dfl").conv("conv", bins, 1, 1, bias=False).view(batch, BOX, places)
    del bins
    return out * 1.0


def twin_heads(n: NetPlace, features: list[Value], sizes: tuple[int, int, int]) -> list[Value]:
    """YOLOv10's second head, which reads features without gradients and is the only one in
    inference: there the first is folded away."""
    run, (sides, kinds, labels) = n.run, sizes
    if run.m.training:
        read = [Value(run, one.tensor.detach()) for one in features]
        own = "one2one_"
    else:
        read, own = [run.constant(1, one.shape[1], 1, 1) for one in features], ""
    twins = [
        branches(n / f"{own}cv2", read, sides, BOX * BINS, plain=True),
        branches(n / f"{own}cv3", read, kinds, labels, plain=False),
    ]
    return twins if run.m.training else []


def branches(n: NetPlace, features: list[Value], inside: int, out: int, *, plain: bool) -> Value:
    """Return a branch's outputs for all resolutions, with all places in a row."""
    parts = [branch(n / i, x, inside, out, plain=plain) for i, x in enumerate(features)]
    return cat([y.view(*y.shape[:2], y.shape[2] * y.shape[3]) for y in parts], -1)


def branch(n: NetPlace, x: Value, inside: int, out: int, *, plain: bool) -> Value:
    """Return two convolutions, each after a depthwise one unless `plain`, and a 1 x 1."""
    y = x
    for number in range(2):
        place, width = n / number, y.shape[1]
        if plain:
            y = unit(place, y, inside, 3)
        else:
            y = unit(place / 1, unit(place / 0, y, width, 3, groups=width), inside)
    return n.conv("2", y, out, 1)


def prototypes(n: NetPlace, x: Value, width: int) -> Value:
    """Proto: maps at a quarter of the picture's size, of which masks are sums."""
    y = unit(n / "cv1", x, width, 3)
    y = n.transposed("upsample", y, width, 2)
    return unit(n / "cv3", unit(n / "cv2", y, width, 3), MASKS)


CLASSES = "DetectionModel", "SegmentationModel", "PoseModel", "OBBModel"
PROGRAMS = dict.fromkeys(CLASSES, yolo)
