"""transformers' wrapper of a timm network, under the names of timm's checkpoints.

The headless class is the network that timm builds without classes.

Source: transformers 5.23 models/timm_wrapper/modeling_timm_wrapper.py.
"""

from collections.abc import Iterator

from weighbridge.arch import timm_nets
from weighbridge.arch.blueprint import Blueprint, Buffer, Family, Param
from weighbridge.arch.config import Config
from weighbridge.arch.heads import labels
from weighbridge.arch.model_types import ModelType
from weighbridge.errors import UnsupportedError


def plan(c: Config, classes: int) -> Blueprint:
    name = c.word("architecture", default="")
    found = timm_nets.blueprint(name, classes)
    if found is None:
        raise UnsupportedError(f"{c.where}: architecture {name!r:.80} is not in our tables")
    return found


def network(c: Config, at: str) -> Iterator[Param]:
    yield from plan(c, 0).params


def classifier(c: Config, at: str) -> Iterator[Param]:
    body = {p.name for p in plan(c, 0).params}
    classes = c.num("num_classes", default=0) or labels(c)
    yield from (p for p in plan(c, classes).params if p.name not in body)


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield from plan(c, 0).buffers


WRAPPER = Family(
    body=network,
    base="",
    cls="TimmWrapperForImageClassification",
    heads={"ForImageClassification": classifier},
    buffers=buffers,
    blocks=(),
)

TYPES = {
    "timm_wrapper": ModelType(WRAPPER, no_cache="image"),
}
