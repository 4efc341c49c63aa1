"""Vision classes whose tensors come from recorded programs, not from a description here.

The programs, each the tree, the forward pass and the step of a class, are in pictures/nets.
"""

from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Blueprint, Buffer, Family, Param
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.vision import nothing

PROGRAMS = "weighbridge.pictures.components"  # by name: it imports modules below


@lru_cache(maxsize=1)  # of its tensors and of its buffers
def declared(c: Config) -> Blueprint:
    for name in c.raw:
        c.has(name)
    plan: Blueprint | None = import_module(PROGRAMS).blueprint({**c.raw, "architectures": [c.cls]})
    if plan is None:
        raise UnsupportedError(sentence("picture.no_program", cls=c.cls))
    return plan


def tree(c: Config, prefix: str) -> Iterator[Param]:
    yield from declared(c).params


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from declared(c).buffers


def family(cls: str, *others: str) -> Family:
    """Return a family whose tensors come from the program of the class `cls`. `others`: classes of
    that model type with other prefixes."""
    return Family(
        body=tree,
        base="",
        cls=cls,
        stems=(cls, *others),
        heads={"": nothing},
        buffers=buffers,
        blocks=(),
    )


YOLO = family("DetectionModel", "SegmentationModel", "PoseModel", "OBBModel")
TYPES = {
    "detr": ModelType(family("DetrForObjectDetection"), no_cache="image"),
    "rt_detr": ModelType(family("RTDetrForObjectDetection"), no_cache="image"),
    "rt_detr_v2": ModelType(family("RTDetrV2ForObjectDetection"), no_cache="image"),
    "depth_anything": ModelType(family("DepthAnythingForDepthEstimation"), no_cache="image"),
    "sam2": ModelType(family("Sam2Model"), no_cache="image"),
    "torchvision": ModelType(family("FasterRCNN", "MaskRCNN", "RetinaNet"), no_cache="image"),
    "ultralytics": ModelType(YOLO, no_cache="image"),
}
