"""Networks that see and declare themselves: the class that a config names, and what is known of it
without its program. Every question about a language model asks here.

Sides are those of pictures as people have them, where a config has none: COCO's 640 x 480 where
torchvision's class makes them larger, or as DETR's processor makes them. `fixed`: a class takes no
other. `frozen`: parameters that it does not train as it comes.

Source: transformers 5.23 models/*/image_processing_*.py; torchvision 0.28
models/detection/faster_rcnn.py (_validate_trainable_layers).
"""

from collections.abc import Mapping
from typing import Any

from weighbridge.base.records import NamedTuple

STEM = r"backbone\.body\.(?:conv1|bn1|layer1)\."
NEVER = r"(?!)"


class SeeingClass(NamedTuple):
    """The module with a vision class's program, and the usual size of its pictures."""

    room: str
    height: int
    width: int
    fixed: bool = False
    frozen: str = NEVER
    resizes: bool = False  # its forward resizes pictures of any size


# Class, its program, the usual height and width; then others
_CLASSES = """
DetrForObjectDetection detr 800 1066
RTDetrForObjectDetection rt_detr 640 640
RTDetrV2ForObjectDetection rt_detr 640 640
DepthAnythingForDepthEstimation depth 518 518
SamModel sam 1024 1024
Sam2Model sam 1024 1024
FasterRCNN rcnn 480 640
MaskRCNN rcnn 480 640
RetinaNet rcnn 480 640
DetectionModel yolo 640 640
SegmentationModel yolo 640 640
PoseModel yolo 640 640
OBBModel yolo 1024 1024
"""
_OTHERS: dict[str, dict[str, Any]] = {
    "sam": {"fixed": True},
    "rcnn": {"frozen": STEM, "resizes": True},
}
CLASSES = {
    cls: SeeingClass(room, int(height), int(width), **_OTHERS.get(room, {}))
    for cls, room, height, width in map(str.split, _CLASSES.strip().splitlines())
}


def seeing(config: Mapping[str, Any]) -> SeeingClass | None:
    """Return the facts of a config's vision class; None for other classes."""
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    return CLASSES.get(named) if isinstance(named, str) else None


def sees(config: Mapping[str, Any]) -> bool:
    return seeing(config) is not None
