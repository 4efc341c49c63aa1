"""The largest layer: the largest module that device_map="auto" keeps whole.

A layer is a module of a class in `_no_split_modules`, or one without children. accelerate 1.15,
utils/modeling.py, `get_max_layer_size`; a parameter that stands directly beside other modules is a
layer only at the top of the model, and otherwise part of none, as there.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

BLOCK = r"(?:.*?\.)?\d+(?=\.|$)"

# A layer, and how many it holds of what: (parameter, count).
Composition = tuple[str, tuple[tuple[str, int], ...]]


class LayerIndex:
    """Which layer each tensor of a model belongs to."""

    def __init__(self, names: Iterable[str], blocks: Sequence[str]) -> None:
        self._block = _block(blocks)
        names = tuple(names)
        parents = {name.rpartition(".")[0] for name in names}
        inner: set[str] = set()
        for parent in parents:
            _add_ancestors(parent, inner)
        once: dict[str, str] = {}  # one text for all tensors of a layer
        found = ((name, self._find(name, inner)) for name in names)
        self._layer = {name: at and once.setdefault(at, at) for name, at in found}

    def _find(self, name: str, inner: set[str]) -> str | None:
        block = self._block(name)
        if block is not None:
            return block[0]
        parent = name.rpartition(".")[0]
        if not parent:
            return name
        return None if parent in inner else parent

    def largest(self, sizes: Iterable[tuple[str, int]]) -> tuple[str, int]:
        """(layer, bytes) of the largest one; `sizes` are (tensor name, bytes)."""
        sums: dict[str, int] = defaultdict(int)
        for name, nbytes in sizes:
            layer = self._layer.get(name)
            if layer is not None:
                sums[layer] += nbytes
        return max(sums.items(), key=lambda item: item[1], default=("", 0))

    def kinds(self, held: Iterable[tuple[str, str, int]]) -> tuple[Composition, ...]:
        """The first layer of each composition; `held` are (tensor name, what it is like, count)."""
        layers: dict[str, dict[str, int]] = defaultdict(dict)
        for name, like, count in held:
            layer = self._layer.get(name)
            if layer is not None:
                layers[layer][like] = layers[layer].get(like, 0) + count
        firsts: dict[tuple[tuple[str, int], ...], str] = {}
        for layer, counts in layers.items():
            firsts.setdefault(tuple(counts.items()), layer)
        return tuple((layer, counts) for counts, layer in firsts.items())


def _block(patterns: Sequence[str]) -> Callable[[str], re.Match[str] | None]:
    """Finds the module of one of `patterns` that a tensor is in: a star is any name. The first
    pattern that fits decides."""
    if not patterns:
        return lambda name: None
    texts = (re.escape(pattern).replace(r"\*", "[^.]*") for pattern in patterns)
    return re.compile(f"(?:{'|'.join(texts)})(?=\\.)").match


def _add_ancestors(path: str, found: set[str]) -> None:
    """The proper ancestors of a module path, the root aside, up to one that is there already."""
    while "." in path:
        path = path.rpartition(".")[0]
        if path in found:
            return
        found.add(path)


def largest_kept_whole(modules: Iterable[tuple[str, int]]) -> int:
    """Return an upper bound of the bytes of a layer, whatever the class calls its blocks: `modules`
    are (path, bytes).

    A path up to its first number ("model.layers.3") is a block; any other module is a layer alone.
    """
    sums: dict[str, int] = defaultdict(int)
    for path, nbytes in modules:
        found = re.match(BLOCK, path)
        sums[found[0] if found else path] += nbytes
    return max(sums.values(), default=0)
