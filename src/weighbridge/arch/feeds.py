"""The feed-forwards of a layer, read off the shapes of its parameters.

    up, gate   [F, D] each, or one [2 F, D]         down  [D, F]

Names say only which matrix leads back; widths are what the shapes say. Experts are such a set
with a share: a token is routed to k of E of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod

from weighbridge.arch.body import Dense, Experts, Feed
from weighbridge.arch.roles import LEADS, every_token, feeding
from weighbridge.arch.stacks import Layer, Stack

ROUTED = frozenset(("expert", "experts"))
# A file's `ffn_gate` passes for a router, by its name alone.
MATRICES = ROUTED | {"linear", "conv1d", "conv", "router"}


def feeds(layer: Layer) -> tuple[Feed, ...]:
    """Return the layer's feed-forwards in order, each with `inputs`, the width that it reads and
    gives. Experts that all tokens use belong to the routed ones beside them."""
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
    found = list(_found(matrices))
    if not any(isinstance(one, Experts) for _, one in found):
        return tuple(one for _, one in found)
    for_all = sum(one.width for name, one in found if every_token(name))
    rest = [one for name, one in found if not every_token(name)]
    first = next(one for one in rest if isinstance(one, Experts))
    return tuple(replace(one, shared=for_all) if one is first else one for one in rest)


def _found(matrices: Sequence[Matrix]) -> Iterator[tuple[str, Feed]]:
    """(name of the matrix back, what it belongs to), pair by pair of each module."""
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
    """What F is follows from the one width that all matrices have: what is read and given."""
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
    """Outputs of the matrix back. Stacks have them last or before, so that both are compared."""
    if kind == "conv1d" or (stack and len(down) == 2):  # DBRX: experts one below the other
        return down[1]
    if not stack:
        return down[0]
    both = [size for size in down[1:] if size in up[1:]]
    return both[0] if both else down[1]


def joined(stacks: Sequence[Stack]) -> tuple[Layer, ...]:
    """The layers of the largest stack, and of those as wide as it (a tower in two halves)."""
    wide = {s.path: _reads(s) for s in stacks}
    working = [s for s in stacks if wide[s.path]]
    largest = max(working, key=lambda s: s.parameters, default=None)
    if largest is None:
        return ()
    return tuple(layer for s in working if wide[s.path] == wide[largest.path] for layer in s.layers)


def _reads(stack: Stack) -> int:
    found = (f.inputs for layer in stack.layers for f in feeds(layer))
    return next(found, 0)
