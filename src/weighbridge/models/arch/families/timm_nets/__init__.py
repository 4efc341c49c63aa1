"""Networks of the timm library that need no library: name -> the tensors of its class.

    resnet50.a1_in1k -> ResNet: resnet(depth=50), 1,000 classes

A name is an architecture and, behind a dot, the tag of its weights, whose ending says how many
classes they tell apart. Each pattern below is the names of one architecture that timm has; the
groups in it are what the rule is given.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.arch.blueprint import Blueprint, Buffer, Family, Param
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import labels
from weighbridge.models.arch.model_types import ModelType

# names -> (timm's class, "module:rule")
RULES: dict[str, tuple[str, str]] = {
    pattern: (cls, rule)
    for pattern, cls, rule in map(str.split, lines_beside(__file__, "names.txt"))
}
CLASSES = {  # by how a tag ends; timm's own names for subsets of ImageNet
    "in1k": 1000,
    "in12k": 11_821,
    "in21k": 21_843,
    "in22k": 21_841,
}
# Tags of what was released without classes, and architectures whose first tag is one of these
HEADLESS = re.compile(
    r"orig_in21k|dino|mae|seer|fcmae|mim_in22k|mim_m38m|.*webli.*|(?:.*_)?(?:lvd|sat)\d+m|pali.*"
)
UNTAGGED = re.compile(r".*(?:siglip|dinov[23]).*|eva02_\w+_patch14_224")
PROJECTED = {"base": 512, "large": 768, "huge": 1024}  # CLIP's space, by the size of its tower
OTHERS = frozenset({"miil_in21k"})  # of another subset than its name says
MOST_CLASSES = 10**6  # of a stranger's config


class TimmName(NamedTuple):
    """Rule that a name stands for, what it is given, and how many classes there are."""

    cls: str
    rule: str
    given: tuple[str | None, ...]
    classes: int


def blueprint(name: str, classes: int | None = None) -> Blueprint | None:
    """Return the tensors of `timm.create_model(name)`; None where no rule knows it. `classes`
    are what a config says; without, the tag decides."""
    timm = _named(name, classes)
    return None if timm is None else _built(timm)


def of_config(config: Mapping[str, Any]) -> Blueprint | None:
    """Return the tensors of the class that a config of timm's names by its `architecture`."""
    classes = config.get("num_classes")
    if classes is not None and (type(classes) is not int or not 0 <= classes <= MOST_CLASSES):
        raise BadFileError(sentence("num_classes", classes=shown(classes)))
    return blueprint(str(config.get("architecture")), classes)


def _named(name: str, classes: int | None = None) -> TimmName | None:
    architecture, dot, tag = name.partition(".")
    if classes is None:
        classes = _classes(tag, architecture) if dot else _untagged(architecture)
    if classes is None:
        return None
    for pattern, (cls, rule) in RULES.items():
        match = re.fullmatch(pattern, architecture)
        if match is not None:
            return TimmName(cls, rule, match.groups(), classes)
    return None


def _untagged(architecture: str) -> int | None:
    if UNTAGGED.fullmatch(architecture):
        return 0
    return _projected(architecture) if "_clip_" in architecture else CLASSES["in1k"]


def _projected(architecture: str) -> int | None:
    return PROJECTED.get(architecture.split("_")[1])


def _classes(tag: str, architecture: str) -> int | None:
    """Count the classes that weights with that tag have; None where it does not say."""
    if HEADLESS.fullmatch(tag):
        return 0
    said = re.findall(r"(?:^|_)(in\d+k)(?=_|$)", tag)
    if said or "_clip_" not in architecture:
        return CLASSES.get(said[-1]) if said and tag not in OTHERS else None
    return _projected(architecture)


def known(name: str) -> bool:
    return _named(name) is not None


@cache
def _built(timm: TimmName) -> Blueprint:
    tensors = tuple(_run(timm))
    return Blueprint(
        cls=timm.cls,
        params=tuple(t for t in tensors if isinstance(t, Param)),
        buffers=tuple(t for t in tensors if isinstance(t, Buffer)),
    )


def _run(timm: TimmName) -> Iterator[Param | Buffer]:
    module, name = timm.rule.split(":")
    rule: Any = getattr(import_module(f"weighbridge.models.arch.families.timm_nets.{module}"), name)
    tensors: Iterator[Param | Buffer] = rule(*timm.given, classes=timm.classes)
    return tensors


# transformers' wrapper of such a network, under the names of timm's checkpoints. The headless class
# is the network that timm builds without classes.
# Source: transformers 5.23 models/timm_wrapper/modeling_timm_wrapper.py.


def plan(c: Config, classes: int) -> Blueprint:
    name = c.word("architecture", default="")
    tensors = blueprint(name, classes)
    if tensors is None:
        raise UnsupportedError(sentence("architecture_unlisted", name=name), where=c.where)
    return tensors


def network(c: Config, prefix: str) -> Iterator[Param]:
    yield from plan(c, 0).params


def classifier(c: Config, prefix: str) -> Iterator[Param]:
    body = {p.name for p in plan(c, 0).params}
    classes = c.num("num_classes", default=0) or labels(c)
    yield from (p for p in plan(c, classes).params if p.name not in body)


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
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
