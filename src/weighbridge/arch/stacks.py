"""Which parameters are in which layer: the numbered modules of a class, by their names.

    model.layers.3.mlp.up_proj.weight    stack "model.layers", layer 3, "mlp.up_proj"

The routed experts of a layer differ by their number alone, so one of them stands for all: a model
of 90,000 tensors is read in as many steps as it has different ones.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from weighbridge.arch.blueprint import Blueprint, Param
from weighbridge.arch.roles import below_number, expert

# Layers in groups of layers: Swin, ConvNeXt (blocks, layers), Funnel, ALBERT.
INNER = re.compile(r"^(?:(?:blocks|layers|albert_layers)\.)?\d+\.")
ENDINGS = re.compile(r"(?:\.weight|\.base_layer|\.linear)+$")  # wrappers of a Linear say nothing


class Inside(NamedTuple):
    """A parameter of a layer, under its name below the layer."""

    name: str
    param: Param


Layer = tuple[Inside, ...]


class LayerStack(NamedTuple):
    """Numbered layers below one path, and what they belong to ("language model", ...)."""

    path: str
    part: str
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        return sum(i.param.numel * i.param.routed[1] for layer in self.layers for i in layer)


class Sorted(NamedTuple):
    stacks: tuple[LayerStack, ...]  # in the order of the class
    outside: tuple[Param, ...]  # what is in no layer: embeddings, heads


def sort(plan: Blueprint) -> Sorted:
    found: dict[str, dict[int, list[Inside]]] = {}
    outside = []
    for p in singly(plan.counted):
        at = below_number(p.name)
        if at is None:
            outside.append(p)
            continue
        layers = found.setdefault(at.path, {})
        layers.setdefault(at.number, []).append(Inside(short(at.below), p))
    stacks = tuple(
        LayerStack(
            path, plan.part(f"{path}."), tuple(flat(tuple(layers[i]) for i in sorted(layers)))
        )
        for path, layers in found.items()
    )
    return Sorted(stacks, tuple(outside))


def flat(layers: Iterator[Layer]) -> Iterator[Layer]:
    """Layers of layers, one after the other."""
    for layer in layers:
        if not all(INNER.match(i.name) for i in layer):
            yield layer
            continue
        inner: dict[str, list[Inside]] = {}
        for i in layer:
            at = INNER.match(i.name)
            assert at is not None
            inner.setdefault(at[0], []).append(Inside(i.name[at.end() :], i.param))
        yield from (tuple(found) for found in inner.values())


@cache
def short(name: str) -> str:
    return ENDINGS.sub("", name)


def singly(params: Sequence[Param]) -> Iterator[Param]:
    """All parameters, and of every set of like experts one."""
    i, seen = 0, set[str]()
    while i < len(params):
        p = params[i]
        if p.kind != "expert" or p.routed[1] < 2 or p.copies > 1:
            yield p
            i += 1
        elif step := copies(params, i):
            size, i = step, i + step * p.routed[1]
            yield from params[i - size * p.routed[1] : i - size * (p.routed[1] - 1)]
        else:  # in an order of their own, as files may have them
            one = expert(p.name)
            first = f"{one.path}{one.word}0.{one.below}" if one is not None else p.name
            if first not in seen:
                seen.add(first)
                yield p._replace(name=first)
            i += 1


def copies(params: Sequence[Param], i: int) -> int:
    """How many parameters each of the experts from `i` on has, where they lie side by side."""
    one = expert(params[i].name)
    if one is None:
        return 0
    size, path = i, one.path + one.word
    while size < len(params) and params[size].name.startswith(f"{path}{one.number}."):
        size += 1
    size -= i
    count = params[i].routed[1]
    last = i + size * (count - 1)
    if last >= len(params):
        return 0
    return size if params[last].name.startswith(f"{path}{one.number + count - 1}.") else 0
