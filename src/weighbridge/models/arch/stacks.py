"""Stacks of layers, from the names and shapes of parameters, and the MLPs in them.

The layer of a parameter follows from the numbered modules of a class, by their names.

    model.layers.3.mlp.up_proj.weight    stack "model.layers", layer 3, "mlp.up_proj"

The routed experts of a layer differ only in their number, so one of them stands for all: a model of
90,000 tensors is read in as many steps as it has different ones.

The MLPs of a layer follow from the shapes of its parameters.

    up, gate   [F, D] each, or one [2 F, D]         down  [D, F]

Names only tell which matrix leads back; the shapes give the widths. Experts are such matrices with
a fraction: a token is routed to k of E of them.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from math import prod

from weighbridge.base.records import NamedTuple, replace
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.arch.body import Dense, Experts, Feed
from weighbridge.models.arch.roles import LEADS, below_number, every_token, expert, feeding

# Layers in groups of layers: Swin, ConvNeXt (blocks, layers), Funnel, ALBERT.
INNER = re.compile(r"^(?:(?:blocks|layers|albert_layers)\.)?\d+\.")
ENDINGS = re.compile(r"(?:\.weight|\.base_layer|\.linear)+$")  # wrappers of a Linear do not matter


class Inside(NamedTuple):
    """A parameter of a layer, under its name within the layer."""

    name: str
    param: Param


Layer = tuple[Inside, ...]


class LayerStack(NamedTuple):
    """Numbered layers below one path, and the part they belong to ("language model", ...)."""

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
    in_stacks: dict[str, dict[int, list[Inside]]] = {}
    outside = []
    for p in singly(plan.counted):
        numbered = below_number(p.name)
        if numbered is None:
            outside.append(p)
            continue
        layers = in_stacks.setdefault(numbered.path, {})
        layers.setdefault(numbered.number, []).append(Inside(short(numbered.below), p))
    stacks = tuple(
        LayerStack(
            path, plan.part(f"{path}."), tuple(flat(tuple(layers[i]) for i in sorted(layers)))
        )
        for path, layers in in_stacks.items()
    )
    return Sorted(stacks, tuple(outside))


def flat(layers: Iterator[Layer]) -> Iterator[Layer]:
    """Yield layers; a layer that consists of numbered layers is replaced by these."""
    for layer in layers:
        if not all(INNER.match(i.name) for i in layer):
            yield layer
            continue
        inner: dict[str, list[Inside]] = {}
        for i in layer:
            path = INNER.match(i.name)
            assert path is not None
            inner.setdefault(path[0], []).append(Inside(i.name[path.end() :], i.param))
        yield from map(tuple, inner.values())


@cache
def short(name: str) -> str:
    return ENDINGS.sub("", name)


def singly(params: Sequence[Param]) -> Iterator[Param]:
    """Yield all parameters; of equal experts only the first one."""
    i, seen = 0, set[str]()
    while i < len(params):
        p = params[i]
        if p.kind != "expert" or p.routed[1] < 2 or p.copies > 1:
            yield p
            i += 1
        elif step := copies(params, i):
            size, i = step, i + step * p.routed[1]
            yield from params[i - size * p.routed[1] : i - size * (p.routed[1] - 1)]
        else:  # in their own order, as in some files
            one = expert(p.name)
            first = f"{one.path}{one.word}0.{one.below}" if one is not None else p.name
            if first not in seen:
                seen.add(first)
                yield p._replace(name=first)
            i += 1


def copies(params: Sequence[Param], i: int) -> int:
    """Return the number of parameters per expert from index `i` on; 0 if experts are not
    contiguous."""
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


ROUTED = frozenset(("expert", "experts"))
# A file's `ffn_gate` passes for a router, by its name alone.
MATRICES = ROUTED | {"linear", "conv1d", "conv", "router"}


def feeds(layer: Layer) -> tuple[Feed, ...]:
    """Return the layer's MLPs in order, each with `inputs`, its input and output width. Shared
    experts count as part of the routed ones next to them."""
    return _feeds(
        tuple(
            (name, i.param.shape, i.param.kind, i.param.routed)
            for i in layer
            if i.param.kind in MATRICES and (name := feeding(i.name)) is not None
        )
    )


Matrix = tuple[str, tuple[int, ...], str, tuple[int, int]]


@lru_cache(maxsize=4096)
def _feeds(matrices: tuple[Matrix, ...]) -> tuple[Feed, ...]:
    named = list(_mlps_by_down_projection(matrices))
    if not any(isinstance(one, Experts) for _, one in named):
        return tuple(one for _, one in named)
    for_all = sum(one.width for name, one in named if every_token(name))
    routed = [one for name, one in named if not every_token(name)]
    first = next(one for one in routed if isinstance(one, Experts))
    return tuple(replace(one, shared=for_all) if one is first else one for one in routed)


def _mlps_by_down_projection(matrices: Sequence[Matrix]) -> Iterator[tuple[str, Feed]]:
    """Yield (name of the down projection, MLP) for each MLP in a module."""
    modules: dict[str, dict[str, Matrix]] = {}
    for m in matrices:
        parent, _, leaf = m[0].rpartition(".")
        modules.setdefault(parent, {})[leaf] = m
    for module in modules.values():
        for name, names in LEADS:
            down = module.get(name)
            ups = [m for leaf, m in module.items() if leaf in names]
            if down is not None and ups:
                yield down[0], feed(down, ups)
                for m in (down, *ups):
                    del module[m[0].rpartition(".")[2]]


def feed(down: Matrix, ups: Sequence[Matrix]) -> Feed:
    """Return an MLP from its down matrix and the others; its width F follows from the size that all
    its matrices share."""
    _, shape, kind, (top_k, count) = down
    stack = kind == "experts" or len(shape) == 3  # GGUF names a stack as other files one expert
    if kind == "conv":  # in groups, so that shapes tell the outputs alone
        return Dense(width=ups[0][1][0], gated=len(ups) > 1, inputs=shape[0])
    reads = common(shape, ups[0][1], kind, stack=stack)
    each = max(1, reads * (count if stack else 1))
    width, before = prod(shape) // each, sum(prod(m[1]) for m in ups) // each
    gated = before >= 2 * width
    if kind in ROUTED:
        return Experts(count=count, top_k=top_k, width=width, gated=gated, inputs=reads)
    return Dense(width=width, gated=gated, fused=gated and len(ups) == 1, inputs=reads)


def common(down: tuple[int, ...], up: tuple[int, ...], kind: str, *, stack: bool) -> int:
    """Return the output size of the down projection. A stack has it last or before, so the shapes
    of both matrices decide."""
    if kind == "conv1d" or (stack and len(down) == 2):  # DBRX: experts one below the other
        return down[1]
    if not stack:
        return down[0]
    both = [size for size in down[1:] if size in up[1:]]
    return both[0] if both else down[1]


def joined(stacks: Sequence[LayerStack]) -> tuple[Layer, ...]:
    """Return the layers of the largest stack, and of other stacks with an equal input width (a
    tower in two halves)."""
    wide = {s.path: _reads(s) for s in stacks}
    working = [s for s in stacks if wide[s.path]]
    largest = max(working, key=lambda s: s.parameters, default=None)
    if largest is None:
        return ()
    return tuple(layer for s in working if wide[s.path] == wide[largest.path] for layer in s.layers)


def _reads(stack: LayerStack) -> int:
    widths = (f.inputs for layer in stack.layers for f in feeds(layer))
    return next(widths, 0)
