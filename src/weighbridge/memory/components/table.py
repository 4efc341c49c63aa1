"""The load table: the bytes of the weights in each format, and of the largest layer.

    division   every parameter alike, numel x bits / 8; labelled so, because no loader does it
    format     a real format, with scales and with the tensors that its loader leaves alone

The largest layer is the largest module that device_map="auto" keeps whole: a module of a class in
`_no_split_modules`, or one without children. accelerate 1.15, utils/modeling.py,
`get_max_layer_size`; a parameter that is a direct sibling of modules is a layer only at the top of
the model, and otherwise part of none, as there.

Training with Adam is 16 bytes per parameter in float32 (weights, gradients, two moments) and in
mixed precision (the same in float32, whatever the compute dtype), and 8 in a pure 16-bit dtype.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memo import memo
from weighbridge.base.records import NamedTuple, replace
from weighbridge.memory.components.weights import DIVISIONS, divided, persistent_bytes
from weighbridge.memory.report import Row
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.checkpoint.model import Model, ModelPart
from weighbridge.models.quantization.quality import Finding, published
from weighbridge.models.quantization.scheme import Scheme
from weighbridge.models.quantization.schemes import USUAL, scheme, weighed

FORMATS = (*USUAL, "Q8_0", "Q6_K", "Q4_K_M")
MIXED = ("float32", "float16", "bfloat16")
PURE = ("float16", "bfloat16")
NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # a whole part of a dotted name: not the 1 of "w1"


# ---- The largest layer

BLOCK = r"(?:.*?\.)?\d+(?=\.|$)"

# A layer, and its parameters by kind: (parameter, count).
Composition = tuple[str, tuple[tuple[str, int], ...]]


class LayerIndex:
    """An index from tensor names to the layers that hold them."""

    def __init__(self, names: Iterable[str], blocks: Sequence[str]) -> None:
        self._block = _block(blocks)
        names = tuple(names)
        parents = {name.rpartition(".")[0] for name in names}
        inner: set[str] = set()
        for parent in parents:
            _add_ancestors(parent, inner)
        once: dict[str, str] = {}  # one string object for all tensors of a layer
        layers = ((name, self._find(name, inner)) for name in names)
        self._layer = {name: layer and once.setdefault(layer, layer) for name, layer in layers}

    def _find(self, name: str, inner: set[str]) -> str | None:
        block = self._block(name)
        if block is not None:
            return block[0]
        parent = name.rpartition(".")[0]
        if not parent:
            return name
        return None if parent in inner else parent

    def largest(self, sizes: Iterable[tuple[str, int]]) -> tuple[str, int]:
        """Return (layer, bytes) of the largest layer; `sizes` are (tensor name, bytes)."""
        sums: dict[str, int] = defaultdict(int)
        for name, nbytes in sizes:
            layer = self._layer.get(name)
            if layer is not None:
                sums[layer] += nbytes
        return max(sums.items(), key=lambda item: item[1], default=("", 0))

    def kinds(self, parameters: Iterable[tuple[str, str, int]]) -> tuple[Composition, ...]:
        """Return the first layer of each distinct composition; `parameters` are (tensor name, name
        of the first equal one, count)."""
        layers: dict[str, dict[str, int]] = defaultdict(dict)
        for name, like, count in parameters:
            layer = self._layer.get(name)
            if layer is not None:
                layers[layer][like] = layers[layer].get(like, 0) + count
        firsts: dict[tuple[tuple[str, int], ...], str] = {}
        for layer, counts in layers.items():
            firsts.setdefault(tuple(counts.items()), layer)
        return tuple((layer, counts) for counts, layer in firsts.items())


def _block(patterns: Sequence[str]) -> Callable[[str], re.Match[str] | None]:
    """Return a function that finds the module of `patterns` that holds a tensor, by its name; "*"
    is any name, and the first matching pattern decides."""
    if not patterns:
        return lambda name: None
    texts = (re.escape(pattern).replace(r"\*", "[^.]*") for pattern in patterns)
    return re.compile(f"(?:{'|'.join(texts)})(?=\\.)").match


def _add_ancestors(path: str, ancestors: set[str]) -> None:
    """Add a module path's ancestors to the set, without itself and the root, up to the first that
    is already there."""
    while "." in path:
        path = path.rpartition(".")[0]
        if path in ancestors:
            return
        ancestors.add(path)


def largest_kept_whole(modules: Iterable[tuple[str, int]]) -> int:
    """Return an upper bound of a layer's bytes, without knowing the class's block names; `modules`
    are (path, bytes).

    A path up to its first number ("model.layers.3") is a block; any other module is its own layer.
    """
    sums: dict[str, int] = defaultdict(int)
    for path, nbytes in modules:
        match = re.match(BLOCK, path)
        sums[match[0] if match else path] += nbytes
    return max(sums.values(), default=0)


# ---- The table


class _Counted(NamedTuple):
    """A part with its distinct parameters, so that each is priced once."""

    part: ModelPart
    plan: Blueprint  # of the distinct parameters
    sample: Blueprint  # of the first of each name, over all layers
    parameters: int
    counts: Mapping[str, int]  # of the parameters of `plan`
    firsts: Mapping[str, int]  # of those of `sample`
    like: Mapping[str, str]  # parameter -> the first equal one, in another layer
    layers: LayerIndex
    kinds: tuple[Composition, ...]  # distinct layers, in terms of `firsts`
    dtype: DType  # the model's own, for what a format leaves alone

    def largest(self, sizes: Mapping[str, int]) -> tuple[str, int]:
        """Return the largest layer and its bytes, from the sizes of `firsts`."""
        sums = ((layer, sum([sizes[name] * n for name, n in names])) for layer, names in self.kinds)
        return _larger(sums)

    def price(self, form: Scheme, major: int) -> tuple[int, tuple[str, int]]:
        """Return (bytes of all parameters, (largest layer, its bytes)) in a format."""
        if form.by_layer is None:
            sizes = self._sizes(form, major, self.sample, self.sample.params)
            total = sum(sizes[name] * count for name, count in self.firsts.items())
            return total, self.largest(sizes)
        firsts, params = set(self.like.values()), self.plan.params
        varied = {p.name for p in params if p.name in firsts and form.by_layer(p)}
        asked = [p for p in params if p.name in firsts or self.like.get(p.name) in varied]
        sizes = self._sizes(form, major, self.plan, asked)
        sums = {
            name: sizes[name if name in sizes else self.like[name]] * count
            for name, count in self.counts.items()
        }
        return sum(sums.values()), self.layers.largest(sums.items())

    def _sizes(
        self, form: Scheme, major: int, plan: Blueprint, params: Sequence[Param]
    ) -> dict[str, int]:
        return weighed(params, form, plan=plan, dtype=self.dtype, transformers=major)


class LoadTable(NamedTuple):
    """The rows, and the formats that cannot hold this model, each with the reason."""

    rows: tuple[Row, ...]
    unavailable: Mapping[str, str]


def table(model: Model, dtypes: Mapping[str, DType], *, major: int) -> LoadTable:
    """Return the load table of a model; `dtypes` is the dtype of each part, by name."""
    facts = ("table", tuple((name, dtype.name) for name, dtype in dtypes.items()), major)
    return memo(model, facts, lambda: _table(model, dtypes, major))


def _table(model: Model, dtypes: Mapping[str, DType], major: int) -> LoadTable:
    parts = [_counted(part, dtypes[part.name]) for part in model.parts]
    rows = [_division(parts, name, dtype) for name, dtype in DIVISIONS.items()]
    unavailable = {}
    for name in FORMATS:
        try:
            rows.append(_format(parts, name, major)._replace(quality=_quality(model, name)))
        except UnsupportedError as error:
            unavailable[name] = str(error)
    return LoadTable(tuple(rows), unavailable)


def _quality(model: Model, form: str) -> Finding | None:
    experts = model.active_parameters < model.parameters
    return published(model.name, model.parameters, form, experts=experts)


def _counted(part: ModelPart, dtype: DType) -> _Counted:
    plan = part.blueprint
    distinct = plan.distinct()
    names = [*(p.name for p, _ in distinct), *(b.name for b in plan.buffers)]
    layers = LayerIndex(names, plan.blocks)
    counts = {p.name: count for p, count in distinct}
    like = _alike(p for p, _ in distinct)
    firsts: dict[str, int] = dict.fromkeys(like.values(), 0)
    for name, count in counts.items():
        firsts[like[name]] += count
    tied = tuple(p for p in plan.counted if p.tied)
    return _Counted(
        part=part,
        plan=replace(plan, params=(*(p for p, _ in distinct), *tied)),
        sample=replace(plan, params=(*(p for p, _ in distinct if p.name in firsts), *tied)),
        parameters=sum(p.numel * count for p, count in distinct),
        counts=counts,
        firsts=firsts,
        like=like,
        layers=layers,
        kinds=layers.kinds((name, like[name], count) for name, count in counts.items()),
        dtype=dtype,
    )


def _alike(params: Iterable[Param]) -> dict[str, str]:
    """Return a map from each parameter to the first equal one: same shape, same name but for
    numbers."""
    firsts: dict[tuple[str, tuple[int, ...]], str] = {}
    return {p.name: firsts.setdefault((NUMBER.sub("*", p.name), p.shape), p.name) for p in params}


def _larger(sums: Iterable[tuple[str, int]]) -> tuple[str, int]:
    return max(sums, key=lambda item: item[1], default=("", 0))


def _division(parts: list[_Counted], name: str, dtype: DType) -> Row:
    parameters = sum(c.parameters for c in parts)
    layer, count = _larger(c.largest({p.name: p.numel for p in c.sample.params}) for c in parts)
    return Row(
        dtype=name,
        largest_layer=layer,
        largest_layer_bytes=dtype.size(count),
        total_bytes=sum(divided(c.plan, c.parameters, dtype) for c in parts),
        training_adam_bytes=16 * parameters if name in MIXED else None,
        training_adam_pure_bytes=8 * parameters if name in PURE else None,
        basis="division",
    )


def _format(parts: list[_Counted], name: str, major: int) -> Row:
    form = scheme(name)
    size, largest = 0, []
    for c in parts:
        weights, layer = c.price(form, major)
        size += weights + persistent_bytes(c.part, c.dtype)
        largest.append(layer)
    name_of_it, nbytes = _larger(largest)
    return Row(
        dtype=name,
        largest_layer=name_of_it,
        largest_layer_bytes=nbytes,
        total_bytes=size,
        training_adam_bytes=None,
        training_adam_pure_bytes=None,
        basis="format",
        left_alone=form.left,
    )
