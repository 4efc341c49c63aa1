"""The load table: what the weights would take in each format, and the largest layer of each.

    division   every parameter alike, numel x bits / 8; labelled so, because no loader does it
    format     a real format, with scales and with what its loader leaves alone

Training with Adam is 16 bytes a parameter in float32 (weights, gradients, two moments) and in
mixed precision (the same in float32, whatever the compute dtype), and 8 in a pure 16-bit dtype.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from weighbridge.arch.blueprint import Blueprint
from weighbridge.components.layers import Layers
from weighbridge.components.weights import DIVISIONS, divided, persistent_bytes
from weighbridge.dtypes import DType
from weighbridge.errors import UnsupportedError
from weighbridge.model import Model, ModelPart
from weighbridge.quantization.scheme import Scheme
from weighbridge.quantization.schemes import scheme, stored
from weighbridge.report import Row

FORMATS = (
    "bnb-int8",
    "nf4",
    "nf4-dq",
    "gptq-4bit-g128",
    "awq-4bit-g128",
    "fp8-tensor",
    "fp8-block",
    "mxfp4",
    "nvfp4",
    "hqq-4bit-g64",
    "torchao-int8",
    "torchao-int4-g128",
    "mlx-4bit-g64",
    "Q8_0",
    "Q6_K",
    "Q4_K_M",
)
MIXED = ("float32", "float16", "bfloat16")
PURE = ("float16", "bfloat16")
NUMBER = re.compile(r"\d+")


class _Counted(NamedTuple):
    """One part with its distinct parameters: what differs is priced once."""

    part: ModelPart
    plan: Blueprint  # of the distinct parameters
    parameters: int
    counts: Mapping[str, int]
    layers: Layers
    dtype: DType  # the model's own, which a format gives to what it leaves alone

    alike: Mapping[str, str]  # the first parameter of another layer that is its equal

    def largest(self, sizes: Iterable[tuple[str, int]]) -> tuple[str, int]:
        return self.layers.largest((name, n * self.counts[name]) for name, n in sizes)

    def sizes(self, form: Scheme, major: int) -> dict[str, int]:
        """Bytes of each distinct parameter in a format."""
        firsts = set(self.alike.values())
        params = (p for p in self.plan.params if form.by_layer or p.tied or p.name in firsts)
        plan = replace(self.plan, params=tuple(params))
        found: dict[str, int] = dict.fromkeys((p.name for p in plan.params), 0)
        for s in stored(plan, form, dtype=self.dtype, transformers=major):
            found[s.source] += s.nbytes
        if form.by_layer:
            return {name: found[name] for name in self.counts}
        return {name: found[self.alike[name]] for name in self.counts}


class Table(NamedTuple):
    """The rows, and the formats that cannot hold this model, each with the reason."""

    rows: tuple[Row, ...]
    unavailable: Mapping[str, str]


def table(model: Model, dtypes: Mapping[str, DType], *, major: int) -> Table:
    """`dtypes` is the dtype of each part, by name."""
    parts = [_counted(part, dtypes[part.name]) for part in model.parts]
    rows = [_division(parts, name, dtype) for name, dtype in DIVISIONS.items()]
    unavailable = {}
    for name in () if model.rough else FORMATS:
        try:
            rows.append(_format(parts, name, major))
        except UnsupportedError as error:
            unavailable[name] = str(error)
    return Table(tuple(rows), unavailable)


def _counted(part: ModelPart, dtype: DType) -> _Counted:
    plan = part.blueprint
    distinct = plan.distinct()
    names = [*(p.name for p, _ in distinct), *(b.name for b in plan.buffers)]
    firsts: dict[tuple[str, tuple[int, ...]], str] = {}
    alike = {
        p.name: firsts.setdefault((NUMBER.sub("*", p.name), p.shape), p.name) for p, _ in distinct
    }
    tied = (p for p in plan.params if p.tied)
    return _Counted(
        part=part,
        plan=replace(plan, params=(*(p for p, _ in distinct), *tied)),
        alike=alike,
        parameters=sum(p.numel * count for p, count in distinct),
        counts={p.name: count for p, count in distinct},
        layers=Layers(names, plan.blocks),
        dtype=dtype,
    )


def _larger(found: Iterable[tuple[str, int]]) -> tuple[str, int]:
    return max(found, key=lambda item: item[1])


def _division(parts: list[_Counted], name: str, dtype: DType) -> Row:
    parameters = sum(c.parameters for c in parts)
    layer, count = _larger(
        c.largest((p.name, p.numel) for p in c.plan.params if not p.tied) for c in parts
    )
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
        found = c.sizes(form, major)
        size += sum(nbytes * c.counts[name] for name, nbytes in found.items())
        size += persistent_bytes(c.part, c.dtype)
        largest.append(c.largest(found.items()))
    layer, nbytes = _larger(largest)
    return Row(
        dtype=name,
        largest_layer=layer,
        largest_layer_bytes=nbytes,
        total_bytes=size,
        training_adam_bytes=None,
        training_adam_pure_bytes=None,
        basis="format",
        left_alone=form.left,
    )
