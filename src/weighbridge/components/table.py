"""The load table: what the weights would take in each format, and the largest layer of each.

    division   every parameter alike, numel x bits / 8; labelled so, because no loader does it
    format     a real format, with scales and with what its loader leaves alone

Training with Adam is 16 bytes a parameter in float32 (weights, gradients, two moments) and in
mixed precision (the same in float32, whatever the compute dtype), and 8 in a pure 16-bit dtype.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from weighbridge.arch.blueprint import Blueprint, Param
from weighbridge.checkpoint.model import Model, ModelPart
from weighbridge.components.layers import Composition, LayerIndex
from weighbridge.components.weights import DIVISIONS, divided, persistent_bytes
from weighbridge.dtypes import DType
from weighbridge.errors import UnsupportedError
from weighbridge.memo import memo
from weighbridge.quantization.quality import Finding, published
from weighbridge.quantization.scheme import Scheme
from weighbridge.quantization.schemes import USUAL, scheme, weighed
from weighbridge.report import Row

FORMATS = (*USUAL, "Q8_0", "Q6_K", "Q4_K_M")
MIXED = ("float32", "float16", "bfloat16")
PURE = ("float16", "bfloat16")
NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # a name of its own: a "w1" is no "w2"


class _Counted(NamedTuple):
    """One part with its distinct parameters: what differs is priced once."""

    part: ModelPart
    plan: Blueprint  # of the distinct parameters
    sample: Blueprint  # of the first of each name in all layers
    parameters: int
    counts: Mapping[str, int]  # of the parameters of `plan`
    firsts: Mapping[str, int]  # of those of `sample`
    like: Mapping[str, str]  # for each of `counts` the first of its name in another layer
    layers: LayerIndex
    kinds: tuple[Composition, ...]  # layers that differ, in terms of `firsts`
    dtype: DType  # the model's own, which a format gives to what it leaves alone

    def largest(self, sizes: Mapping[str, int]) -> tuple[str, int]:
        """The largest layer, from the sizes of `firsts`."""
        sums = ((layer, sum([sizes[name] * n for name, n in held])) for layer, held in self.kinds)
        return _larger(sums)

    def price(self, form: Scheme, major: int) -> tuple[int, tuple[str, int]]:
        """Bytes of all parameters in a format, and the largest layer with its bytes."""
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
    """`dtypes` is the dtype of each part, by name."""
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
    """Map each parameter's name to the first whose name and shape are the same but for numbers."""
    firsts: dict[tuple[str, tuple[int, ...]], str] = {}
    return {p.name: firsts.setdefault((NUMBER.sub("*", p.name), p.shape), p.name) for p in params}


def _larger(found: Iterable[tuple[str, int]]) -> tuple[str, int]:
    return max(found, key=lambda item: item[1], default=("", 0))


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
