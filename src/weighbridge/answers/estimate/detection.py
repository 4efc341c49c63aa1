"""Boxes of an object detector: memory that depends on the pictures, on top of its network.

forward, inference   predictions sorted for non-maximum suppression; masks of the detected objects
forward, training    scores of each place or query against each ground-truth box, before backward

Counts of boxes are assumed, and their intervals say so. A trainer also keeps a moving average of
the weights.

Source: ultralytics 8.4 utils/{nms,tal,torch_utils}.py. Published figures of MMYOLO are within (its
configs/yolov8/README.md: 16 pictures of 640 x 640 in mixed precision, 2.8 GiB of YOLOv8n to 12.2 of
YOLOv8x).
"""

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.memory import Bytes, Component
from weighbridge.base.records import replace
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.pictures import images
from weighbridge.pictures.images import SeenImages
from weighbridge.pictures.nets import rcnn, yolo

STRIDES = 8, 16, 32
SIDES = 4  # coordinates per box
COPIES = 1, 2, 4  # copies of all predictions: low, expected, high (assumed)
BOXES = 10, 150, 300  # boxes in a batch's fullest picture, a mosaic of four (assumed)
PLANES = 8  # float32 per box and place: four differences, a score, an overlap, two masks
SOURCE = "ultralytics 8.4 utils/nms.py, utils/tal.py"
FEW_BOXES = 1, 10, 100  # boxes per picture (assumed): COCO has 7 on average and at most 93
DETECTED = 1, 20, 100  # detections per picture (assumed): torchvision keeps at most 100
QUERIES = {"DetrForObjectDetection": 100}
QUERIES |= dict.fromkeys(("RTDetrForObjectDetection", "RTDetrV2ForObjectDetection"), 300)
COSTS = 12  # float32 per query and box: costs, corners, overlaps
HUNGARIAN = "transformers 5.23 loss/loss_for_object_detection.py (HungarianMatcher)"
MATCHED = "torchvision 0.28 ops/boxes.py (box_iou)"
MASKS = "torchvision 0.28 models/detection/roi_heads.py (paste_masks_in_image)"


def finds_boxes(part: ModelPart) -> bool:
    return part.blueprint.cls in yolo.PROGRAMS


def _places(one: SeenImages) -> int:
    return sum((one.height // step) * (one.width // step) for step in STRIDES) * one.batch


def _row(detail: str, sizes: tuple[int, ...], formula: str, source: str = SOURCE) -> Component:
    return Component(
        name="temporaries",
        detail=detail,
        bytes=Bytes(*sizes),
        basis="assumed",
        formula=formula,
        source=source,
    )


def kept(part: ModelPart, one: SeenImages) -> tuple[Component, ...]:
    """Return the memory of predictions before non-maximum suppression, and of the detected objects'
    masks. Empty for networks without either."""
    if finds_boxes(part):
        numbers = _places(one) * (SIDES + int(part.config.get("num_classes") or 0))
        sizes = tuple(FLOAT32.size(copies * numbers) for copies in COPIES)
        return (_row("boxes before suppression", sizes, "1 to 4 copies of all predictions"),)
    if part.blueprint.cls != "MaskRCNN":
        return ()
    least, *more = (images.peak(replace(one, detections=n)).allocated for n in DETECTED)
    sizes = (0, *(n - least for n in more))
    if not any(sizes):
        return ()
    return (_row("masks of what is detected", sizes, "1 to 100 masks a picture", MASKS),)


def matched(part: ModelPart, one: SeenImages) -> tuple[Component, ...]:
    """Return the memory of matching places, queries or anchors with ground-truth boxes; empty for
    other networks."""
    if finds_boxes(part):
        plane = FLOAT32.size(_places(one))
        sizes = tuple(PLANES * boxes * plane for boxes in BOXES)
        formula = "8 planes of 10 to 300 boxes a picture"
        return (_row("boxes matched with places", sizes, formula),)
    cls, labelled = part.blueprint.cls, FEW_BOXES
    if cls.endswith("ForObjectDetection"):
        queries = one.batch * int(part.config.get("num_queries") or QUERIES.get(cls, 0))
        sizes = tuple(COSTS * FLOAT32.size(queries * one.batch * boxes) for boxes in labelled)
        formula = "12 planes of all queries and 1 to 100 boxes a picture"
        return (_row("boxes matched with queries", sizes, formula, HUNGARIAN),)
    if cls in rcnn.PROGRAMS:
        plane = FLOAT32.size(rcnn.anchors(cls, one.height, one.width))
        beyond = rcnn.PLANES * (labelled[-1] - rcnn.BOXES) * plane
        formula = "7 planes of anchors and more than 10 boxes, up to 100 a picture"
        return (_row("boxes matched with anchors", (0, 0, beyond), formula, MATCHED),)
    return ()
