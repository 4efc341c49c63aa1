"""YOLOv8 and YOLO11 as ultralytics runs them.

A picture is seen by a network whose norms are folded into their convolutions; in training they
are apart. Features that later modules read live to the end. Boxes that are left after the
threshold, and what non-maximum suppression makes of them, are not of the network.

Source: ultralytics 8.4 nn/tasks.py (_predict_once, fuse), nn/modules/{conv,block,head}.py.
"""

from functools import partial

from weighbridge.pictures.trees import Tree, sequence
from weighbridge.pictures.values import Value, cat
from weighbridge.training.forward.ops import shaping

BOX, BINS = 4, 16  # sides of a box, and bins of the distance to each


def unit(t: Tree, x: Value, stride: int = 1, *, plain: bool = False) -> Value:
    """Conv"""
    y = t.conv("conv", x, stride)
    if x.run.m.training:
        y = t.batch_norm("bn", y)
    else:
        t.batch_norm("bn", x.run.constant(1, y.shape[1], 0, 0))
    return y if plain else y.act()


def bottleneck(t: Tree, x: Value, *, adds: bool = True) -> Value:
    """Bottleneck, or the C3k that stands in its place."""
    if t.has("cv3"):
        inner = sequence(unit(t / "cv1", x), t.each("m"), bottleneck)
        return unit(t / "cv3", cat([inner, unit(t / "cv2", x)]))
    y = unit(t / "cv2", unit(t / "cv1", x))
    return x + y if adds else y


def c2f(t: Tree, x: Value, *, adds: bool = True) -> Value:
    """C2f, C3k2"""
    y = unit(t / "cv1", x).chunk(2, 1)
    for inner in t.each("m"):
        y.append(bottleneck(inner, y[-1], adds=adds))
    return unit(t / "cv2", cat(y))


def pyramid_pooling(t: Tree, x: Value) -> Value:
    """SPPF: three max poolings after each other."""
    y = [unit(t / "cv1", x, plain=True)]
    for _ in range(3):
        y.append(Value(x.run, shaping.max_pooled(x.run.m, y[-1].tensor, *x.shape[2:])))
    return unit(t / "cv2", cat(y))


def c2psa(t: Tree, x: Value) -> Value:
    a, b = unit(t / "cv1", x).chunk(2, 1)
    b = sequence(b, t.each("m"), psa_block)
    return unit(t / "cv2", cat([a, b]))


def psa_block(t: Tree, x: Value) -> Value:
    y = x + attention(t / "attn", x)
    ffn = t / "ffn"
    return y + unit(ffn / 1, unit(ffn / 0, y), plain=True)


def attention(t: Tree, x: Value) -> Value:
    """Scores of all pixels, of keys half as wide as values."""
    batch, width, height, breadth = x.shape
    heads, places = max(width // 64, 1), height * breadth
    head = width // heads
    qkv = unit(t / "qkv", x, plain=True).view(batch, heads, 2 * head, places)
    q, k, v = qkv.split(head // 2, head // 2, head, dim=2)
    q = q * 1.0
    scores = q.view(batch, heads, places, head // 2).matmul(k, places)
    scores = scores.softmax()
    y = v.matmul(scores, places).view(*x.shape)
    y = y + unit(t / "pe", v.copy(*x.shape), plain=True)
    return unit(t / "proj", y, plain=True)


def yolo(t: Tree, x: Value) -> Value:
    """Numbers of modules are the yaml's: 24 of YOLO11, 23 of YOLOv8, which has no attention."""
    model = t / "model"
    eleven = model.has("10.cv1")
    first = 13 if eleven else 12
    y = unit(model / 0, x, 2)
    y = unit(model / 1, y, 2)
    y = c2f(model / 2, y)
    y = unit(model / 3, y, 2)
    fine = c2f(model / 4, y)
    y = unit(model / 5, fine, 2)
    middle = c2f(model / 6, y)
    y = unit(model / 7, middle, 2)
    y = c2f(model / 8, y)
    coarse = pyramid_pooling(model / 9, y)
    coarse = c2psa(model / 10, coarse) if eleven else coarse
    head = partial(c2f, adds=eleven)  # C2f of the head does not add what it reads
    y = cat([coarse.upsample(), middle])
    inner = head(model / first, y)
    y = cat([inner.upsample(), fine])
    small = head(model / (first + 3), y)
    y = cat([unit(model / (first + 4), small, 2), inner])
    medium = head(model / (first + 6), y)
    y = cat([unit(model / (first + 7), medium, 2), coarse])
    large = head(model / (first + 9), y)
    return detect(model / (first + 10), [small, medium, large])


def detect(t: Tree, features: list[Value]) -> Value:
    """Boxes and classes of all places; without gradients, boxes from their bins."""
    boxes, scores = (branches(t / name, features) for name in ("cv2", "cv3"))
    if t.run.m.training:
        t.parameter("dfl.conv.weight")
        return cat([boxes, scores])
    batch, _, places = boxes.shape
    bins = boxes.view(batch, BINS, BOX, places).softmax()
    sides = (t / "dfl").conv("conv", bins).view(batch, BOX, places)
    del bins
    return cat([sides * 1.0, scores.act()])


def branches(t: Tree, features: list[Value]) -> Value:
    """The same branch of each resolution, with all places in a row."""
    parts = [branch(t / number, one) for number, one in enumerate(features)]
    return cat([y.view(*y.shape[:2], y.shape[2] * y.shape[3]) for y in parts], -1)


def branch(t: Tree, x: Value) -> Value:
    """Two convolutions, each behind a depthwise one in YOLO11, and 1 x 1."""
    y = x
    for part in (t / 0, t / 1):
        y = sequence(y, part.children(), unit) if part.has(0) else unit(part, y)
    return t.conv("2", y)


PROGRAMS = {"model.9.cv1.conv": yolo}
