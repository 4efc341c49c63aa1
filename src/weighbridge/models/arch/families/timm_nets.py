"""Networks of the timm library by name, without the library: name -> the tensors of its class.

    resnet50.a1_in1k -> ResNet: module 812 of timm_trees.txt, 1,000 classes

A name is an architecture and, after a dot, the tag of its weights. A line of timm_names.txt has an
architecture, its class, its module, the module without a classifier ("-" if it is the same one) and
the number of classes of each tag. A line of timm_trees.txt has a module: its number, its tensors,
and its children with the sizes they are called with. A letter is a size that the module is called
with, C the number of classes. tools/record_timm.py writes both files from the library.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from math import prod
from string import ascii_lowercase
from typing import Any, cast, get_args

from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.arch.blueprint import Blueprint, Buffer, Family, Param, ParamKind
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import labels
from weighbridge.models.arch.model_types import ModelType

KINDS = get_args(ParamKind)
MOST_CLASSES = 10**6  # accepted from a stranger's config


class Architecture(NamedTuple):
    """A timm architecture: its class, its modules with and without a classifier (calls of modules
    in timm_trees.txt), and the number of classes per tag; "" is timm's default tag."""

    cls: str
    module: str
    headless: str
    tags: Mapping[str, int]

    def classes(self, tag: str) -> int | None:
        """Return the number of classes of the weights with `tag`, None if unknown."""
        return self.tags[tag] if tag in self.tags else _classes_elsewhere(tag)


@cache
def _names() -> Mapping[str, str]:
    """Return the lines of timm_names.txt by architecture."""
    return dict(line.split(" ", 1) for line in lines_beside(__file__, "timm_names.txt"))


@cache
def _classes_elsewhere(tag: str) -> int | None:
    """Return the number of classes of `tag` in all architectures; None if these differ."""
    pattern = re.compile(rf" {re.escape(tag)}=(\d+)")
    numbers = {int(number) for line in _names().values() for number in pattern.findall(line)}
    return numbers.pop() if len(numbers) == 1 else None


@cache
def _modules() -> Mapping[str, str]:
    """Return the lines of timm_trees.txt by module number."""
    return dict(line.partition(" ")[::2] for line in lines_beside(__file__, "timm_trees.txt"))


@cache
def find(architecture: str) -> Architecture | None:
    """Return the record of an architecture, None if timm has none of that name."""
    line = _names().get(architecture)
    if line is None:
        return None
    cls, module, headless, *tags = line.split()
    classes = {tag: int(count) for tag, _, count in (one.partition("=") for one in tags)}
    return Architecture(cls, module, module if headless == "-" else headless, classes)


def blueprint(name: str, classes: int | None = None) -> Blueprint | None:
    """Return the tensors of `timm.create_model(name)`, None if timm has no such name. `classes` is
    the number in a config; without it the tag decides."""
    architecture, _, tag = name.partition(".")
    network = find(architecture)
    if network is not None and classes is None:
        classes = network.classes(tag)
    return None if network is None or classes is None else _build(architecture, classes)


def of_config(config: Mapping[str, Any]) -> Blueprint | None:
    """Return the tensors of the class that timm's config names as its `architecture`."""
    classes = config.get("num_classes")
    if classes is not None and (type(classes) is not int or not 0 <= classes <= MOST_CLASSES):
        raise BadFileError(sentence("num_classes", classes=shown(classes)))
    return blueprint(str(config.get("architecture")), classes)


@cache
def _build(architecture: str, classes: int) -> Blueprint:
    network = find(architecture)
    assert network is not None
    module = network.module if classes else network.headless
    tensors = [one for one in _tensors(module, {"C": classes}, "") if prod(one.shape)]
    return Blueprint(
        cls=network.cls,
        params=tuple(t for t in tensors if isinstance(t, Param)),
        buffers=tuple(t for t in tensors if isinstance(t, Buffer)),
    )


def _tensors(call: str, sizes: Mapping[str, int], prefix: str) -> Iterator[Param | Buffer]:
    """Yield the tensors of a module call such as 812(64,a,2*b), with `sizes` for its letters."""
    number, _, arguments = call.rstrip(")").partition("(")
    texts = filter(None, arguments.split(","))
    inner = {letter(n): parse_size(text, sizes) for n, text in enumerate(texts)}
    inner["C"] = sizes["C"]
    for item in _modules()[number].split():
        name, _, text = item.partition(":")
        if text.endswith(")"):
            first, _, count = name.partition("+")  # 0+24: 24 equal children, numbered from 0
            last = int(first) + parse_size(count, inner) if count else 0
            for child in range(int(first), last) if count else (name,):
                yield from _tensors(text, inner, f"{prefix}{child}.")
        else:
            yield _parse_tensor(prefix + name, text, inner)


def _parse_tensor(name: str, text: str, sizes: Mapping[str, int]) -> Param | Buffer:
    """Return a parameter (conv=a,3,7,7) or a buffer (int64!=a; "!" if no checkpoint has it)."""
    kind, _, dims = text.partition("=")
    shape = tuple(parse_size(dim, sizes) for dim in dims.split(",") if dim)
    if kind in KINDS:
        return Param(name, shape, cast("ParamKind", kind))
    dtype = kind.rstrip("!")
    return Buffer(name, shape, "" if dtype == "buffer" else dtype, not kind.endswith("!"))


def parse_size(text: str, sizes: Mapping[str, int]) -> int:
    """Return the value of 7, a, 2*a or a/2, with `sizes` for the letters."""
    numerator, _, divisor = text.partition("/")
    product = prod(int(one) if one.isdigit() else sizes[one] for one in numerator.split("*"))
    return product // int(divisor or 1)


def letter(number: int) -> str:
    """Return the letter of a number from 0 on: a, b ... z, a1, b1 ..."""
    suffix, place = divmod(number, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(suffix) if suffix else "")


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
