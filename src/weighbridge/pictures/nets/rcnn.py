"""torchvision's detectors with a ResNet-50 and a pyramid: Faster R-CNN, Mask R-CNN, RetinaNet.

    resized    a picture's shorter side becomes 800, or its longer 1,333; sides divide by 32
    proposals  2,000 per picture in training, of which 512 are sampled, otherwise 1,000
    masks      of 128 proposals per picture in training, otherwise of the detections, pasted into
               pictures of the input's size

Counts are torchvision's caps, except detections (`run.detections`). With its weights the class has
frozen norms (the first version), and trains the ResNet from its second stage on.

Source: torchvision 0.28 models/detection/{faster_rcnn,mask_rcnn,retinanet,rpn,roi_heads,transform,
generalized_rcnn}.py, ops/{feature_pyramid_network,poolers}.py.
"""

from collections.abc import Sequence
from math import prod

from weighbridge.base.dtypes import FLOAT32
from weighbridge.models.arch.families import timm_nets
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets import convnets
from weighbridge.pictures.nets.convnets import RELU
from weighbridge.pictures.nets.detr import SIDES, classes, shown
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.trees import Tree, in_place
from weighbridge.pictures.values import ProgramRun, Sizes, Value, cat
from weighbridge.training.forward.machine import remade
from weighbridge.training.forward.ops import sampling

SHORTER, LONGER, DIVIDES = 800, 1333, 32  # of a picture's sides, min_size, max_size, size_divisible
WIDTH = 256  # channels of all features
PROPOSED, SAMPLED, WITH_MASKS = 1000, 512, 128  # a picture: rpn_post_nms_top_n_test, box_batch_...
BOXES = 10  # per picture in training: assumed; COCO's have 7 on average
PLANES = 7  # float32 per box and anchor while they are matched (box_ops.box_iou)
ANCHORS, MORE_ANCHORS = 3, 9  # per place: Faster R-CNN, RetinaNet
Features = list[Value]


def network_sides(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of a picture after GeneralizedRCNNTransform, in a batch of equal
    ones."""
    scale = min(SHORTER / min(height, width), LONGER / max(height, width))
    grown = (int(side * scale) for side in (height, width))
    tall, wide = (-(-side // DIVIDES) * DIVIDES for side in grown)
    return tall, wide


def anchors(cls: str, height: int, width: int) -> int:
    """Return the number of anchors of a picture: on five levels, each half as large as the one
    before."""
    each, first = (MORE_ANCHORS, 8) if cls == "RetinaNet" else (ANCHORS, 4)
    tall, wide = network_sides(height, width)
    sides = (first << level for level in range(5))
    return each * sum(-(-tall // one) * -(-wide // one) for one in sides)


def batched(n: NetPlace, s: Sizes) -> Value:
    """Return the network's batch; pictures are normalized and resized one by one."""
    shown(n, s)
    tall, wide = network_sides(s.height, s.width)
    run = n.run
    apart = [run.new(3, tall, wide) for _ in range(s.batch)]
    whole = run.new(s.batch, 3, tall, wide)
    del apart
    return whole


def block(
    n: NetPlace, x: Value, out: int, kernel: int = 3, *, norm: str = "", active: bool = True
) -> Value:
    """Conv2dNormActivation"""
    y = n.conv("0", x, out, kernel, bias=not norm)
    if norm:
        y = n.batch_norm("1", y) if norm == "batch" else n.group_norm("1", y)
    return in_place(y, RELU) if active else y


def backbone(n: NetPlace, x: Value, first: int, *, second: bool) -> Features:
    """Return BackboneWithFPN's features: a ResNet's stages from the coarsest down, made equally
    wide."""
    plan = timm_nets.blueprint("resnet50", 0)
    assert plan is not None
    body = n / "body"
    shapes = {body.path + one.name: one.shape for one in plan.params}
    stages = convnets.resnet_stages(Tree(body, shapes, frozen=not second), x, first)
    fpn, norm = n / "fpn", "batch" if second and first == 1 else ""
    inner = last = None
    features: Features = []
    for number in range(len(stages) - 1, -1, -1):
        lateral = block(
            fpn / "inner_blocks" / number, stages[number], WIDTH, 1, norm=norm, active=False
        )
        if last is None:
            last = lateral
        else:
            inner = last.resized(*lateral.shape)
            last = lateral + inner
        place = fpn / "layer_blocks" / number
        features.insert(0, block(place, last, WIDTH, norm=norm, active=False))
    if first == 1:
        batch, width, *sides = features[-1].shape
        return [*features, features[-1].resized(batch, width, *((one + 1) // 2 for one in sides))]
    extra = fpn / "extra_blocks"
    six = extra.conv("p6", stages[-1] if second else features[-1], WIDTH, 3, 2, 1)
    return [*features, six, extra.conv("p7", six.act(RELU), WIDTH, 3, 2, 1)]


def in_a_row(parts: Sequence[Value], width: int) -> Value:
    """Return the predictions of all places of all levels, [batch, places, width]."""
    copies = [one.copy(one.shape[0], one.numel // one.shape[0] // width, width) for one in parts]
    return cat(copies)


class ProposedBoxes:
    """The boxes at which a two-stage network looks, and what training keeps of their search."""

    __slots__ = ("alive", "boxes", "losses")

    def __init__(self, boxes: Value, alive: tuple[Value, ...], losses: Features) -> None:
        self.boxes, self.alive, self.losses = boxes, alive, losses


def matched(x: Value, anchors: int) -> None:
    """Allocate the temporaries of matching a picture's boxes with its anchors, picture by
    picture."""
    x.run.m.hidden(*[FLOAT32.size(BOXES * anchors)] * PLANES)


def proposed(n: NetPlace, features: Features, *, depth: int) -> ProposedBoxes:
    """RegionProposalNetwork"""
    head, run, batch = n / "head", n.run, features[0].shape[0]
    scores, deltas = [], []
    for one in features:
        y = one
        for number in range(depth):
            y = block(head / "conv" / number, y, WIDTH)
        scores.append(head.conv("cls_logits", y, ANCHORS, 1))
        deltas.append(head.conv("bbox_pred", y, ANCHORS * SIDES, 1))
    anchors = run.new(batch, sum(prod(one.shape[2:]) for one in features) * ANCHORS, SIDES)
    objectness, moves = in_a_row(scores, 1), in_a_row(deltas, SIDES)
    del scores, deltas, y
    with run.m.no_grad():
        decoded = run.new(*anchors.shape)
    if not run.m.training:
        return ProposedBoxes(run.new(batch * PROPOSED, 5), (anchors, decoded), [])
    matched(anchors, anchors.shape[1])
    targets = run.new(*anchors.shape)
    losses = [objectness.part(batch, SAMPLED // 2, 1), moves.part(batch, SAMPLED // 4, SIDES)]
    return ProposedBoxes(run.new(batch * SAMPLED, 5), (anchors, decoded, targets), losses)


def aligned(features: Features, boxes: Value, side: int) -> Value:
    """Return MultiScaleRoIAlign of `boxes`, all on one level, which is the peak."""
    run, count = boxes.run, boxes.shape[0]
    whole = run.new(count, WIDTH, side, side)
    read = sampling.roi_align(run.m, features[0].tensor, boxes.tensor, side)
    return whole.written(Value(run, read))


def boxed(n: NetPlace, x: Value, labels: int, *, second: bool) -> Features:
    """Return class scores and boxes, by TwoMLPHead or FastRCNNConvFCHead, and FastRCNNPredictor."""
    head, predictor = n / "box_head", n / "box_predictor"
    if second:
        for number in range(4):
            x = block(head / number, x, WIDTH, norm="batch")
        x = in_place(head.linear("5", x.view(x.shape[0], prod(x.shape[1:])), 1024), RELU)
    else:
        x = x.view(x.shape[0], prod(x.shape[1:]))
        x = head.linear("fc6", x, 1024).act(RELU)
        x = head.linear("fc7", x, 1024).act(RELU)
    return [
        predictor.linear("cls_score", x, labels),
        predictor.linear("bbox_pred", x, labels * SIDES),
    ]


def masks(n: NetPlace, features: Features, count: int, labels: int, *, second: bool) -> Value:
    x = aligned(features, n.run.new(count, 5), 14)
    for number in range(4):
        x = block(n / "mask_head" / number, x, WIDTH, norm="batch" if second else "")
    predictor = n / "mask_predictor"
    x = in_place(predictor.transposed("conv5_mask", x, WIDTH, 2), RELU)
    return predictor.conv("mask_fcn_logits", x, labels, 1)


def pasted(run: ProgramRun, s: Sizes) -> Value:
    """Return masks in pictures of the input's size: made as a list, then as one tensor."""
    stacked = []
    for _ in range(s.batch):
        apart = [run.new(s.height, s.width) for _ in range(run.detections)]
        stacked.append(run.new(run.detections, 1, s.height, s.width))
        del apart
    return stacked[-1]


def rcnn(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    run, labels = n.run, classes(c)
    second, has_masks = bool(c.second), run.cls == "MaskRCNN"
    images = batched(n, s)
    features = backbone(n / "backbone", images, 1, second=second)
    regions = proposed(n / "rpn", features, depth=2 if second else 1)
    heads = n / "roi_heads"
    x = aligned(features, regions.boxes, 7)
    predicted = boxed(heads, x, labels, second=second)
    count = s.batch * (WITH_MASKS if run.m.training else run.detections)
    if not has_masks:
        return _joined([*predicted, *regions.losses])
    y = masks(heads, features, count, labels, second=second)
    if run.m.training:
        picked = y.part(count, 28 * 28)
        return _joined([*predicted, *regions.losses, picked])
    y = y.act("result")
    del regions, predicted, x, y
    return pasted(run, s)


def _joined(parts: Features) -> Value:
    """Return the inputs of the losses, concatenated into one row."""
    return cat([one.view(one.numel) for one in parts], 0)


def retinanet(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    """Return RetinaNet's output: every place of five levels predicts boxes, without proposals."""
    labels, second = classes(c), bool(c.second)
    images = batched(n, s)
    features = backbone(n / "backbone", images, 2, second=second)
    norm, out = "group" if second else "", []
    for head, name, width in (
        ("classification_head", "cls_logits", labels),
        ("regression_head", "bbox_reg", SIDES),
    ):
        place, parts = n / "head" / head, []
        for one in features:
            y = one
            for number in range(4):
                y = block(place / "conv" / number, y, WIDTH, norm=norm)
            parts.append(place.conv(name, y, MORE_ANCHORS * width))
            parts[-1] = parts[-1].copy(s.batch, prod(parts[-1].shape[1:]) // width, width)
        out.append(cat(parts))
        del parts, y
    if not n.run.m.training:
        return out[0]
    matched(images, out[0].shape[1])
    losses = [focal(one) for one in out[0].chunk(s.batch, 0)]
    return _joined([*losses, out[1]])


def focal(x: Value) -> Value:
    """Return sigmoid_focal_loss over all places of a picture: some twenty tensors of the scores'
    size."""
    run, m = x.run, x.run.m
    x, zeros = x.resized(*x.shape), run.new(*x.shape, dtype=x.dtype)
    t = run.new(*x.shape, dtype=x.dtype)
    p = x.act("result")
    logits, targets = (x, t) if m.autocast is None else (x.float(), t.float())
    entropy = m.new(x.shape, logits.dtype)
    ce = Value(run, remade(m, logits.tensor, entropy, logits.tensor, targets.tensor))
    del logits, targets, entropy
    p_t = p * t + (p * 1.0) * (t * 1.0)
    loss = ce * (p_t * 1.0).power()
    alpha = t * 1.0 + (t * 1.0) * 1.0
    loss = alpha * loss
    out = loss.view(1, loss.numel).resized(1)
    del zeros
    return out


PROGRAMS = {"FasterRCNN": rcnn, "MaskRCNN": rcnn, "RetinaNet": retinanet}
