"""Boxes of a detector: what they take beside its network depends on the pictures.

forward, inference   predictions, put in order for non-maximum suppression
forward, training    each place's likeness to each box of its picture, before backward

Counts of boxes are assumed, and their intervals say so. A trainer keeps a moving average of the
weights beside them.

Source: ultralytics 8.4 utils/{nms,tal,torch_utils}.py. Published figures of MMYOLO are within (its
configs/yolov8/README.md: 16 pictures of 640 x 640 in mixed precision, 2.8 GiB of YOLOv8n to 12.2 of
YOLOv8x).
"""

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.memory import Bytes, Component
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.pictures.images import SeenImages

STRIDES = 8, 16, 32
SIDES = 4  # of a box
COPIES = 1, 2, 4  # of all predictions, assumed
BOXES = 10, 150, 300  # of the fullest picture of a batch, four pictures in one: assumed
PLANES = 8  # float32 of a box and a place: four differences, a score, an overlap, two masks
SOURCE = "ultralytics 8.4 utils/nms.py, utils/tal.py"


def finds_boxes(part: ModelPart) -> bool:
    return part.blueprint.cls == "DetectionModel"


def _places(one: SeenImages) -> int:
    return sum((one.height // step) * (one.width // step) for step in STRIDES) * one.batch


def _row(detail: str, sizes: tuple[int, ...], formula: str) -> Component:
    return Component(
        name="temporaries",
        detail=detail,
        bytes=Bytes(*sizes),
        basis="assumed",
        formula=formula,
        source=SOURCE,
    )


def kept(part: ModelPart, one: SeenImages) -> tuple[Component, ...]:
    """Return what predictions take until few boxes are left; nothing of another network."""
    if not finds_boxes(part):
        return ()
    numbers = _places(one) * (SIDES + int(part.config.get("num_classes") or 0))
    sizes = tuple(FLOAT32.size(copies * numbers) for copies in COPIES)
    return (_row("boxes before suppression", sizes, "1 to 4 copies of all predictions"),)


def matched(part: ModelPart, one: SeenImages) -> tuple[Component, ...]:
    """Return what it takes to match places with the pictures' boxes; nothing of another network."""
    if not finds_boxes(part):
        return ()
    plane = FLOAT32.size(_places(one))
    sizes = tuple(PLANES * boxes * plane for boxes in BOXES)
    return (_row("boxes matched with places", sizes, "8 planes of 10 to 300 boxes a picture"),)
