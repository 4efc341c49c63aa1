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


CLASSES = {
    "DetrForObjectDetection": SeeingClass("detr", 800, 1066),
    "RTDetrForObjectDetection": SeeingClass("rt_detr", 640, 640),
    "RTDetrV2ForObjectDetection": SeeingClass("rt_detr", 640, 640),
    "DepthAnythingForDepthEstimation": SeeingClass("depth", 518, 518),
    "SamModel": SeeingClass("sam", 1024, 1024, fixed=True),
    "Sam2Model": SeeingClass("sam", 1024, 1024, fixed=True),
    "FasterRCNN": SeeingClass("rcnn", 480, 640, frozen=STEM, resizes=True),
    "MaskRCNN": SeeingClass("rcnn", 480, 640, frozen=STEM, resizes=True),
    "RetinaNet": SeeingClass("rcnn", 480, 640, frozen=STEM, resizes=True),
    "DetectionModel": SeeingClass("yolo", 640, 640),
    "SegmentationModel": SeeingClass("yolo", 640, 640),
    "PoseModel": SeeingClass("yolo", 640, 640),
    "OBBModel": SeeingClass("yolo", 1024, 1024),
}


def seeing(config: Mapping[str, Any]) -> SeeingClass | None:
    """Return the facts of a config's vision class; None for other classes."""
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    return CLASSES.get(named) if isinstance(named, str) else None


def sees(config: Mapping[str, Any]) -> bool:
    return seeing(config) is not None
